#!/usr/bin/env python3
"""Makes archives with one defect each, named by it.

    make_hostile.py DIR           the small ones, as they are in test_data/hostile
    make_hostile.py --large DIR   those too large to be kept: bombs, a cell of 1 GiB, 30,000 entries; with names: only these

Most hold three rows, `at://…/before`, the hostile one, and `at://…/after`. Standard library only, and the same files
each time; another release of SQLite or zlib may make other bytes that mean the same.
"""

import base64
import json
import random
import sqlite3
import struct
import sys
import tempfile
import zlib
from pathlib import Path

DID = "did:plc:abcdefghijklmnopqrstuvwx"
COLUMNS = "(at_uri TEXT, did TEXT, raw_post TEXT, inferences TEXT)"
TABLE = f"CREATE TABLE posts {COLUMNS}"
MIB = 1 << 20


def uri(name):
    return f"at://{DID}/app.bsky.feed.post/{name}"


def raw(text="hello", **members):
    record = {"text": text, "createdAt": "2025-10-30T12:34:56.789Z"}
    commit = {"operation": "create", "record": record}
    message = {"did": DID, "kind": "commit", "time_us": 1766016001234567, "commit": commit}
    return json.dumps({"message": message, "hydrated_metadata": {}, **members})


def row(name, raw_post=None, inferences="{}"):
    return (uri(name), DID, raw(name) if raw_post is None else raw_post, inferences)


# --- SQLite


