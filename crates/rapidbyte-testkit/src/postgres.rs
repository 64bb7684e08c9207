//! A PostgreSQL server of our own.

use crate::deadline::within;
use crate::environment::{is_root, postgres_bin};
use crate::tls::Authority;
use std::fmt;
use std::fs::{self, Permissions};
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tempfile::TempDir;

/// The user the server runs as when we are root, which PostgreSQL refuses.
const OS_USER: &str = "postgres";
const SUPERUSER: &str = "keeper";
const READY: Duration = Duration::from_secs(60);

/// Keeps the server as long as its standard input is open: it ends with the tests, however they end. It removes the data itself,
/// because statics are never dropped.
const KEEPER: &str = r#"
start() { "$1/postgres" -D "$2/data" >>"$2/log" 2>&1 & server=$!; }
start "$1" "$2"
while read -r signal; do
  kill -"$signal" $server
  wait $server
  start "$1" "$2"
done
kill -INT $server
wait $server
rm -rf "$2/data" "$2/log"
"#;

static SHARED: OnceLock<Postgres> = OnceLock::new();
static DATABASES: AtomicU32 = AtomicU32::new(0);

/// How a server is set up.
#[derive(Debug, Default)]
pub struct PostgresOptions {
    /// Certificate and key of the server. Connections of the role `tls_only` without TLS are refused.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// The certificate of the authority that signs those of clients, for a server with TLS. A client needs none.
    pub clients: Option<PathBuf>,
    /// Further lines of its configuration.
    pub settings: Vec<String>,
}

/// How a server is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Sessions are ended, everything is written.
    Fast,
    /// At once; it recovers when it starts again.
    Crash,
}

/// A server with durable settings (`fsync`, `synchronous_commit`), SCRAM passwords, and a free port of 127.0.0.1.
pub struct Postgres {
    dir: TempDir,
    port: u16,
    password: String,
    keeper: Child,
    input: Mutex<Option<ChildStdin>>,
}

