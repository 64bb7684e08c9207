#!/usr/bin/env python3
"""Benchmarks: Rapidbyte against the floor, in one run, on a PostgreSQL server of its own.

    cargo xtask bench                           16 columns, 1,000,000 rows, 5 rounds
    cargo xtask bench --cells lineitem,narrow   choose cells (see --list)
    cargo xtask bench --big                     also 10,000,000 rows
    cargo xtask bench --record                  writes benches/RESULTS.md, too

The floor is `psql COPY … TO STDOUT (FORMAT binary) | psql COPY … FROM STDIN (FORMAT binary)` into a fresh table: what the
servers can do with the least client imaginable. Figures are ratios to it. Standard library only.
"""

import argparse
import ctypes
import datetime
import json
import os
import platform
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
USER, PASSWORD = "bench", "bench"
TARGET_RATIO, TARGET_RSS_MB = 0.75, 300

LINEITEM = """
CREATE TABLE lineitem (
  l_orderkey bigint NOT NULL, l_partkey bigint NOT NULL, l_suppkey bigint NOT NULL, l_linenumber integer NOT NULL,
  l_quantity numeric(15,2) NOT NULL, l_extendedprice numeric(15,2) NOT NULL, l_discount numeric(15,2) NOT NULL, l_tax numeric(15,2) NOT NULL,
  l_returnflag char(1) NOT NULL, l_linestatus char(1) NOT NULL, l_shipdate date NOT NULL, l_commitdate date NOT NULL,
  l_receiptdate date NOT NULL, l_shipinstruct char(25) NOT NULL, l_shipmode char(10) NOT NULL, l_comment varchar(44) NOT NULL);
SELECT setseed(0.42);
INSERT INTO lineitem
SELECT (i-1)/4+1, 1+(random()*200000)::int, 1+(random()*10000)::int, (i-1)%4+1,
       1+(random()*49)::int, round((900+random()*104000)::numeric,2), round((random()*0.1)::numeric,2), round((random()*0.08)::numeric,2),
       (ARRAY['R','A','N'])[1+(random()*2)::int], (ARRAY['O','F'])[1+random()::int], d, d+30, d+(1+random()*29)::int,
       (ARRAY['DELIVER IN PERSON','COLLECT COD','NONE','TAKE BACK RETURN'])[1+(random()*3)::int],
       (ARRAY['REG AIR','AIR','RAIL','SHIP','TRUCK','MAIL','FOB'])[1+(random()*6)::int],
       substr('carefully final deposits sleep quickly across the bold ideas',1+(random()*15)::int,10+(random()*33)::int)
FROM (SELECT i, DATE '1992-01-02'+(random()*2500)::int AS d FROM generate_series(1,{rows}) i) g;
"""
NARROW = """
CREATE TABLE narrow (id bigint NOT NULL, ts timestamptz NOT NULL, name text NOT NULL, value float8 NOT NULL, ok boolean NOT NULL);
SELECT setseed(0.42);
INSERT INTO narrow SELECT i, TIMESTAMPTZ '2024-01-01 00:00:00+00'+i*interval '37 milliseconds', 'event_'||(random()*1000)::int,
       random()*1e6, random()<0.9 FROM generate_series(1,{rows}) i;
"""
# Name: (table, how it is filled, rows).
CELLS = {
    "lineitem": ("lineitem", LINEITEM, 1_000_000),
    "lineitem-10m": ("lineitem", LINEITEM, 10_000_000),
    "narrow": ("narrow", NARROW, 2_000_000),
}


def say(text):
    print(f"==> {text}", flush=True)


# ---- processes -------------------------------------------------------------------------------------------------------------

def stat(pid):
    """Fields of /proc/<pid>/stat after the name: [1] parent, [11] utime, [12] stime, [21] resident pages."""
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()


def tree(root):
    children, stats = {}, {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            fields = stat(name)
        except OSError:
            continue
        stats[int(name)] = fields
        children.setdefault(int(fields[1]), []).append(int(name))
    found, todo = [], [root]
    while todo:
        pid = todo.pop()
        if pid in stats:
            found.append((pid, stats[pid]))
            todo += children.get(pid, [])
    return found


def server_cpu(pid):
    """CPU seconds of the postmaster, its live children and those it has waited for."""
    own = stat(pid)
    return (int(own[13]) + int(own[14]) + sum(int(f[11]) + int(f[12]) for _, f in tree(pid))) / TICK


def machine_cpu():
    """CPU seconds of the machine: busy, and stolen by its host."""
    values = list(map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]))
    return (values[0] + values[1] + values[2] + values[5] + values[6]) / TICK, values[7] / TICK


