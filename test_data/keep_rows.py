#!/usr/bin/env python3
"""Writes a copy of an archive that holds only some of its rows, under their row ids.

    keep_rows.py ARCHIVE COPY ROWID...
"""

import sqlite3
import sys
import tempfile
import zipfile
from pathlib import Path


def main(archive, copy, *row_ids):
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(archive) as packed:
            database = packed.extract(packed.namelist()[0], folder)
        connection = sqlite3.connect(database)
        marks = ",".join("?" * len(row_ids))
        connection.execute(f"DELETE FROM enriched_posts WHERE rowid NOT IN ({marks})", [int(n) for n in row_ids])
        connection.commit()
        connection.execute("VACUUM")
        connection.close()
        with zipfile.ZipFile(copy, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
            packed.write(database, Path(database).name)


if __name__ == "__main__":
    main(*sys.argv[1:])
