//! Several writers: partitions at once, zombies, other pipelines.

use super::*;
use crate::control::{Control, GRACE_MS, now_ms};
use crate::disk::Disk;
use crate::publish;
use rapidbyte_sdk::testing::FakeHost;
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn partitions_are_written_at_once() {
    let mut pipeline = Pipeline::new(WriteMode::Append);
    pipeline.data = (0..6).map(|p| (0..12).map(|b| rows(p * 1000 + b * 10, p * 1000 + b * 10 + 10)).collect()).collect();
    let claimed = pipeline.claim().unwrap();
    pipeline.prepare(claimed.epoch, 1).unwrap();
    std::thread::scope(|scope| {
        for partition in 0..6 {
            let (pipeline, claimed) = (&pipeline, &claimed);
            scope.spawn(move || {
                let summary = pipeline.write(&FakeHost::install(), claimed, 1, partition).unwrap();
                assert_eq!((summary.records, summary.checkpoint_count), (120, 13));
            });
        }
    });
    assert_eq!(pipeline.publish(claimed.epoch, 1).unwrap().rows, 720);
    let mut expected: Vec<i64> = (0..6).flat_map(|p| p * 1000..p * 1000 + 120).collect();
    expected.sort_unstable();
    assert_eq!(pipeline.ids(), expected);
    let manifests = tree(pipeline.root()).iter().filter(|path| path.ends_with(".json")).count();
    assert!((2..=40).contains(&manifests), "{manifests} manifests are kept");
}

#[test]
fn a_zombie_changes_nothing() {
    let mut pipeline = Pipeline::new(WriteMode::Append);
    let old = pipeline.claim().unwrap();
    pipeline.prepare(old.epoch, 1).unwrap();
    let new = pipeline.claim().unwrap();
    assert_eq!(new.epoch, old.epoch + 1);
    let before = tree(pipeline.root());
    let host = FakeHost::install();
    assert_eq!(pipeline.write(&host, &old, 1, 0).unwrap_err().code, "fenced");
    assert_eq!(pipeline.prepare(old.epoch, 2).unwrap_err().code, "fenced");
    assert_eq!(pipeline.publish(old.epoch, 1).unwrap_err().code, "fenced");
    assert_eq!(tree(pipeline.root()), before);
    assert!(host.checkpoints().is_empty());
}

#[test]
fn a_writer_that_is_overtaken_changes_nothing() {
    let mut pipeline = Pipeline::new(WriteMode::Append);
    let old = pipeline.claim().unwrap();
    pipeline.prepare(old.epoch, 1).unwrap();
    let host = FakeHost::install();
    host.feed(0, 0, &[rows(0, 5)]).unwrap();
    host.feed_commit(1, false, Some(place(1)));
    let request = pipeline.write_request(old.epoch, 1, "0", None);
    let settings = Config::settings(rapidbyte_sdk::parse_config(&pipeline.config_json()).unwrap()).unwrap();
    let disk = Disk::new(settings.root.clone());
    // It has seen its claim hold, and loses it before it commits.
    let task = crate::write::Task::new(&settings, &disk, &request).unwrap();
    pipeline.claim().unwrap();
    assert_eq!(task.run(&mut host.input()).unwrap_err().code, "fenced");
    assert!(host.checkpoints().is_empty());
    assert_eq!(pipeline.claim().unwrap().receipts, []);
    assert!(
        !tree(pipeline.root()).iter().any(|path| path.starts_with("_staging/public.orders/")),
        "the next claim sweeps its files"
    );
}

#[test]
fn a_writer_that_gives_up_for_want_of_space_leaves_only_what_it_committed() {
    let mut pipeline = Pipeline::new(WriteMode::Append);
    let claimed = pipeline.claim().unwrap();
    pipeline.prepare(claimed.epoch, 1).unwrap();
    let host = FakeHost::install();
    host.feed(0, 0, &[rows(0, 5)]).unwrap();
    host.feed_commit(1, false, Some(place(1)));
    host.feed(0, 1, &[rows(5, 9)]).unwrap();
    let request = pipeline.write_request(claimed.epoch, 1, "0", None);
    let settings = Config::settings(rapidbyte_sdk::parse_config(&pipeline.config_json()).unwrap()).unwrap();
    let disk = Disk::new(settings.root.clone());
    let mut task = crate::write::Task::new(&settings, &disk, &request).unwrap();
    task.take(&mut host.input()).unwrap();
    let staged = || tree(pipeline.root()).into_iter().filter(|path| path.contains("/part-")).count();
    assert_eq!(staged(), 2);
    task.discard();
    assert_eq!(staged(), 1);
}

