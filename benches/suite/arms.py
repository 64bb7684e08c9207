"""How each arm does a cell's work. An arm is asked for a command and gets a working directory of its own; whatever a command can't
do is a `Missing` with its reason, which the report repeats."""

import os
import shutil
import subprocess
from pathlib import Path

from .server import PASSWORD, USER

# Bytes of a table, above which the cells of shares have it cut.
SPLIT = 1 << 20
PSQL_OPTIONS = "-X -q -v ON_ERROR_STOP=1"


class Missing(Exception):
    """The arm is not there, or has no way to do this cell."""


def url(server, database):
    mode = "require" if server.environment["PGSSLMODE"] == "require" else "disable"
    return f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{server.port}/{database}?sslmode={mode}"


class Floor:
    """What the servers can do with the least client imaginable: `psql COPY … | psql COPY …`, and the hand-written SQL around it."""

    name = "floor"

    def version(self, bench):
        return f"psql {bench.server.version}"

    def definition(self, bench, table):
        """The columns of the source's table, as a destination without knowledge of it would make them."""
        return bench.server.sql("src", "SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod) || ' NOT NULL', ', ' ORDER BY attnum)"
                                       f" FROM pg_attribute WHERE attrelid = '{table}'::regclass AND attnum > 0 AND NOT attisdropped")

    def prepare(self, bench, cell, work, first):
        """Tables are there before the clock runs, unless there are hundreds."""
        if cell.to == "postgres" and (first or cell.start == "empty") and len(cell.tables) < 100:
            for table in cell.tables:
                bench.server.sql("dst", f"CREATE TABLE {table} ({self.definition(bench, table)})")

    def command(self, bench, cell, work, first):
        psql = f"'{bench.server.bin}/psql' {PSQL_OPTIONS}"
        if cell.source == "datagen":
            # There is no server in it: what starting any process costs, or moving as many bytes through a pipe.
            bytes_moved = cell.rows * 40
            return ["bash", "-c", f"head -c {bytes_moved} /dev/zero | cat >/dev/null"]
        if len(cell.tables) >= 100:
            return ["bash", "-c", f"set -o pipefail; '{bench.server.bin}/pg_dump' -d src | {psql} -d dst >/dev/null"]
        loading = first and cell.start == "loaded"
        lines = []
        for table in cell.tables:
            rows = table
            into = f"{psql} -d dst -c 'COPY {table} FROM STDIN (FORMAT binary)'"
            key = bench.server.sql("src", f"SELECT string_agg(quote_ident(a.attname), ', ') FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid"
                                          f" AND a.attnum = ANY (i.indkey) WHERE i.indrelid = '{table}'::regclass AND i.indisprimary")
            columns = bench.server.sql("src", "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute"
                                              f" WHERE attrelid = '{table}'::regclass AND attnum > 0 AND NOT attisdropped")
            others = [name for name in columns.split(", ") if name not in key.split(", ")]
            since = ""
            if cell.sync == "incremental" and not loading:
                since = f"since=$({psql} -A -t -d dst -c 'SELECT max({cell.cursor}) FROM {table}'); "
                rows = f"(SELECT * FROM {table} WHERE {cell.cursor} > '$since')"
            if cell.to == "parquet":
                into = f"cat > '{work}/{table}.copy'"
            elif cell.write == "replace" and not loading:
                into = f"{psql} -1 -d dst -c 'DELETE FROM {table}' -c 'COPY {table} FROM STDIN (FORMAT binary)'"
            elif cell.write == "upsert" and (loading or cell.start == "empty"):
                into += f" -c 'ALTER TABLE {table} ADD PRIMARY KEY ({key})'"
            elif cell.write == "upsert":
                put = ", ".join(f"{name} = excluded.{name}" for name in others)
                into = (f"{psql} -d dst -c 'CREATE TEMP TABLE coming (LIKE {table})' -c 'COPY coming FROM STDIN (FORMAT binary)'"
                        f" -c 'INSERT INTO {table} SELECT * FROM coming ON CONFLICT ({key}) DO UPDATE SET {put}'")
            lines.append(f'{since}{psql} -d src -c "COPY {rows} TO STDOUT (FORMAT binary)" | {into}')
        body = "\n".join(lines)
        if cell.parallelism and len(lines) > 1:
            body = f"xargs -P {cell.parallelism} -I CMD -d '\\n' bash -o pipefail -c CMD <<'LINES'\n{body}\nLINES"
        return ["bash", "-c", f"set -e -o pipefail\n{body}"]

    def environment(self, bench, work):
        return bench.server.environment


