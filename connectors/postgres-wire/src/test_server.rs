//! A PostgreSQL server of a test's own: a fresh cluster in a temporary directory on a free port of the loopback, gone when
//! the value is dropped.
//!
//! The server refuses to run as root, so a test run by root starts it as the system user `postgres`.

use crate::config::{ConnectConfig, Secret, SslMode};
use crate::connection::Connection;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs, process};

/// A running server.
pub struct PostgresServer {
    directory: PathBuf,
    port: u16,
    as_root: bool,
}

/// The directory of the newest installed server's programs.
fn programs() -> PathBuf {
    if let Some(named) = env::var_os("RAPIDBYTE_TEST_PG_BIN") {
        return named.into();
    }
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    versions.sort();
    versions.pop().map(|(_, path)| path).unwrap_or_default()
}

impl PostgresServer {
    /// Starts a server with the superuser `app`, password `secret` (SCRAM), and the database `app`.
    ///
    /// # Panics
    /// When no server can be started: a test that needs one can't go on.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// As [`PostgresServer::start`], with settings such as `max_connections=3`.
    ///
    /// # Panics
    /// When no server can be started.
    pub fn start_with(settings: &[&str]) -> Self {
        let made = Self::place();
        let port = made.port;
        let password = made.directory.join("password");
        fs::write(&password, "secret").expect("a password file");
        let data = made.data();
        made.run(
            "initdb",
            &["-D", &data, "-U", "app", "-A", "scram-sha-256", "--pwfile", &text(&password), "-E", "UTF8", "--locale=C", "-N"],
        );
        let mut options = format!("-p {port} -c listen_addresses=127.0.0.1 -c fsync=off -k {}", text(&made.directory));
        for setting in settings {
            options.push_str(" -c ");
            options.push_str(setting);
        }
        let log = text(&made.directory.join("log"));
        made.run("pg_ctl", &["-D", &data, "-w", "-t", "60", "-l", &log, "-o", &options, "start"]);
        made.connect_to("postgres").batch_execute("CREATE DATABASE app").expect("a database for tests");
        made
    }

    /// Starts a standby that follows this server, which needs `wal_level=replica` or more.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn standby(&self) -> Self {
        let made = Self::place();
        let (port, data, log) = (self.port.to_string(), made.data(), text(&made.directory.join("log")));
        made.run("pg_basebackup", &["-D", &data, "-h", "127.0.0.1", "-p", &port, "-U", "app", "-R", "-X", "stream", "-c", "fast"]);
        // Rows that its readers still see stay on the primary: replay need not wait for them.
        let always = "-c listen_addresses=127.0.0.1 -c fsync=off -c hot_standby_feedback=on";
        let options = format!("-p {} {always} -k {}", made.port, text(&made.directory));
        made.run("pg_ctl", &["-D", &data, "-w", "-t", "60", "-l", &log, "-o", &options, "start"]);
        made
    }

    /// A directory and a port of its own.
    fn place() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = env::temp_dir().join(format!("rapidbyte-pg-{}-{number}", process::id()));
        fs::create_dir_all(&directory).expect("a directory for the test server");
        let as_root = fs::metadata("/proc/self").is_ok_and(|own| {
            use std::os::unix::fs::MetadataExt;
            own.uid() == 0
        });
        if as_root {
            let owned = Command::new("chown").arg("postgres").arg(&directory).status();
            assert!(owned.is_ok_and(|status| status.success()), "the test server needs the system user `postgres`");
        }
        let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port").port();
        Self { directory, port, as_root }
    }

    fn data(&self) -> String {
        text(&self.directory.join("data"))
    }

    fn command(&self, program: &str) -> Command {
        let path = programs().join(program);
        if self.as_root {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(path);
            command
        } else {
            Command::new(path)
        }
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Output {
        // A log file instead of pipes: the server would inherit them and keep them open.
        let out = self.directory.join(format!("{program}.out"));
        let file = fs::File::create(&out).expect("a file for a program's output");
        let copy = file.try_clone().expect("a file for a program's output");
        let output = self
            .command(program)
            .args(arguments)
            .env("PGPASSWORD", "secret")
            .current_dir(&self.directory)
            .stdout(file)
            .stderr(copy)
            .output()
            .unwrap_or_else(|error| panic!("`{program}` does not start: {error}; PostgreSQL's server package is needed"));
        assert!(output.status.success(), "`{program}` failed: {}", fs::read_to_string(&out).unwrap_or_default());
        output
    }

    /// Lets the server stop when this process ends, for servers kept in a static, which is never dropped.
    pub fn stop_with_process(&self) {
        let own = process::id();
        let (data, directory) = (self.data(), text(&self.directory));
        let watch = format!(
            "while kill -0 {own} 2>/dev/null; do sleep 0.5; done; \"$0\" -D '{data}' -m immediate -w stop; rm -rf '{directory}'"
        );
        let program = programs().join("pg_ctl");
        let mut command =
            if self.as_root {
                // The watch itself stays root, to see any process and to remove the directory.
                let mut command = Command::new("sh");
                command.arg("-c").arg(watch.replace(
                    "\"$0\"",
                    &format!("setpriv --reuid=postgres --regid=postgres --clear-groups -- '{}'", text(&program)),
                ));
                command
            } else {
                let mut command = Command::new("sh");
                command.arg("-c").arg(watch).arg(&program);
                command
            };
        let quiet = std::process::Stdio::null;
        let _ = command.stdin(quiet()).stdout(quiet()).stderr(quiet()).current_dir("/").spawn();
    }

    /// Restarts nothing: stops the server at once, as a crash of the machine would.
    pub fn stop_immediately(&self) {
        let _ = self.command("pg_ctl").args(["-D", &self.data(), "-m", "immediate", "-w", "stop"]).output();
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The server's directory; its log lies in `log`.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// How to reach a database, without encryption.
    pub fn config(&self, database: &str) -> ConnectConfig {
        ConnectConfig {
            host: "127.0.0.1".into(),
            port: self.port,
            user: "app".into(),
            password: Some(Secret::new("secret")),
            database: database.into(),
            sslmode: SslMode::Disable,
            connect_timeout_seconds: 10,
            statement_timeout_seconds: None,
            idle_timeout_seconds: 60,
            application_name: "rapidbyte-test".into(),
        }
    }

    /// The same as the JSON of a connector's configuration.
    pub fn config_json(&self, database: &str) -> serde_json::Value {
        serde_json::json!({
            "host": "127.0.0.1", "port": self.port, "user": "app", "password": "secret", "database": database,
            "sslmode": "disable", "idle_timeout_seconds": 60,
        })
    }

    /// A session at the database `app`.
    ///
    /// # Panics
    /// When the server does not answer.
    pub fn connect(&self) -> Connection {
        self.connect_to("app")
    }

    /// A session at a database.
    ///
    /// # Panics
    /// When the server does not answer.
    pub fn connect_to(&self, database: &str) -> Connection {
        Connection::connect(&self.config(database)).expect("the test server answers")
    }
}

fn text(path: &Path) -> String {
    path.to_str().expect("temporary paths are UTF-8").to_owned()
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        self.stop_immediately();
        let _ = fs::remove_dir_all(&self.directory);
    }
}
