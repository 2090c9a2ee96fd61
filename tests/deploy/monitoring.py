"""The alerts and the dashboard: every metric that they use is documented, and the alerts fire when they should."""

import json
import os
import re
import subprocess
import unittest
import urllib.request

import fleet
import yaml

ALERTS = fleet.DEPLOY / "prometheus-alerts.yaml"
DASHBOARD = fleet.DEPLOY / "grafana-dashboard.json"
PREFIX = "megastream_ingest_"
# Metrics of other programs.
OTHERS = {"node_textfile_mtime_seconds"}
# Metrics that a spool run lacks: the end of a run, and the findings of a verification.
OF_OTHER_RUNS = {PREFIX + name for name in ("exit_code", "rows_verified_total", "rows_repaired_total")}
# Rows that are rejected, skipped, or stored without a field.
ODD = [
    "no JSON",
    json.dumps({"message": {"kind": "account", "did": "did:plc:odd"}}),
    json.dumps({"message": {"kind": "commit", "did": "did:plc:odd", "time_us": 1, "commit": {
        "operation": "create", "collection": "app.bsky.feed.post", "record": {"text": "", "createdAt": "never"}}}}),
]
# The suffixes of a histogram's series.
OF_HISTOGRAMS = ("_bucket", "_sum", "_count")


def documented():
    """The metrics of docs/metrics.md, {name: (labels, {label: documented values})}.

    Values are the backquoted words in the text of the row; they are checked only if there are any.
    """
    text = (fleet.PROJECT / "docs" / "metrics.md").read_text()
    found = {}
    for line in text.splitlines():
        if head := re.match(r"\| `(megastream_ingest_\w+)(?:\{([\w,]+)\})?` \| (\w+) \|(.*)", line):
            name, labels, kind, meaning = head.groups()
            labels = set(labels.split(",")) if labels else set()
            found[name] = (labels, set(re.findall(r"`(\w+)`", meaning)))
            if kind == "histogram":
                for ending in OF_HISTOGRAMS:
                    found[name + ending] = (labels | {"le"}, set())
    return found


def expressions_of_alerts():
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return [(rule["alert"], rule["expr"]) for group in groups for rule in group["rules"]]


def panels():
    """All panels, including those in rows."""
    def each(some):
        for panel in some:
            yield panel
            yield from each(panel.get("panels", ()))
    return list(each(json.loads(DASHBOARD.read_text())["panels"]))


def expressions_of_the_dashboard():
    return [(panel["title"], target["expr"]) for panel in panels() for target in panel.get("targets", ())]


def metrics_of(expression):
    """(name, {label: value}) of each series in an expression."""
    for name, selector in re.findall(r"\b((?:megastream_ingest|node)_\w+)(?:\{([^}]*)\})?", expression):
        yield name, dict(re.findall(r'(\w+)\s*=~?\s*"([^"]*)"', selector))


class Names(unittest.TestCase):
    longMessage = False

    def test_documented_metrics_are_found(self):
        self.assertIn("megastream_ingest_rows_total", documented())
        self.assertEqual(documented()["megastream_ingest_archives"][0], {"state"})

    def test_every_metric_is_documented_with_labels_and_values(self):
        known = documented()
        for where, expression in expressions_of_alerts() + expressions_of_the_dashboard():
            selected = list(metrics_of(expression))
            self.assertTrue(selected, f"{where}: no figure in {expression}")
            for name, labels in selected:
                if name in OTHERS:
                    continue
                self.assertIn(name, known, where)
                of_figure, values = known[name]
                for label, value in labels.items():
                    if label in ("job", "instance"):
                        continue
                    self.assertIn(label, of_figure, f"{where}: {name}")
                    if values and not value.startswith("$"):
                        self.assertLessEqual(set(value.split("|")), values, f"{where}: {name}{{{label}}}")

    def test_legends_use_existing_labels(self):
        known = documented()
        for panel in panels():
            for target in panel.get("targets", ()):
                labels = {label for name, _ in metrics_of(target["expr"]) for label in known[name][0]}
                for label in re.findall(r"\{\{\s*(\w+)\s*\}\}", target.get("legendFormat", "")):
                    self.assertIn(label, labels | {"job", "instance"}, panel["title"])

    def test_the_dashboard_shows_every_metric_of_a_spool_run(self):
        shown = {name for _, expression in expressions_of_the_dashboard() for name, _ in metrics_of(expression)}
        plain = {re.sub("_(bucket|sum|count)$", "", name) for name in shown}
        missing = {name for name in documented() if re.sub("_(bucket|sum|count)$", "", name) not in plain}
        self.assertEqual(missing - {PREFIX + "info", PREFIX + "start_timestamp_seconds"}, set())

    def test_panels_have_unique_titles_and_ids_and_do_not_overlap(self):
        places, numbers = set(), set()
        for panel in panels():
            self.assertTrue(panel["title"])
            self.assertNotIn(panel["id"], numbers)
            numbers.add(panel["id"])
            at = panel["gridPos"]
            self.assertLessEqual(at["x"] + at["w"], 24, panel["title"])
            for x in range(at["x"], at["x"] + at["w"]):
                for y in range(at["y"], at["y"] + at["h"]):
                    self.assertNotIn((x, y), places, panel["title"])
                    places.add((x, y))


