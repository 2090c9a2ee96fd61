#!/usr/bin/env python3
"""Measures what `--add-field` costs: the CPU time of whole runs with and without it, on the same archives.

    benches/further_fields.py FOLDER [--pairs 9]

Copies the archives to a temporary folder first, and adds to each post what the further fields are read from: languages,
tags, links, mentions, an image or a link card, and to every fourth post a transcript. Vectors of a further model, with
768 values, are in the archives. The runs send to a sink that answers at once and only counts. Needs a release build of
the program and of the sink: cargo build --release --locked --bins --examples
"""

import argparse
import json
import sqlite3
import statistics
import tempfile
import zipfile
from pathlib import Path

import measure

FIELDS = ["langs", "hashtags", "links", "mentions", "media", "external_embed", "video_transcript"]
MODEL = "all-mpnet-base-v2"
FACETS = [
    {"index": {"byteStart": 0, "byteEnd": 4}, "features": [{"$type": "app.bsky.richtext.facet#tag", "tag": "Garden"}]},
    {"index": {"byteStart": 5, "byteEnd": 9},
     "features": [{"$type": "app.bsky.richtext.facet#link", "uri": "https://pages.example/garden"}]},
    {"index": {"byteStart": 10, "byteEnd": 14},
     "features": [{"$type": "app.bsky.richtext.facet#mention", "did": "did:plc:abcdefghijklmnopqrstuvwx"}]},
]
IMAGES = {"$type": "app.bsky.embed.images", "images": [
    {"alt": "a garden in the morning", "aspectRatio": {"width": 1600, "height": 900},
     "image": {"$type": "blob", "ref": {"$link": "bafkreigarden"}, "mimeType": "image/jpeg", "size": 345678}}]}
CARD = {"$type": "app.bsky.embed.external", "external": {
    "uri": "https://pages.example/garden", "title": "A garden", "description": "What grows in it, and when."}}
TRANSCRIPT = {"audio_transcription": {"text": "This is what a garden looks like in the morning.", "language": "en"}}


def enrich(number, text, inferences):
    """Adds further fields to the JSON of a row."""
    row, inferences = json.loads(text), json.loads(inferences)
    record = row.get("message", {}).get("commit", {}).get("record")
    if record is None:
        return None
    record |= {"langs": ["en", "de"], "tags": ["morning"], "facets": FACETS}
    record.setdefault("embed", IMAGES if number % 2 else CARD)
    if number % 4 == 0:
        inferences["video"] = TRANSCRIPT
    row["inferences"] = inferences
    return json.dumps(row), json.dumps(inferences)


def copy(archive, folder):
    """Writes an archive whose posts have further fields."""
    with tempfile.TemporaryDirectory() as scratch:
        [path] = zipfile.ZipFile(archive).namelist()
        zipfile.ZipFile(archive).extract(path, scratch)
        database = sqlite3.connect(Path(scratch) / path)
        for number, text, inferences in database.execute(
                "SELECT rowid, raw_post, inferences FROM enriched_posts").fetchall():
            if further := enrich(number, text, inferences):
                update = "UPDATE enriched_posts SET raw_post = ?, inferences = ? WHERE rowid = ?"
                database.execute(update, (*further, number))
        database.commit()
        database.execute("VACUUM")
        database.close()
        with zipfile.ZipFile(folder / archive.name, "w", zipfile.ZIP_DEFLATED) as out:
            out.write(Path(scratch) / path, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pairs", type=int, default=9)
    options = parser.parse_args()
    names = ",".join(FIELDS)
    ways = {"without": [], "all but vectors": ["--add-field", names],
            f"with vector:{MODEL}": ["--add-field", f"{names},vector:{MODEL}"]}
    with tempfile.TemporaryDirectory() as scratch, measure.sink() as sink:
        for archive in sorted(options.folder.glob("*.zip")):
            copy(archive, Path(scratch))
        rounds = []
        for _ in range(options.pairs + 1):
            rounds.append([measure.load(scratch, sink.url, ["--vector-encoding", "base64", *way]).cpu
                           for way in ways.values()])
    for way, costs in zip(ways, zip(*rounds[1:])):
        ratios = [cost / first for cost, (first, *_) in zip(costs, rounds[1:])]
        print(f"{way:40} {statistics.median(costs):.2f} CPU s, {statistics.median(ratios):.3f} "
              f"({min(ratios):.2f} to {max(ratios):.2f}, {options.pairs} rounds)")


if __name__ == "__main__":
    main()
