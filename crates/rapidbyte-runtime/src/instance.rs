//! One store: opening an instance, calling into it, and telling how a call ended.

use crate::convert::cut;
use crate::error::{GuestError, HostError, HostErrorKind, Trap, TrapKind};
use crate::grants::Grants;
use crate::host::{HostState, Labels, NoState, NoTelemetry, StateAccess, TelemetrySink, TelemetryState};
use crate::limits::{InstanceLimits, Limiter};
use crate::net::{NetState, Resolve, SystemResolver, TlsConfigs};
use crate::runtime::Connector;
use crate::timings::{HostTimings, Step};
use crate::wasi::{self, ClosedPipe, Stderr, StdoutMode};
use crate::wit::rapidbyte::connector::types as wit;
use rapidbyte_config::Redactor;
use rapidbyte_types::{CheckItem, ConnectorError, ConnectorSpec};
use std::sync::Arc;
use std::time::Duration;
use wasmtime::Store;
use wasmtime::component::{Instance, ResourceTable};

/// What a call may carry out of the guest beside a batch.
const CALL_OVERHEAD: usize = 1 << 20;
/// Handles one guest may hold at once.
const MAX_HANDLES: usize = 10_000;

/// How an instance is opened.
#[derive(Clone)]
pub struct InstanceOptions {
    /// What it may use.
    pub grants: Grants,
    /// Its bounds.
    pub limits: InstanceLimits,
    /// The checked configuration as JSON, as the guest gets it.
    pub config_json: String,
    /// Bytes built into the component from outside.
    pub blob: Option<Vec<u8>>,
    /// Replaces secrets in everything a guest says.
    pub redactor: Arc<Redactor>,
    /// The pipeline's name, for the log and for default names at the server; `None` outside of a pipeline.
    pub pipeline: Option<String>,
    /// The stream's name, for the log.
    pub stream: String,
    /// Its key-value store.
    pub state: Arc<dyn StateAccess>,
    /// Where its metrics go.
    pub telemetry: Arc<dyn TelemetrySink>,
    /// Where the host's time is counted.
    pub timings: Arc<HostTimings>,
    /// Where its standard output goes.
    pub stdout: StdoutMode,
    /// How names become addresses.
    pub resolver: Arc<dyn Resolve>,
}

impl InstanceOptions {
    /// A configuration with these grants and nothing else: default limits, no state, output discarded.
    pub fn new(config_json: impl Into<String>, grants: Grants) -> Self {
        Self {
            grants,
            limits: InstanceLimits::default(),
            config_json: config_json.into(),
            blob: None,
            redactor: Arc::new(Redactor::default()),
            pipeline: None,
            stream: String::new(),
            state: Arc::new(NoState),
            telemetry: Arc::new(NoTelemetry),
            timings: Arc::new(HostTimings::default()),
            stdout: StdoutMode::Discard,
            resolver: Arc::new(SystemResolver),
        }
    }
}

const OUT_OF_MEMORY: &str = "the connector ran out of memory";

/// An instance and what is needed to call it.
pub(crate) struct Guest {
    pub(crate) store: Store<HostState>,
    pub(crate) instance: Instance,
    redactor: Arc<Redactor>,
    /// Granted directories, as the guest sees them and as people know them.
    dirs: Vec<(String, String)>,
    stderr: Stderr,
    closed_pipe: ClosedPipe,
    call_timeout: Option<Duration>,
    stream_timeout: Option<Duration>,
    usable: bool,
}

