#!/usr/bin/env python3
"""Benchmarks: Rapidbyte beside the floor, its own native build and other tools, in one run, on a PostgreSQL server of its own.

    cargo xtask bench                           16 columns, 1,000,000 rows, 5 rounds
    cargo xtask bench --cells lineitem,narrow   choose cells (see --list); `all` = all but the long ones
    cargo xtask bench --big                     also 10,000,000 rows
    cargo xtask bench --record                  writes benches/RESULTS.md, too; refuses on a busy machine

The floor is the least client imaginable: `psql COPY … TO STDOUT (FORMAT binary) | psql COPY … FROM STDIN (FORMAT binary)`, with
hand-written SQL around it where a cell needs it. Figures are ratios within one run. Standard library only.
"""

import argparse
import ctypes
import datetime
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

from suite import machine, report
from suite.arms import ARMS, Missing
from suite.cells import CELLS, LONG, PLAIN
from suite.machine import say
from suite.server import Server

HERE = Path(__file__).resolve().parent
DEFAULTS = {"moved": None, "write": "append", "sync": "full_refresh", "cursor": "", "start": "empty", "change": "", "source": "postgres",
            "to": "postgres", "parallelism": 0, "partitions": 0, "tls": False, "peers": False, "targets": {}}


def described(name, rows):
    """A cell with its defaults filled in; `rows` overrides its number of rows."""
    cell = SimpleNamespace(name=name, **{**DEFAULTS, **CELLS[name]})
    unknown = CELLS[name].keys() - DEFAULTS.keys() - {"about", "tables", "rows"}
    assert not unknown, f"cell {name}: {unknown}"
    # Cells of few rows are about what comes beside them.
    if rows and cell.rows > 10:
        cell.rows = rows
    cell.moved = cell.rows * max(1, len(cell.tables)) if cell.moved is None else cell.moved
    return cell


def parquet_content(bench, cell, work):
    """Count and sums of what is in the Parquet files, read by DuckDB; the same figures from the source."""
    [table] = cell.tables
    question = "SELECT count(*), sum(l_orderkey), sum(l_extendedprice), sum(length(l_comment)) FROM "
    files = [str(path) for path in work.rglob("*.parquet") if "/_" not in str(path.relative_to(work)) and path.is_file()]
    if not bench.python or not files:
        return None
    program = "import duckdb, sys; print(*duckdb.sql(sys.argv[1]).fetchone())"
    listed = ", ".join(f"'{file}'" for file in files)
    found = subprocess.check_output([bench.python, "-c", program, f"{question} read_parquet([{listed}])"], text=True).split()
    expected = bench.server.sql("src", question + table).split("|")
    return [float(part) for part in found] == [float(part) for part in expected]


def delivered(bench, arm, cell, expected, work):
    """Ends it all when an arm moved something else than what was there."""
    if cell.to == "postgres":
        if bench.server.content("dst", cell.tables) != expected:
            # Other tools bend some types; what they deliver then is said, not hidden.
            if arm.name in ("floor", "rapidbyte", "native"):
                sys.exit(f"error: {cell.name}: {arm.name} moved something else than what was there")
            return "other content"
        for table in cell.tables:
            if bench.server.sql("dst", f"SELECT relpersistence FROM pg_class WHERE oid = '{table}'::regclass") != "p":
                sys.exit(f"error: {cell.name}: {arm.name} wrote a table that is not logged")
            if len(cell.tables) >= 100:
                break
        return "same content"
    if cell.to == "parquet" and arm.name != "floor":
        same = parquet_content(bench, cell, work)
        if same is False:
            sys.exit(f"error: {cell.name}: {arm.name} wrote something else than what was there")
        return "same count and sums" if same else "not checked"
    return "not checked"


def run_once(bench, arm, cell, work, first=False):
    command = arm.command(bench, cell, work, first)
    return machine.measured(command, bench.server.pid, arm.environment(bench, work), work)


