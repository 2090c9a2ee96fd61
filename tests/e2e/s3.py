#!/usr/bin/env python3
"""The built program against real S3 servers: versitygw and moto, both on loopback.

    cargo build && python3 tests/e2e/s3.py [-v] [NAME...]

The program is that of MEGASTREAM_INGEST, or else the newest build. It reads the buckets in dry runs, so no
Elasticsearch is needed. versitygw is that of VERSITYGW, or else Go builds it once into `target/s3-servers`; pip
installs moto there, and the client that fills the buckets. Without Go, pip or a network, the cases of that server are
skipped with a message.
"""

import sys

sys.dont_write_bytecode = True

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.request
from pathlib import Path

from loader import binary
from server import PROJECT, TARGET

VERSITYGW = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"
PACKAGES = ["moto[server]==5.2.5", "boto3==1.44.8"]
TOOLS = TARGET / "s3-servers"
ARCHIVES = sorted((PROJECT / "test_data").rglob("mega_jetstream_*.db.zip"))

BUCKET, REGION = "megastream-test", "eu-central-1"
ROOT = ("AKIDROOT", "root+secret/not=to.be.seen")
DONE, FAILED, USAGE, DONE_WITH_FAILED, UNAVAILABLE, REFUSED = 0, 1, 2, 3, 4, 5

# Keys that are often handled incorrectly in signatures, URLs and listings.
ODD = ["a b", "a+b", "100%", "%41", "&amp;<>\"'", "(x)!*~", "é/ü", "\U0001f331", ";:@=$,?#[]", "\\^`{|}", "  ", "\x7f"]


def install():
    """Installs the servers and the client. Those that cannot be installed are None, and the reason is printed."""
    gateway = os.environ.get("VERSITYGW") or TOOLS / "bin" / "versitygw"
    if not Path(gateway).exists():
        gateway = None
        if shutil.which("go") is None:
            print("versitygw is left out: there is no Go to build it", file=sys.stderr)
        else:
            environment = os.environ | {"GOBIN": str(TOOLS / "bin")}
            built = subprocess.run(["go", "install", VERSITYGW], env=environment, capture_output=True, text=True)
            gateway = TOOLS / "bin" / "versitygw" if built.returncode == 0 else None
            if gateway is None:
                print(f"versitygw is left out: {built.stderr[-500:]}", file=sys.stderr)
    python = TOOLS / "venv" / "bin" / "python"
    marker = TOOLS / "venv" / "installed"
    if not marker.exists() or marker.read_text() != str(PACKAGES):
        steps = [[sys.executable, "-m", "venv", str(TOOLS / "venv")], [str(python), "-m", "pip", "install", "-q", *PACKAGES]]
        for step in steps:
            done = subprocess.run(step, capture_output=True, text=True)
            if done.returncode != 0:
                print(f"left out: {' '.join(step[1:])}: {(done.stderr or done.stdout)[-500:]}", file=sys.stderr)
                return gateway, None
        marker.write_text(str(PACKAGES))
    return gateway, python


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Process:
    """A server process, until it is stopped."""

    def __init__(self, command, environment=None):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = tempfile.TemporaryFile()
        command = [str(word).replace("PORT", str(self.port)) for word in command]
        self.process = subprocess.Popen(
            command, env=os.environ | (environment or {}), stdout=self.log, stderr=subprocess.STDOUT
        )
        until = time.monotonic() + 60
        while True:
            with socket.socket() as attempt:
                if attempt.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            if self.process.poll() is not None or time.monotonic() > until:
                self.log.seek(0)
                raise RuntimeError(f"{command[0]} does not start: {self.log.read()[-2000:]}")
            time.sleep(0.02)

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