impl Guest {
    /// Makes the store and the instance. `start` functions of the component run here.
    pub(crate) async fn new(connector: &Connector, options: &InstanceOptions) -> Result<Self, GuestError> {
        let timings = Arc::clone(&options.timings);
        let _span = timings.span(Step::VmSetup);
        let limits = &options.limits;
        let needed = connector.manifest().artifact.min_memory_mb as usize;
        if needed.saturating_mul(1 << 20) > limits.memory {
            return Err(HostError::new(
                HostErrorKind::Memory,
                format!("the connector needs {needed} MiB of memory, its limit is {} MiB", limits.memory >> 20),
            )
            .with_hint("raise the memory limit")
            .into());
        }
        let labels = Labels {
            connector: connector.manifest().id.clone(),
            pipeline: options.pipeline.clone().unwrap_or_default(),
            stream: options.stream.clone(),
        };
        let closed_pipe = ClosedPipe::default();
        let stderr = Stderr::new(labels.clone(), Arc::clone(&options.redactor));
        let wasi = wasi::context(&options.grants, &options.stdout, &closed_pipe, &stderr)?;
        let tls = Arc::new(TlsConfigs::new(&options.grants.network.files)?);
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_HANDLES);
        #[cfg(feature = "crash-points")]
        let number = crate::fault::instance();
        let net = NetState::new(options.grants.network.clone(), Arc::clone(&options.resolver), limits.max_sockets, tls);
        let state = HostState {
            table,
            wasi,
            limiter: Limiter::new(limits),
            #[cfg(feature = "crash-points")]
            instance: number,
            #[cfg(feature = "crash-points")]
            net: net.of_instance(number),
            #[cfg(not(feature = "crash-points"))]
            net,
            telemetry: TelemetryState::new(labels, Arc::clone(&options.redactor), Arc::clone(&options.telemetry)),
            state: Arc::clone(&options.state),
            timings: Arc::clone(&options.timings),
            max_batch_bytes: limits.max_batch_bytes,
            output: None,
            input: None,
            acks: None,
            published: None,
            durable: None,
        };
        let mut store = Store::new(connector.engine(), state);
        store.limiter(|state| &mut state.limiter);
        store.set_hostcall_fuel(limits.max_batch_bytes.saturating_add(CALL_OVERHEAD));
        // Gives way to other tasks at every tick: this is what makes dropping the future stop a guest in a loop.
        store.set_epoch_deadline(1);
        store.epoch_deadline_async_yield_and_update(1);
        let instance = timed(limits.call_timeout, connector.pre().instantiate_async(&mut store)).await;
        let redactor = Arc::clone(&options.redactor);
        let instance = match instance {
            Ok(Ok(instance)) => instance,
            Ok(Err(error)) => {
                let mut trap = explain(&error, &store, &redactor, &stderr);
                // The memory a component begins with is refused without a trap.
                if trap.kind == TrapKind::Fault && store.data().limiter.refused() {
                    trap.kind = TrapKind::OutOfMemory;
                    OUT_OF_MEMORY.clone_into(&mut trap.message);
                }
                return Err(GuestError::Trap(trap));
            }
            Err(after) => return Err(GuestError::Trap(out_of_time(after, &stderr))),
        };
        Ok(Self {
            store,
            instance,
            redactor,
            dirs: options.grants.dirs.iter().map(|dir| (dir.guest.clone(), dir.host.display().to_string())).collect(),
            stderr,
            closed_pipe,
            call_timeout: limits.call_timeout,
            stream_timeout: limits.stream_timeout,
            usable: true,
        })
    }

    /// The next calls are for the stream that these options name, with its state and within its limits for batches and time. All
    /// else must be as the instance was opened with.
    pub(crate) fn turn_to(&mut self, options: &InstanceOptions) {
        let limits = &options.limits;
        let state = self.store.data_mut();
        state.telemetry.turn_to(&options.stream);
        state.state = Arc::clone(&options.state);
        state.max_batch_bytes = limits.max_batch_bytes;
        self.store.set_hostcall_fuel(limits.max_batch_bytes.saturating_add(CALL_OVERHEAD));
        self.stderr.turn_to(&options.stream);
        self.call_timeout = limits.call_timeout;
        self.stream_timeout = limits.stream_timeout;
    }

    /// Whether its last call was not stopped and did not trap, it was never refused memory, and nobody has stopped reading what it
    /// prints.
    pub(crate) fn is_sound(&self) -> bool {
        self.usable && !self.store.data().limiter.refused() && !self.output_closed()
    }

    /// Its memory, in bytes.
    pub(crate) fn memory(&self) -> usize {
        self.store.data().limiter.used()
    }

    /// Begins a call: until it has ended well, the instance counts as broken.
    pub(crate) fn begin(&mut self) -> Result<(), GuestError> {
        #[cfg(feature = "crash-points")]
        match crate::fault::strike(self.store.data().instance) {
            crate::fault::Struck::Nothing => {}
            crate::fault::Struck::Error => return Err(GuestError::Connector(crate::fault::failed_call())),
            crate::fault::Struck::Trap => {
                self.usable = false;
                let message = crate::fault::trap().to_string();
                return Err(GuestError::Trap(Trap { kind: TrapKind::Fault, message, stderr: String::new() }));
            }
        }
        if !std::mem::replace(&mut self.usable, false) {
            return Err(GuestError::Trap(Trap {
                kind: TrapKind::Interrupted,
                message: "the instance was stopped in an earlier call".into(),
                stderr: self.stderr.tail(),
            }));
        }
        Ok(())
    }

    /// Ends a call.
    pub(crate) fn end<R>(&mut self, outcome: Result<wasmtime::Result<R>, Duration>) -> Result<R, GuestError> {
        match outcome {
            Ok(Ok(result)) => {
                self.usable = true;
                Ok(result)
            }
            Ok(Err(error)) => Err(GuestError::Trap(explain(&error, &self.store, &self.redactor, &self.stderr))),
            Err(after) => Err(GuestError::Trap(out_of_time(after, &self.stderr))),
        }
    }

    pub(crate) fn call_timeout(&self) -> Option<Duration> {
        self.call_timeout
    }

    pub(crate) fn stream_timeout(&self) -> Option<Duration> {
        self.stream_timeout
    }

    pub(crate) fn output_closed(&self) -> bool {
        self.closed_pipe.is_closed()
    }

    /// What a guest says, for people: without secrets, and with directories under the names they have on the host.
    pub(crate) fn words(&self, text: &str) -> String {
        let mut text = self.redactor.redact(text).into_owned();
        for (guest, host) in &self.dirs {
            if text.contains(guest.as_str()) {
                text = text.replace(guest.as_str(), host);
            }
        }
        text
    }

    /// A connector's own error, without secrets.
    pub(crate) fn error(&self, error: wit::ConnectorError) -> GuestError {
        let mut error = ConnectorError::from(error);
        let clean = |text: &mut String| *text = self.words(text);
        clean(&mut error.code);
        clean(&mut error.message);
        error.hint.as_mut().map(clean);
        error.details.as_mut().map(clean);
        GuestError::Connector(error)
    }

    pub(crate) fn check_items(&self, items: Vec<wit::CheckItem>) -> Vec<CheckItem> {
        let clean = |text: &mut String| *text = self.words(text);
        let mut items: Vec<CheckItem> = crate::convert::all(items);
        for item in &mut items {
            clean(&mut item.name);
            clean(&mut item.message);
            item.hint.as_mut().map(clean);
        }
        items
    }
}

