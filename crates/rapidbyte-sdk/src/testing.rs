//! A fake host, so that connectors are tested with plain `cargo test`.
//!
//! Every host call of the current thread reaches its [`FakeHost`]: feed it events, run the connector, look at what came
//! out. Sockets of [`host_tcp`](crate::host_tcp) are plain sockets of the machine.
//!
//! ```
//! use rapidbyte_sdk::testing::FakeHost;
//! use rapidbyte_sdk::host_ffi::{self, LogLevel};
//!
//! let host = FakeHost::install();
//! host_ffi::log(LogLevel::Info, "hello", &[]);
//! assert_eq!(host.logs(), ["hello"]);
//! ```

use crate::host_ffi::{LogLevel, MetricKind, RawEvent, StateScope};
use crate::{
    Barrier, BatchDecoder, BatchEncoder, Checkpoint, ConnectorError, DeadLetter, Input, KeyRange, Position, RunContext,
    SourceOutput, TransformOutput, Truncate, encode_schema,
};
use arrow_array::RecordBatch;
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

/// What a connector put out, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Emitted {
    /// A schema message.
    Schema {
        /// Index into the request's streams.
        stream: u32,
        /// Its id.
        schema_id: u32,
        /// Encapsulated Arrow IPC.
        ipc: Vec<u8>,
    },
    /// Batch messages.
    Batch {
        /// Index into the request's streams.
        stream: u32,
        /// The id of its schema.
        schema_id: u32,
        /// Rows in it.
        rows: u32,
        /// Encapsulated Arrow IPC.
        ipc: Vec<u8>,
    },
    /// Rows given up.
    DeadLetters(Vec<DeadLetter>),
    /// A stream was emptied.
    Truncate(Truncate),
    /// Keys are replaced.
    ReplaceRange {
        /// Index into the request's streams.
        stream: u32,
        /// The keys.
        range: KeyRange,
    },
    /// A source's barrier.
    Barrier(Position),
    /// A transform's barrier.
    ForwardedBarrier {
        /// Its id.
        id: u64,
        /// The transform's state.
        state: Option<Vec<u8>>,
    },
}

/// Takes what a connector puts out.
type Sink = Box<dyn FnMut(Emitted) -> Result<(), ConnectorError>>;

#[derive(Default)]
pub(crate) struct Host {
    emitted: Vec<Emitted>,
    sink: Option<Sink>,
    feed: Option<Box<dyn FnMut() -> RawEvent>>,
    events: VecDeque<RawEvent>,
    checkpoints: Vec<Checkpoint>,
    durable: Option<Position>,
    state: HashMap<(StateScope, String), Vec<u8>>,
    logs: Vec<String>,
    metrics: Vec<(String, f64)>,
    marks: Vec<String>,
    crash_at: Option<(String, usize)>,
    fail_emits_after: Option<usize>,
    /// Offers still to be turned down.
    full: usize,
}

impl Host {
    /// Takes what is offered, unless there is no room.
    pub(crate) fn offer(&mut self, what: impl FnOnce() -> Emitted) -> Result<bool, ConnectorError> {
        if self.full > 0 {
            self.full -= 1;
            return Ok(false);
        }
        self.emit(what()).map(|()| true)
    }

    pub(crate) fn emit(&mut self, what: Emitted) -> Result<(), ConnectorError> {
        if self.fail_emits_after.is_some_and(|limit| self.emitted.len() >= limit) {
            return Err(ConnectorError::internal("closed", "the next stage has ended"));
        }
        if let Some(sink) = &mut self.sink {
            return sink(what);
        }
        self.emitted.push(what);
        Ok(())
    }

    pub(crate) fn durable_position(&self) -> Option<Position> {
        self.durable.clone()
    }

    pub(crate) fn next_event(&mut self) -> RawEvent {
        match (self.events.pop_front(), &mut self.feed) {
            (Some(event), _) => event,
            (None, Some(feed)) => feed(),
            (None, None) => RawEvent::End,
        }
    }

    pub(crate) fn acknowledge(&mut self, checkpoint: &Checkpoint) {
        self.checkpoints.push(checkpoint.clone());
    }

    pub(crate) fn state_get(&self, scope: &StateScope, key: &str) -> Option<Vec<u8>> {
        self.state.get(&(scope.clone(), key.to_owned())).cloned()
    }

    pub(crate) fn state_set(&mut self, scope: &StateScope, key: &str, value: Option<&[u8]>) {
        let key = (scope.clone(), key.to_owned());
        match value {
            Some(value) => self.state.insert(key, value.to_vec()),
            None => self.state.remove(&key),
        };
    }

    pub(crate) fn log(&mut self, _level: LogLevel, message: &str, _fields: &[(&str, &str)]) {
        self.logs.push(message.to_owned());
    }

    pub(crate) fn metric(&mut self, name: &str, _kind: MetricKind, value: f64, _labels: &[(&str, &str)]) {
        self.metrics.push((name.to_owned(), value));
    }

    pub(crate) fn mark(&mut self, point: &str) {
        self.marks.push(point.to_owned());
        if let Some((at, hit)) = &self.crash_at
            && at == point
            && self.marks.iter().filter(|mark| *mark == point).count() == *hit
        {
            std::panic::panic_any(Crashed { point: point.to_owned() });
        }
    }
}

thread_local! {
    static HOST: RefCell<Rc<RefCell<Host>>> = RefCell::default();
}

pub(crate) fn with_host<T>(act: impl FnOnce(&mut Host) -> T) -> T {
    let host = HOST.with_borrow(Rc::clone);
    let mut host = host.borrow_mut();
    act(&mut host)
}

