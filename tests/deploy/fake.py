"""A small fake Elasticsearch, where no real one is needed or available.

It keeps documents with external versions, remembers versions of deletes, and answers all other requests of the
program. It refuses base64 vectors, as Elasticsearch before 9.3 does.
"""

import contextlib
import gzip
import json
import random
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

from server import INDICES, MODELS, PROPERTIES

API_KEY = "Zm9yOnRlc3Rz"
SETTINGS = {
    "index.number_of_shards": "1",
    "index.number_of_replicas": "0",
    "index.version.created": "8534000",
    "index.gc_deletes": "60s",
    "index.refresh_interval": "1s",
    "index.translog.durability": "REQUEST",
    "index.translog.sync_interval": "5s",
}


class Index:
    def __init__(self, alias):
        self.alias = alias
        self.documents = {}  # _id: (version, source)
        self.deletes = {}  # _id: version
        vector = {"type": "dense_vector", "dims": 384, "index": True, "similarity": "cosine"}
        properties = dict(PROPERTIES[alias])
        if alias == "posts":
            properties["embeddings"] = {"properties": dict.fromkeys(MODELS, vector)}
        self.mappings = {"dynamic": False, "properties": properties}

    def write(self, operation, name, version, source):
        """Applies one action with `external_gte`: (status, version, result), or None if the stored version is newer."""
        live = self.documents.get(name)
        current = live[0] if live else self.deletes.get(name)
        if current is not None and version < current:
            return None
        if operation == "delete":
            self.documents.pop(name, None)
            self.deletes[name] = version
            return (200, version, "deleted") if live else (404, version, "not_found")
        self.documents[name] = (version, source)
        return (200, version, "updated") if live else (201, version, "created")