impl Postgres {
    /// The one that tests of this process share. Each takes a database of its own.
    ///
    /// # Panics
    /// When it can't be started.
    #[track_caller]
    pub fn shared() -> &'static Self {
        SHARED.get_or_init(|| Self::start(PostgresOptions::default()))
    }

    /// Starts one.
    ///
    /// # Panics
    /// When it can't be started.
    #[track_caller]
    pub fn start(options: PostgresOptions) -> Self {
        let bin = postgres_bin();
        // Short: the path of its socket must stay below 107 bytes.
        let dir = tempfile::Builder::new().prefix("rb-pg-").tempdir().expect("a temporary directory can be made");
        own(dir.path());
        let password = "a password with 'quotes' \\ and ü";
        let password_file = dir.path().join("password");
        fs::write(&password_file, password).expect("written");
        own(&password_file);
        let data = dir.path().join("data");
        let made = as_owner(&bin.join("initdb"))
            .arg("-D")
            .arg(&data)
            .args(["-U", SUPERUSER, "-A", "scram-sha-256", "-E", "UTF8", "--locale=C.UTF-8", "--no-instructions", "--pwfile"])
            .arg(&password_file)
            .output()
            .expect("initdb can be started");
        assert!(made.status.success(), "initdb failed: {}", String::from_utf8_lossy(&made.stderr));
        let port = free_port();
        let mut settings = format!(
            "port = {port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = ''\nshared_buffers = 256MB\nmax_wal_size = 4GB\n\
             checkpoint_timeout = 30min\nautovacuum = off\nmax_connections = 200\nfsync = on\nsynchronous_commit = on\n\
             wal_level = logical\ntimezone = 'UTC'\n"
        );
        let keep = |from: &Path, name: &str| {
            let to = data.join(name);
            fs::copy(from, &to).expect("a certificate can be copied");
            fs::set_permissions(&to, Permissions::from_mode(0o600)).expect("permissions can be set");
            own(&to);
        };
        if let Some(authority) = &options.clients {
            keep(authority, "clients.crt");
            settings.push_str("ssl_ca_file = 'clients.crt'\n");
        }
        if let Some((certificate, key)) = &options.tls {
            keep(certificate, "server.crt");
            keep(key, "server.key");
            settings.push_str("ssl = on\nssl_cert_file = 'server.crt'\nssl_key_file = 'server.key'\n");
            let rules = "hostnossl all tls_only 127.0.0.1/32 reject\nhost all all 127.0.0.1/32 scram-sha-256\n";
            fs::write(data.join("pg_hba.conf"), rules).expect("written");
        }
        for line in &options.settings {
            settings.push_str(line);
            settings.push('\n');
        }
        let mut file = fs::OpenOptions::new().append(true).open(data.join("postgresql.conf")).expect("the settings can be opened");
        file.write_all(settings.as_bytes()).expect("the settings can be written");
        let mut keeper = as_owner(Path::new("sh"))
            .args(["-c", KEEPER, "keeper"])
            .arg(&bin)
            .arg(dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell can be started");
        let input = Mutex::new(keeper.stdin.take());
        let server = Self { dir, port, password: password.to_owned(), keeper, input };
        within(READY, "PostgreSQL to accept connections", || {
            let log = || fs::read_to_string(server.dir.path().join("log")).unwrap_or_default();
            assert!(!log().contains("FATAL:  could not"), "PostgreSQL did not start: {}", log());
            server.psql("postgres", "select 1", true).ok()
        });
        server
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The user that may do everything.
    pub fn user(&self) -> &'static str {
        SUPERUSER
    }

    /// That user's password.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// Stops it, in order or as a crash does, and starts it again; back as soon as it accepts connections.
    ///
    /// # Panics
    /// When it does not come back.
    #[track_caller]
    pub fn restart(&self, stop: Stop) {
        let began = || self.psql("postgres", "SELECT pg_postmaster_start_time()", true).ok();
        let before = began();
        let signal = match stop {
            Stop::Fast => "INT\n",
            Stop::Crash => "QUIT\n",
        };
        self.input
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_mut()
            .expect("open until the server goes")
            .write_all(signal.as_bytes())
            .expect("the keeper listens");
        within(READY, "PostgreSQL to come back", || began().filter(|now| before.as_ref() != Some(now)).map(drop));
    }

    /// What it has written into its log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// A new empty database whose files are below a directory, which the server's user must be able to write.
    ///
    /// # Panics
    /// When it can't be made.
    #[track_caller]
    pub fn database_below(&self, name: &str, dir: &Path) -> Database<'_> {
        own(dir);
        let database = self.name(name);
        let sql = format!("CREATE TABLESPACE \"{database}\" LOCATION '{}'", dir.display());
        self.psql("postgres", &sql, false).unwrap_or_else(|error| panic!("{error}"));
        let sql = format!("CREATE DATABASE \"{database}\" TABLESPACE \"{database}\"");
        self.psql("postgres", &sql, false).unwrap_or_else(|error| panic!("{error}"));
        Database { server: self, name: database }
    }

    fn name(&self, name: &str) -> String {
        format!("{name}_{}", DATABASES.fetch_add(1, Ordering::Relaxed))
    }

    /// A new empty database.
    ///
    /// # Panics
    /// When it can't be made.
    #[track_caller]
    pub fn database(&self, name: &str) -> Database<'_> {
        let name = self.name(name);
        self.psql("postgres", &format!("CREATE DATABASE \"{name}\""), false).unwrap_or_else(|error| panic!("{error}"));
        Database { server: self, name }
    }

    /// How many sessions of clients there are in a database.
    #[track_caller]
    fn sessions(&self, database: &str) -> usize {
        let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND datname = '{database}'");
        let text = self.psql("postgres", &sql, true).unwrap_or_else(|error| panic!("{error}"));
        text.trim().parse().expect("a count")
    }

    /// One of PostgreSQL's own clients, told how to reach this server.
    fn client(&self, program: &str) -> Command {
        let mut command = Command::new(postgres_bin().join(program));
        command
            .args(["-h", "127.0.0.1", "-U", SUPERUSER, "-p", &self.port.to_string()])
            .env_clear()
            .envs(std::env::vars_os().filter(|(name, _)| name == "PATH"))
            .env("PGPASSWORD", &self.password)
            .env("PGCONNECT_TIMEOUT", "10")
            .env("LC_ALL", "C.UTF-8");
        command
    }

    fn psql(&self, database: &str, script: &str, one_transaction: bool) -> Result<String, String> {
        let mut command = self.client("psql");
        command
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", database, "-f", "-"])
            .args(if one_transaction { &["-1"][..] } else { &[] })
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| format!("psql can't be started: {error}"))?;
        let mut input = child.stdin.take().expect("piped");
        let text = script.to_owned();
        // Written by a thread: psql may answer before it has read everything.
        let writer = std::thread::spawn(move || input.write_all(text.as_bytes()));
        let output = child.wait_with_output().map_err(|error| format!("psql can't be waited for: {error}"))?;
        let _ = writer.join();
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(format!("psql: {}", String::from_utf8_lossy(&output.stderr).trim()))
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.input.lock().unwrap_or_else(PoisonError::into_inner).take());
        let _ = self.keeper.wait();
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres").field("port", &self.port).finish_non_exhaustive()
    }
}

/// A database of a server. It goes with the server, unless it is removed.
#[derive(Debug, Clone)]
pub struct Database<'a> {
    server: &'a Postgres,
    name: String,
}