class Between:
    """A proxy between program and server that cuts connections as scripted."""

    def __init__(self, port):
        self.to = port
        self.cuts = []  # for each of the next objects: the number of bytes before the cut
        self.before_object = None  # called once, before the next object is requested
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.pass_on, args=(client,), daemon=True).start()

    def pass_on(self, client):
        server = socket.create_connection(("127.0.0.1", self.to))
        limit = [None]

        def close():
            for end in (client, server):
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

        def back():
            try:
                while chunk := server.recv(1 << 14):
                    if limit[0] is not None:
                        chunk = chunk[: limit[0]]
                        limit[0] -= len(chunk)
                    client.sendall(chunk)
                    if limit[0] == 0:
                        break
            except OSError:
                pass
            close()

        with client, server:
            answering = threading.Thread(target=back, daemon=True)
            answering.start()
            try:
                while chunk := client.recv(1 << 14):
                    if chunk.startswith(b"GET ") and b".db.zip" in chunk.split(b"\r\n")[0]:
                        with self.lock:
                            call, self.before_object = self.before_object, None
                            limit[0] = self.cuts.pop(0) if self.cuts else None
                        if call:
                            call()
                    server.sendall(chunk)
            except OSError:
                pass
            close()
            answering.join()

    def end(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join()


class Run:
    """A finished run of the program."""

    def __init__(self, done, summary, ndjson):
        self.code, self.out, self.log = done.returncode, done.stdout, done.stderr
        self.summary = json.loads(summary.read_text()) if summary.exists() else None
        lines = [json.loads(line) for line in ndjson.read_text().splitlines()] if ndjson.exists() else []
        for line in lines:
            line.pop("indexed_at", None)
        self.lines = sorted(json.dumps(line, sort_keys=True) for line in lines)

    def __str__(self):
        return f"exit code {self.code}; {self.out[-1500:]}\n{self.log[-3000:]}"


class S3(unittest.TestCase):
    """The base of all cases: a bucket, an empty home, and the program."""

    longMessage = False
    url = None  # set by each case

    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="s3-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        (self.folder / ".aws").mkdir()

    def client(self, service="s3", keys=ROOT, token=None):
        import boto3
        from botocore.config import Config

        return boto3.client(
            service,
            endpoint_url=self.server_url,
            region_name=REGION,
            aws_access_key_id=keys[0],
            aws_secret_access_key=keys[1],
            aws_session_token=token,
            config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}),
        )

    def program(self, *flags, url=None, keys=ROOT, **variables):
        """A run with its own environment."""
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "S3_SQLITE_DB_BUCKET": BUCKET,
            "S3_SQLITE_DB_PREFIX": "in/",
            "AWS_ENDPOINT_URL_S3": url or self.url or self.server_url,
            "AWS_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "RETRY_BUDGET_SEC": "5",
            "SPOOL_STATE_FILE": str(self.folder / "state.json"),
        }
        if keys:
            environment |= {"AWS_S3_ACCESS_KEY": keys[0], "AWS_S3_SECRET_KEY": keys[1]}
        environment |= variables
        environment = {name: value for name, value in environment.items() if value is not None}
        summary, ndjson = self.folder / "summary.json", self.folder / "out.ndjson"
        for path in (summary, ndjson):
            path.unlink(missing_ok=True)
        if "--list" not in flags:
            flags = ("--dry-run", "--output", ndjson, "--summary-json", summary, *flags)
        done = subprocess.run(
            [binary(), "--source", "s3", *flags], env=environment, cwd=self.folder, capture_output=True, text=True, timeout=120
        )
        run = Run(done, summary, ndjson)
        for secret in (ROOT[1], *self.secrets):
            self.assertNotIn(secret, run.log + run.out, "a secret is told")
        return run

    secrets = ()

    def assert_run(self, run, code, *said):
        self.assertEqual(run.code, code, f"exit code {code} was expected: {run}")
        for text in said:
            self.assertIn(text, run.log + run.out, f"{text!r} is not said: {run}")
        return run

    def assert_loaded(self, run, code=DONE_WITH_FAILED):
        """Asserts that the run gave the same documents as a folder; some rows of the archives are rejected."""
        self.assert_run(run, code)
        self.assertEqual(run.lines, self.expected(), f"other documents than from a folder: {run}")
        return run

    def expected(self):
        if not hasattr(S3, "of_folder"):
            ndjson = self.folder / "folder.ndjson"
            command = [binary(), "--dry-run", "--output", ndjson, *ARCHIVES]
            subprocess.run(command, cwd=self.folder, env={"PATH": os.environ["PATH"]}, capture_output=True)
            lines = [json.loads(line) for line in ndjson.read_text().splitlines()]
            for line in lines:
                line.pop("indexed_at", None)
            S3.of_folder = sorted(json.dumps(line, sort_keys=True) for line in lines)
            self.assertTrue(S3.of_folder)
        return S3.of_folder

    def profile(self, text, config=""):
        (self.folder / ".aws" / "credentials").write_text(text)
        (self.folder / ".aws" / "config").write_text(config)


