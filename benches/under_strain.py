#!/usr/bin/env python3
"""Loads archives into a server that refuses most requests, and measures throughput and wasted bytes.

    benches/under_strain.py [--archives 60] [--rows 200] [--delay 0.05] [--program PATH]

The server is the fake of tests/deploy/fake.py. It takes `--delay` seconds for each bulk request and refuses at random:
either after it has read the body, as Elasticsearch does, or after the head of a request with `Expect: 100-continue`, as
a proxy's rate limit does. The output has the accepted requests, as a share of those it would accept from senders that
never pause, and the received bytes relative to a run without refusals.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import threading
import time
from pathlib import Path

import measure

for folder in ("deploy", "e2e"):
    sys.path.insert(0, os.path.join(measure.ROOT, "tests", folder))
import fake  # noqa: E402
from convergence import raw_post, write_archive  # noqa: E402

SENDERS = 4

# Status, share of refused requests, share of refused items.
STRAINS = [(503, 0.7, 0.0), (429, 0.6, 0.25)]


class Strained(fake.Fake):
    """The server. `by_head`: whether it refuses before it has read the body."""

    def __init__(self, delay, status=503, requests=0.0, items=0.0, by_head=False):
        super().__init__(delay)
        self.status, self.requests, self.items = status, requests, items
        self.coin, self.counting = random.Random(1), threading.Lock()
        self.bytes = self.refused = self.accepted = 0
        server = self

        def expects(handler):
            """Handles `Expect: 100-continue`; called by http.server."""
            if by_head and server.is_bulk(handler) and server.refuses():
                handler.close_connection = True
                server.refuse(handler)
                return False
            handler.is_judged = by_head
            handler.send_response_only(100)
            handler.end_headers()
            handler.wfile.flush()
            return True

        self.http.RequestHandlerClass.handle_expect_100 = expects
        self.http.RequestHandlerClass.is_judged = False

    @staticmethod
    def is_bulk(handler):
        return "_bulk" in handler.path

    def refuses(self):
        with self.counting:
            return self.coin.random() < self.requests

    def refuse(self, handler):
        time.sleep(self.delay)
        with self.counting:
            self.refused += 1
        text = json.dumps({"error": {"type": "es_rejected_execution_exception", "reason": "busy"}}).encode()
        handler.send_response(self.status)
        handler.send_header("X-elastic-product", "Elasticsearch")
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(text)))
        handler.end_headers()
        handler.wfile.write(text)
        handler.wfile.flush()

    def answer(self, request):
        is_judged, request.is_judged = request.is_judged, False
        if self.is_bulk(request):
            length = int(request.headers["Content-Length"])
            with self.counting:
                self.bytes += length
            if not is_judged and self.refuses():
                request.rfile.read(length)
                return self.refuse(request)
            with self.counting:
                self.accepted += 1
        return super().answer(request)

    def item(self, operation, action, source):
        if self.coin.random() < self.items:
            item = {"_index": fake.INDICES[action["_index"]], "_id": action["_id"], "status": 429}
            return {**item, "error": {"type": "es_rejected_execution_exception", "reason": "busy"}}
        return super().item(operation, action, source)


def load(program, folder, server, seconds):
    """Loads the archives. Returns the number of rows and the seconds."""
    with tempfile.TemporaryDirectory() as work:
        settings = {**os.environ, "ELASTICSEARCH_URL": server.url, "ELASTICSEARCH_API_KEY": fake.API_KEY,
                    "SPOOL_STATE_FILE": f"{work}/state.json", "DEAD_LETTER_FILE": f"{work}/dead.ndjson",
                    "LOGGING_ENABLED": "false"}
        cost = measure.cost_of(["timeout", str(seconds), program, "--senders", str(SENDERS), str(folder)], (0, 124), env=settings, cwd=work)
    rows = len(server.documents("posts"))
    server.close()
    return rows, cost.wall


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--archives", type=int, default=60)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--delay", type=float, default=0.05)
    parser.add_argument("--seconds", type=float, default=180, help="the longest that a load may take")
    parser.add_argument("--program", default=os.path.join(measure.RELEASE, "megastream_ingest"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for n in range(options.archives):
            posts = [f"at://did:plc:a/app.bsky.feed.post/p{n}x{row}" for row in range(options.rows)]
            write_archive(folder, n, [(uri, "did:plc:a", raw_post(uri, "create", row), "{}")
                                      for row, uri in enumerate(posts)])
        server = Strained(options.delay)
        rows, wall = load(options.program, folder, server, options.seconds)
        clean = server.bytes / rows
        print(f"no refusals: {rows} rows in {wall:.1f} s, {server.bytes / 1e6:.2f} MB")
        for status, requests, items in STRAINS:
            for by_head in (False, True):
                server = Strained(options.delay, status, requests, items, by_head)
                rows, wall = load(options.program, folder, server, options.seconds)
                # Each request takes a sender the same time, accepted or refused.
                share = (server.accepted + server.refused) * options.delay / SENDERS / wall
                print(f"{status} for {requests:.0%} of requests, {items:.0%} of items, "
                      f"{'by the head' if by_head else 'after the body'}: {rows} rows in {wall:.1f} s, "
                      f"{share:.2f} of what it would accept, {server.bytes / max(rows, 1) / clean:.2f} times the bytes, "
                      f"{server.accepted} requests accepted, {server.refused} refused")


if __name__ == "__main__":
    main()
