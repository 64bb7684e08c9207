//! Errors, with what this connector knows beyond the server's words.

use crate::encode::{CellFault, EncodeFault};
use postgres_wire::Error;
use rapidbyte_sdk::{BackoffClass, ConnectorError, ErrorCategory, ErrorScope};

/// An error of the connection. Waiting too long for a lock is nobody's fault and may be tried again.
pub(crate) fn from_server(error: Error) -> ConnectorError {
    let lock_timeout = error.sqlstate() == Some("55P03");
    let mut made = ConnectorError::from(error);
    if lock_timeout {
        made.category = ErrorCategory::TransientDb;
        made.retryable = true;
        made.safe_to_retry = true;
        made.backoff = BackoffClass::Normal;
        made.hint = Some(
            "another session holds a lock; find it with: `SELECT pid, state, query FROM pg_stat_activity WHERE pid = ANY \
             (SELECT pid FROM pg_locks WHERE granted AND relation IS NOT NULL)`"
                .to_owned(),
        );
    }
    made
}

/// The same, telling the stream it concerns.
pub(crate) fn of_stream(mut error: ConnectorError, stream: &str) -> ConnectorError {
    error.message = format!("stream `{stream}`: {}", error.message);
    error
}

/// Another run has claimed the stream; nothing was changed.
pub(crate) fn fenced(stream: &str) -> ConnectorError {
    ConnectorError::new(
        ErrorCategory::Permission,
        "fenced",
        format!("another run has claimed the stream `{stream}`; nothing was written"),
    )
    .with_hint("let only one run of a pipeline work at a time; this one has ended")
}

/// A value or column that can't be written. `first_row` is the place of the batch's first row in the partition, from 1.
pub(crate) fn of_encoding(
    fault: &EncodeFault,
    stream: &str,
    partition: &str,
    first_row: u64,
    columns: &[String],
) -> ConnectorError {
    let name = |column: usize| columns.get(column).map_or("?", String::as_str);
    match fault {
        EncodeFault::Cell { row, column, fault } => {
            let fault: CellFault = *fault;
            let column = name(*column);
            let row = first_row + *row as u64;
            ConnectorError::data(
                fault.code(),
                format!(
                    "stream `{stream}`: the value of column `{column}` in row {row} of partition `{partition}` {}",
                    fault.words()
                ),
            )
            .with_hint(fault.hint())
            .with_scope(ErrorScope::Record)
        }
        EncodeFault::Column(column) => ConnectorError::internal(
            "batch_shape",
            format!("stream `{stream}`: a batch does not fit its schema at column `{}`", name(*column)),
        ),
    }
}