#[test]
fn a_commit_that_is_not_the_successor_is_fenced() {
    let mut pipeline = Pipeline::new(WriteMode::Append);
    let claimed = pipeline.claim().unwrap();
    pipeline.prepare(claimed.epoch, 1).unwrap();
    pipeline.write(&FakeHost::install(), &claimed, 1, 0).unwrap();
    let host = FakeHost::install();
    host.feed_commit(1, true, None);
    let request = pipeline.write_request(claimed.epoch, 1, "0", None);
    assert_eq!(pipeline.connector().write(&request, &mut host.input()).unwrap_err().code, "fenced");
}

#[test]
fn claims_at_once_get_different_epochs() {
    let pipeline = Pipeline::new(WriteMode::Append);
    let epochs: Vec<u64> = std::thread::scope(|scope| {
        let claim = |_| {
            let dir = pipeline.dir.clone();
            scope.spawn(move || {
                FakeHost::install();
                (Pipeline { dir, ..Pipeline::new(WriteMode::Append) }).claim().unwrap().epoch
            })
        };
        let threads: Vec<_> = (0..8).map(claim).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut sorted = epochs.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (1..=8).collect::<Vec<_>>(), "{epochs:?}");
}

#[test]
fn the_claim_goes_beyond_the_epoch_the_host_knows() {
    let mut pipeline = Pipeline::new(WriteMode::Append);
    pipeline.known_epoch = 41;
    assert_eq!(pipeline.claim().unwrap().epoch, 42);
}

#[test]
fn another_source_is_refused_and_changes_nothing() {
    let mut pipeline = Pipeline::new(WriteMode::Append);
    pipeline.loaded();
    let before = tree(pipeline.root());
    let stream = ClaimStream { context: pipeline.context.clone(), known_epoch: 9, source_identity: "source two".into() };
    let request = ClaimRequest { run: pipeline.run.clone(), streams: vec![stream] };
    let error = pipeline.connector().claim(&request).unwrap_err();
    assert_eq!((error.code.as_str(), error.hint.is_some()), ("source_mismatch", true));
    assert_eq!(tree(pipeline.root()), before);
}

#[test]
fn another_pipeline_over_the_same_source_does_not_go_on_with_a_load() {
    let mut pipeline = Pipeline::new(WriteMode::Append);
    pipeline.load_until("dest.commit.confirmed", 1).unwrap_err();
    pipeline.run.pipeline_id = "00000000-0000-4000-8000-0000000000ff".into();
    let claimed = pipeline.claim().unwrap();
    assert_eq!((claimed.generation, claimed.receipts.len()), (None, 0));
    pipeline.noted = None;
    pipeline.loaded();
    assert_eq!(pipeline.ids().len(), 130);
}

#[test]
fn a_load_that_another_pipeline_discarded_is_not_taken_for_published() {
    let mut pipeline = Pipeline::new(WriteMode::Append);
    pipeline.load_until("dest.commit.confirmed", 1).unwrap_err();
    assert_eq!(pipeline.noted, Some(1));
    let mut other = Pipeline { dir: pipeline.dir.clone(), ..Pipeline::new(WriteMode::Append) };
    other.run.pipeline_id = "00000000-0000-4000-8000-0000000000ff".into();
    assert_eq!(other.claim().unwrap().newest_generation, 2, "the number of the discarded load is not the newest any more");
    // By the table: no open load, and the newest number is the noted one, would mean that it was published.
    assert_eq!(pipeline.loaded().rows, 130);
    assert_eq!(pipeline.ids(), (0..130).collect::<Vec<_>>());
    // Nothing was open: nothing is burnt, and what was published is told.
    pipeline.load_until("dest.publish.after", 1).unwrap_err();
    let noted = pipeline.noted.unwrap();
    assert_eq!(other.claim().unwrap().newest_generation, noted);
    let claimed = pipeline.claim().unwrap();
    assert_eq!(claimed.newest_generation, noted);
    let published = pipeline.publish(claimed.epoch, noted).unwrap();
    assert_eq!((published.rows, published.location), (130, claimed.location));
}

#[test]
fn partitions_with_different_types_for_a_column_do_not_both_commit() {
    let texts = StringArray::from_iter_values(["a", "b"]);
    let schema = Schema::new(vec![Field::new("id", DataType::Utf8, false)]);
    let text = RecordBatch::try_new(Arc::new(schema), vec![Arc::new(texts)]).unwrap();
    let mut pipeline = Pipeline::new(WriteMode::Replace);
    pipeline.data = vec![vec![text], vec![rows(5, 7)]];
    let claimed = pipeline.claim().unwrap();
    pipeline.prepare(claimed.epoch, 1).unwrap();
    let settings = Config::settings(rapidbyte_sdk::parse_config(&pipeline.config_json()).unwrap()).unwrap();
    let disk = Disk::new(settings.root.clone());
    // Both begin before either has told its columns.
    let request = pipeline.write_request(claimed.epoch, 1, "1", None);
    let second = crate::write::Task::new(&settings, &disk, &request).unwrap();
    pipeline.write(&FakeHost::install(), &claimed, 1, 0).unwrap();
    let host = FakeHost::install();
    host.feed(0, 0, &pipeline.data[1]).unwrap();
    host.feed_commit(1, true, Some(place(1)));
    let error = second.run(&mut host.input()).unwrap_err();
    assert_eq!((error.code.as_str(), error.category), ("type_mismatch", rapidbyte_sdk::ErrorCategory::Schema));
    assert!(error.message.contains("`id`") && error.hint.is_some(), "{error}");
    assert!(host.checkpoints().is_empty());
    goes_on_once_mended(&mut pipeline, error.hint.as_deref());
}

#[test]
fn a_partition_that_does_not_fit_an_earlier_one_does_not_spoil_the_runs_to_come() {
    for write_mode in [WriteMode::Replace, WriteMode::Append] {
        let texts = StringArray::from_iter_values(["a", "b"]);
        let schema = Schema::new(vec![Field::new("id", DataType::Utf8, false)]);
        let text = RecordBatch::try_new(Arc::new(schema), vec![Arc::new(texts)]).unwrap();
        let mut pipeline = Pipeline::new(write_mode);
        pipeline.data = vec![vec![text], vec![rows(5, 7)]];
        let error = pipeline.load(&FakeHost::install()).unwrap_err();
        assert_eq!((error.code.as_str(), error.category), ("type_change", rapidbyte_sdk::ErrorCategory::Schema));
        assert!(write_mode == WriteMode::Append || !error.hint.as_ref().unwrap().contains("write_mode"), "{error:?}");
        goes_on_once_mended(&mut pipeline, error.hint.as_deref());
    }
}

/// After the source was mended, the same pinned snapshot is loaded, and the part that was committed before, which has the wrong
/// type, is not in the way.
fn goes_on_once_mended(pipeline: &mut Pipeline, hint: Option<&str>) {
    assert!(hint.is_some_and(|hint| hint.contains("the next run loads the stream anew")), "{hint:?}");
    pipeline.noted = Some(1);
    pipeline.data = vec![vec![rows(0, 5)], vec![rows(5, 7)]];
    assert_eq!(pipeline.loaded().rows, 7);
    assert_eq!(pipeline.ids(), (0..7).collect::<Vec<_>>());
}

#[test]
fn an_overtaken_run_that_wakes_up_while_it_sweeps_removes_nothing_newer() {
    let mut pipeline = Pipeline::new(WriteMode::Replace);
    let control = Control::new(Disk::new(pipeline.root().to_owned()), &pipeline.context.target);
    let old = pipeline.claim().unwrap();
    pipeline.prepare(old.epoch, 1).unwrap();
    let stale = control.newest().unwrap().unwrap();
    // It sleeps; another run takes over.
    let new = pipeline.claim().unwrap();
    for partition in 0..2 {
        pipeline.write(&FakeHost::install(), &new, 1, partition).unwrap();
    }
    let later = now_ms() + GRACE_MS;
    publish::sweep(&control, &stale, publish::Sweep::Everything, later).unwrap();
    pipeline.publish(new.epoch, 1).unwrap();
    publish::sweep(&control, &stale, publish::Sweep::Everything, later).unwrap();
    assert_eq!(pipeline.ids(), (0..130).collect::<Vec<_>>());
}

#[test]
fn sweeping_removes_what_is_older_and_leaves_what_is_not_named_by_us() {
    let mut pipeline = Pipeline::new(WriteMode::Replace);
    pipeline.loaded();
    let control = Control::new(Disk::new(pipeline.root().to_owned()), &pipeline.context.target);
    let newest = control.newest().unwrap().unwrap();
    let names = [
        "_staging/public.orders/g1-e1",
        "_staging/public.orders/g1-e2",
        "_staging/public.orders/mine",
        "_staging/public.orders/g1-e+1",
        "_generations/public.orders/9-1",
        "_generations/public.orders/9-2",
        "_generations/public.orders/mine",
        "_generations/public.orders/1-01",
    ];
    for name in names {
        std::fs::create_dir_all(pipeline.root().join(name)).unwrap();
    }
    publish::sweep(&control, &newest, publish::Sweep::Everything, now_ms()).unwrap();
    let left: Vec<&str> = names.into_iter().filter(|name| pipeline.root().join(name).exists()).collect();
    assert_eq!(left, [names[1], names[2], names[3], names[5], names[6], names[7]]);
}

#[test]
fn a_foreign_folder_is_left_alone() {
    let mut pipeline = Pipeline::new(WriteMode::Replace);
    std::fs::create_dir(pipeline.root().join("public.orders")).unwrap();
    std::fs::write(pipeline.root().join("public.orders/mine.txt"), "mine").unwrap();
    let items = pipeline.connector().validate(std::slice::from_ref(&pipeline.context)).unwrap();
    assert_eq!(items[1].status, rapidbyte_sdk::CheckStatus::Failed);
    let claimed = pipeline.claim().unwrap();
    assert_eq!(pipeline.prepare(claimed.epoch, 1).unwrap_err().code, "folder_taken");
    assert_eq!(std::fs::read(pipeline.root().join("public.orders/mine.txt")).unwrap(), b"mine");
}

#[test]
fn a_damaged_manifest_is_an_error_and_not_a_new_beginning() {
    let mut pipeline = Pipeline::new(WriteMode::Append);
    pipeline.loaded();
    let newest = tree(pipeline.root()).into_iter().filter(|path| path.ends_with(".json")).max().unwrap();
    let whole = std::fs::read(pipeline.root().join(&newest)).unwrap();
    for length in (0..whole.len() - 2).step_by(97) {
        std::fs::write(pipeline.root().join(&newest), &whole[..length]).unwrap();
        assert_eq!(pipeline.claim().unwrap_err().code, "manifest_damaged");
    }
}

#[test]
fn readers_never_see_an_empty_or_a_mixed_folder() {
    let mut pipeline = Pipeline::new(WriteMode::Replace);
    pipeline.data = vec![vec![rows(0, 10)], vec![rows(10, 20)]];
    pipeline.loaded();
    let folder = pipeline.root().join("public.orders");
    let done = AtomicBool::new(false);
    let looks = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut looks = 0_u32;
            while !done.load(Ordering::Relaxed) {
                let names: Vec<String> =
                    std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
                let generations: std::collections::BTreeSet<&str> = names.iter().map(|name| &name[..11]).collect();
                assert_eq!((names.len(), generations.len()), (2, 1), "{names:?}");
                looks += 1;
            }
            looks
        });
        for _ in 0..40 {
            pipeline.loaded();
        }
        done.store(true, Ordering::Relaxed);
        reader.join().unwrap()
    });
    assert!(looks > 40, "the reader looked {looks} times");
}

