#!/usr/bin/env python3
"""Writes `test_data/replies/*.json`: replies of a real server, for the unit tests of the parser.

    python3 tests/e2e/record_replies.py

Needs a server that it can start, or one with an administrator (see server.py). Each file is the literal body of one
reply, named by HTTP status, API and case.
"""

import sys

sys.dont_write_bytecode = True

import base64
import json
import struct

import server as servers

FOLDER = servers.PROJECT / "test_data" / "replies"
DOCUMENT = {"at_uri": "at://did:plc:a/app.bsky.feed.post/1", "author_did": "did:plc:a", "content": "text"}
ALL = servers.PRIVILEGES


def ndjson(*lines):
    return "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines).encode()


def index(name, document=DOCUMENT, version=100, alias="posts"):
    action = {"_index": alias, "_id": name, "version": version, "version_type": "external_gte"}
    return ndjson({"index": action}, document)


def delete(name, version=1 << 62 | 100, alias="posts"):
    return ndjson({"delete": {"_index": alias, "_id": name, "version": version, "version_type": "external_gte"}})


def vector(value):
    return {**DOCUMENT, "embeddings": {"all_MiniLM_L6_v2": value}}


def packed(*values):
    return base64.b64encode(struct.pack(f">{len(values)}f", *values)).decode()


class Recorder:
    def __init__(self, server):
        self.server = server
        self.key = self.header(ALL)

    def header(self, privileges, names=("posts*", "post_tombstones*")):
        return "ApiKey " + self.server.make_key(privileges, names)

    def record(self, status, name, method, path, body=None, authorization=None):
        got, reply = self.server.ask(method, path, body, authorization or self.key)
        if got != status:
            sys.exit(f"{name}: {got} instead of {status}: {json.dumps(reply)[:500]}")
        text = json.dumps(reply, ensure_ascii=False, separators=(",", ":"))
        (FOLDER / f"{status}_{name}.json").write_text(text + "\n")

    def bulk(self, status, name, *bodies, authorization=None, options=""):
        self.record(status, f"bulk_{name}", "POST", "/_bulk" + options, b"".join(bodies), authorization)

    def items(self):
        """An accepted request with results per item."""
        self.bulk(200, "created_updated_superseded", index("a"), index("a", version=101), index("a", version=99))
        self.bulk(200, "deleted_and_absent", delete("a"), delete("absent"))
        self.bulk(200, "index_after_delete", index("a", version=102))
        self.bulk(200, "filtered_by_path", index("b"), index("b", version=1), index("c", vector([1.0])), delete("absent"),
                  options="?filter_path=items.*.status,items.*.error.type,items.*.error.reason")
        self.bulk(200, "date_unparsable", index("b"), index("c", {**DOCUMENT, "created_at": "yesterday"}))
        self.bulk(200, "object_for_keyword", index("c", {**DOCUMENT, "at_uri": {"a": 1}}))
        self.bulk(200, "document_cut_off", index("c", '{"at_uri":'), index("b"))
        self.bulk(200, "id_empty", index(""), index("b"))
        self.bulk(200, "vector_dims", index("c", vector([0.5] * 383)), index("b"))
        self.bulk(200, "vector_zero", index("c", vector([0.0] * 384)))
        self.bulk(200, "vector_base64", index("v", vector(packed(*[0.5] * 384))))
        self.bulk(200, "vector_base64_length", index("c", vector(packed(*[0.5] * 383))))
        self.bulk(200, "vector_base64_nan", index("c", vector(packed(*[float("nan")] * 384))))
        self.bulk(200, "vector_text", index("c", vector("no vector")))
        self.bulk(200, "index_missing", index("c", alias="posts_none"), index("b"),
                  authorization=self.server.admin, options="?require_alias=true")
        self.bulk(200, "index_missing_no_auto_create", index("c", alias="posts_none"), index("b"))
        self.bulk(200, "no_delete_privilege", index("b"), delete("b"), authorization=self.header(["read", "index"]))

    def blocks(self):
        """A temporary write block of an index or of the cluster."""
        for name, block in [("write", "write"), ("flood_stage", "read_only_allow_delete")]:
            self.server.expect("PUT", "/posts_v1/_settings", {f"index.blocks.{block}": True})
            self.bulk(200, f"block_{name}", index("b"), index("t", {}, alias="post_tombstones"))
            self.server.expect("PUT", "/posts_v1/_settings", {f"index.blocks.{block}": None})
        self.block_cluster(True)
        try:
            self.bulk(403, "block_cluster", index("b"))
        finally:
            self.block_cluster(None)

    def block_cluster(self, value):
        self.server.expect("PUT", "/_cluster/settings", {"persistent": {"cluster.blocks.read_only": value}})

    def refused(self):
        """A request that is refused as a whole."""
        self.bulk(400, "id_too_long", index("x" * 513), index("b"))
        self.bulk(400, "no_final_newline", index("b")[:-1])
        self.bulk(400, "empty", b"")
        unknown = "ApiKey " + base64.b64encode(b"unknown:unknown").decode()
        self.bulk(401, "key_unknown", index("b"), authorization=unknown)
        self.bulk(401, "key_malformed", index("b"), authorization="ApiKey ???")
        self.bulk(403, "no_write_privilege", index("b"), authorization=self.header(["read"]))
        self.record(403, "root_no_cluster_privilege", "GET", "/")
        self.record(200, "root", "GET", "/", authorization=self.server.admin)

    def others(self):
        """Tombstone look-ups, and the requests of the preflight."""
        ids = {"ids": ["t", "absent"]}
        path = "/post_tombstones/_mget?_source=false&filter_path=docs._id,docs.found,docs._version,docs.error"
        self.record(200, "mget", "POST", path, ids)
        self.record(200, "mget_index_missing", "POST", path.replace("post_tombstones", "post_tombstones_none"), ids)
        self.record(403, "mget_no_read_privilege", "POST", path, ids, self.header(["index"]))
        asked = [{"names": ["posts", "post_tombstones"], "privileges": [*ALL, "maintenance"]}]
        self.record(200, "has_privileges_lacking", "POST", "/_security/user/_has_privileges", {"index": asked})
        self.record(200, "alias", "GET", "/_alias/posts")
        self.record(404, "alias_missing", "GET", "/_alias/posts_none")
        self.record(200, "mapping", "GET", "/posts/_mapping")
        self.record(404, "mapping_index_missing", "GET", "/posts_none/_mapping", authorization=self.server.admin)
        self.record(200, "settings", "GET", "/posts/_settings")
        self.record(200, "settings_defaults", "GET", "/posts/_settings?include_defaults=true&filter_path="
                    "*.settings.index.version,*.*.index.gc_deletes,*.*.index.translog.durability")
        source = "/posts/_doc/v?_source_exclude_vectors=false"
        self.record(200, "get_vector_base64", "GET", source)
        self.record(403, "flush_no_privilege", "POST", "/posts/_flush")


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    if not servers.available():
        sys.exit("no server: set ELASTICSEARCH_TEST_URL")
    with servers.running() as server:
        server.fresh_indices()
        recorder = Recorder(server)
        recorder.items()
        recorder.blocks()
        recorder.refused()
        recorder.others()
    print(f"{len(list(FOLDER.glob('*.json')))} replies in {FOLDER.relative_to(servers.PROJECT)}")


if __name__ == "__main__":
    main()