def start(bench, arm, cell, place):
    """A working directory with the arm's untimed load in it, and a database to begin each run from; or why there is none."""
    work = place / f"{cell.name}-{arm.name}"
    work.mkdir()
    bench.server.fresh("dst")
    arm.prepare(bench, cell, work, first=True)
    if cell.start == "loaded":
        run_once(bench, arm, cell, work, first=True)
        bench.server.fresh(f"start_{arm.name}", "dst")
    return work


def measure(bench, name, rows, rounds, place):
    cell, server = described(name, rows), bench.server
    if cell.tls and not server.tls:
        return None
    server.environment["PGSSLMODE"] = "require" if cell.tls else "disable"
    say(f"{name}: {cell.about}; {cell.rows:,} rows in {len(cell.tables) or 1} table(s)")
    server.fresh("src")
    statements = [filling.replace("{table}", table).replace("{rows}", str(cell.rows)) for table, filling in cell.tables.items()]
    for at in range(0, len(statements), 100):
        server.sql("src", "\n".join(statements[at:at + 100]))
    if cell.tables:
        server.sql("src", "VACUUM ANALYZE")
    works, missing = {}, {}
    for arm in bench.arms:
        try:
            works[arm.name] = start(bench, arm, cell, place)
        except Missing as why:
            missing[arm.name] = str(why)
    if cell.change:
        server.sql("src", cell.change)
    expected = server.content("src", cell.tables) if cell.tables else ""
    payload = sum(server.payload("src", table) for table in cell.tables) if cell.tables and len(cell.tables) < 100 and cell.moved >= cell.rows else 0
    arms = [arm for arm in bench.arms if arm.name in works]
    runs = {arm.name: [] for arm in arms}
    for number in range(rounds):
        # Alternating, so that a drift of the machine meets all; who begins alternates, too.
        for arm in (arms if number % 2 == 0 else arms[::-1]):
            work = place / "work"
            shutil.copytree(works[arm.name], work, symlinks=True)
            server.fresh("dst", f"start_{arm.name}" if cell.start == "loaded" else "template0")
            if cell.start != "loaded":
                arm.prepare(bench, cell, work, first=False)
            server.sql("postgres", "CHECKPOINT")
            figures = run_once(bench, arm, cell, work)
            kept = delivered(bench, arm, cell, expected, work)
            if kept == "other content":
                missing[arm.name + " (content)"] = "delivered other values than the source holds"
            runs[arm.name].append(figures)
            shutil.rmtree(work, ignore_errors=True)
            say(f"{name} round {number + 1} {arm.name}: {figures['wall']:.3f} s, {figures['cpu']:.2f} CPU s, "
                f"{figures['peak_rss_mb']:.0f} MB, others {figures['other_cpu']:.2f} CPU s, {kept}")
    for arm in arms:
        server.sql("postgres", f"DROP DATABASE IF EXISTS start_{arm.name}")
        shutil.rmtree(works[arm.name], ignore_errors=True)
    return report.summary(cell, runs, missing, expected, payload)


def warm(bench, place):
    """Lets the connectors be compiled before anything is measured, as on a user's second run."""
    work = place / "warm"
    work.mkdir()
    for name in ("one-row", "one-row-embedded", "parquet"):
        cell = described(name, 1)
        bench.server.fresh("src")
        bench.server.fresh("dst")
        for table, filling in cell.tables.items():
            bench.server.sql("src", filling.replace("{table}", table).replace("{rows}", "1"))
        [ours] = [arm for arm in ARMS if arm.name == "rapidbyte"]
        ours.prepare(bench, cell, work, first=False)
        run_once(bench, ours, cell, work)
        shutil.rmtree(work / ".rapidbyte", ignore_errors=True)


