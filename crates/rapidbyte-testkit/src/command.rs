//! Running the binary.

use crate::deadline::{POLL, within_told};
use crate::environment;
use crate::process;
use serde_json::Value;
use std::ffi::OsString;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::panic::Location;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const SIGKILL: i32 = 9;
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
const SAMPLE_EVERY: Duration = Duration::from_millis(20);

/// A command line to be run, in an environment with nothing but what it is given.
#[derive(Debug)]
pub struct Rapidbyte {
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(String, OsString)>,
    dir: PathBuf,
    user: Option<String>,
    timeout: Duration,
}

impl Rapidbyte {
    /// The binary users get, to be run in a directory, which is its home, too.
    ///
    /// # Panics
    /// When nobody says where it is.
    #[track_caller]
    pub fn new(dir: &Path) -> Self {
        let program = environment::binary();
        // Shared by all tests: a connector is compiled once.
        let cache = program.with_file_name("cache-of-tests");
        let mut command = Self {
            program,
            arguments: Vec::new(),
            environment: Vec::new(),
            dir: dir.to_path_buf(),
            user: None,
            timeout: DEFAULT_TIMEOUT,
        };
        command = command.env("HOME", dir).env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("RAPIDBYTE_CACHE_DIR", cache)
    }

    /// Another program instead: the binary with crash points.
    #[must_use]
    pub fn program(mut self, program: PathBuf) -> Self {
        self.program = program;
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(OsString::from));
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// Runs it as another user, which only root can.
    #[must_use]
    pub fn as_user(mut self, name: &str) -> Self {
        self.user = Some(name.to_owned());
        self
    }

    /// How long it may take; a minute otherwise.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Starts it.
    ///
    /// # Panics
    /// When it can't be started.
    #[track_caller]
    pub fn start(self) -> Running {
        let mut command = match &self.user {
            None => Command::new(&self.program),
            Some(user) => {
                let mut command = Command::new("setpriv");
                command.arg(format!("--reuid={user}")).arg(format!("--regid={user}")).arg("--init-groups").arg(&self.program);
                command
            }
        };
        command
            .args(&self.arguments)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let shown = format!("rapidbyte {}", self.arguments.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" "));
        let mut child = command.spawn().unwrap_or_else(|error| panic!("could not start {}: {error}", self.program.display()));
        let started = Instant::now();
        let stdout = Stream::of(child.stdout.take().expect("piped"));
        let stderr = Stream::of(child.stderr.take().expect("piped"));
        let meter = Meter::of(child.id());
        Running { child, stdout, stderr, meter, started, shown, timeout: self.timeout, caller: Location::caller(), done: false }
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// When it can't be started or takes too long.
    #[track_caller]
    pub fn finish(self) -> Finished {
        self.start().finish()
    }

    /// Runs it by the binary with crash points, which is killed when `point` is first reached.
    ///
    /// # Panics
    /// When it ends in another way.
    #[track_caller]
    pub fn killed_at(self, point: &str) -> Finished {
        let killed = self.program(environment::crash_binary()).env("RAPIDBYTE_CRASH_AT", format!("{point}:1")).finish();
        assert_eq!(killed.signal, Some(SIGKILL), "{point}: {}", killed.told());
        killed
    }
}

/// What a process has written so far, read by a thread so that it never waits for us.
struct Stream {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Stream {
    fn of(mut pipe: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&bytes);
        let reader = thread::spawn(move || {
            let mut chunk = [0; 16 * 1024];
            while let Ok(count @ 1..) = pipe.read(&mut chunk) {
                sink.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&chunk[..count]);
            }
        });
        Self { bytes, reader: Some(reader) }
    }

    fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    fn whole(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the reader of a pipe does not panic");
        }
        self.so_far()
    }
}

/// Samples the memory of a process tree until stopped.
struct Meter {
    peak: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    sampler: Option<JoinHandle<()>>,
}

impl Meter {
    fn of(pid: u32) -> Self {
        let (peak, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (sampled, stopped) = (Arc::clone(&peak), Arc::clone(&stop));
        let sampler = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                sampled.fetch_max(process::peak_memory_of_tree(pid), Ordering::Relaxed);
                thread::park_timeout(SAMPLE_EVERY);
            }
        });
        Self { peak, stop, sampler: Some(sampler) }
    }

    fn peak(&mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(sampler) = self.sampler.take() {
            sampler.thread().unpark();
            sampler.join().expect("the sampler does not panic");
        }
        self.peak.load(Ordering::Relaxed)
    }
}

