//! Dying at every point, and going on.

use super::*;
use crate::control::Control;
use crate::disk::Disk;
use crate::folder::witness::at_risk;

fn all(ranges: &[(i64, i64)]) -> Vec<i64> {
    let mut ids: Vec<i64> = ranges.iter().flat_map(|(from, to)| *from..*to).collect();
    ids.sort_unstable();
    ids
}

/// The points of a second load, each with how often it is reached.
fn points(mode: WriteMode) -> Vec<(String, usize)> {
    let mut pipeline = Pipeline::new(mode);
    pipeline.loaded();
    let host = FakeHost::install();
    pipeline.load(&host).unwrap();
    let mut seen: Vec<(String, usize)> = Vec::new();
    for mark in host.marks() {
        let hit = seen.iter().filter(|(point, _)| *point == mark).count() + 1;
        seen.push((mark, hit));
    }
    seen
}

#[test]
fn what_counts_outlives_a_loss_of_power() {
    for (mode, format) in [(WriteMode::Append, "parquet"), (WriteMode::Replace, "jsonl"), (WriteMode::Append, "csv")] {
        let begun = || {
            let mut pipeline = Pipeline::new(mode);
            pipeline.config = serde_json::json!({ "format": format });
            pipeline
        };
        let mut pipeline = begun();
        pipeline.loaded();
        pipeline.loaded();
        assert_eq!(at_risk(pipeline.root()), Vec::<PathBuf>::new(), "{mode:?} {format}");
        // A commit that was acknowledged, whatever comes after it.
        let mut cut = begun();
        cut.load_until("dest.commit.confirmed", 2).unwrap_err();
        assert_eq!(at_risk(cut.root()), Vec::<PathBuf>::new(), "{mode:?} {format}");
    }
}

fn sweep(mode: WriteMode, old: &[i64], new: &[i64], same_snapshot: bool) {
    let points = points(mode);
    assert!(points.len() >= 25, "{points:?}");
    for (point, hit) in points {
        let mut pipeline = Pipeline::new(mode);
        let second = pipeline.data.clone();
        pipeline.data = vec![vec![rows(1000, 1010)]];
        pipeline.loaded();
        pipeline.data = second;
        let crashed = pipeline.load_until(&point, hit).unwrap_err();
        assert_eq!(crashed.point, point);
        let seen = pipeline.ids();
        assert!(seen == old || seen == new, "after a crash at {point} #{hit} a reader saw {seen:?}");
        if !same_snapshot {
            pipeline.snapshot = "another".into();
        }
        let summary = pipeline.loaded();
        assert_eq!(pipeline.ids(), new, "after a crash at {point} #{hit}");
        assert_eq!(summary.rows, 130, "after a crash at {point} #{hit}");
        let left: Vec<String> = tree(pipeline.root()).into_iter().filter(|path| path.contains("_staging/public.orders/")).collect();
        assert_eq!(left, Vec::<String>::new(), "after a crash at {point} #{hit}");
    }
}

#[test]
fn replace_survives_a_crash_at_every_point() {
    sweep(WriteMode::Replace, &all(&[(1000, 1010)]), &all(&[(0, 130)]), true);
}

#[test]
fn append_survives_a_crash_at_every_point() {
    sweep(WriteMode::Append, &all(&[(1000, 1010)]), &all(&[(1000, 1010), (0, 130)]), true);
}

#[test]
fn a_lost_snapshot_is_loaded_anew_and_never_mixed() {
    sweep(WriteMode::Append, &all(&[(1000, 1010)]), &all(&[(1000, 1010), (0, 130)]), false);
    sweep(WriteMode::Replace, &all(&[(1000, 1010)]), &all(&[(0, 130)]), false);
}

#[test]
fn the_first_load_survives_a_crash_at_every_point() {
    let host = FakeHost::install();
    Pipeline::new(WriteMode::Append).load(&host).unwrap();
    let mut marks = host.marks();
    marks.dedup();
    for point in marks {
        let mut pipeline = Pipeline::new(WriteMode::Append);
        pipeline.load_until(&point, 1).unwrap_err();
        let seen = pipeline.ids();
        assert!(seen.is_empty() || seen == all(&[(0, 130)]), "after a crash at {point}");
        pipeline.loaded();
        assert_eq!(pipeline.ids(), all(&[(0, 130)]), "after a crash at {point}");
    }
}

