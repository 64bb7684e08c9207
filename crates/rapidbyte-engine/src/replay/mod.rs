//! Dead letters into their destination again, once.
//!
//! Source: `docs/design/protocol.md`, §6.12. A replay is noted in the state store with its letters before anything else is done;
//! whatever dies and whenever, the same replay is gone on with, and finds at the destination how far it has come.

mod records;
pub(crate) mod values;

use crate::cancel::Cancel;
use crate::claim::claim;
use crate::error::{Cause, EngineError, Stage};
use crate::kit::Operator;
use crate::letters;
use crate::load::{self, Claimed};
use crate::observe::{Observer, RunEvent};
use crate::report::{RunReport, StreamReport};
use crate::run::{Begun, begin, finish_replay_run, now_ms};
use crate::task::{self, Member, Share, blocking};
use rapidbyte_config::PipelinePlan;
use rapidbyte_runtime::{PrepareRequest, PublishRequest, mark};
use rapidbyte_state::ReplayRecord;
use rapidbyte_types::{ConnectorError, Generation, Partition, PublishSummary, StreamContext, StreamName, SyncMode, WriteMode};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

/// Stands before the UUID of a replay: its partition, and the snapshot of a load made for it.
pub(crate) const PREFIX: &str = "_rb_replay:";
/// Letters looked at in one step.
const PAGE: u32 = 1000;

/// Which letters are written again, and how.
pub struct ReplayOptions {
    /// Only those of this stream.
    pub stream: Option<StreamName>,
    /// Only these; empty = all that have not been replayed.
    pub ids: Vec<u64>,
    /// Records to write in place of those of the letters, by id.
    pub edited: BTreeMap<u64, String>,
    /// Who may ask it to stop.
    pub cancel: Cancel,
    /// Who watches.
    pub observer: Arc<dyn Observer>,
}

fn refused(code: &str, message: impl Into<String>, hint: &str) -> EngineError {
    EngineError::new(Stage::Plan, Cause::Connector(ConnectorError::config(code, message).with_hint(hint)))
}

/// Writes letters again. Replays that were interrupted are gone on with first.
pub(crate) async fn run(operator: &Operator, plan: &PipelinePlan, options: ReplayOptions) -> Result<RunReport, EngineError> {
    let started = Instant::now();
    let cancel = options.cancel.clone();
    let begun = begin(operator, plan).await?;
    let work = async {
        let mut reports = go_on(&begun, plan, &options.observer).await?;
        for (stream, letters) in chosen(&begun, plan, &options).await? {
            let replay = ReplayRecord {
                id: uuid::Uuid::new_v4().to_string(),
                pipeline: begun.pipeline,
                stream: stream.name.clone(),
                generation: None,
            };
            // Records that can't be written are refused before the replay is noted.
            records::events(&letters, &stream)?;
            let (store, record) = (Arc::clone(&begun.state), replay.clone());
            blocking(move || store.begin_replay(&record, &letters, now_ms())).await??;
            mark("engine.replay.noted");
            reports.push(one(&begun, &stream, replay, &options.observer).await?);
        }
        Ok(reports)
    };
    let results = tokio::select! {
        biased;
        () = cancel.cancelled() => Err(EngineError::new(Stage::Engine, Cause::Cancelled)),
        results = work => results,
    };
    finish_replay_run(begun, plan, results, started).await
}

/// Goes on with replays that were interrupted. Every run does so first: a load of its own would take the place of theirs.
pub(crate) async fn go_on(
    begun: &Begun,
    plan: &PipelinePlan,
    observer: &Arc<dyn Observer>,
) -> Result<Vec<StreamReport>, EngineError> {
    let (store, pipeline) = (Arc::clone(&begun.state), begun.pipeline);
    let open = blocking(move || store.open_replays(pipeline)).await??;
    let mut reports = Vec::new();
    for replay in open {
        let stream = plan.streams.iter().find(|stream| stream.name == replay.stream).ok_or_else(|| {
            let message =
                format!("a replay of dead letters of `{}` was interrupted, and the pipeline has no such stream", replay.stream);
            refused("replay_unfinished", message, "put the stream back until the replay has ended")
        })?;
        reports.push(one(begun, stream, replay, observer).await?);
    }
    Ok(reports)
}