def measured(command, server, environment, directory):
    """Runs a command; wall seconds, CPU seconds and summed peak resident memory of its process tree."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    server0, (machine0, steal0) = server_cpu(server), machine_cpu()
    log = tempfile.TemporaryFile()
    began = time.monotonic()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment, cwd=directory)
    peak, done = [0], threading.Event()

    def sample():
        while True:
            # The sum over processes of what is resident at one moment.
            peak[0] = max(peak[0], sum(int(fields[21]) for _, fields in tree(process.pid)) * PAGE)
            if done.wait(0.02):
                return

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        code = process.wait(timeout=1800)
    except subprocess.TimeoutExpired:
        process.kill()
        code = process.wait()
    wall = time.monotonic() - began
    done.set()
    sampler.join()
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    machine1, steal1 = machine_cpu()
    log.seek(0)
    words = log.read().decode(errors="replace")
    if code != 0:
        sys.exit(f"error: {command[0]} failed with code {code}:\n{words[-3000:]}")
    cpu = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
    of_server = server_cpu(server) - server0
    return {
        "wall": wall,
        "cpu": cpu,
        "server_cpu": of_server,
        "other_cpu": max(0.0, machine1 - machine0 - cpu - of_server),
        "steal": steal1 - steal0,
        "peak_rss_mb": peak[0] / 2**20,
    }, words


# ---- the server ------------------------------------------------------------------------------------------------------------

class Server:
    """PostgreSQL with durable settings in a directory of its own, as an ordinary user."""

    def __init__(self, programs, place):
        self.bin = Path(programs)
        self.dir = Path(tempfile.mkdtemp(prefix="rapidbyte-bench-", dir=place))
        self.root = os.geteuid() == 0
        if self.root:
            shutil.chown(self.dir, "postgres", "postgres")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        secret = self.dir / "secret"
        secret.write_text(PASSWORD + "\n")
        os.chmod(secret, 0o644)
        self.run("initdb", "-D", self.data, "-U", USER, "-A", "scram-sha-256", f"--pwfile={secret}", "-E", "UTF8", "--locale=C.UTF-8")
        self.settings = {
            "fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "wal_level": "logical", "shared_buffers": "1GB",
            "max_wal_size": "16GB", "checkpoint_timeout": "30min", "autovacuum": "off", "max_parallel_workers_per_gather": "0",
        }
        lines = [f"{key} = {value}" for key, value in self.settings.items()]
        lines += [f"port = {self.port}", "listen_addresses = '127.0.0.1'", "unix_socket_directories = ''"]
        with open(self.data / "postgresql.conf", "a") as file:
            file.write("\n".join(lines) + "\n")
        self.environment = {"PATH": os.environ["PATH"], "PGPASSWORD": PASSWORD, "PGHOST": "127.0.0.1", "PGPORT": str(self.port),
                            "PGUSER": USER, "PGSSLMODE": "disable"}
        self.run("pg_ctl", "-D", self.data, "-l", self.dir / "log", "-w", "start")
        self.pid = int((self.data / "postmaster.pid").read_text().split()[0])
        self.version = subprocess.check_output([self.bin / "postgres", "-V"], text=True).split()[2]

    @property
    def data(self):
        return self.dir / "data"

    def run(self, program, *arguments):
        command = [str(self.bin / program), *map(str, arguments)]
        if self.root:
            command = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", *command]
        subprocess.run(command, check=True, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def sql(self, database, text):
        done = subprocess.run([str(self.bin / "psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", database, "-f", "-"],
                              input=text, env=self.environment, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"error: psql: {done.stderr.strip()}")
        return done.stdout.strip()

    def content(self, database, table):
        return self.sql(database, f"SELECT count(*) || ' ' || coalesce(sum(hashtextextended(t::text, 0)::numeric), 0) FROM {table} t")

    def stop(self):
        self.run("pg_ctl", "-D", self.data, "-m", "fast", "-w", "stop")
        shutil.rmtree(self.dir, ignore_errors=True)


# ---- the arms --------------------------------------------------------------------------------------------------------------

def floor(server, table, work):
    psql = str(server.bin / "psql")
    options = "-X -q -v ON_ERROR_STOP=1"
    script = (f"set -o pipefail; {psql} {options} -d src -c 'COPY {table} TO STDOUT (FORMAT binary)'"
              f" | {psql} {options} -d dst -c 'COPY {table} FROM STDIN (FORMAT binary)'")
    columns = server.sql("src", "SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod) || ' NOT NULL', ', ' ORDER BY attnum)"
                                f" FROM pg_attribute WHERE attrelid = '{table}'::regclass AND attnum > 0")
    server.sql("dst", f"CREATE TABLE {table} ({columns})")
    return ["bash", "-c", script], server.environment, work


def rapidbyte(server, table, work, binary):
    login = f"host: 127.0.0.1, port: {server.port}, user: {USER}, password: {PASSWORD}, sslmode: disable"
    (work / "pipeline.yaml").write_text(f"""\