class Fake:
    """The server. `delay` is the time that a bulk request takes, in seconds: a number, or a range to choose from."""

    def __init__(self, delay=0.0):
        self.delay = delay
        self.lock = threading.Lock()
        self.started = threading.Condition(self.lock)
        self.bulk_requests = 0
        self.free = threading.Event()
        self.free.set()
        self.fresh_indices()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            wbufsize = -1

            def do_GET(self):
                with contextlib.suppress(ConnectionError):
                    fake.answer(self)

            do_HEAD = do_POST = do_PUT = do_GET

            def log_message(self, *_):
                pass

        class Http(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 256

            def handle_error(self, *_):
                pass

        self.http = Http(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        self.ca = None
        self.api_key = API_KEY
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def close(self):
        self.free.set()
        self.http.shutdown()
        self.http.server_close()

    def fresh_indices(self, **_):
        with self.lock:
            self.indices = {alias: Index(alias) for alias in INDICES}

    def documents(self, alias):
        with self.lock:
            return dict(self.indices[alias].documents)

    def hold(self):
        """Reads bulk requests without a reply until `release`."""
        self.free.clear()

    def release(self):
        self.free.set()

    def wait_for_bulk(self, count=1, seconds=60):
        """Waits until this number of bulk requests has arrived from now on, including those that are held."""
        with self.started:
            wanted = self.bulk_requests + count
            if not self.started.wait_for(lambda: self.bulk_requests >= wanted, seconds):
                raise TimeoutError("no bulk request has come")

    # ---- requests --------------------------------------------------------------------------------

    def answer(self, request):
        length = int(request.headers.get("Content-Length") or 0)
        body = request.rfile.read(length)
        if request.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        parts = urlsplit(request.path)
        query = parse_qs(parts.query, keep_blank_values=True)
        path = [unquote(word) for word in parts.path.split("/") if word]
        if request.headers.get("Authorization") != f"ApiKey {API_KEY}":
            status, reply = refused(401, "security_exception", "unable to authenticate")
        elif path[-1:] == ["_bulk"]:
            status, reply = self.bulk(body)
        else:
            with self.lock:
                status, reply = self.rest(request.command, path, query, json.loads(body) if body else {})
        text = json.dumps(reply).encode()
        request.send_response(status)
        request.send_header("X-elastic-product", "Elasticsearch")
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(text)))
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(text)

    def bulk(self, body):
        with self.started:
            self.bulk_requests += 1
            self.started.notify_all()
        self.free.wait()
        time.sleep(self.delay if isinstance(self.delay, (int, float)) else random.uniform(*self.delay))
        lines = iter(body.decode().splitlines())
        items = []
        with self.lock:
            for line in lines:
                ((operation, action),) = json.loads(line).items()
                source = json.loads(next(lines)) if operation == "index" else None
                items.append({operation: self.item(operation, action, source)})
        return 200, {"took": 1, "errors": any("error" in next(iter(item.values())) for item in items), "items": items}

    def item(self, operation, action, source):
        told = {"_index": INDICES[action["_index"]], "_id": action["_id"]}
        written = None
        if "version" in action:  # all others are sent under a condition that cannot hold
            written = self.indices[action["_index"]].write(operation, action["_id"], action["version"], source)
        if written is None:
            error = {"type": "version_conflict_engine_exception", "reason": "version conflict"}
            return {**told, "status": 409, "error": error}
        status, version, result = written
        shards = {"total": 1, "successful": 1, "failed": 0}
        return {**told, "status": status, "_version": version, "result": result, "_shards": shards,
                "_seq_no": 0, "_primary_term": 1}

    def rest(self, method, path, query, body):
        match path:
            case ["_security", "user", "_has_privileges"]:
                return 200, privileges(body)
            case ["_alias", name]:
                return (200, self.each([name], "aliases")) if name in INDICES else (404, {"status": 404})
            case ["_mget"]:
                return 200, {"docs": [self.get(doc["_index"], doc["_id"], query) for doc in body["docs"]]}
            case [name, "_mget"]:
                ids = body.get("ids") or [doc["_id"] for doc in body["docs"]]
                return 200, {"docs": [self.get(name, one, query) for one in ids]}
            case [name, "_doc", one] if method == "GET":
                told = self.get(name, one, query)
                return 200 if told["found"] else 404, told
            case [names, *rest] if not names.startswith("_"):
                return self.on_indices(names.split(","), rest, query)
        return refused(403, "security_exception", f"action for [/{'/'.join(path)}] is unauthorized")

    def on_indices(self, names, rest, query):
        behind = {name: alias for alias, name in INDICES.items()}
        aliases = [name if name in INDICES else behind.get(name) for name in names]
        if None in aliases:
            return refused(404, "index_not_found_exception", f"no such index {names}")
        match rest:
            case []:
                return 200, self.each(aliases, "aliases", "mappings", "settings", query=query)
            case ["_mapping"]:
                return 200, self.each(aliases, "mappings")
            case ["_alias", *_]:
                return 200, self.each(aliases, "aliases")
            case ["_settings", *_]:
                return 200, self.each(aliases, "settings", query=query)
            case ["_search_shards"]:
                shard = lambda name: [{"state": "STARTED", "primary": True, "node": "n1", "shard": 0, "index": name,
                                       "allocation_id": {"id": f"of-{name}"}}]
                concrete = [INDICES[alias] for alias in aliases]
                return 200, {"nodes": {"n1": {"name": "n1", "ephemeral_id": "once"}},
                             "indices": {name: {} for name in concrete}, "shards": [shard(name) for name in concrete]}
            case ["_refresh" | "_flush"]:
                return 200, {"_shards": {"total": 1, "successful": 1, "failed": 0}}
        return refused(403, "security_exception", f"action for {rest} is unauthorized")

    def each(self, aliases, *parts, query=()):
        flat = "flat_settings" in query
        make = {
            "aliases": lambda alias: {alias: {}},
            "mappings": lambda alias: self.indices[alias].mappings,
            "settings": lambda alias: shaped({**SETTINGS, "index.uuid": f"uuid-of-{alias}"}, flat),
        }
        return {INDICES[alias]: {part: make[part](alias) for part in parts} for alias in aliases}

    def get(self, name, one, query):
        alias = name if name in INDICES else name.removesuffix("_v1")
        found = self.indices[alias].documents.get(one)
        told = {"_index": INDICES[alias], "_id": one, "found": bool(found)}
        if found:
            told["_version"] = found[0]
            if query.get("_source") != ["false"]:
                told["_source"] = found[1]
        return told


def privileges(body):
    """Grants all index privileges and no cluster privilege, as for the documented key."""
    groups = body.get("index") or []
    granted = {name: {one: True for one in group["privileges"]} for group in groups for name in group["names"]}
    cluster = {one: False for one in body.get("cluster") or []}
    return {"username": "tests", "has_all_requested": not cluster, "cluster": cluster, "index": granted,
            "application": {}}


def shaped(settings, flat):
    """Settings by full name, or as nested objects."""
    if flat:
        return settings
    nested = {}
    for name, value in settings.items():
        *outer, last = name.split(".")
        at = nested
        for word in outer:
            at = at.setdefault(word, {})
        at[last] = value
    return nested


def refused(status, kind, reason):
    return status, {"error": {"type": kind, "reason": reason}, "status": status}
