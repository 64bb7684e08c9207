#!/usr/bin/env python3
"""Counts and hashes the rows of a folder of Parquet files with a reader that is not ours (pyarrow, else DuckDB).

    parquet_hash.py FOLDER_OR_FILE... [--order-by order_id] [--columns a,b,c]

Prints the same figure as `datagen.py` when the content is the same. Files below directories whose name begins with `_` or `.`
(staging, metadata) are left out, as Parquet readers do.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path

from canonical import line


def files(paths):
    """The Parquet files below some paths, in order of their names."""
    found = []
    for path in map(Path, paths):
        if path.is_file():
            found.append(path)
            continue
        for file in sorted(path.rglob("*.parquet")):
            if not any(part.startswith(("_", ".")) for part in file.relative_to(path).parts):
                found.append(file)
    if not found:
        sys.exit(f"error: no Parquet file in {', '.join(paths)}")
    return found


def read_with_pyarrow(found):
    """Column names and rows by pyarrow."""
    import pyarrow
    import pyarrow.parquet

    # ParquetFile reads the file alone; read_table would add columns from names of directories.
    table = pyarrow.concat_tables([pyarrow.parquet.ParquetFile(file).read() for file in found])
    columns = [column.to_pylist() for column in table.columns]
    return table.column_names, list(zip(*columns)), f"pyarrow {pyarrow.__version__}"


def read_with_duckdb(found):
    """Column names and rows by DuckDB."""
    import duckdb

    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    result = connection.execute("SELECT * FROM read_parquet(?, hive_partitioning = false)", [[str(file) for file in found]])
    return [column[0] for column in result.description], result.fetchall(), f"duckdb {duckdb.__version__}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+")
    parser.add_argument("--order-by", help="the column to sort by; the first by default")
    parser.add_argument("--columns", help="names with commas; all by default")
    parser.add_argument("--reader", choices=["pyarrow", "duckdb"])
    options = parser.parse_args()
    found = files(options.paths)
    if options.reader == "duckdb":
        names, rows, reader = read_with_duckdb(found)
    else:
        try:
            names, rows, reader = read_with_pyarrow(found)
        except ImportError:
            if options.reader:
                raise
            names, rows, reader = read_with_duckdb(found)
    key = names.index(options.order_by) if options.order_by else 0
    rows.sort(key=lambda row: row[key])
    wanted = [names.index(name) for name in options.columns.split(",")] if options.columns else range(len(names))
    digest = hashlib.sha256()
    for row in rows:
        digest.update(line(row[at] for at in wanted).encode())
    print(json.dumps({"count": len(rows), "sha256": digest.hexdigest()}))
    print(f"{len(found)} files read by {reader}", file=sys.stderr)


if __name__ == "__main__":
    main()