def shown(name):
    """A name in the format of `--list`."""
    for plain, escaped in (("\\", "\\\\"), ('"', '\\"'), ("'", "\\'"), ("\x7f", "\\u{7f}")):
        name = name.replace(plain, escaped)
    return name


def keys_of(name, keys):
    return f"[{name}]\naws_access_key_id = {keys[0]}\naws_secret_access_key = {keys[1]}\n"


class Versitygw(S3):
    """A gateway that checks signatures, regions, clocks and users."""

    gateway = None  # set by main

    @classmethod
    def setUpClass(cls):
        if cls.gateway is None or not cls.has_client:
            raise unittest.SkipTest("versitygw or the client is not here")

    def setUp(self):
        super().setUp()
        for name in ("data", "versions", "users"):
            (self.folder / name).mkdir()
        command = [self.gateway, "--port", "127.0.0.1:PORT", "--region", REGION, "--access", ROOT[0], "--secret", ROOT[1]]
        command += ["--iam-dir", self.folder / "users", "--iam-cache-disable", "posix"]
        command += ["--versioning-dir", self.folder / "versions", self.folder / "data"]
        self.server = Process(command)
        self.addCleanup(self.server.end)
        self.server_url = self.server.url
        self.s3 = self.client()
        self.s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})

    def put_archives(self, prefix="in/"):
        for archive in ARCHIVES:
            self.s3.put_object(Bucket=BUCKET, Key=f"{prefix}{archive.name}", Body=archive.read_bytes())

    def admin(self, *words):
        command = [self.gateway, "admin", "--access", ROOT[0], "--secret", ROOT[1], "--region", REGION]
        subprocess.run([*command, "--endpoint-url", self.server_url, *words], check=True, capture_output=True)

    def make_user(self, keys):
        self.admin("create-user", "--access", keys[0], "--secret", keys[1], "--role", "user")

    def let_in(self, *users):
        allow = {"Effect": "Allow", "Principal": list(users), "Action": "s3:*"}
        allow["Resource"] = [f"arn:aws:s3:::{BUCKET}", f"arn:aws:s3:::{BUCKET}/*"]
        self.s3.put_bucket_policy(Bucket=BUCKET, Policy=json.dumps({"Statement": [allow]}))

    def test_a_bucket_is_read_like_a_folder(self):
        self.put_archives("in/2025 12+18/é&%41/")
        self.s3.put_object(Bucket=BUCKET, Key="in/README.txt", Body=b"no archive")
        run = self.assert_loaded(self.program())
        self.assertEqual(run.summary["archives"]["discovered"], len(ARCHIVES))

    def test_all_pages_and_all_odd_keys_are_listed(self):
        names = [f"{n:04} {ODD[n % len(ODD)].replace('/', '-')}.db.zip" for n in range(1_100)]
        for name in names:
            self.s3.put_object(Bucket=BUCKET, Key=f"in/{name}", Body=b"x")
        run = self.assert_run(self.program("--list"), DONE)
        listed = [line.split("\t")[0] for line in run.out.splitlines()]
        self.assertEqual(len(listed), len(names))
        self.assertEqual(sorted(listed), sorted(map(shown, names)))
        # Each object can be read: it exists, and is not an archive.
        for name in names[len(ODD) :]:
            self.s3.delete_object(Bucket=BUCKET, Key=f"in/{name}")
        run = self.assert_run(self.program(), DONE_WITH_FAILED)
        self.assertEqual(run.summary["archives"]["failed"], len(ODD), run)

    def test_control_characters_in_keys_harm_no_archive(self):
        self.put_archives()
        for n, odd in enumerate(["\x01", "\x0b\x1f", "a\tb", "a\rb", "a\nb"]):
            self.s3.put_object(Bucket=BUCKET, Key=f"in/{n}{odd}.db.zip", Body=b"no zip")
        run = self.assert_loaded(self.program())
        # XML cannot hold the first two, and this server cannot encode them.
        self.assertEqual(run.summary["archives"]["failed"], 3, run)
        self.assertEqual(run.log.count("replaces some characters"), 2, run)

    def test_interrupted_downloads_resume(self):
        self.put_archives()
        between = Between(self.server.port)
        self.addCleanup(between.end)
        between.cuts = [2_000, 10_000, 5_000, 30_000]
        run = self.assert_loaded(self.program(url=between.url))
        self.assertIn("cut off after", run.log)
        self.assertEqual(between.cuts, [])

    def test_an_object_replaced_during_its_download_is_read_in_one_version(self):
        first, other = ARCHIVES[0].read_bytes(), ARCHIVES[1].read_bytes()
        key = f"in/{ARCHIVES[1].name}"
        large, small = sorted((first, other), key=len, reverse=True)
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=large)
        between = Between(self.server.port)
        self.addCleanup(between.end)
        between.cuts = [len(large) // 2]
        asked = threading.Event()

        def replace():
            between.before_object = lambda: self.s3.put_object(Bucket=BUCKET, Key=key, Body=small)
            asked.set()

        between.before_object = replace
        run = self.program(url=between.url)
        self.assertTrue(asked.is_set())
        self.assertIn(run.code, (DONE, DONE_WITH_FAILED), run)
        self.assertEqual(run.summary["archives"]["processed"], 1, run)

    def test_only_current_versions_are_read(self):
        self.s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        self.put_archives()
        self.s3.put_object(Bucket=BUCKET, Key="in/gone.db.zip", Body=b"deleted later")
        self.s3.delete_object(Bucket=BUCKET, Key="in/gone.db.zip")
        for content in (b"old", ARCHIVES[0].read_bytes()):
            self.s3.put_object(Bucket=BUCKET, Key=f"in/{ARCHIVES[0].name}", Body=content)
        self.assert_loaded(self.program())

    def test_multipart_objects_are_read(self):
        body = ARCHIVES[0].read_bytes()
        key = {"Bucket": BUCKET, "Key": "in/mega_jetstream_20251219_000000.db.zip"}
        upload = self.s3.create_multipart_upload(**key)["UploadId"]
        # A comment after the archive makes it long enough for two parts.
        comment = b"\0" * (6 << 20)
        whole = body + comment
        parts = []
        for number, part in enumerate((whole[: 5 << 20], whole[5 << 20 :]), 1):
            etag = self.s3.upload_part(**key, UploadId=upload, PartNumber=number, Body=part)["ETag"]
            parts.append({"ETag": etag, "PartNumber": number})
        self.s3.complete_multipart_upload(**key, UploadId=upload, MultipartUpload={"Parts": parts})
        between = Between(self.server.port)
        self.addCleanup(between.end)
        between.cuts = [1 << 20, 2 << 20]
        run = self.program(url=between.url)
        # Trailing bytes make an archive invalid, so the download was complete.
        self.assertEqual(run.summary["archives"]["failed"] + run.summary["archives"]["processed"], 1, run)
        self.assertNotIn("than listed", run.log)

    def test_keys_rotated_during_a_run_are_read_again(self):
        old, new = ("AKIDOLD", "old-secret-not-seen"), ("AKIDNEW", "new-secret-not-seen")
        self.secrets = (old[1], new[1])
        self.make_user(old)
        self.let_in(old[0])
        self.put_archives()
        self.profile(keys_of("default", old))
        between = Between(self.server.port)
        self.addCleanup(between.end)

        def rotate():
            self.profile(keys_of("default", new))
            self.make_user(new)
            self.let_in(new[0])
            self.admin("delete-user", "--access", old[0])

        between.before_object = rotate
        self.assert_loaded(self.program(url=between.url, keys=None))

    def test_errors_name_the_setting(self):
        self.put_archives()
        wrong = "wrong-secret-not-seen"
        self.assert_run(self.program(keys=(ROOT[0], wrong)), REFUSED, "SignatureDoesNotMatch")
        self.assert_run(self.program(keys=("AKIDWRONG", wrong)), REFUSED, "InvalidAccessKeyId")
        self.assert_run(self.program(S3_SQLITE_DB_BUCKET="not-there"), USAGE, "NoSuchBucket")
        self.assert_run(self.program(url=f"{self.server_url}/{BUCKET}"), USAGE, "AWS_ENDPOINT_URL_S3")
        self.assert_run(self.program(url=f"http://127.0.0.1:{free_port()}"), UNAVAILABLE, "AWS_ENDPOINT_URL_S3")
        self.assert_run(self.program(S3_SQLITE_DB_PREFIX="/in/"), DONE, "begins with a slash")
        stranger = ("AKIDSTRANGER", "stranger-secret-not-seen")
        self.make_user(stranger)
        self.assert_run(self.program(keys=stranger), REFUSED, "AccessDenied")

    def test_another_region_is_used_or_named(self):
        self.put_archives()
        self.assert_run(self.program(AWS_REGION="eu-west-3"), DONE_WITH_FAILED, REGION, "AWS_REGION")
        self.profile("", f"[default]\nregion = {REGION}\n")
        self.assert_loaded(self.program(AWS_REGION=None))

    def test_a_public_bucket_is_read_without_credentials(self):
        self.put_archives()
        self.assert_run(self.program("--s3-anonymous", keys=None), REFUSED)
        self.let_in("*")
        self.assert_loaded(self.program("--s3-anonymous", keys=None))

    def test_whitespace_around_keys_and_keys_in_files(self):
        self.put_archives()
        self.assert_loaded(self.program(keys=(f"{ROOT[0]}\n", f" {ROOT[1]}\r\n")))
        (self.folder / "secret").write_text(f"{ROOT[1]}\n")
        named = {"AWS_S3_ACCESS_KEY": ROOT[0], "AWS_S3_SECRET_KEY_FILE": "secret"}
        self.assert_loaded(self.program(keys=None, **named))


class Moto(S3):
    """A server that issues roles, and accepts only known users."""

    @classmethod
    def setUpClass(cls):
        if not cls.has_client:
            raise unittest.SkipTest("moto is not here")
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "PORT"]
        cls.server = Process(command, {"MOTO_S3_CUSTOM_ENDPOINTS": ""})
        cls.addClassCleanup(cls.server.end)
        cls.server_url = cls.server.url

    def post(self, path, body=b""):
        # As plain text, since form data is not read.
        request = urllib.request.Request(f"{self.server_url}{path}", body, {"content-type": "text/plain"}, method="POST")
        urllib.request.urlopen(request).read()

    def setUp(self):
        super().setUp()
        self.post("/moto-api/reset-auth", b"inf")
        self.post("/moto-api/reset")
        iam, self.sts, self.s3 = self.client("iam"), self.client("sts"), self.client()
        everything = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
        arn = iam.create_policy(PolicyName="all", PolicyDocument=json.dumps(everything))["Policy"]["Arn"]
        iam.create_user(UserName="user")
        iam.attach_user_policy(UserName="user", PolicyArn=arn)
        key = iam.create_access_key(UserName="user")["AccessKey"]
        self.keys = (key["AccessKeyId"], key["SecretAccessKey"])
        self.role = iam.create_role(RoleName="reader", AssumeRolePolicyDocument=json.dumps(everything))["Role"]["Arn"]
        iam.attach_role_policy(RoleName="reader", PolicyArn=arn)
        self.secrets = (self.keys[1],)
        self.s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        for archive in ARCHIVES:
            self.s3.put_object(Bucket=BUCKET, Key=f"in/{archive.name}", Body=archive.read_bytes())
        # From now on requests need credentials.
        self.post("/moto-api/reset-auth", b"0")

    def test_only_keys_of_a_known_user_are_accepted(self):
        self.assert_loaded(self.program(keys=self.keys))
        self.assert_run(self.program(keys=(self.keys[0], "wrong-secret-not-seen")), REFUSED, "SignatureDoesNotMatch")
        self.assert_run(self.program(keys=("AKIDWRONG", "wrong-secret-not-seen")), REFUSED, "InvalidAccessKeyId")

    def test_a_role_of_a_profile(self):
        self.profile(keys_of("user", self.keys), f"[profile role]\nrole_arn = {self.role}\nsource_profile = user\n")
        self.assert_loaded(self.program(keys=None, AWS_PROFILE="role", AWS_ENDPOINT_URL_STS=self.server_url))
        self.profile(keys_of("own", self.keys), f"[profile own]\nrole_arn = {self.role}\n")
        self.assert_loaded(self.program(keys=None, AWS_DEFAULT_PROFILE="own", AWS_ENDPOINT_URL_STS=self.server_url))
        self.profile(keys_of("own", (self.keys[0], "wrong-secret-not-seen")), f"[profile own]\nrole_arn = {self.role}\n")
        run = self.program(keys=None, AWS_PROFILE="own", AWS_ENDPOINT_URL_STS=self.server_url)
        self.assert_run(run, REFUSED, "SignatureDoesNotMatch")

    def test_a_role_for_the_keys_of_the_environment(self):
        self.profile("", f"[profile role]\nrole_arn = {self.role}\ncredential_source = Environment\n")
        keys = {"AWS_ACCESS_KEY_ID": self.keys[0], "AWS_SECRET_ACCESS_KEY": self.keys[1]}
        self.assert_loaded(self.program(keys=None, AWS_PROFILE="role", AWS_ENDPOINT_URL_STS=self.server_url, **keys))

    def test_a_web_identity(self):
        (self.folder / "token").write_text("header.payload.signature\n")
        named = {"AWS_WEB_IDENTITY_TOKEN_FILE": "token", "AWS_ROLE_ARN": self.role}
        self.post("/moto-api/reset-auth", b"1")  # the exchange itself is not signed
        self.assert_loaded(self.program(keys=None, AWS_ENDPOINT_URL_STS=self.server_url, **named))

    def test_a_session_token_with_its_keys(self):
        self.post("/moto-api/reset-auth", b"inf")
        given = self.sts.assume_role(RoleArn=self.role, RoleSessionName="test")["Credentials"]
        self.post("/moto-api/reset-auth", b"0")
        self.secrets += (given["SecretAccessKey"], given["SessionToken"])
        keys = (given["AccessKeyId"], given["SecretAccessKey"])
        self.assert_loaded(self.program(keys=keys, AWS_SESSION_TOKEN=f"{given['SessionToken']}\n"))

    def test_a_program(self):
        written = {"Version": 1, "AccessKeyId": self.keys[0], "SecretAccessKey": self.keys[1]}
        (self.folder / "keys.json").write_text(json.dumps(written))
        self.profile("", f'[default]\ncredential_process = cat "{self.folder}/keys.json"\n')
        self.assert_loaded(self.program(keys=None))

    def test_archived_objects_are_left_out_until_restored(self):
        self.post("/moto-api/reset-auth", b"inf")
        key = {"Bucket": BUCKET, "Key": f"in/{ARCHIVES[0].name}"}
        self.s3.put_object(**key, Body=ARCHIVES[0].read_bytes(), StorageClass="GLACIER")
        run = self.assert_run(self.program("--list", keys=self.keys), DONE, "GLACIER", "restore")
        self.assertEqual(sum(line.endswith("\ttake") for line in run.out.splitlines()), len(ARCHIVES) - 1)

    def test_the_bucket_in_the_host_name(self):
        url = self.server_url.replace("127.0.0.1", "localhost")
        self.assert_run(self.program("--s3-addressing", "virtual", keys=self.keys), USAGE, "--s3-addressing")
        self.assert_loaded(self.program("--s3-addressing", "virtual", url=url, keys=self.keys))


def main():
    if binary() is None:
        sys.exit("there is no program to test: cargo build")
    gateway, python = (os.environ.get("S3_PY_GATEWAY"), sys.executable) if "S3_PY_GATEWAY" in os.environ else install()
    if python is not None and "S3_PY_GATEWAY" not in os.environ:
        # The client is installed with moto.
        os.environ["S3_PY_GATEWAY"] = str(gateway or "")
        os.execv(python, [str(python), *sys.argv])
    S3.has_client = python is not None
    Versitygw.gateway = gateway or None
    unittest.main()


if __name__ == "__main__":
    main()