/// A process under way. It is killed when dropped.
pub struct Running {
    child: Child,
    stdout: Stream,
    stderr: Stream,
    meter: Meter,
    started: Instant,
    shown: String,
    timeout: Duration,
    caller: &'static Location<'static>,
    done: bool,
}

impl Running {
    /// Its id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Standard error so far.
    pub fn stderr_so_far(&self) -> String {
        self.stderr.so_far()
    }

    /// Standard output so far.
    pub fn stdout_so_far(&self) -> String {
        self.stdout.so_far()
    }

    /// Waits until standard error holds a text.
    ///
    /// # Panics
    /// When it does not in time, or the process ends first.
    #[track_caller]
    pub fn until_stderr(&mut self, text: &str, limit: Duration) {
        let Self { child, stderr, shown, .. } = self;
        let told = || format!("`{text}` from {shown}:\n{}", stderr.so_far());
        within_told(limit, POLL, told, || {
            if stderr.so_far().contains(text) {
                return Some(());
            }
            let ended = child.try_wait().expect("a child can be waited for");
            assert!(ended.is_none(), "{shown} ended ({ended:?}) without `{text}`:\n{}", stderr.so_far());
            None
        });
    }

    /// Whether it has ended already.
    pub fn ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal by its short name, and starts the clock again, so that the duration says how long the end took.
    #[track_caller]
    pub fn signal(&mut self, name: &str) {
        process::signal(self.child.id(), name);
        self.started = Instant::now();
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it takes too long.
    #[track_caller]
    pub fn finish(mut self) -> Finished {
        let end = Instant::now() + self.timeout;
        let status: ExitStatus = loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                break status;
            }
            if Instant::now() >= end {
                let _ = self.child.kill();
                panic!(
                    "`{}`, started at {}, took longer than {:?}; standard error so far:\n{}",
                    self.shown,
                    self.caller,
                    self.timeout,
                    self.stderr.so_far()
                );
            }
            thread::sleep(Duration::from_millis(2));
        };
        let duration = self.started.elapsed();
        self.done = true;
        Finished {
            command: self.shown.clone(),
            code: status.code(),
            signal: status.signal(),
            stdout: self.stdout.whole(),
            stderr: self.stderr.whole(),
            duration,
            peak_memory: self.meter.peak(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.done {
            let _ = self.child.kill();
            let _ = self.child.wait();
            let _ = self.meter.peak();
        }
    }
}

/// How it ended.
#[derive(Debug, Clone)]
pub struct Finished {
    /// The command line.
    pub command: String,
    /// Its exit code, unless a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// From its start, or from the last signal sent to it.
    pub duration: Duration,
    /// The largest resident memory of its process tree, in bytes.
    pub peak_memory: u64,
}

impl Finished {
    /// Everything worth reading when an expectation fails.
    pub fn told(&self) -> String {
        let Self { command, code, signal, stdout, stderr, .. } = self;
        format!("`{command}` ended with code {code:?}, signal {signal:?}\n--- stdout\n{stdout}\n--- stderr\n{stderr}")
    }

    /// Insists on success.
    ///
    /// # Panics
    /// When it was not.
    #[track_caller]
    pub fn success(self) -> Self {
        self.exit(0)
    }

    /// Insists on an exit code.
    ///
    /// # Panics
    /// When it was another.
    #[track_caller]
    pub fn exit(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}", self.told());
        self
    }

    /// Insists on words on standard error.
    ///
    /// # Panics
    /// When they are not there.
    #[track_caller]
    pub fn says(self, words: &str) -> Self {
        assert!(self.stderr.contains(words), "no `{words}` in: {}", self.told());
        self
    }

    /// The one document of `--output json`.
    ///
    /// # Panics
    /// When standard output does not end with one.
    #[track_caller]
    pub fn json(&self) -> Value {
        let last = self.stdout.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
        serde_json::from_str(last).unwrap_or_else(|error| panic!("not a document: {error}\n{}", self.told()))
    }

    /// A part of that document, by JSON pointer.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn at(&self, pointer: &str) -> Value {
        let document = self.json();
        document.pointer(pointer).cloned().unwrap_or_else(|| panic!("nothing at `{pointer}` of {document}"))
    }
}
