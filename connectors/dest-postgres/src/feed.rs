//! How rows reach the staging table: by COPY, or by INSERT where a server or pooler takes no COPY.

use crate::config::LoadMethod;
use crate::encode::{EncodeFault, HEADER, Rows, TRAILER};
use crate::layout::Layout;
use crate::names::Table;
use crate::session::Session;
use arrow_array::RecordBatch;
use postgres_wire::{CopyIn, Error, InsertIn};
use rapidbyte_sdk::WritePerf;
use std::time::{Duration, Instant};

/// Bytes of one CopyData message. Measured: from 64 KiB to 1 MiB the cost per byte falls by a tenth.
const MESSAGE_BYTES: usize = 512 << 10;

/// Rows of one schema on their way into a staging table. Dropped before its end, what it holds is lost with the transaction.
pub(crate) enum Feed<'a> {
    Copy { copy: CopyIn<'a>, buffer: &'a mut Vec<u8> },
    Insert(InsertIn<'a>),
}

/// Why a batch did not get there.
pub(crate) enum SendFault {
    Encode(EncodeFault),
    Server(Error),
}

pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

pub(crate) fn since(started: Instant) -> u64 {
    nanos(started.elapsed())
}

impl<'a> Feed<'a> {
    pub(crate) fn start(
        session: &'a mut Session,
        method: LoadMethod,
        staging: &Table,
        layout: &Layout,
        buffer: &'a mut Vec<u8>,
        perf: &mut WritePerf,
    ) -> Result<Self, Error> {
        let columns = layout.column_list()?;
        let columns = if columns.is_empty() { columns } else { format!(" ({columns})") };
        let into = format!("{}{columns}", staging.quoted()?);
        match method {
            LoadMethod::Copy => {
                let started = Instant::now();
                let copy = session.copy_in(&format!("COPY {into} FROM STDIN (FORMAT binary)"))?;
                perf.flush_ns += since(started);
                buffer.clear();
                buffer.extend_from_slice(HEADER);
                Ok(Self::Copy { copy, buffer })
            }
            LoadMethod::Insert => Ok(Self::Insert(session.insert_in(&into, layout.columns.len())?)),
        }
    }

    /// Encodes a batch and hands full messages to the server; what is left waits for the next one.
    pub(crate) fn batch(&mut self, batch: &RecordBatch, layout: &Layout, perf: &mut WritePerf) -> Result<(), SendFault> {
        let batch = layout.conversion.apply(batch).map_err(SendFault::Encode)?;
        self.converted(&batch, layout, perf)
    }

    /// The same with a batch whose values are already as the table's columns want them.
    pub(crate) fn converted(&mut self, batch: &RecordBatch, layout: &Layout, perf: &mut WritePerf) -> Result<(), SendFault> {
        let rows = Rows::new(batch, &layout.codecs).map_err(SendFault::Encode)?;
        match self {
            Self::Copy { copy, buffer } => copy_rows(copy, buffer, rows, perf),
            Self::Insert(insert) => insert_rows(insert, rows, perf),
        }
    }

    /// Sends what is left; gives the rows that the server took.
    pub(crate) fn finish(self, perf: &mut WritePerf) -> Result<u64, Error> {
        let started = Instant::now();
        let taken = match self {
            Self::Copy { mut copy, buffer } => {
                buffer.extend_from_slice(&TRAILER);
                copy.write(buffer)?;
                copy.finish()?
            }
            Self::Insert(insert) => insert.finish()?,
        };
        perf.flush_ns += since(started);
        Ok(taken)
    }
}

fn copy_rows(copy: &mut CopyIn<'_>, buffer: &mut Vec<u8>, mut rows: Rows<'_>, perf: &mut WritePerf) -> Result<(), SendFault> {
    loop {
        let started = Instant::now();
        let more = rows.fill(buffer, MESSAGE_BYTES).map_err(SendFault::Encode)?;
        perf.decode_ns += since(started);
        if buffer.len() >= MESSAGE_BYTES {
            let started = Instant::now();
            copy.write(buffer).map_err(SendFault::Server)?;
            perf.flush_ns += since(started);
            buffer.clear();
            // A row of many megabytes must not pin its buffer.
            buffer.shrink_to(4 * MESSAGE_BYTES);
        }
        if !more {
            return Ok(());
        }
    }
}

fn insert_rows(insert: &mut InsertIn<'_>, mut rows: Rows<'_>, perf: &mut WritePerf) -> Result<(), SendFault> {
    let started = Instant::now();
    let mut sending = 0;
    while rows.fields(insert.fields()).map_err(SendFault::Encode)? {
        if insert.row() {
            let started = Instant::now();
            insert.send().map_err(SendFault::Server)?;
            sending += since(started);
        }
    }
    perf.decode_ns += since(started).saturating_sub(sending);
    perf.flush_ns += sending;
    Ok(())
}