/// Waits for a call, no longer than `budget`; gives the budget back when it ran out.
pub(crate) async fn timed<F: Future>(budget: Option<Duration>, call: F) -> Result<F::Output, Duration> {
    match budget {
        None => Ok(call.await),
        Some(budget) => tokio::time::timeout(budget, call).await.map_err(|_| budget),
    }
}

fn out_of_time(after: Duration, stderr: &Stderr) -> Trap {
    Trap {
        kind: TrapKind::Timeout,
        message: format!("the connector did not return within {} s", after.as_secs_f32()),
        stderr: stderr.tail(),
    }
}

fn explain(error: &wasmtime::Error, store: &Store<HostState>, redactor: &Redactor, stderr: &Stderr) -> Trap {
    let starved = store.data().limiter.refused();
    let root = error.root_cause().to_string();
    let (kind, message) = if let Some(exit) = error.downcast_ref::<wasmtime_wasi::I32Exit>() {
        (TrapKind::Exit, format!("the connector called `exit({})`", exit.0))
    } else {
        match error.downcast_ref::<wasmtime::Trap>() {
            Some(wasmtime::Trap::StackOverflow) => (TrapKind::StackOverflow, "the connector's stack ran over".to_owned()),
            Some(wasmtime::Trap::Interrupt) => (TrapKind::Interrupted, "the connector was interrupted".to_owned()),
            Some(wasmtime::Trap::UnreachableCodeReached) if starved => (TrapKind::OutOfMemory, OUT_OF_MEMORY.to_owned()),
            Some(wasmtime::Trap::UnreachableCodeReached) => (TrapKind::Panic, "the connector panicked".to_owned()),
            _ if root.contains("fuel") && root.contains("host") => {
                (TrapKind::Oversized, "the connector handed more to the host in one call than `max_batch_bytes` allows".to_owned())
            }
            _ => (TrapKind::Fault, format!("the connector was stopped: {}", cut(root, 1 << 10))),
        }
    };
    Trap { kind, message: redactor.redact(&message).into_owned(), stderr: stderr.tail() }
}

pub(crate) fn open_request(options: &InstanceOptions) -> wit::OpenRequest {
    wit::OpenRequest { pipeline: options.pipeline.clone(), config: options.config_json.clone(), blob: options.blob.clone() }
}

/// Compares what a component says of itself with its manifest.
pub(crate) fn check_spec(connector: &Connector, spec: ConnectorSpec) -> Result<(), HostError> {
    let ConnectorSpec { id, version, protocol_version } = spec;
    let manifest = connector.manifest();
    let pairs = [
        ("id", &id, &manifest.id),
        ("version", &version, &manifest.version),
        ("protocol version", &protocol_version, &manifest.protocol_version),
    ];
    for (what, said, written) in pairs {
        if said != written {
            return Err(HostError::new(
                HostErrorKind::Manifest,
                format!("the component says its {what} is `{said}`, its manifest says `{written}`"),
            )
            .with_hint("package the component with the manifest it was built with"));
        }
    }
    Ok(())
}

/// Makes one call: `call!(guest, budget, future)` with the future borrowing `guest.store`.
macro_rules! call {
    ($guest:expr, $budget:ident, $future:expr) => {{
        $guest.begin()?;
        let budget = $guest.$budget();
        let outcome = crate::instance::timed(budget, $future).await;
        $guest.end(outcome)
    }};
}
/// As `call!`, for exports that return a connector's error.
macro_rules! call_fallible {
    ($guest:expr, $budget:ident, $future:expr) => {
        match crate::instance::call!($guest, $budget, $future) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err($guest.error(error)),
            Err(error) => Err(error),
        }
    };
}
pub(crate) use {call, call_fallible};
