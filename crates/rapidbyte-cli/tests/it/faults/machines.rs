//! Two machines with a state file each, a zombie that comes back, an answer that was lost, a state file that was lost: the
//! destination decides.

use super::world::{Mode, World, run};
use rapidbyte_testkit::{Fault, Postgres, Project, within};
use std::fs;
use std::time::Duration;

const FENCED: i32 = 10;
const SOON: Duration = Duration::from_secs(60);

#[test]
fn a_zombie_that_comes_back_is_fenced_and_the_rows_are_there_once() {
    let world = World::new();
    // In the middle of a COPY; with everything received and nothing committed; when all is loaded and about to be published.
    for point in ["dest.staging.after", "engine.mirror.before", "engine.publish.before", "dest.publish.before"] {
        for mode in [Mode::Append, Mode::Replace, Mode::Upsert] {
            let place = world.place(mode);
            let (first, second) = (place.project(), place.project());
            let zombie = Fault::new(point, 1, "second").arm(run(&first), &first).start();
            within(SOON, "the first machine to reach its point", || Fault::reached(&first).exists().then_some(()));
            run(&second).finish().success();
            assert!(place.holds_once(), "{point} in {}: what the second machine leaves", mode.name());
            Fault::go(&first);
            zombie.finish().exit(FENCED).says("another run");
            assert!(place.holds_once(), "{point} in {}: what the zombie leaves", mode.name());
        }
    }
}

#[test]
fn an_incremental_zombie_changes_nothing() {
    let world = World::new();
    for (point, hit) in [("dest.staging.after", 1), ("engine.mirror.before", 2)] {
        let place = world.place(Mode::Incremental);
        let (first, second) = (place.project(), place.project());
        let zombie = Fault::new(point, hit, "second").arm(run(&first), &first).start();
        within(SOON, "the first machine to reach its point", || Fault::reached(&first).exists().then_some(()));
        run(&second).finish().success();
        assert!(place.holds_once(), "{point}: what the second machine leaves");
        Fault::go(&first);
        let zombie = zombie.finish();
        // Fenced, or after another claim in time to find that nothing is left to do.
        assert!(matches!(zombie.code, Some(0 | FENCED)), "{}", zombie.told());
        assert!(place.holds_once(), "{point}: what the zombie leaves");
    }
}

#[test]
fn an_unknown_outcome_is_read_off_the_receipt() {
    let world = World::new();
    for (mode, point) in [
        (Mode::Append, "dest.commit.sent"),
        (Mode::Append, "dest.publish.sent"),
        (Mode::Replace, "dest.publish.sent"),
        (Mode::Upsert, "dest.publish.sent"),
        (Mode::Incremental, "dest.commit.sent"),
    ] {
        let place = world.place(mode);
        let project = place.project();
        let lost = Fault::new(point, 1, "lose-commit").arm(run(&project), &project).finish().success();
        assert_eq!(Fault::fired(&project).len(), 1, "{point} in {}", mode.name());
        assert_eq!(lost.at("/report/streams/0/attempts"), 2, "{}", lost.told());
        lost.says("COMMIT was sent and its answer lost");
        assert!(place.holds_once(), "{point} in {}", mode.name());
        assert_eq!(place.sql("SELECT count(*) FROM {receipts}"), "1", "one receipt, of the load that counts");
    }
}

#[test]
fn a_lost_state_file_costs_time_and_no_rows() {
    let world = World::new();
    for mode in Mode::ALL {
        for point in ["dest.staging.after", "dest.commit.confirmed", "engine.mirror.after", "dest.claim.after"] {
            let place = world.place(mode);
            let project = place.project();
            let killed = Fault::new(point, 1, "kill").arm(run(&project), &project).finish();
            assert_eq!(killed.signal, Some(9), "{}", killed.told());
            fs::remove_dir_all(project.path(".rapidbyte")).expect("the state is there");
            run(&project).finish().success();
            assert!(place.holds_once(), "{point} in {}", mode.name());
        }
    }
}

#[test]
fn streams_come_and_go_and_each_keeps_its_place() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("streams_source"), server.database("streams_destination"));
    source.sql("CREATE TABLE a AS SELECT i AS id FROM generate_series(1, 10) i; CREATE TABLE b AS SELECT i AS id FROM generate_series(1, 20) i");
    let yaml = |streams: &[&str]| {
        let streams: Vec<_> =
            streams.iter().map(|name| format!("{{ name: {name}, sync_mode: incremental, cursor_field: id }}")).collect();
        format!(
            "version: \"1.0\"\npipeline: streams\nsource:\n  use: source-postgres\n  config: {{ {} }}\n  streams: [ {} ]\n\
             destination:\n  use: dest-postgres\n  config: {{ {} }}\n  write_mode: append\n",
            source.config(),
            streams.join(", "),
            destination.config()
        )
    };
    let project = Project::with_pipeline(&yaml(&["a"]));
    let mut written = Vec::new();
    for (streams, more) in [(&["a"][..], ""), (&["a", "b"], "a"), (&["b"], "a"), (&["b", "a"], "b"), (&["a", "b"], "")] {
        if !more.is_empty() {
            source.sql(&format!("INSERT INTO {more} SELECT max(id) + 1 FROM {more}"));
        }
        project.write("pipeline.yaml", yaml(streams));
        let report = project.run().finish().success().at("/report/streams");
        let rows = report.as_array().expect("streams").iter().map(|stream| stream["rows_written"].as_u64().expect("a count"));
        written.push(rows.collect::<Vec<_>>());
    }
    assert_eq!(written, [vec![10], vec![1, 20], vec![0], vec![1, 1], vec![0, 0]]);
    for table in ["a", "b"] {
        assert_eq!(source.hash(table), destination.hash(table));
    }
}