#[test]
fn a_resume_reads_only_what_is_missing() {
    let mut pipeline = Pipeline::new(WriteMode::Append);
    // The second commit of partition 0 is durable, its acknowledgement is lost.
    pipeline.load_until("dest.commit.confirmed", 2).unwrap_err();
    let claimed = pipeline.claim().unwrap();
    let receipt = &claimed.receipts[0];
    assert_eq!((receipt.seq, receipt.rows, receipt.position.clone(), receipt.last), (2, 100, Some(place(2)), false));
    assert_eq!(claimed.generation, Some(pipeline.generation(1)));
    let host = FakeHost::install();
    pipeline.load(&host).unwrap();
    let written = host.marks().iter().filter(|mark| *mark == "dest.staging.before").count();
    assert_eq!(written, 1, "only partition 1 has rows left");
    assert_eq!(pipeline.ids(), all(&[(0, 130)]));
}

#[test]
fn a_decided_publish_is_finished_by_the_next_claim() {
    let mut pipeline = Pipeline::new(WriteMode::Replace);
    pipeline.loaded();
    pipeline.data = vec![vec![rows(500, 510)]];
    pipeline.load_until("dest.publish.decided", 1).unwrap_err();
    assert_eq!(pipeline.ids(), all(&[(0, 130)]));
    let claimed = pipeline.claim().unwrap();
    assert_eq!((claimed.generation, claimed.newest_generation), (None, 2));
    assert_eq!(pipeline.ids(), all(&[(500, 510)]));
}

#[test]
fn publishing_twice_adds_nothing() {
    let mut pipeline = Pipeline::new(WriteMode::Append);
    let first = pipeline.loaded();
    let claimed = pipeline.claim().unwrap();
    assert_eq!(pipeline.publish(claimed.epoch, 1).unwrap(), first);
    assert_eq!(pipeline.ids(), all(&[(0, 130)]));
}

#[test]
fn an_incomplete_generation_is_not_published() {
    let mut pipeline = Pipeline::new(WriteMode::Append);
    pipeline.load_until("dest.commit.confirmed", 4).unwrap_err();
    let claimed = pipeline.claim().unwrap();
    let error = pipeline.publish(claimed.epoch, 1).unwrap_err();
    assert_eq!(error.code, "incomplete_generation");
    assert!(pipeline.ids().is_empty());
}

#[test]
fn a_committed_file_that_was_damaged_is_noticed() {
    let mut pipeline = Pipeline::new(WriteMode::Append);
    pipeline.load_until("dest.publish.before", 1).unwrap_err();
    let staged = tree(pipeline.root()).into_iter().find(|path| path.ends_with("part-000001-0-000001.parquet")).unwrap();
    std::fs::write(pipeline.root().join(&staged), "short").unwrap();
    let claimed = pipeline.claim().unwrap();
    let error = pipeline.publish(claimed.epoch, 1).unwrap_err();
    assert_eq!(error.code, "file_damaged");
    assert!(pipeline.ids().is_empty());
}

#[test]
fn appending_to_a_published_folder_that_is_gone_is_an_error() {
    for emptied in [false, true] {
        let mut pipeline = Pipeline::new(WriteMode::Append);
        pipeline.loaded();
        let published = pipeline.root().join("_generations/public.orders/1-1");
        std::fs::remove_dir_all(&published).unwrap();
        if emptied {
            std::fs::create_dir(&published).unwrap();
        }
        let error = pipeline.load(&FakeHost::install()).unwrap_err();
        assert_eq!((error.code.as_str(), error.hint.is_some()), ("file_damaged", true));
        let control = Control::new(Disk::new(pipeline.root().to_owned()), &pipeline.context.target);
        assert_eq!(control.newest().unwrap().unwrap().published.unwrap().number, 1, "nothing was decided");
    }
}