/// The letters asked for, by stream in the pipeline's order, each with the record to write.
async fn chosen(
    begun: &Begun,
    plan: &PipelinePlan,
    options: &ReplayOptions,
) -> Result<Vec<(StreamContext, Vec<(u64, String)>)>, EngineError> {
    let (store, pipeline, stream) = (Arc::clone(&begun.state), begun.pipeline, options.stream.clone());
    let wanted: BTreeSet<u64> = options.ids.iter().copied().chain(options.edited.keys().copied()).collect();
    let edited = options.edited.clone();
    type Found = (BTreeMap<String, Vec<(u64, String)>>, BTreeSet<u64>, Vec<u64>);
    let found = move || -> Result<Found, EngineError> {
        let (mut by_stream, mut seen, mut done, mut after) = (BTreeMap::new(), BTreeSet::new(), Vec::new(), 0);
        loop {
            let page = store.dead_letters(pipeline, stream.as_ref(), after, PAGE)?;
            let Some(last) = page.last() else { return Ok((by_stream, seen, done)) };
            after = last.id;
            for letter in page {
                if !wanted.is_empty() && !wanted.contains(&letter.id) {
                    continue;
                }
                seen.insert(letter.id);
                if letter.replayed {
                    done.push(letter.id);
                    continue;
                }
                let record = match edited.get(&letter.id) {
                    Some(record) => record.clone(),
                    None => match store.dead_letter(letter.id)? {
                        Some(entry) => entry.letter.record_json,
                        None => continue,
                    },
                };
                by_stream.entry(letter.key.stream.to_string()).or_insert_with(Vec::new).push((letter.id, record));
            }
        }
    };
    let (mut by_stream, seen, done) = blocking(found).await??;
    let named: BTreeSet<u64> = options.ids.iter().copied().chain(options.edited.keys().copied()).collect();
    if let Some(missing) = named.difference(&seen).next() {
        return Err(refused(
            "unknown_letter",
            format!("there is no dead letter {missing}"),
            "`rapidbyte dlq list` shows those that are there",
        ));
    }
    if let (false, Some(first)) = (named.is_empty(), done.first()) {
        tracing::warn!(letter = first, letters = done.len(), "letters that were replayed before are left out");
    }
    let streams = plan.streams.iter().filter_map(|stream| Some((stream.clone(), by_stream.remove(&stream.name.to_string())?)));
    let chosen: Vec<_> = streams.collect();
    match by_stream.keys().next() {
        Some(gone) => Err(refused(
            "unknown_stream",
            format!("there are dead letters of `{gone}`, which is no stream of the pipeline any more"),
            "name a stream with `--stream`, or put this one back",
        )),
        None => Ok(chosen),
    }
}

/// What is left to be done for a replay, from what the claim says.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Only to be marked.
    Done,
    /// Its rows are durable and not visible yet.
    Publish(u64),
    /// Its rows are to be written, into a load that is visible at each commit, or into one that is to be published.
    Write { generation: Generation, publish: bool, opens: bool },
    /// A load of the stream's own is under way.
    Unfinished,
}

/// `noted_open` is the number of a load that the state store holds for open.
fn next_step(claimed: &Claimed, replay: &ReplayRecord, noted_open: Option<u64>, noted_newest: u64) -> Step {
    let id = format!("{PREFIX}{}", replay.id);
    let own = |number: u64| load::newest_receipt(&claimed.receipts, number, &id).is_some_and(|receipt| receipt.last);
    let partition = || Partition { id: id.clone(), spec: Vec::new() };
    match &claimed.generation {
        Some(open) if load::is_open_ended(open) => {
            if own(open.number) {
                return Step::Done;
            }
            let mut generation = open.clone();
            if generation.partitions.iter().all(|of| of.id != id) {
                generation.partitions.push(partition());
            }
            Step::Write { generation, publish: false, opens: false }
        }
        Some(open) if open.snapshot == id && own(open.number) => Step::Publish(open.number),
        Some(open) if open.snapshot == id => Step::Write { generation: open.clone(), publish: true, opens: false },
        Some(_) => Step::Unfinished,
        None if replay.generation.is_some_and(|number| number <= claimed.newest_generation) => Step::Done,
        None if noted_open.is_some() => Step::Unfinished,
        None => {
            let number = claimed.newest_generation.max(noted_newest) + 1;
            let generation = Generation { number, snapshot: id.clone(), partitions: vec![partition()] };
            Step::Write { generation, publish: true, opens: true }
        }
    }
}

/// The stream as a replay writes it: a load beside those of the stream's own adds rows or merges them, and never replaces.
fn context_of(stream: &StreamContext, publish: bool) -> StreamContext {
    let mut context = stream.clone();
    if publish {
        context.sync_mode = SyncMode::FullRefresh;
        context.cursor_field = None;
        context.safe_boundary = None;
        if context.write_mode == WriteMode::Replace {
            context.write_mode = WriteMode::Append;
        }
    }
    context
}

