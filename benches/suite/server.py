"""A PostgreSQL server of the suite's own."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

USER, PASSWORD = "bench", "bench"


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
        lines += [f"port = {self.port}", "listen_addresses = '127.0.0.1'", "unix_socket_directories = ''", "max_connections = 200"]
        self.tls = self.certificate()
        if self.tls:
            lines += ["ssl = on"]
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

    def certificate(self):
        """A certificate for the cells with TLS, where `openssl` is there to make one."""
        if not shutil.which("openssl"):
            return False
        key, certificate = self.dir / "server.key", self.dir / "server.crt"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=127.0.0.1",
                        "-keyout", key, "-out", certificate], check=True, capture_output=True)
        for file in (key, certificate):
            os.chmod(file, 0o600)
            if self.root:
                shutil.chown(file, "postgres", "postgres")
            os.replace(file, self.data / file.name)
        return True

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

    def fresh(self, database, template="template0"):
        self.sql("postgres", f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")
        self.sql("postgres", f"CREATE DATABASE {database} TEMPLATE {template}" + (" STRATEGY FILE_COPY" if template != "template0" else ""))

    def content(self, database, tables):
        """Count and hash of the rows of all tables, in one line that depends on no order of rows."""
        each = [f"SELECT count(*) AS n, coalesce(sum(hashtextextended(t::text, 0)::numeric), 0) AS h FROM {table} t" for table in tables]
        lines = [self.sql(database, f"SELECT sum(n) || ' ' || sum(h) FROM ({' UNION ALL '.join(part)}) s") for part in
                 (each[at:at + 200] for at in range(0, len(each), 200))]
        return "; ".join(lines)

    def payload(self, database, table):
        """Bytes of the table as binary COPY."""
        command = f"'{self.bin}/psql' -X -q -d {database} -c 'COPY {table} TO STDOUT (FORMAT binary)' | wc -c"
        return int(subprocess.check_output(["bash", "-c", command], env=self.environment, text=True))

    def stop(self):
        self.run("pg_ctl", "-D", self.data, "-m", "fast", "-w", "stop")
        shutil.rmtree(self.dir, ignore_errors=True)