class Promtool(fleet.Fleet):
    needs = ("promtool",)

    def test_the_alerts_fire_when_they_should(self):
        self.assertIn("SUCCESS", self.call("promtool", "check", "rules", ALERTS))
        text = (fleet.PROJECT / "tests" / "deploy" / "alerts_test.yaml").read_text()
        test = self.folder / "alerts_test.yaml"
        test.write_text(f"rule_files: [{json.dumps(str(ALERTS))}]\n{text}")
        self.assertIn("SUCCESS", self.call("promtool", "test", "rules", test))

    def test_every_alert_fires_in_a_case(self):
        text = (fleet.PROJECT / "tests" / "deploy" / "alerts_test.yaml").read_text()
        cases = [case for test in yaml.safe_load(text)["tests"] for case in test["alert_rule_test"]]
        fired = {case["alertname"] for case in cases if case["exp_alerts"]}
        self.assertEqual(fired, {name for name, _ in expressions_of_alerts()})

    def test_prometheus_accepts_the_queries_of_the_dashboard(self):
        """Prometheus parses them as expressions of rules; variables of the dashboard are filled in."""
        fill = lambda text: re.sub(r"\$(\w+)", lambda found: {"__rate_interval": "5m"}.get(found[1], ".*"), text)
        rules = [{"record": f"query_{number}", "expr": fill(expression)}
                 for number, (_, expression) in enumerate(expressions_of_the_dashboard())]
        path = self.folder / "queries.yaml"
        path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
        self.assertIn(f"{len(rules)} rules found", self.call("promtool", "check", "rules", path))

    def test_the_metrics_file_of_a_real_run_is_valid_and_serves_the_alerts(self):
        archives = fleet.make_archives(self.folder / "archives", 2, rows=20)
        figures_file = self.folder / "run.prom"
        self.call(fleet.binary(), "--metrics-file", figures_file, *archives)
        self.assert_serves_queries(figures_file.read_text())

    def test_the_metrics_page_of_a_real_run_is_valid_and_serves_all_queries(self):
        """The page of a spool run that has rejected rows and waits, requested as Prometheus does it."""
        archives = fleet.make_archives(self.folder / "archives", 2, rows=20)
        (self.folder / "archives" / "broken_20251231_000000.db.zip").write_text("no archive")
        os.utime(self.folder / "archives" / "broken_20251231_000000.db.zip", (0, 0))
        odd = [("at://did:plc:odd/app.bsky.feed.post/1", "did:plc:odd", text, "{}") for text in ODD]
        fleet.write_archive(self.folder / "archives" / "odd_20251230_000000.db.zip", odd)
        with (self.folder / "log").open("w+") as log:
            command = [fleet.binary(), "--mode", "spool", "--listen", ":0", self.folder / "archives"]
            spooler = subprocess.Popen(command, cwd=self.folder, env=self.environment(), stdin=subprocess.DEVNULL,
                                       stderr=log)
            self.addCleanup(spooler.wait)
            self.addCleanup(spooler.kill)
            said = lambda: re.search(r"metrics are at (http://\S+)/metrics", fleet.read(self.folder / "log"))
            address = self.wait_until(said, "the address")[1]
            page = lambda path: urllib.request.urlopen(address + path, timeout=10).read().decode()
            is_done = lambda: re.search(r"last_success_timestamp_seconds \d", page("/metrics"))
            self.wait_until(is_done, lambda: fleet.read(self.folder / "log")[-2000:])
            text = page("/metrics")
            self.assertEqual((page("/healthz"), page("/readyz")), ("ok\n", "ready\n"))
        self.assertIn('rows_total{outcome="deleted"}', text)
        self.assertEqual(len(archives), 2)
        self.assert_serves_queries(text, expressions_of_the_dashboard(), OF_OTHER_RUNS)

    def assert_serves_queries(self, text, more=(), absent=frozenset({PREFIX + "rows_rejected_total"})):
        """`absent` are metrics without a value in this run."""
        done = subprocess.run(["promtool", "check", "metrics"], input=text, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=fleet.PATIENCE)
        self.assertEqual((done.returncode, done.stdout), (0, ""))
        written = {re.match(r"\w+", line)[0] for line in text.splitlines() if not line.startswith("#")}
        self.assertLessEqual(written, set(documented()), "metrics that are not documented")
        for name, expression in [*expressions_of_alerts(), *more]:
            self.assertLessEqual({figure for figure, _ in metrics_of(expression)} - OTHERS - absent, written, name)
