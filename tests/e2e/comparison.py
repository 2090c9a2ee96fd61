"""Differences between expected and found values, as readable lines."""

import math
import re
import struct
from datetime import datetime

MILLISECONDS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
SHOWN = 5

# With cosine similarity an index returns normalised vectors, which differ in the last bits.
COSINE_TOLERANCE = 1e-6


def first(differences):
    """The first few differences, and the number of the others; "" without differences."""
    shown = "".join(f"\n  {line}" for line in differences[:SHOWN])
    more = len(differences) - SHOWN
    return shown + (f"\n  and {more} more" if more > 0 else "")


def documents(expected, found, run, exact=True):
    """The differences between all documents of an index, as {_id: (version, source)}.

    `indexed_at` must be a time within the run. With `exact`, every bit of every vector must agree.
    """
    lines = [f"{name}: is missing" for name in expected.keys() - found.keys()]
    lines += [f"{name}: is there, but should not be" for name in found.keys() - expected.keys()]
    for name in sorted(expected.keys() & found.keys()):
        (version, wanted), (found_version, source) = expected[name], found[name]
        if version != found_version:
            lines.append(f"{name}: version {found_version} instead of {version}")
        lines += [f"{name}: {line}" for line in fields(wanted, source, run, exact)]
    return lines


def fields(wanted, source, run, exact):
    """The differences of one document."""
    source = dict(source)
    indexed_at = source.pop("indexed_at", None)
    if not indexed_within(indexed_at, run):
        yield f"indexed_at is {indexed_at!r}"
    vectors, found_vectors = wanted.get("embeddings"), source.get("embeddings")
    if (vectors is None) != (found_vectors is None):
        yield f"embeddings: {absence(found_vectors)} instead of {absence(vectors)}"
    elif vectors is not None:
        for model in sorted(vectors.keys() | found_vectors.keys()):
            line = vector(vectors.get(model), found_vectors.get(model), exact)
            if line:
                yield f"{model}: {line}"
    for key in sorted((wanted.keys() | source.keys()) - {"embeddings"}):
        if key not in source or key not in wanted or wanted[key] != source[key]:
            yield f"{key}: {shown(source, key)} instead of {shown(wanted, key)}"


def vector(wanted, found, exact):
    """The difference between two vectors; None if they agree."""
    if wanted is None or found is None:
        return f"{absence(found)} instead of {absence(wanted)}"
    if len(wanted) != len(found):
        return f"{len(found)} values instead of {len(wanted)}"
    pairs = enumerate(zip(wanted, found))
    if exact:
        wrong = [(n, a, b) for n, (a, b) in pairs if struct.pack("<f", a) != struct.pack("<f", b)]
    else:
        wrong = [(n, a, b) for n, (a, b) in pairs if not math.isclose(a, b, rel_tol=COSINE_TOLERANCE, abs_tol=1e-9)]
    return f"{len(wrong)} values differ; value {wrong[0][0]} is {wrong[0][2]!r} instead of {wrong[0][1]!r}" if wrong else None


def summary(expected, run, archives):
    """The differences between a run's summary and the expected counters, and within the summary.

    The results of posts and deletions (indexed, suppressed, superseded) depend on the order in which archives reach the
    server, so bounds are checked that hold for every order.
    """
    if run.summary is None:
        return ["no summary was written"]
    rows = run.summary["rows"]
    sent = expected.posts_sent + expected.deletes_sent
    outcomes = {name: count for name, count in rows.items() if name != "read"}
    events = rows["indexed"] + rows["deleted"] + rows["superseded"] + rows["suppressed"]
    checks = [
        ("exit_code", run.summary["exit_code"], run.code),
        ("sum of the outcomes", sum(outcomes.values()), rows["read"]),
        ("rows.read", rows["read"], expected.read),
        ("rows.skipped", rows["skipped"], expected.skipped.total()),
        ("rows.rejected", rows["rejected"], expected.rejected.total()),
        ("rows.unconfirmed", rows["unconfirmed"], 0),
        ("indexed + deleted + superseded + suppressed", events, sent + expected.superseded),
        ("reasons", run.summary["reasons"], expected.reasons()),
        ("archives.discovered", run.summary["archives"]["discovered"], archives),
        ("archives.processed", run.summary["archives"]["processed"], archives),
        ("archives.failed", run.summary["archives"]["failed"], 0),
        ("archives.pending", run.summary["archives"]["pending"], 0),
        ("dead letters", len(run.dead_letters), expected.rejected.total()),
    ]
    bounds = [
        ("rows.indexed", len(expected.posts), rows["indexed"], expected.posts_sent),
        ("rows.deleted", len(expected.tombstones), rows["deleted"], expected.deletes_sent),
        ("rows.superseded", expected.superseded, rows["superseded"], expected.superseded + sent),
    ]
    lines = [f"{name} is {found} instead of {wanted}" for name, found, wanted in checks if found != wanted]
    lines += [f"{name} is {n}, not within {low} and {high}" for name, low, n, high in bounds if not low <= n <= high]
    return lines


def indexed_within(text, run):
    """Whether a text is a time in milliseconds within a run, whose last bit may be truncated."""
    if not isinstance(text, str) or not MILLISECONDS.fullmatch(text):
        return False
    return run.began - 0.001 <= datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() <= run.ended


def absence(value):
    return "absent" if value is None else "present"


def shown(document, key):
    return repr(document[key])[:120] if key in document else "absent"
