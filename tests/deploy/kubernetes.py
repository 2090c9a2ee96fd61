"""The manifests: validated by the schemas of supported versions, and the failure policy of a Job."""

import importlib
import random
import re
import signal
import subprocess
import time
import unittest
from pathlib import Path

import fleet
import yaml

# The oldest version that the manifests support; all newer ones of kubernetes-validate are tried.
OLDEST = (1, 33)
MANIFESTS = sorted(fleet.DEPLOY.glob("kubernetes*.yaml"))


def documents(path):
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def jobs():
    return [(path.name, document) for path in MANIFESTS for document in documents(path) if document["kind"] == "Job"]


def job(name):
    return next(document for file, document in jobs() if file == name)


def pods():
    specs = [(path.name, document["spec"]) for path in MANIFESTS for document in documents(path)]
    return [(name, spec["template"]["spec"]) for name, spec in specs if "template" in spec]


def container(document):
    (one,) = document["spec"]["template"]["spec"]["containers"]
    return one


def settings(document, **index):
    """The environment of a pod, with `$(NAME)` expanded from earlier variables, as kubelet does."""
    told = {}
    for entry in container(document)["env"]:
        value = index["index"] if "valueFrom" in entry else entry["value"]
        told[entry["name"]] = re.sub(r"\$\((\w+)\)", lambda found: told.get(found[1], found[0]), value)
    return told


def action(document, code, disrupted=False):
    """What the policy of a Job does with a failed pod; `Count` if no rule matches."""
    for rule in document["spec"]["podFailurePolicy"]["rules"]:
        if "onExitCodes" in rule:
            values, operator = rule["onExitCodes"]["values"], rule["onExitCodes"]["operator"]
            if code != 0 and (code in values) == (operator == "In"):
                return rule["action"]
        elif disrupted and any(one["type"] == "DisruptionTarget" for one in rule["onPodConditions"]):
            return rule["action"]
    return "Count"


class Schemas(unittest.TestCase):
    longMessage = False

    def test_every_manifest_is_valid_in_every_supported_version(self):
        try:
            validator = importlib.import_module("kubernetes_validate")
        except ImportError:
            self.skipTest("not installed: kubernetes-validate (pip)")
        folder = Path(validator.__file__).parent / "kubernetes-json-schema"
        found = {tuple(map(int, re.findall(r"\d+", place.name)[:2])) for place in folder.iterdir() if place.is_dir()}
        versions = sorted(version for version in found if version >= OLDEST)
        self.assertGreaterEqual(len(versions), 3, f"few versions are known: {sorted(found)}")
        for path in MANIFESTS:
            for document in documents(path):
                for major, minor in versions:
                    with self.subTest(path=path.name, kind=document["kind"], version=f"{major}.{minor}"):
                        validator.validate(document, f"{major}.{minor}", strict=True)

    def test_a_manifest_with_a_wrong_field_is_found(self):
        """Otherwise the schemas would prove nothing."""
        try:
            validator = importlib.import_module("kubernetes_validate")
        except ImportError:
            self.skipTest("not installed: kubernetes-validate (pip)")
        document = job("kubernetes.yaml")
        document["spec"]["backoffLimitPerIndx"] = document["spec"].pop("backoffLimitPerIndex")
        with self.assertRaises(validator.ValidationError):
            validator.validate(document, "1.33", strict=True)


class Rules(unittest.TestCase):
    """Rules of the API server beyond its schemas, and the meaning of exit codes."""

    longMessage = False

    def test_policies_are_accepted_by_the_server(self):
        self.assertEqual(len(jobs()), 2)
        for name, document in jobs():
            spec = document["spec"]
            self.assertEqual(spec["template"]["spec"]["restartPolicy"], "Never", f"{name}: a policy needs Never")
            for rule in spec["podFailurePolicy"]["rules"]:
                self.assertEqual(len(rule.keys() & {"onExitCodes", "onPodConditions"}), 1, f"{name}: {rule}")
                if "onExitCodes" in rule:
                    values = rule["onExitCodes"]["values"]
                    self.assertEqual(values, sorted(set(values)), f"{name}: in order, each once")
                    self.assertNotIn(0, values)
                if rule["action"] == "FailIndex":
                    self.assertIn("backoffLimitPerIndex", spec, f"{name}: FailIndex needs it")
                    self.assertEqual(spec["completionMode"], "Indexed")

    def test_shards_equal_completions(self):
        document = job("kubernetes.yaml")
        self.assertEqual(settings(document, index="3")["SHARD_COUNT"], str(document["spec"]["completions"]))
        self.assertEqual(settings(document, index="3")["SPOOL_STATE_FILE"], "/state/3-of-8.state.json")

    def test_probes_use_paths_and_port_of_the_program(self):
        for name, pod in pods():
            (one,) = pod["containers"]
            (port,) = one["ports"]
            told = {entry["name"]: entry.get("value") for entry in one["env"]}
            self.assertEqual(told["LISTEN_ADDRESS"], f"0.0.0.0:{port['containerPort']}", name)
            for probe, path in (("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")):
                if probe == "livenessProbe" or name == "kubernetes-spooler.yaml":
                    self.assertEqual(one[probe]["httpGet"], {"path": path, "port": port["name"]}, f"{name}: {probe}")

    def test_exit_codes_have_the_documented_effect(self):
        failed = {"kubernetes.yaml": "FailIndex", "kubernetes-once.yaml": "FailJob"}
        for name, document in jobs():
            for code in (2, 3, 5):
                self.assertEqual(action(document, code), failed[name], f"{name}: {code}")
            # 137: killed by the kernel for its memory, or by kubelet after the grace period.
            for code in (1, 4, 6, 130, 137, 143):
                self.assertEqual(action(document, code), "Count", f"{name}: {code}")
                self.assertEqual(action(document, code, disrupted=True), "Ignore", f"{name}: {code}")

    def test_pods_meet_the_restricted_standard(self):
        """The pods are accepted by a namespace with `pod-security.kubernetes.io/enforce: restricted`."""
        for name, pod in pods():
            security = pod["securityContext"]
            self.assertTrue(security["runAsNonRoot"], name)
            self.assertEqual(security["seccompProfile"]["type"], "RuntimeDefault", name)
            for one in pod["containers"]:
                self.assertEqual(one["securityContext"]["capabilities"], {"drop": ["ALL"]}, name)
                self.assertFalse(one["securityContext"]["allowPrivilegeEscalation"], name)
                self.assertFalse(one["securityContext"].get("privileged", False), name)
            for volume in pod.get("volumes", ()):
                self.assertIn("persistentVolumeClaim", volume, name)

    def test_requests_in_flight_fit_into_the_grace_period(self):
        for name, pod in pods():
            self.assertGreater(pod["terminationGracePeriodSeconds"], 100, f"{name}: a request takes 100 s at most")


