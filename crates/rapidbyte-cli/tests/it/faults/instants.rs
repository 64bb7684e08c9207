//! SIGKILL at random instants, whatever is going on.

use super::world::{Mode, World, hits, run};
use rapidbyte_testkit::{Proof, Seeded, is_full};
use std::thread;
use std::time::{Duration, Instant};

const SIGKILL: i32 = 9;

/// How long an undisturbed run takes, from its start; the longest of a few.
fn length(world: &World) -> Duration {
    let longest = (0..3).map(|_| {
        let place = world.place(Mode::Replace);
        let started = Instant::now();
        run(&place.project()).finish().success();
        place.clear();
        started.elapsed()
    });
    longest.max().expect("three runs")
}

/// Kills a run after `wait`, then runs to the end. Says whether the kill came in time.
fn kill(world: &World, mode: Mode, wait: Duration) -> Result<bool, String> {
    let place = world.place(mode);
    let project = place.project();
    let mut running = run(&project).env("RAPIDBYTE_CRASH_COUNTS", project.path("counts")).start();
    thread::sleep(wait);
    if running.ended() {
        place.check(1).map_err(|wrong| format!("{wrong}; the run that nobody killed: {}", running.finish().told()))?;
        place.clear();
        return Ok(false);
    }
    running.signal("KILL");
    let killed = running.finish();
    let reached = hits(&project);
    let noted = reached.iter().any(|point| point == "engine.published.noted");
    if !(noted && mode == Mode::Append) {
        let again = run(&project).finish();
        if again.code != Some(0) {
            return Err(format!("the run after it fails: {}", again.told()));
        }
    }
    // Between the note of the publication and the point behind it a kill can't be told from one before it. Anywhere else a load
    // that was published is not loaded again.
    let unsure = reached.last().is_some_and(|point| point == "engine.publish.after");
    place
        .check(1)
        .or_else(|wrong| if unsure { place.check(2) } else { Err(wrong) })
        .map_err(|wrong| format!("{wrong}; points until the kill: {reached:?}"))?;
    place.clear();
    Ok(killed.signal == Some(SIGKILL))
}

#[test]
fn prove_kills_at_random_instants_lose_and_repeat_nothing() {
    let world = World::new();
    let seed = Seeded::seed_of_environment();
    let mut random = Seeded::new(seed);
    let length = u64::try_from(length(&world).as_micros()).expect("a short run");
    let wanted = if is_full() { 1_000 } else { 40 };
    let (mut tried, mut killed, mut failures) = (0_usize, 0_usize, Vec::new());
    while killed < wanted {
        assert!(tried < wanted * 3, "only {killed} of {tried} runs were still there to be killed");
        let mode = Mode::ALL[tried % Mode::ALL.len()];
        tried += 1;
        let wait = Duration::from_micros(random.below(length));
        match kill(&world, mode, wait) {
            Ok(in_time) => killed += usize::from(in_time),
            Err(wrong) => {
                killed += 1;
                failures.push(format!("killed after {wait:?} in {} (seed {seed}, case {tried}): {wrong}", mode.name()));
            }
        }
    }
    Proof {
        name: "kill -9 at random instants, PostgreSQL to PostgreSQL",
        cases: killed,
        failures: failures.len(),
        seed: seed.to_string(),
        detail: format!("{killed} kills in {tried} runs of four modes, {} rows each", world.expected.rows),
    }
    .record();
    assert!(failures.is_empty(), "{} of {killed} kills went wrong:\n{}", failures.len(), failures.join("\n\n"));
}