#[test]
fn directories_of_earlier_loads_are_removed_once_readers_have_left() {
    let mut pipeline = Pipeline::new(WriteMode::Replace);
    for _ in 0..4 {
        pipeline.loaded();
    }
    let directories = || std::fs::read_dir(pipeline.root().join("_generations/public.orders")).unwrap().count();
    assert_eq!(directories(), 4, "a reader may still be at them");
    let control = Control::new(Disk::new(pipeline.root().to_owned()), &pipeline.context.target);
    let newest = control.newest().unwrap().unwrap();
    publish::sweep(&control, &newest, publish::Sweep::Everything, now_ms() + GRACE_MS).unwrap();
    assert_eq!(directories(), 1);
    assert_eq!(pipeline.ids().len(), 130);
}

#[test]
fn teardown_forgets_the_open_load_and_keeps_the_data() {
    let mut pipeline = Pipeline::new(WriteMode::Append);
    pipeline.loaded();
    pipeline.load_until("dest.commit.confirmed", 2).unwrap_err();
    for _ in 0..2 {
        pipeline.connector().teardown(&pipeline.run, std::slice::from_ref(&pipeline.context)).unwrap();
    }
    assert_eq!(pipeline.ids().len(), 130);
    assert!(!tree(pipeline.root()).iter().any(|path| path.starts_with("_staging/public.orders/")));
    let claimed = pipeline.claim().unwrap();
    assert_eq!((claimed.generation, claimed.newest_generation), (None, 3), "the second load's number is burnt, once");
    assert_eq!(pipeline.loaded().rows, 130);
    assert_eq!(pipeline.ids().len(), 260);
}