COMPLETIONS = 100
AT_ONCE = 6
CHANCE_OF_LOSS = 0.5


class Pod:
    """One attempt at an index."""

    def __init__(self, index, process, lost_at, noticed):
        self.index, self.process, self.lost_at, self.noticed = index, process, lost_at, noticed
        self.lost = False

    def lose(self):
        """The machine disappears: with a notice (SIGTERM), or without."""
        self.lost = True
        self.process.send_signal(signal.SIGTERM if self.noticed else signal.SIGKILL)


class Spot(fleet.Fleet):
    """The Job of kubernetes.yaml with 100 completions, on machines that disappear at random."""

    def test_100_shards_survive_the_random_loss_of_machines(self):
        seed = random.randrange(2**32)
        chance = random.Random(seed)
        self.server.delay = (0.0, 0.1)
        archives = fleet.make_archives(self.folder / "archives", 2 * COMPLETIONS, rows=6)
        (self.folder / "state").mkdir()
        self.document = job("kubernetes.yaml")
        self.document["spec"]["completions"] = COMPLETIONS
        waiting = list(range(COMPLETIONS))
        running, counted, lost, codes = [], dict.fromkeys(waiting, 0), 0, {}
        until = time.monotonic() + fleet.PATIENCE
        while waiting or running:
            self.assertLess(time.monotonic(), until, f"seed {seed}: not done: {waiting}")
            while waiting and len(running) < AT_ONCE:
                running.append(self.start(waiting.pop(0), chance))
            for pod in list(running):
                code = pod.process.poll()
                if code is None:
                    if not pod.lost and time.monotonic() > pod.lost_at:
                        pod.lose()
                    continue
                running.remove(pod)
                code = 128 - code if code < 0 else code
                codes[code] = codes.get(code, 0) + 1
                if code == 0:
                    continue
                lost += pod.lost
                what = action(self.document, code, disrupted=pod.lost)
                self.assertIn(what, ("Ignore", "Count"), f"seed {seed}: index {pod.index} ended with {code}: {self.log(pod.index)}")
                counted[pod.index] += what == "Count"
                limit = self.document["spec"]["backoffLimitPerIndex"]
                self.assertLessEqual(counted[pod.index], limit, f"seed {seed}: {self.log(pod.index)}")
                waiting.append(pod.index)
            time.sleep(0.01)
        self.assertGreaterEqual(lost, COMPLETIONS / 10, f"seed {seed}: few shards were killed: {codes}")
        self.assertEqual(sum(counted.values()), 0, f"seed {seed}: attempts failed by themselves: {codes}")
        done = sum(map(fleet.processed, (self.folder / "state").glob(f"*-of-{COMPLETIONS}.state.json")))
        self.assertEqual(done, len(archives), f"seed {seed}")
        self.assert_holds(archives)
        print(f"\n    {lost} attempts were killed; exit codes and how often: {dict(sorted(codes.items()))}")

    def log(self, index):
        return (self.folder / "state" / f"{index}.log").read_text()[-2000:]

    def start(self, index, chance):
        self.document["spec"]["template"]["spec"]["containers"][0]["env"] = [
            {**entry, "value": str(COMPLETIONS)} if entry["name"] == "SHARD_COUNT" else entry
            for entry in container(self.document)["env"]]
        of_pod = settings(self.document, index=str(index))
        # Pods have networks of their own; here all share one.
        of_pod.pop("LISTEN_ADDRESS")
        inside = {"/state": str(self.folder / "state"), "/archives": str(self.folder / "archives")}
        for name, value in of_pod.items():
            for mount, folder in inside.items():
                if value == mount or value.startswith(mount + "/"):
                    of_pod[name] = folder + value.removeprefix(mount)
        with (self.folder / "state" / f"{index}.log").open("ab") as log:
            process = subprocess.Popen([fleet.binary(), *container(self.document).get("args", ())],
                                       env=self.environment(**of_pod), cwd=self.folder, stdin=subprocess.DEVNULL,
                                       stdout=log, stderr=log)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        goes = chance.random() < CHANCE_OF_LOSS
        return Pod(index, process, time.monotonic() + (chance.uniform(0, 0.6) if goes else fleet.PATIENCE),
                   chance.random() < 0.5)
