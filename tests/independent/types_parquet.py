#!/usr/bin/env python3
"""Compares Parquet files, read by pyarrow, with what a PostgreSQL server says the values are.

    types_parquet.py FOLDER EXPECTED

The first line of EXPECTED names how each column is to be read, the others are the rows in order of the first column: each value
in hexadecimal digits of its UTF-8, or NULL. The kinds:

    text, bool, number, uuid      the text itself; numbers with all their digits
    float4, float8, bytes         hexadecimal digits of the bytes, floats with the highest byte first
    date, time, timestamp         the integer: days, or microseconds since 1970 or of the day
    interval                      hexadecimal digits: 64 bits of microseconds, 32 bits of days, 32 bits of months; in the file ISO 8601
    list KIND                     `<a>,null,<b>`
    counted                       only whether there is a value
"""

import re
import struct
import sys
import uuid
from pathlib import Path

import pyarrow
import pyarrow.parquet

INTERVAL = re.compile(r"P(-?\d+)M(-?\d+)DT(-?)(\d+)\.(\d{6})000S")


def shown(kind, value):
    """A value of pyarrow in the words of EXPECTED."""
    if value is None:
        return None
    if kind.startswith("list "):
        items = (shown(kind[5:], item) for item in value)
        return ",".join("null" if item is None else f"<{item}>" for item in items)
    if kind == "counted":
        return "true"
    if kind == "text":
        return value
    if kind == "bool":
        return "true" if value else "false"
    if kind == "number":
        return str(value) if isinstance(value, int) else format(value, "f")
    if kind == "uuid":
        return str(value if isinstance(value, uuid.UUID) else uuid.UUID(bytes=value))
    if kind in ("float4", "float8"):
        return struct.pack(">f" if kind == "float4" else ">d", value).hex()
    if kind == "bytes":
        return value.hex()
    if kind in ("date", "time", "timestamp"):
        return str(value)
    if kind == "interval":
        months, days, sign, seconds, micros = INTERVAL.fullmatch(value).groups()
        total = (int(seconds) * 1_000_000 + int(micros)) * (-1 if sign else 1)
        return struct.pack(">qii", total, int(days), int(months)).hex()
    raise SystemExit(f"error: no kind `{kind}`")


def plain(kind, column):
    """Dates and times as their integers: Python's own end in the year 9999."""
    inner = kind.removeprefix("list ")
    if inner in ("date", "time", "timestamp"):
        integer = pyarrow.int32() if inner == "date" else pyarrow.int64()
        combined = column.combine_chunks()
        if kind == inner:
            return combined.cast(integer)
        items = combined.values.cast(integer)
        return pyarrow.ListArray.from_arrays(combined.offsets, items, mask=combined.is_null())
    return column


def main():
    folder, expected = map(Path, sys.argv[1:])
    files = sorted(folder.glob("*.parquet"))
    # ParquetFile reads the file alone; read_table would add columns from names of directories.
    table = pyarrow.concat_tables([pyarrow.parquet.ParquetFile(file).read() for file in files])
    table = table.sort_by(table.column_names[0])
    head, *lines = expected.read_text().splitlines()
    kinds = head.split(",")
    if len(kinds) != table.num_columns or len(lines) != table.num_rows:
        sys.exit(f"error: {table.num_columns} columns and {table.num_rows} rows, expected {len(kinds)} and {len(lines)}")
    rows = [line.split(",") for line in lines]
    wrong = []
    for at, (name, kind) in enumerate(zip(table.column_names, kinds)):
        values = plain(kind, table.column(at)).to_pylist()
        for row, value in zip(rows, values):
            wanted = None if row[at] == "NULL" else bytes.fromhex(row[at]).decode()
            if kind == "counted" and wanted == "false":
                wanted = None
            got = shown(kind, value)
            if got != wanted:
                wrong.append(f"column {name} ({kind}, {table.column(at).type}): {got!r:.200} instead of {wanted!r:.200}")
                break
    if wrong:
        sys.exit("\n".join(wrong))
    print(f"pyarrow {pyarrow.__version__} agrees about {table.num_rows} rows of {table.num_columns} columns in {len(files)} files")


if __name__ == "__main__":
    main()