def database(rows=None, schema=TABLE, table="posts", after="", page_size=4096):
    """The bytes of a database with these rows."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.db")
        connection = sqlite3.connect(path)
        connection.executescript(f"PRAGMA synchronous = OFF; PRAGMA page_size = {page_size}; {schema};")
        rows = [row("before"), row("after")] if rows is None else rows
        if rows:
            connection.executemany(f"INSERT INTO {table} VALUES (?, ?, ?, ?)", rows)
            connection.commit()
        connection.executescript(after)
        connection.close()
        return path.read_bytes()


def between(hostile):
    """A database with an ordinary row before and one after the given one."""
    return database([row("before"), hostile, row("after")])


def patched(data, at, new):
    return data[:at] + new + data[at + len(new) :]


def page(data, number, size=512):
    return (number - 1) * size


# --- zip. Source: PKWARE's APPNOTE.TXT 6.3.10, sections 4.3.7, 4.3.12, 4.3.14 to 4.3.16, 4.5.3.


def deflate(data, level=9):
    packer = zlib.compressobj(level, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


def zipped(*entries, **changes):
    """A zip of (name, content) pairs; `changes` replace what their headers say."""
    body, directory, start = [], [], 0
    for name, content in entries:
        local, central = headers(name, content, start, **changes)
        packed = changes.get("packed", deflate(content))
        body += [local, packed]
        directory.append(central)
        start += len(local) + len(packed)
    body, directory, count = b"".join(body), b"".join(directory), changes.get("count", len(entries))
    if changes.get("zip64"):
        end64 = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, count, count, len(directory), start)
        locator = struct.pack("<4sIQI", b"PK\6\7", 0, start + len(directory), 1)
        end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
        return body + directory + end64 + locator + end
    return body + directory + struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, count, count, len(directory), start, 0)


def headers(name, content, offset, **changes):
    name = name if isinstance(name, bytes) else name.encode()
    flags, method = changes.get("flags", 0), changes.get("method", 8)
    crc = changes.get("crc", zlib.crc32(content))
    packed = changes.get("packed_size", len(changes.get("packed", deflate(content))))
    size = changes.get("size", len(content))
    extra = b""
    sizes = (packed, size)
    if changes.get("zip64"):
        extra = struct.pack("<HHQQ", 1, 16, size, packed)
        sizes = (0xFFFFFFFF, 0xFFFFFFFF)
    common = struct.pack("<HHHHHIIIHH", 45, flags, method, 0, 0x21, crc, *sizes, len(name), len(extra))
    local = b"PK\3\4" + common + name + extra
    central = b"PK\1\2" + struct.pack("<H", 45) + common + struct.pack("<HHHII", 0, 0, 0, 0, offset) + name + extra
    return local, central


def archive(data):
    return zipped(("a.db", data))


# --- the defects


def zip_defects():
    good = database()
    whole = archive(good)
    size = len(good)
    yield "zip_truncated", whole[: len(whole) // 2]
    yield "zip_without_its_directory", whole[: whole.index(b"PK\1\2")]
    yield "zip_empty_file", b""
    yield "zip_not_a_zip", b"<html><body>503 Service Unavailable</body></html>\n"
    yield "zip_no_entries", zipped()
    yield "zip_no_db_entry", zipped(("readme.txt", b"hello"), ("a.sqlite", good))
    yield "zip_several_db_entries", zipped(("a.db", good), ("b.db", good))
    yield "zip_encrypted", zipped(("a.db", good), flags=1)
    yield "zip_unknown_compression", zipped(("a.db", good), method=12)
    yield "zip_says_less", zipped(("a.db", good), size=size - 1)
    yield "zip_says_more", zipped(("a.db", good), size=size + 1)
    yield "zip_says_gigabytes", zipped(("a.db", good), size=0xFFFFFFFE)
    yield "zip_says_exabytes", zipped(("a.db", good), size=1 << 60, zip64=True)
    yield "zip_entry_beyond_its_end", zipped(("a.db", good), packed_size=1 << 30)
    yield "zip_wrong_crc", zipped(("a.db", good), crc=1)
    yield "zip_rubbish_for_deflate", zipped(("a.db", good), packed=b"\xff" * 500)
    yield "zip_nested", zipped(("a.db", whole))
    yield "zip_says_65535_entries", zipped(("a.db", good), count=65535)
    yield "zip_bomb_of_60_mib", zipped(("a.db", bytes(60 * MIB)))
    yield "zip_with_wal", zipped(("a.db", patched(good, 18, b"\2\2")), ("a.db-wal", b"\x37\x7f\x06\x82" + bytes(28)))
    yield "zip_with_journal", zipped(("a.db", good), ("a.db-journal", b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + bytes(504)))
    yield "zip_several_db_entries_no_database", zipped(("a.db", b"x" * 200), ("b.db", b""))
    yield "zip_only_what_macos_added", zipped(("__MACOSX/._a.db", good), ("._b.db", good), (".DS_Store", b"Bud1"))
    # Nothing is wrong with these but what they could do to somebody careless.
    yield "zip_of_macos", zipped(
        ("a.db", good), ("__MACOSX/", b""), ("__MACOSX/._a.db", b"\0\5\x16\7" + bytes(200)), (".DS_Store", b"Bud1")
    )
    yield "zip_of_windows", zipped(("x\\Thumbs.db", b"\xd0\xcf\x11\xe0" + bytes(508)), ("x\\a.db", good))
    yield "zip_one_database_of_three_db_entries", zipped(("b.db", b"not one"), ("a.db", good), ("c.db", b""))
    yield "zip_with_empty_wal", zipped(("a.db", good), ("a.db-wal", b""), ("a.db-shm", bytes(100)))
    yield "zip64", zipped(("a.db", good), zip64=True)
    yield "zip_name_with_dots", zipped(("../../../../../../tmp/megastream_hostile.db", good))
    yield "zip_name_absolute", zipped(("/tmp/megastream_hostile.db", good))
    yield "zip_name_with_nul", zipped((b"a\0b.db", good))
    yield "zip_name_with_newline", zipped((b"a\n\x1b[31mERROR forged.db", good))
    yield "zip_name_no_utf_8", zipped((b"\xff\xfe.db", good))


def sqlite_defects():
    small = database([row(str(n)) for n in range(20)], page_size=512)
    yield "sqlite_only_its_magic", b"SQLite format 3\0" + b"\xa5" * 4080
    yield "sqlite_cut_off", database()[:-100]
    yield "sqlite_page_size_lies", patched(database(), 16, b"\x03\x07")
    yield "sqlite_root_page_overwritten", patched(small, page(small, 2), b"\xa5" * 512)
    yield "sqlite_later_page_overwritten", patched(small, page(small, 6), b"\xa5" * 512)
    long = [row("first"), row("long", raw("x" * 60_000)), row("last")]
    broken_chain = database(long, page_size=512)
    at = broken_chain.index(b"x" * 400) - 4
    at = at // 512 * 512
    yield "sqlite_overflow_chain_broken", patched(broken_chain, at, struct.pack(">I", 0x7FFFFFFF))
    yield "sqlite_pages_in_a_circle", circle(small)
    yield "sqlite_cell_claims_1_gib", claims_1_gib()
    yield "sqlite_no_table", database([], "CREATE TABLE other (a, b, c, d)", "other")
    yield "sqlite_no_column", database([], "CREATE TABLE posts (at_uri, did, raw_post, other)")
    yield "sqlite_view_as_table", database(
        schema=f"CREATE TABLE t {COLUMNS}; CREATE VIEW enriched_posts AS SELECT * FROM t", table="t"
    )
    recursive = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i, i, i, i FROM n"
    view = f"CREATE VIEW posts(at_uri, did, raw_post, inferences) AS {recursive}"
    yield "sqlite_endless_view_as_table", database([], f"CREATE TABLE t (a, b, c, d); {view}", "t")
    yield "sqlite_view_called_table", database(
        schema=f"CREATE TABLE t {COLUMNS}",
        table="t",
        after="CREATE VIEW posts AS SELECT rowid, * FROM t; PRAGMA writable_schema = ON;"
        "UPDATE sqlite_schema SET type = 'table', rootpage = 2 WHERE name = 'posts'",
    )
    yield "sqlite_virtual_table", database(
        [],
        "CREATE TABLE t (a, b, c, d); PRAGMA writable_schema = ON; INSERT INTO sqlite_schema VALUES ('table', 'posts',"
        " 'posts', 0, 'CREATE VIRTUAL TABLE posts USING fts5(at_uri, did, raw_post, inferences)')",
        "t",
    )
    generated = "CREATE TABLE posts (at_uri, did, raw_post AS (printf('%1000000000d', 1)), inferences, other)"
    yield "sqlite_generated_column", database(schema=generated)
    yield "sqlite_without_row_ids", database(
        schema="CREATE TABLE posts (at_uri PRIMARY KEY, did, raw_post, inferences) WITHOUT ROWID"
    )
    yield "sqlite_thousands_of_tables", database(
        schema=";".join(["BEGIN", *(f"CREATE TABLE t{n} (a)" for n in range(3_000)), "COMMIT", TABLE]), page_size=512
    )
    columns = ", ".join(f"c{n}" for n in range(1_900))
    yield "sqlite_1904_columns", database([], f"CREATE TABLE posts (at_uri, did, raw_post, inferences, {columns})")
    yield "sqlite_long_schema", database(
        schema=f"CREATE TABLE posts (at_uri, did, raw_post, inferences /* {'x' * 200_000} */)"
    )
    yield "sqlite_deep_expression", database(
        schema=f"CREATE TABLE posts (at_uri, did, raw_post, inferences CHECK ({'(' * 60}1{')' * 60} + {' + '.join('1' * 300)}))"
    )
    # Nothing is wrong with these but what they could do to somebody careless.
    yield "sqlite_bare_database", None
    yield "sqlite_wal_header", archive(patched(database(), 18, b"\2\2"))
    trigger = "CREATE TRIGGER t AFTER INSERT ON posts BEGIN SELECT randomblob(1000000000); END"
    yield "sqlite_trigger", archive(database(after=trigger))
    lying = "CREATE INDEX i ON posts(at_uri); CREATE VIEW v AS " + recursive
    yield "sqlite_other_objects", archive(database(after=lying))
    yield "sqlite_utf_16", archive(database(schema=f"PRAGMA encoding = 'UTF-16le'; {TABLE}"))


def circle(data):
    """All children of the root become the first one. Source: SQLite, "Database File Format", section 1.6."""
    at = page(data, 2)
    assert data[at] == 5
    cells = struct.unpack(">H", data[at + 3 : at + 5])[0]
    offsets = struct.unpack(f">{cells}H", data[at + 12 : at + 12 + 2 * cells])
    first = data[at + offsets[0] : at + offsets[0] + 4]
    for offset in offsets:
        data = patched(data, at + offset, first)
    return data


def claims_1_gib():
    """A cell whose header says that 1 GiB follows, where there are some hundred bytes."""
    data = database([row("before"), row("claims"), row("after")])
    at = page(data, 2, 4096)
    offset = struct.unpack(">H", data[at + 10 : at + 12])[0]
    return patched(data, at + offset, b"\x84\x80\x80\x80\x00")


def row_defects():
    odd = [
        (uri("number"), DID, 42, 1.5),
        (uri("blob"), DID, b"{}", b"{}"),
        (7, DID, raw(), "{}"),
        (uri("did"), b"\1", raw("did"), b"\1"),
    ]
    typeless = "CREATE TABLE posts (at_uri, did, raw_post, inferences)"
    yield "row_wrong_types", database([row("before"), *odd, row("after")], typeless)
    yield "row_nulls", database([row("before"), (None,) * 4, (uri("null"), None, None, None), row("after")])
    bad = "INSERT INTO posts VALUES ({}, '" + DID + "', CAST({} AS TEXT), '{{}}');"
    no_utf_8 = raw("A").encode().replace(b'"A"', b'"\xff\xfe"').hex()
    yield "row_no_utf_8", database(
        [row("before")],
        after=bad.format(f"'{uri('no-utf-8')}'", f"x'{no_utf_8}'")
        + bad.format("CAST(x'61743a2f2fff' AS TEXT)", f"x'{raw().encode().hex()}'")
        + f"INSERT INTO posts VALUES ('{uri('after')}', '{DID}', '{raw('after')}', '{{}}');",
    )
    gate = raw("gate").replace('"operation"', '"collection": "app.bsky.feed.threadgate", "operation"')
    yield "row_of_another_collection", between(row("hostile", gate))
    yield "json_200000_levels", between(row("hostile", "[" * 200_000))
    yield "json_200000_levels_in_a_member", between(row("hostile", raw()[:-1] + ', "x": ' + '{"a":' * 200_000))
    yield "json_200000_levels_that_end", between(row("hostile", raw()[:-1] + ', "x": ' + "[" * 200_000 + "]" * 200_000 + "}"))
    yield "json_nan", between(row("hostile", raw()[:-1] + ', "x": NaN}'))
    yield "json_cut_off", between(row("hostile", raw()[:60]))
    yield "json_two_documents", between(row("hostile", raw() + raw()))
    digits = "1" * 100_000
    yield "json_100000_digits", between(row("hostile", raw().replace("1766016001234567", digits)[:-1] + f', "x": -{digits}.{digits}e{digits}}}'))
    yield "json_duplicate_keys", between(
        row("hostile", raw("last")[:-1].replace('{"message"', '{"message": {"kind": "account"}, "message"') + ', "x": 1, "x": 2}')
    )
    yield "json_lone_surrogate", between(row("hostile", raw("TEXT").replace("TEXT", "a\\ud800b")))
    yield "json_15000_keys", between(row("hostile", raw()[:-1] + "".join(f', "k{n}": {n}' for n in range(15_000)) + "}"))


def vector(data):
    text = base64.b85encode(data).decode()
    return json.dumps({"text_embeddings": {"all-MiniLM-L6-v2": text, "all-MiniLM-L12-v2": good_vector()}})


def good_vector():
    return base64.b85encode(zlib.compress(struct.pack("<384f", *([0.5, -0.25] * 192)))).decode()


def vector_defects():
    def hostile(inferences):
        return between(row("hostile", raw("hostile"), inferences))

    yield "vector_rubbish", hostile(vector(b"").replace('L6-v2": ""', 'L6-v2": "\\u0000 \\"~~~~~~"'))
    yield "vector_no_zlib", hostile(vector(b"\xff" * 1_000))
    yield "vector_of_383", hostile(vector(zlib.compress(struct.pack("<383f", *[1.0] * 383))))
    yield "vector_with_nan", hostile(vector(zlib.compress(struct.pack("<384f", *[float("nan")] * 384))))
    yield "vector_with_infinity", hostile(vector(zlib.compress(struct.pack("<384f", *[float("inf")] * 384))))
    yield "vector_of_zeros", hostile(vector(zlib.compress(bytes(4 * 384))))
    yield "vector_without_length", hostile(vector(zlib.compress(struct.pack("<384f", *[1e-30] * 384))))
    yield "vector_too_long_for_f32", hostile(vector(zlib.compress(struct.pack("<384f", *[1e19] * 384))))
    yield "vector_bomb_of_3_mb", hostile(vector(zlib.compress(bytes(3_000_000), 9)))
    yield "vector_bomb_of_300_mb", hostile(vector(zlib.compress(bytes(300_000_000), 9)))
    deep = '{"text_embeddings": ' + "[" * 200_000
    yield "vector_200000_levels", hostile(deep)


def id_defects():
    def hostile(at_uri):
        return between((at_uri, DID, raw("hostile"), "{}"))

    yield "id_of_513_bytes", hostile("at://" + "x" * 508)
    yield "id_of_1_mib", hostile("at://" + "x" * MIB)
    yield "id_of_512_bytes", hostile("at://" + "x" * 507)
    yield "id_with_newline", hostile('at://x\n{"delete":{"_index":"posts","_id":"' + uri("before") + '"}}\n')
    yield "id_with_quotes", hostile('at://"},"x":"\\')
    yield "id_with_control_characters", hostile("at://\0\x01\x1b[31m\x7f\u2028\u202e")


def small():
    yield from zip_defects()
    for name, data in sqlite_defects():
        if name == "sqlite_bare_database":
            yield name, database()
        else:
            yield name, data if data.startswith(b"PK") else archive(data)
    for defects in (row_defects(), vector_defects(), id_defects()):
        for name, data in defects:
            yield name, archive(data)


# --- the large ones


def repeated(block, times):
    """A deflate stream of a block so many times, made by deflating it once."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    first = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    return first * times + b"\x03\x00"