async fn one(
    begun: &Begun,
    stream: &StreamContext,
    replay: ReplayRecord,
    observer: &Arc<dyn Observer>,
) -> Result<StreamReport, EngineError> {
    replay_stream(begun, stream, &replay, observer).await.map_err(|error| error.in_stream(&stream.name))
}

async fn replay_stream(
    begun: &Begun,
    stream: &StreamContext,
    replay: &ReplayRecord,
    observer: &Arc<dyn Observer>,
) -> Result<StreamReport, EngineError> {
    let (store, name, pipeline) = (Arc::clone(&begun.state), begun.context.pipeline.clone(), begun.pipeline);
    let (of, id) = (stream.name.clone(), replay.id.clone());
    let (identity, generations, letters) = blocking(move || {
        let identity = store.find_pipeline(&name)?.map(|record| record.source_identity).unwrap_or_default();
        Ok::<_, EngineError>((identity, store.generations(pipeline, &of)?, store.replay_letters(&id)?))
    })
    .await??;
    let claims = claim(&begun.kit, &begun.state, &begun.context, pipeline, &identity, std::slice::from_ref(stream)).await?;
    let Some(claimed) = claims.into_iter().next() else {
        return Err(EngineError::internal(Stage::Engine, "claim_empty", "a claim of one stream gave none"));
    };
    let noted_open = generations.iter().find(|of| of.state == rapidbyte_state::GenerationState::Open).map(|of| of.number);
    let noted_newest = generations.iter().map(|of| of.number).max().unwrap_or(0);
    let step = next_step(&claimed, replay, noted_open, noted_newest);
    let mut report = StreamReport::of(&stream.name);
    report.partitions = 1;
    report.rows_read = letters.len() as u64;
    let publish = match step {
        Step::Done => None,
        Step::Unfinished => {
            let message = "a load of the stream is not finished, and letters can't be written beside it";
            return Err(refused("load_unfinished", message, "finish it with `rapidbyte run`, then replay"));
        }
        Step::Publish(number) => Some(number),
        Step::Write { generation, publish, opens } => {
            if opens {
                let (store, id, number) = (Arc::clone(&begun.state), replay.id.clone(), generation.number);
                blocking(move || store.note_replay_generation(&id, number)).await??;
                mark("engine.replay.numbered");
            }
            let number = generation.number;
            let context = context_of(stream, publish);
            prepare(begun, &context, claimed.epoch, generation).await?;
            mark("engine.replay.prepared");
            let partition = Partition { id: format!("{PREFIX}{}", replay.id), spec: Vec::new() };
            let share = Share {
                run: begun.context.clone(),
                pipeline,
                members: vec![Member {
                    stream: context.clone(),
                    epoch: claimed.epoch,
                    generation: number,
                    receipt: load::newest_receipt(&claimed.receipts, number, &partition.id).cloned(),
                }],
                partition,
                token: Vec::new(),
                follow: None,
                resume: None,
            };
            let events = records::events(&letters, &context)?;
            let moved = task::run_events(&begun.kit, share, Arc::clone(&begun.state), Arc::clone(observer), events).await?;
            mark("engine.replay.written");
            report.rows_written = moved.rows_durable();
            report.bytes_written = moved.bytes_durable();
            report.rows_published = moved.rows_durable();
            report.rows_skipped = moved.write.records_skipped;
            report.dead_letters = moved.letters();
            report.checkpoints = moved.durable.commits;
            report.location = claimed.location;
            publish.then_some(number)
        }
    };
    if let Some(number) = publish {
        publish_rows(begun, &context_of(stream, true), claimed.epoch, number, observer, &mut report).await?;
        mark("engine.replay.published");
    }
    let (store, id) = (Arc::clone(&begun.state), replay.id.clone());
    blocking(move || store.finish_replay(&id, now_ms())).await??;
    mark("engine.replay.finished");
    Ok(report)
}

async fn prepare(begun: &Begun, context: &StreamContext, epoch: u64, generation: Generation) -> Result<(), EngineError> {
    let fail = |error| EngineError::guest(Stage::Destination, error).in_connector(begun.kit.destination_name());
    let mut controller = begun.kit.open_controller().await?;
    let request = PrepareRequest { run: begun.context.clone(), context: context.clone(), epoch, generation };
    controller.prepare(request).await.map_err(fail)?;
    begun.kit.give_destination(controller).await;
    Ok(())
}