version: "1.0"
pipeline: bench
source:
  use: source-postgres
  config: {{ {login}, database: src }}
  streams:
    - {{ name: public.{table}, sync_mode: full_refresh }}
destination:
  use: dest-postgres
  config: {{ {login}, database: dst, schema: public }}
  write_mode: append
""")
    return [binary, "run", "pipeline.yaml"], {"PATH": os.environ["PATH"], "HOME": str(work)}, work


def cell(server, name, binary, rounds, place, compiled):
    table, filling, rows = CELLS[name]
    say(f"{name}: filling {rows:,} rows")
    for database in ("src", "dst"):
        server.sql("postgres", f"DROP DATABASE IF EXISTS {database}")
        server.sql("postgres", f"CREATE DATABASE {database}")
    server.sql("src", filling.format(rows=rows) + f"VACUUM ANALYZE {table};")
    expected = server.content("src", table)
    runs = {"floor": [], "rapidbyte": []}
    for number in range(rounds):
        # Alternating, so that a drift of the machine meets both; who begins alternates, too.
        for arm in ("floor", "rapidbyte") if number % 2 == 0 else ("rapidbyte", "floor"):
            server.sql("postgres", "DROP DATABASE IF EXISTS dst")
            server.sql("postgres", "CREATE DATABASE dst")
            work = Path(tempfile.mkdtemp(prefix="work-", dir=place))
            if arm == "floor":
                command, environment, directory = floor(server, table, work)
            else:
                command, environment, directory = rapidbyte(server, table, work, binary)
                environment["RAPIDBYTE_CACHE_DIR"] = str(compiled)
            server.sql("postgres", "CHECKPOINT")
            figures, _ = measured(command, server.pid, environment, directory)
            if server.content("dst", table) != expected:
                sys.exit(f"error: {arm} moved something else than what was there")
            kind = server.sql("dst", f"SELECT relpersistence FROM pg_class WHERE oid = '{table}'::regclass")
            if kind != "p":
                sys.exit(f"error: {arm} wrote a table that is not logged")
            runs[arm].append(figures)
            shutil.rmtree(work, ignore_errors=True)
            say(f"{name} round {number + 1} {arm}: {figures['wall']:.2f} s, {figures['cpu']:.2f} CPU s, "
                f"{figures['peak_rss_mb']:.0f} MB, others {figures['other_cpu']:.2f} CPU s")
    return summary(name, table, rows, expected, runs)


def summary(name, table, rows, content, runs):
    median = {arm: {key: statistics.median(run[key] for run in all_runs) for key in all_runs[0]} for arm, all_runs in runs.items()}
    ours, theirs = median["rapidbyte"], median["floor"]
    return {
        "cell": name, "table": table, "rows": rows, "content": content, "runs": runs, "median": median,
        "ratio": theirs["wall"] / ours["wall"],
        "ratio_by_round": [f["wall"] / r["wall"] for f, r in zip(runs["floor"], runs["rapidbyte"])],
        "rows_per_second": rows / ours["wall"],
        "cpu_per_million_rows": {arm: figures["cpu"] / rows * 1e6 for arm, figures in median.items()},
        "peak_rss_mb": {arm: max(run["peak_rss_mb"] for run in all_runs) for arm, all_runs in runs.items()},
    }


# ---- the report ------------------------------------------------------------------------------------------------------------

def machine():
    model = next((line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")),
                 platform.machine())
    memory = int(Path("/proc/meminfo").read_text().split()[1]) / 2**20
    return {"cpu": model, "cores": os.cpu_count(), "memory_gb": round(memory, 1), "kernel": platform.release(), "load": os.getloadavg()[0]}


def markdown(document):
    facts, lines = document["machine"], []
    lines.append("# Benchmark results\n")
    lines.append(f"{document['at']}, `{document['version']}` at {document['commit']}; PostgreSQL {document['postgres']} (source and destination in one "
                 f"server, 127.0.0.1, TLS off, logged tables, synchronous commit); {facts['cores']} cores of {facts['cpu']}, "
                 f"{facts['memory_gb']} GB, Linux {facts['kernel']}. Median of {document['rounds']} alternating rounds, "
                 "content compared by hash after each.\n")
    lines.append("| Cell | Rows | Floor s | Rapidbyte s | Ratio to floor | Rows/s | CPU s per M rows (floor) | Peak RSS MB (floor) | Others' CPU s |")
    lines.append("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for result in document["cells"]:
        median, cpu, rss = result["median"], result["cpu_per_million_rows"], result["peak_rss_mb"]
        lines.append(
            f"| {result['cell']} | {result['rows']:,} | {median['floor']['wall']:.2f} | {median['rapidbyte']['wall']:.2f} | **{result['ratio']:.2f}** "
            f"| {result['rows_per_second']:,.0f} | {cpu['rapidbyte']:.2f} ({cpu['floor']:.2f}) | {rss['rapidbyte']:.0f} ({rss['floor']:.0f}) "
            f"| {median['rapidbyte']['other_cpu']:.1f} ({median['floor']['other_cpu']:.1f}) |")
    lines.append("\nThe floor is `psql COPY … | psql COPY …` (`FORMAT binary`). A ratio of 1 is as fast as the floor; larger is faster. Peak RSS is the "
                 "largest of all rounds, summed over the process tree. How it is measured: [README](README.md).")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rapidbyte", help="the binary")
    parser.add_argument("--postgres-bin", default="/usr/lib/postgresql/15/bin")
    parser.add_argument("--cells", default="lineitem", help="names with commas")
    parser.add_argument("--big", action="store_true", help="adds lineitem-10m")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, help="another number of rows for every cell")
    parser.add_argument("--place", help="directory for the server's data")
    parser.add_argument("--record", action="store_true", help="writes benches/RESULTS.md")
    parser.add_argument("--check", action="store_true", help="fails below the targets")
    parser.add_argument("--list", action="store_true", help="lists the cells")
    arguments = parser.parse_args()
    if arguments.list:
        for name, (table, _, rows) in CELLS.items():
            print(f"{name}: {table}, {rows:,} rows")
        return
    names = arguments.cells.split(",") + (["lineitem-10m"] if arguments.big else [])
    unknown = [name for name in names if name not in CELLS]
    if unknown:
        sys.exit(f"error: no cell {', '.join(unknown)}; there are {', '.join(CELLS)}")
    if not arguments.rapidbyte:
        sys.exit("error: --rapidbyte is missing; `cargo xtask bench` gives it")
    for name, (table, filling, rows) in CELLS.items():
        CELLS[name] = (table, filling, arguments.rows or rows)
    # Adopt what a command leaves behind, so that its CPU time is counted.
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
    binary = str(Path(arguments.rapidbyte).resolve())
    version = subprocess.check_output([binary, "--version"], text=True).strip()
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=HERE, capture_output=True, text=True).stdout.strip() or "no commit"
    server = Server(arguments.postgres_bin, arguments.place)
    place = Path(tempfile.mkdtemp(prefix="rapidbyte-bench-work-", dir=arguments.place))
    # Compiled once and kept, as on a user's second run.
    compiled = place / "compiled"
    try:
        cells = [cell(server, name, binary, arguments.rounds, place, compiled) for name in names]
        document = {"at": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"), "version": version, "commit": commit,
                    "postgres": server.version, "settings": server.settings, "machine": machine(), "rounds": arguments.rounds, "cells": cells}
    finally:
        server.stop()
        shutil.rmtree(place, ignore_errors=True)
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    stamp = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    (results / f"{stamp}.json").write_text(json.dumps(document, indent=2) + "\n")
    table = markdown(document)
    (results / f"{stamp}.md").write_text(table)
    if arguments.record:
        (HERE / "RESULTS.md").write_text(table)
    print(table)
    if arguments.check:
        short = [f"{r['cell']}: ratio {r['ratio']:.2f}, {r['peak_rss_mb']['rapidbyte']:.0f} MB" for r in cells
                 if r["cell"].startswith("lineitem") and (r["ratio"] < TARGET_RATIO or r["peak_rss_mb"]["rapidbyte"] > TARGET_RSS_MB)]
        if short:
            sys.exit("error: below the targets: " + "; ".join(short))


if __name__ == "__main__":
    main()