def large():
    """The names, and how each is made."""
    bomb = lambda: repeated(bytes(MIB), 6 * 1024)

    def noise():
        rng = random.Random(7)
        text = "".join(rng.randbytes(16).hex() + "a" * 992 for _ in range(65 * 1024))
        return archive(database([row("before"), row("hostile", text), row("after")]))

    def many(count, uri):
        rows = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {}) INSERT INTO posts SELECT {}, '', '', '' FROM n"
        return archive(database(after=rows.format(count, uri)))

    return {
        # The CRC is wrong: it would have to be worked out over all of it. Nobody gets that far.
        "zip_bomb_of_6_gb": lambda: zipped(("a.db", b""), packed=bomb(), size=6 << 30, zip64=True),
        "zip_bomb_that_says_1_mib": lambda: zipped(("a.db", b""), packed=bomb(), size=MIB),
        "zip_30000_entries": lambda: zipped(*[(f"{n:05}", b"") for n in range(30_000)], ("a.db", database())),
        "sqlite_cell_of_1_gib": lambda: zipped(("a.db", b""), packed=repeated(bytes(MIB), 1024), size=(1 << 30) + MIB),
        "row_cell_of_65_mib": noise,
        "row_300000_rejected": lambda: many(300_000, "'a'"),
        "row_30000_rejected": lambda: many(30_000, "'a'"),
        "id_of_1_mib_in_55_rows": lambda: many(55, "printf('%.*c', 1048576, 'x')"),
    }


def main():
    arguments = sys.argv[1:]
    if arguments[:1] == ["--large"]:
        folder, *names = arguments[1:]
        for name in names or large():
            Path(folder, f"{name}.db.zip").write_bytes(large()[name]())
        return
    (folder,) = arguments
    for name, data in small():
        assert len(data) <= 100_000, f"{name} has {len(data)} bytes"
        Path(folder, f"{name}.db.zip").write_bytes(data)


if __name__ == "__main__":
    main()