impl Database<'_> {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its server.
    pub fn server(&self) -> &Postgres {
        self.server
    }

    /// Runs SQL; what it answers, without headers, columns separated by `|`.
    ///
    /// # Panics
    /// With the server's words.
    #[track_caller]
    pub fn sql(&self, script: &str) -> String {
        self.server.psql(&self.name, script, false).unwrap_or_else(|error| panic!("{error}")).trim_end().to_owned()
    }

    /// Count and hash of a table's rows, whatever their order; `table` is quoted as SQL wants it.
    ///
    /// # Panics
    /// With the server's words.
    #[track_caller]
    pub fn hash(&self, table: &str) -> TableHash {
        let sql = format!(
            "SET extra_float_digits = 3; SET bytea_output = 'hex'; SET datestyle = 'ISO'; SET intervalstyle = 'postgres';
             SELECT count(*) || ' ' || coalesce(sum(hashtextextended(t::text, 0)::numeric), 0) || ' '
                    || coalesce(sum(hashtextextended(t::text, 77)::numeric), 0) FROM {table} t"
        );
        let text = self.sql(&sql);
        let (rows, hash) = text.split_once(' ').expect("a count and a hash");
        TableHash { rows: rows.parse().expect("a count"), hash: hash.to_owned() }
    }

    /// What `pg_dump --schema-only` says of everything but the ledger: definitions, owners, rights, comments.
    ///
    /// # Panics
    /// With its words.
    #[track_caller]
    pub fn dump_schema(&self) -> String {
        let output = self
            .server
            .client("pg_dump")
            .args(["-d", &self.name, "--schema-only", "-N", "_rapidbyte"])
            .stdin(Stdio::null())
            .output()
            .expect("pg_dump can be started");
        assert!(output.status.success(), "pg_dump: {}", String::from_utf8_lossy(&output.stderr));
        // The key of these two lines is another one each time.
        let by_chance = |line: &&str| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict");
        String::from_utf8_lossy(&output.stdout).lines().filter(by_chance).collect::<Vec<_>>().join("\n")
    }

    /// Whether there is such a table, in any form.
    #[track_caller]
    pub fn has(&self, table: &str) -> bool {
        self.sql(&format!("SELECT to_regclass('{table}') IS NOT NULL")) == "t"
    }

    /// How many sessions of clients it has.
    #[track_caller]
    pub fn sessions(&self) -> usize {
        self.server.sessions(&self.name)
    }

    /// Waits until no client is left, as after a kill: the server notices in its own time.
    #[track_caller]
    pub fn until_quiet(&self, limit: Duration) {
        within(limit, &format!("the sessions of {} to end", self.name), || (self.sessions() == 0).then_some(()));
    }

    /// Removes it, with whoever uses it.
    ///
    /// # Panics
    /// With the server's words.
    #[track_caller]
    pub fn remove(&self) {
        let sql = format!("DROP DATABASE \"{}\" WITH (FORCE)", self.name);
        self.server.psql("postgres", &sql, false).unwrap_or_else(|error| panic!("{error}"));
    }

    /// Host, port, user, password and database as a connector's configuration.
    pub fn config(&self) -> String {
        format!("host: 127.0.0.1, port: {}, {}", self.server.port, self.login())
    }

    /// User, password and database as part of a connector's configuration.
    pub fn login(&self) -> String {
        let password = self.server.password.replace('\\', "\\\\").replace('"', "\\\"");
        format!("user: {SUPERUSER}, password: \"{password}\", database: {}", self.name)
    }
}

/// The content of a table: how many rows, and a hash that no order changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableHash {
    /// Rows.
    pub rows: u64,
    /// Two sums over the rows' hashes.
    pub hash: String,
}

/// Runs a program as the server's user when we are root.
fn as_owner(program: &Path) -> Command {
    let mut command = if is_root() {
        let mut command = Command::new("setpriv");
        command.arg(format!("--reuid={OS_USER}")).arg(format!("--regid={OS_USER}")).arg("--init-groups").arg(program);
        command
    } else {
        Command::new(program)
    };
    // The directory of the tests may be one that the other user can't read.
    command.current_dir("/");
    command
}

/// Gives a file to the server's user when we are root.
fn own(path: &Path) {
    if is_root() {
        chown(path, id("-u"), id("-g")).expect("root can give a file away");
    }
}

fn id(flag: &str) -> Option<u32> {
    let output = Command::new("id").args([flag, OS_USER]).output().expect("`id` can be started");
    String::from_utf8_lossy(&output.stdout).trim().parse().ok()
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port can be bound");
    listener.local_addr().expect("a bound socket has an address").port()
}

impl PostgresOptions {
    /// With TLS, by a certificate for the name `localhost` and no address.
    #[must_use]
    pub fn with_tls(mut self, authority: &Authority) -> Self {
        self.tls = Some(authority.issue("server", "localhost", "DNS:localhost"));
        self
    }

    /// Which also looks at the certificates of clients, where they have one.
    #[must_use]
    pub fn with_clients(mut self, authority: &Authority) -> Self {
        self.clients = Some(authority.certificate());
        self
    }
}