/// What a connector panics with at the point given to [`FakeHost::crash_at_mark`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crashed {
    /// The point.
    pub point: String,
}

/// The host of the current thread, fresh since [`FakeHost::install`].
pub struct FakeHost {
    host: Rc<RefCell<Host>>,
}

impl FakeHost {
    /// Puts a fresh host in place for the current thread.
    pub fn install() -> Self {
        let host = Rc::new(RefCell::new(Host::default()));
        HOST.with_borrow_mut(|slot| *slot = host.clone());
        Self { host }
    }

    /// Queues batches of one schema for a transform or destination, under a schema id.
    pub fn feed(&self, stream: u32, schema_id: u32, batches: &[RecordBatch]) -> Result<(), ConnectorError> {
        let Some(first) = batches.first() else { return Ok(()) };
        let mut encoder = BatchEncoder::new(first.schema())?;
        let mut events = vec![RawEvent::Schema { stream, schema_id, ipc: encode_schema(&first.schema())? }];
        for batch in batches {
            events.push(RawEvent::Batch { stream, schema_id, rows: batch.num_rows() as u32, ipc: encoder.encode(batch)? });
        }
        self.host.borrow_mut().events.extend(events);
        Ok(())
    }

    /// Queues any event.
    pub fn feed_event(&self, event: RawEvent) {
        self.host.borrow_mut().events.push_back(event);
    }

    /// Queues a barrier that asks for a commit.
    pub fn feed_commit(&self, id: u64, last: bool, position: Option<Position>) {
        self.feed_event(RawEvent::Barrier(Barrier { id, commit: true, last, position, transform_state: Vec::new() }));
    }

    /// Hands what is put out from now on to `sink` instead of keeping it, as when another thread takes it.
    pub fn pour_into(&self, sink: impl FnMut(Emitted) -> Result<(), ConnectorError> + 'static) {
        self.host.borrow_mut().sink = Some(Box::new(sink));
    }

    /// Asks `feed` for the events after those that were queued. It may wait, and says [`RawEvent::End`] when nothing follows.
    pub fn draw_from(&self, feed: impl FnMut() -> RawEvent + 'static) {
        self.host.borrow_mut().feed = Some(Box::new(feed));
    }

    /// An input over what was fed; it ends after the last event.
    pub fn input(&self) -> Input {
        Input::new()
    }

    /// An output for a source.
    pub fn source_output(&self) -> SourceOutput {
        SourceOutput::new()
    }

    /// An output for a transform.
    pub fn transform_output(&self) -> TransformOutput {
        TransformOutput::new()
    }

    /// Lets emits fail once so many have been taken, as when the next stage has ended.
    pub fn fail_emits_after(&self, count: usize) {
        self.host.borrow_mut().fail_emits_after = Some(count);
    }

    /// The next `count` offers of batches, barriers and the like find no room, each as if it had waited in vain.
    pub fn full_for(&self, count: usize) {
        self.host.borrow_mut().full = count;
    }

    /// What [`host_ffi::durable_position`](crate::host_ffi::durable_position) says.
    pub fn set_durable(&self, position: Position) {
        self.host.borrow_mut().durable = Some(position);
    }

    /// Everything put out so far, in order.
    pub fn emitted(&self) -> Vec<Emitted> {
        self.host.borrow().emitted.clone()
    }

    /// The batches put out so far on a stream, decoded.
    pub fn batches(&self, stream: u32) -> Result<Vec<RecordBatch>, ConnectorError> {
        let mut decoders: HashMap<u32, BatchDecoder> = HashMap::new();
        let mut batches = Vec::new();
        for what in &self.host.borrow().emitted {
            match what {
                Emitted::Schema { stream: of, schema_id, ipc } if *of == stream => {
                    decoders.insert(*schema_id, BatchDecoder::new(ipc)?);
                }
                Emitted::Batch { stream: of, schema_id, ipc, .. } if *of == stream => {
                    let decoder = decoders
                        .get_mut(schema_id)
                        .ok_or_else(|| ConnectorError::internal("unknown_schema", "a batch came before its schema"))?;
                    batches.push(decoder.decode(ipc.clone())?);
                }
                _ => {}
            }
        }
        Ok(batches)
    }

    /// What a destination has acknowledged, in order.
    pub fn checkpoints(&self) -> Vec<Checkpoint> {
        self.host.borrow().checkpoints.clone()
    }

    /// Messages logged.
    pub fn logs(&self) -> Vec<String> {
        self.host.borrow().logs.clone()
    }

    /// Metrics reported.
    pub fn metrics(&self) -> Vec<(String, f64)> {
        self.host.borrow().metrics.clone()
    }

    /// Panics with [`Crashed`] when `point` is marked for the `hit`-th time, counted from 1: the connector dies there. Catch it
    /// with [`std::panic::catch_unwind`], then go on with a fresh host and a fresh instance.
    pub fn crash_at_mark(&self, point: &str, hit: usize) {
        self.host.borrow_mut().crash_at = Some((point.to_owned(), hit));
    }

    /// Points marked.
    pub fn marks(&self) -> Vec<String> {
        self.host.borrow().marks.clone()
    }
}

/// A run to name in requests.
pub fn run_context() -> RunContext {
    RunContext {
        pipeline_id: "00000000-0000-4000-8000-000000000001".into(),
        pipeline: "test".into(),
        run_id: "00000000-0000-4000-8000-000000000002".into(),
        attempt: 1,
    }
}