def chosen(arguments):
    names = [name for name in CELLS if name not in LONG] if arguments.cells == "all" else \
        arguments.cells.split(",") if arguments.cells else list(PLAIN)
    names += [name for name in LONG if arguments.big and name not in names]
    unknown = [name for name in names if name not in CELLS]
    if unknown:
        sys.exit(f"error: no cell {', '.join(unknown)}; there are {', '.join(CELLS)}")
    return names


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rapidbyte", help="the binary")
    parser.add_argument("--native", help="the native build of the same connectors")
    parser.add_argument("--python", help="a Python with DuckDB, which reads Parquet back")
    parser.add_argument("--peers", type=Path, default=Path.home() / ".cache/rapidbyte-bench/peers", help="where `peers.sh` installed other tools")
    parser.add_argument("--postgres-bin", default="/usr/lib/postgresql/15/bin")
    parser.add_argument("--cells", help="names with commas, or `all`")
    parser.add_argument("--arms", default="", help="names with commas; all when absent")
    parser.add_argument("--big", action="store_true", help="adds lineitem-10m")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, help="another number of rows for every cell of many")
    parser.add_argument("--place", help="directory for the server's data")
    parser.add_argument("--record", action="store_true", help="writes benches/RESULTS.md")
    parser.add_argument("--loaded", action="store_true", help="records on a busy machine all the same; the report says so")
    parser.add_argument("--check", action="store_true", help="fails below the targets")
    parser.add_argument("--list", action="store_true", help="lists the cells")
    arguments = parser.parse_args()
    if arguments.list:
        for name in CELLS:
            cell = described(name, None)
            print(f"{name}: {cell.about}; {cell.moved:,} rows")
        return
    names = chosen(arguments)
    if not arguments.rapidbyte:
        sys.exit("error: --rapidbyte is missing; `cargo xtask bench` gives it")
    arms = [arm for arm in ARMS if not arguments.arms or arm.name in arguments.arms.split(",")]
    if {"floor", "rapidbyte"} - {arm.name for arm in arms}:
        sys.exit("error: `floor` and `rapidbyte` are part of every run: no figure stands without its floor")
    busy = machine.cores_in_use()
    if busy > machine.QUIET_CORES and arguments.record and not arguments.loaded:
        sys.exit(f"error: others use {busy:.2f} cores of this machine, so that nothing worth recording can be measured\n"
                 "hint: stop them, or record all the same with `--loaded`, which the report will say")
    # Adopt what a command leaves behind, so that its CPU time is counted.
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=HERE, capture_output=True, text=True).stdout.strip() or "no commit"
    place = Path(tempfile.mkdtemp(prefix="rapidbyte-bench-work-", dir=arguments.place))
    server = Server(arguments.postgres_bin, arguments.place)
    bench = SimpleNamespace(server=server, binary=str(Path(arguments.rapidbyte).resolve()), native=arguments.native, python=arguments.python,
                            peers=arguments.peers, compiled=place / "compiled", arms=arms)
    try:
        say("compiling the connectors for the sandbox")
        warm(bench, place)
        results = [result for result in (measure(bench, name, arguments.rows, arguments.rounds, place) for name in names) if result]
        document = {"at": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"), "commit": commit, "postgres": server.version,
                    "versions": {arm.name: arm.version(bench) for arm in arms}, "settings": server.settings, "machine": machine.facts(),
                    "others_cores": round(busy, 2), "quiet_cores": machine.QUIET_CORES, "rounds": arguments.rounds, "cells": results}
    finally:
        server.stop()
        shutil.rmtree(place, ignore_errors=True)
    output = HERE / "results"
    output.mkdir(exist_ok=True)
    stamp = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    (output / f"{stamp}.json").write_text(json.dumps(document, indent=2) + "\n")
    table = report.markdown(document)
    (output / f"{stamp}.md").write_text(table)
    if arguments.record:
        (HERE / "RESULTS.md").write_text(table)
    print(table)
    if arguments.check:
        short = [words for result in results for words in report.missed(result)]
        if short:
            sys.exit("error: below the targets: " + "; ".join(short))


if __name__ == "__main__":
    main()
