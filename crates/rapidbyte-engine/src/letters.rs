//! Dead letters that a commit or a publication has made durable at the destination, copied into the state store.

use crate::error::EngineError;
use crate::task::blocking;
use rapidbyte_runtime::mark;
use rapidbyte_state::{DeadLetterEntry, DeadLetterKey, PipelineId, StateStore};
use rapidbyte_types::{DeadLetter, StreamContext};
use std::sync::Arc;

/// The partition under which letters of a publication are kept.
pub(crate) const PUBLISH_PARTITION: &str = "_rb_publish";
/// Their commit: a load is published once.
pub(crate) const PUBLISH_SEQ: u64 = 1;

/// The commit that letters went with.
pub(crate) struct Place<'a> {
    pub(crate) pipeline: PipelineId,
    pub(crate) stream: &'a StreamContext,
    pub(crate) run_id: &'a str,
    pub(crate) generation: u64,
    pub(crate) partition: &'a str,
    pub(crate) seq: u64,
}

/// Copies the letters of one commit, in their order; says how many there are. Twice is the same as once.
pub(crate) async fn keep(state: &Arc<dyn StateStore>, place: &Place<'_>, letters: Vec<DeadLetter>) -> Result<u64, EngineError> {
    if letters.is_empty() {
        return Ok(0);
    }
    let count = letters.len() as u64;
    let entries: Vec<DeadLetterEntry> = (0..)
        .zip(letters)
        .map(|(ordinal, letter)| DeadLetterEntry {
            key: DeadLetterKey {
                pipeline: place.pipeline,
                stream: place.stream.name.clone(),
                generation: place.generation,
                partition: place.partition.to_owned(),
                seq: place.seq,
                ordinal,
            },
            run_id: place.run_id.to_owned(),
            letter,
        })
        .collect();
    let store = Arc::clone(state);
    mark("engine.letters.before");
    blocking(move || store.add_dead_letters(&entries)).await??;
    mark("engine.letters.after");
    Ok(count)
}