async fn publish_rows(
    begun: &Begun,
    context: &StreamContext,
    epoch: u64,
    generation: u64,
    observer: &Arc<dyn Observer>,
    report: &mut StreamReport,
) -> Result<(), EngineError> {
    let fail = |error| EngineError::guest(Stage::Destination, error).in_connector(begun.kit.destination_name());
    let mut controller = begun.kit.open_controller().await?;
    let request = PublishRequest { run: begun.context.clone(), context: context.clone(), epoch, generation };
    let (PublishSummary { rows, records_skipped, location }, made) = controller.publish(request).await.map_err(fail)?;
    begun.kit.give_destination(controller).await;
    let place = letters::Place {
        pipeline: begun.pipeline,
        stream: context,
        run_id: &begun.context.run_id,
        generation,
        partition: letters::PUBLISH_PARTITION,
        seq: letters::PUBLISH_SEQ,
    };
    report.dead_letters += letters::keep(&begun.state, &place, made).await?;
    report.rows_skipped += records_skipped;
    observer.event(RunEvent::Published { stream: &context.name, rows, location: &location });
    report.rows_published = rows;
    report.location = location;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rapidbyte_state::PipelineId;
    use rapidbyte_types::Receipt;

    fn replay(generation: Option<u64>) -> ReplayRecord {
        let pipeline: PipelineId = "00000000-0000-4000-8000-000000000001".parse().unwrap();
        ReplayRecord { id: "u".into(), pipeline, stream: StreamName::new("s"), generation }
    }

    fn generation(number: u64, snapshot: &str, partitions: &[&str]) -> Generation {
        let partition = |id: &&str| Partition { id: (*id).into(), spec: Vec::new() };
        Generation { number, snapshot: snapshot.into(), partitions: partitions.iter().map(partition).collect() }
    }

    fn last(generation: u64) -> Receipt {
        Receipt {
            stream: 0,
            generation,
            partition: "_rb_replay:u".into(),
            epoch: 1,
            seq: 1,
            position: None,
            rows: 1,
            bytes: 1,
            last: true,
            transform_state: Vec::new(),
            committed_at_ms: 1,
        }
    }

    fn claimed(newest: u64, generation: Option<Generation>, receipts: Vec<Receipt>) -> Claimed {
        Claimed { epoch: 2, newest_generation: newest, generation, receipts, location: "here".into() }
    }

    #[test]
    fn an_open_ended_load_takes_the_letters_in_as_a_partition_once() {
        let open = generation(3, "~p/s", &["0"]);
        let step = next_step(&claimed(3, Some(open), vec![]), &replay(None), Some(3), 3);
        let expected = generation(3, "~p/s", &["0", "_rb_replay:u"]);
        assert_eq!(step, Step::Write { generation: expected.clone(), publish: false, opens: false });
        let again = next_step(&claimed(3, Some(expected.clone()), vec![]), &replay(None), Some(3), 3);
        assert_eq!(again, Step::Write { generation: expected.clone(), publish: false, opens: false });
        assert_eq!(next_step(&claimed(3, Some(expected), vec![last(3)]), &replay(None), Some(3), 3), Step::Done);
    }

    #[test]
    fn without_an_open_load_the_letters_are_one_of_their_own_once() {
        let own = generation(4, "_rb_replay:u", &["_rb_replay:u"]);
        let write = |opens| Step::Write { generation: own.clone(), publish: true, opens };
        assert_eq!(next_step(&claimed(3, None, vec![]), &replay(None), None, 3), write(true));
        // Noted, and not opened yet.
        assert_eq!(next_step(&claimed(3, None, vec![]), &replay(Some(4)), None, 3), write(true));
        assert_eq!(next_step(&claimed(4, Some(own.clone()), vec![]), &replay(Some(4)), None, 3), write(false));
        assert_eq!(next_step(&claimed(4, Some(own.clone()), vec![last(4)]), &replay(Some(4)), None, 3), Step::Publish(4));
        assert_eq!(next_step(&claimed(4, None, vec![]), &replay(Some(4)), None, 3), Step::Done);
    }

    #[test]
    fn a_load_under_way_is_finished_first() {
        let other = generation(4, "f/s", &["0"]);
        assert_eq!(next_step(&claimed(4, Some(other), vec![]), &replay(None), Some(4), 4), Step::Unfinished);
        // Published, and its end not recorded: another load in between would make the run load it twice.
        assert_eq!(next_step(&claimed(4, None, vec![]), &replay(None), Some(4), 4), Step::Unfinished);
    }

    #[test]
    fn a_replay_never_replaces_the_table() {
        let mut stream = StreamContext::full_refresh(StreamName::new("s"));
        stream.write_mode = WriteMode::Replace;
        assert_eq!(context_of(&stream, true).write_mode, WriteMode::Append);
        stream.write_mode = WriteMode::Upsert;
        assert_eq!(context_of(&stream, true).write_mode, WriteMode::Upsert);
    }
}