class Rapidbyte:
    """The binary that users get: connectors in the sandbox, receipts, state store."""

    name = "rapidbyte"

    def version(self, bench):
        return subprocess.check_output([bench.binary, "--version"], text=True).strip()

    def prepare(self, bench, cell, work, first):
        mode = bench.server.environment["PGSSLMODE"]
        login = f"host: 127.0.0.1, port: {bench.server.port}, user: {USER}, password: {PASSWORD}, sslmode: {mode}"
        if cell.source == "datagen":
            source = f"use: source-datagen\n  config: {{ pattern: orders, seed: 42, max_events: {cell.rows} }}"
            streams = ["orders"]
        else:
            # A table is cut into as many shares as may run at once, once it is larger than this.
            split = f", split_above_bytes: {SPLIT}" if cell.partitions else ""
            source = f"use: source-postgres\n  config: {{ {login}, database: src{split} }}"
            streams = [f"public.{table}" for table in cell.tables]
        keys = "sync_mode: " + cell.sync + (f", cursor_field: {cell.cursor}" if cell.sync == "incremental" else "")
        listed = "\n".join(f"    - {{ name: {name}, {keys} }}" for name in streams)
        destination = {
            "postgres": f"use: dest-postgres\n  config: {{ {login}, database: dst, schema: public }}",
            "parquet": "use: dest-file\n  config: { path: ./out }",
            "null": "use: dest-stdout\n  config: { format: json, max_rows: 0 }",
        }[cell.to]
        resources = f"resources: {{ parallelism: {cell.parallelism} }}\n" if cell.parallelism else ""
        (work / "pipeline.yaml").write_text(
            f'version: "1.0"\npipeline: bench\nsource:\n  {source}\n  streams:\n{listed}\n'
            f"destination:\n  {destination}\n  write_mode: {cell.write}\n{resources}")

    def command(self, bench, cell, work, first):
        return [bench.binary, "run", "pipeline.yaml"]

    def environment(self, bench, work):
        return {"PATH": os.environ["PATH"], "HOME": str(work), "RAPIDBYTE_CACHE_DIR": str(bench.compiled)}


class Native:
    """The same connectors built for this machine, in one process with two threads: what the sandbox costs beside it."""

    name = "native"

    def version(self, bench):
        return "the same sources" if bench.native else ""

    def prepare(self, bench, cell, work, first):
        if not bench.native:
            raise Missing("not built")
        plain = cell.source == "postgres" and cell.to == "postgres" and cell.sync == "full_refresh" and len(cell.tables) == 1
        if not plain or cell.start != "empty" or bench.server.environment["PGSSLMODE"] != "disable" or cell.partitions:
            raise Missing("the native build only loads one table whole, without TLS")

    def command(self, bench, cell, work, first):
        [table] = cell.tables
        return [bench.native, "127.0.0.1", str(bench.server.port), USER, "src", "dst", "public", table, cell.write]

    def environment(self, bench, work):
        return {"PATH": os.environ["PATH"], "RAPIDBYTE_BENCH_PASSWORD": PASSWORD}


class Peer:
    """Another tool, at a pinned version, by its public command line. `benches/peers.sh` installs them."""

    def __init__(self, name, program, pinned):
        self.name, self.program, self.pinned = name, program, pinned

    def version(self, bench):
        return self.pinned if self.path(bench) else ""

    def path(self, bench):
        found = bench.peers / self.program if bench.peers else None
        return found if found and found.exists() else None

    def prepare(self, bench, cell, work, first):
        if not self.path(bench):
            raise Missing("not installed (`benches/peers.sh`)")
        if not cell.peers or cell.source != "postgres" or len(cell.tables) != 1:
            raise Missing("not run in this cell")
        if self.name == "dlt" and cell.to != "postgres":
            raise Missing("not run in this cell")
        if self.name == "dlt":
            shutil.copy(Path(__file__).with_name("dlt_run.py"), work / "dlt_run.py")

    def command(self, bench, cell, work, first):
        [table] = cell.tables
        src, dst, path = url(bench.server, "src"), url(bench.server, "dst"), str(self.path(bench))
        merging = cell.write == "upsert"
        if self.name == "ingestr":
            to = ["--dest-uri", f"parquet:///{work}/{table}.parquet", "--dest-table", table] if cell.to == "parquet" else \
                ["--dest-uri", dst, "--dest-table", f"public.{table}"]
            key = ["--incremental-strategy", "merge", "--primary-key", "id"] if merging else []
            if cell.sync == "incremental":
                key += ["--incremental-key", cell.cursor]
                if not first:
                    # Without it the whole table is read again.
                    since = bench.server.sql("dst", f"SELECT to_char(max({cell.cursor}) AT TIME ZONE 'UTC','YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') FROM {table}")
                    key += ["--interval-start", since]
            return [path, "ingest", "--yes", "--no-load-timestamp", "--source-uri", src, "--source-table", f"public.{table}", *to, *key,
                    "--pipelines-dir", str(work / "ingestr")]
        if self.name == "sling":
            to = ["--tgt-object", f"file://{work}/{table}.parquet", "--tgt-options", "{format: parquet}"] if cell.to == "parquet" else \
                ["--tgt-conn", dst, "--tgt-object", f"public.{table}"]
            mode = ["--mode", "incremental", "--primary-key", "id"] if merging else ["--mode", "full-refresh"]
            if cell.sync == "incremental":
                mode += ["--update-key", cell.cursor]
            return [path, "run", "--src-conn", src, "--src-stream", f"public.{table}", *to, *mode]
        return [path, "dlt_run.py", src, dst, table, "merge" if merging else "replace", cell.cursor if cell.sync == "incremental" else ""]

    def environment(self, bench, work):
        off = {"SLING_DISABLE_TELEMETRY": "true", "DISABLE_TELEMETRY": "true", "TELEMETRY_DISABLED": "true", "INGESTR_DISABLE_TELEMETRY": "true",
               "RUNTIME__DLTHUB_TELEMETRY": "false", "DO_NOT_TRACK": "1"}
        return {"PATH": os.environ["PATH"], "HOME": str(work), "SLING_HOME_DIR": str(work / "sling"), "WORK": str(work), **off}


ARMS = [
    Floor(), Rapidbyte(), Native(),
    Peer("ingestr", "ingestr/bin/ingestr", "ingestr 1.1.15"),
    Peer("sling", "sling/sling", "sling 1.4.11"),
    Peer("dlt", "dlt/bin/python", "dlt 1.31.0, backend pyarrow"),
]
