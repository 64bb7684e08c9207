//! The shares of a load, moved side by side.

use crate::error::{EngineError, Stage};
use crate::observe::RunEvent;
use crate::report::StreamReport;
use crate::retry;
use crate::stream::Run;
use crate::task::{self, Moved, Share};
use rapidbyte_types::Position;
use std::sync::Arc;
use tokio::task::JoinSet;

/// How the shares ended.
#[derive(Default)]
pub(crate) struct Ends {
    /// Where the last one of them to end stands.
    pub(crate) position: Option<Position>,
    /// Whoever read the output has gone.
    pub(crate) output_closed: bool,
}

/// Moves the shares side by side. Where one fails and will be tried again, the others end first: the next claim would fence
/// them, and what they have read would be read again. A failure that no retry mends ends them all. Each share comes with the place
/// of its report.
pub(crate) async fn move_all(
    run: &Arc<Run>,
    attempt: u32,
    shares: Vec<(usize, Share)>,
    reports: &mut [StreamReport],
) -> Result<Ends, EngineError> {
    let mut tasks: JoinSet<Result<(usize, Moved), EngineError>> = JoinSet::new();
    for (index, (place, share)) in shares.into_iter().enumerate() {
        let run = Arc::clone(run);
        let peek = if index == 0 || share.partition.id == "0" { run.peek_rows } else { 0 };
        tasks.spawn(async move {
            let permit = Arc::clone(&run.tasks).acquire_owned().await;
            let _permit = permit.map_err(|_| EngineError::internal(Stage::Engine, "tasks_closed", "the run has ended"))?;
            let name = share.lead().stream.name.clone();
            let contract = run.contracts.get(&name).cloned();
            let moved = task::run(&run.kit, share, Arc::clone(&run.state), Arc::clone(&run.observer), contract, peek).await;
            moved.map(|moved| (place, moved)).map_err(|error| error.in_stream(&name))
        });
    }
    let (mut ends, mut failed) = (Ends::default(), None);
    while let Some(joined) = tasks.join_next().await {
        let lost = || EngineError::internal(Stage::Engine, "task_lost", "a task ended without a word");
        let (place, moved) = match joined.unwrap_or_else(|_| Err(lost())) {
            Ok(moved) => moved,
            Err(error) if retry::wait_for(&error, attempt, run.max_retries).is_some() => {
                failed = failed.or(Some(error));
                continue;
            }
            Err(error) => {
                // The next claim comes only when every task of the stream has ended.
                tasks.shutdown().await;
                return Err(error);
            }
        };
        let Some(report) = reports.get_mut(place) else { continue };
        report.add(&moved);
        run.spend(&moved);
        if let Some(table) = &moved.peek {
            run.observer.event(RunEvent::Peek { stream: &report.stream, table });
        }
        ends.output_closed |= moved.output_closed;
        ends.position = moved.durable.position.or(ends.position);
    }
    match failed {
        Some(error) if !ends.output_closed => Err(error),
        _ => Ok(ends),
    }
}
