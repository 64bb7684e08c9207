//! What a pipeline has left in the ledger is removed; its tables stay.

use crate::ledger;
use crate::names::{StreamKey, Table};
use crate::session::Session;
use rapidbyte_sdk::{ConnectorError, RunContext, StreamContext};

/// Removes staging tables and ledger rows of the named streams; without any, of the whole pipeline.
pub(crate) fn teardown(session: &mut Session, run: &RunContext, streams: &[StreamContext]) -> Result<(), ConnectorError> {
    if !ledger::schema::exists(session)? {
        return Ok(());
    }
    let keys: Vec<StreamKey> = streams.iter().map(StreamKey::of).collect();
    session.transaction(|session| {
        let rows = session.query_params(
            "SELECT id, namespace, stream FROM _rapidbyte.streams WHERE pipeline_id = $1
             ORDER BY namespace, stream FOR UPDATE",
            &[(&run.pipeline_id).into()],
        )?;
        for row in &rows {
            let key = StreamKey { namespace: row.text(1)?.to_owned(), name: row.text(2)?.to_owned() };
            if keys.is_empty() || keys.contains(&key) {
                remove(session, row.text(0)?)?;
            }
        }
        Ok(())
    })
}

fn remove(session: &mut Session, stream: &str) -> Result<(), ConnectorError> {
    let open = session
        .query_params("SELECT staging FROM _rapidbyte.generations WHERE stream_id = $1 AND state = 'open'", &[stream.into()])?;
    for row in &open {
        ledger::drop_staging(session, &Table::staging(row.text(0)?))?;
    }
    session.execute("DELETE FROM _rapidbyte.streams WHERE id = $1", &[stream.into()])?;
    Ok(())
}
