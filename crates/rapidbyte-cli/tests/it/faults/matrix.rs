//! Every point × every mode × everything that may go wrong there.
//!
//! A cell disturbs one run at one hit of one point, and the fault must have come to pass. What the run survives it must survive
//! by itself; where it dies, the next one goes on. In the end the content is the source's, by hash.

use super::world::{Mode, Place, World, hits, run, undisturbed};
use rapidbyte_testkit::{Fault, Finished, Project, Proof, Seeded, is_full};
use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

const ACTS: [&str; 7] = ["error", "trap", "kill", "cut", "lose-commit", "delay", "second"];
const SIGKILL: i32 = 9;
/// A defect of a connector, as a trap is.
const INTERNAL: i32 = 1;
/// Another run has taken the pipeline over.
const FENCED: i32 = 10;
/// Cells of the sample in CI, at least; as many more as it takes to have each point, and each act in each mode.
const SAMPLE: usize = 60;

/// Behind these a connector may have nothing left to do but to be closed.
const CLOSING: [&str; 2] = ["engine.mirror.after", "engine.publish.after"];

/// What must be among the points of a full refresh.
const MANDATED: &[&str] = &[
    "dest.claim.before",
    "dest.claim.after",
    "dest.prepare.before",
    "dest.prepare.after",
    "dest.staging.before",
    "dest.staging.after",
    "dest.receipt.before",
    "dest.receipt.after",
    "dest.commit.sent",
    "dest.commit.confirmed",
    "dest.publish.before",
    "dest.publish.sent",
    "dest.publish.after",
    "engine.mirror.before",
    "engine.mirror.after",
    "engine.published.noted",
    "engine.confirm.before",
    "engine.confirm.after",
    "net.dest-postgres.connecting",
    "net.source-postgres.connecting",
    "source.read.start",
    "source.batch.emitted",
];

#[derive(Debug, Clone)]
struct Cell {
    mode: Mode,
    point: String,
    hit: u64,
    act: &'static str,
    /// No COMMIT to the destination comes at this hit or after it.
    settled: bool,
    /// The load's end is on record at this hit: another run is another load.
    finished: bool,
}

impl Cell {
    fn name(&self) -> String {
        format!("{} at {}:{} in {}", self.act, self.point, self.hit, self.mode.name())
    }
}

/// The run that is left alone after one that died.
fn run_again(place: &Place<'_>, project: &Project, cell: &Cell) -> Result<(), String> {
    if cell.finished && cell.mode == Mode::Append {
        return place.check(1);
    }
    let again = run(project).finish();
    if again.code != Some(0) {
        return Err(format!("the run after it fails: {}", again.told()));
    }
    place.check(1).map_err(|wrong| format!("{wrong}; the run after it: {}", again.told()))
}

fn survived(place: &Place<'_>, disturbed: &Finished) -> Result<(), String> {
    if disturbed.code != Some(0) {
        return Err(format!("the run does not survive it: {}", disturbed.told()));
    }
    place.check(1).map_err(|wrong| format!("{wrong}; the run: {}", disturbed.told()))
}

fn disturb(world: &World, cell: &Cell) -> Result<(), String> {
    let place = world.place(cell.mode);
    let project = place.project();
    let fault = Fault::new(&cell.point, cell.hit, cell.act);
    if cell.act == "second" {
        second_writer(&place, &project, &fault)?;
        place.clear();
        return Ok(());
    }
    let disturbed = fault.arm(run(&project), &project).finish();
    let fired = Fault::fired(&project);
    if cell.act == "lose-commit" && cell.settled {
        // Nothing is left to be lost.
        if !fired.is_empty() {
            return Err(format!("a COMMIT was not expected here: {fired:?}"));
        }
        survived(&place, &disturbed)?;
        place.clear();
        return Ok(());
    }
    if fired.is_empty() && cell.finished && cell.mode != Mode::Incremental && matches!(cell.act, "error" | "trap" | "cut") {
        // The planner of a full refresh is closed before its rows are published: no connector is left to fail.
        survived(&place, &disturbed)?;
        place.clear();
        return Ok(());
    }
    if fired.is_empty() {
        return Err(format!("the fault did not come to pass: {}", disturbed.told()));
    }
    match cell.act {
        "kill" if disturbed.signal == Some(SIGKILL) => run_again(&place, &project, cell)?,
        // A connector that can't even be closed takes nothing away from rows that are durable.
        "trap" if disturbed.code == Some(0) && (cell.finished || CLOSING.contains(&cell.point.as_str())) => {
            survived(&place, &disturbed)?
        }
        "trap" if disturbed.code == Some(INTERNAL) => run_again(&place, &project, cell)?,
        "error" | "cut" | "lose-commit" | "delay" => survived(&place, &disturbed)?,
        _ => return Err(format!("not the end that was expected: {}", disturbed.told())),
    }
    place.clear();
    Ok(())
}

/// Two machines with a state file each. The second starts when the first is at the point; both go on once the second has its
/// claim, or can't get it for what the first holds.
fn second_writer(place: &Place<'_>, first: &Project, fault: &Fault) -> Result<(), String> {
    let second = place.project();
    let running = fault.arm(run(first), first).start();
    until(Duration::from_secs(60), || Fault::reached(first).exists()).ok_or("the point was not reached")?;
    let other = run(&second).env("RAPIDBYTE_CRASH_COUNTS", second.path("counts")).start();
    until(Duration::from_millis(1_500), || hits(&second).iter().any(|point| point == "engine.claim.after"));
    Fault::go(first);
    let (running, other) = (running.finish(), other.finish());
    for run in [&running, &other] {
        if !matches!(run.code, Some(0 | FENCED)) {
            return Err(format!("neither done nor fenced: {}", run.told()));
        }
    }
    if running.code == Some(FENCED) && other.code == Some(FENCED) {
        return Err(format!("both are fenced: {}\n{}", running.told(), other.told()));
    }
    if Fault::fired(first).is_empty() {
        return Err("the fault did not come to pass".into());
    }
    // A run that ends well has loaded the rows itself; one that finds them loaded meanwhile ends as fenced.
    let well: Vec<_> = [&running, &other].into_iter().filter(|run| run.code == Some(0)).collect();
    // Where a claim ends the other one in the middle of its publication, it publishes that very load, and both have it.
    let one = well.iter().any(|run| run.at("/report/streams/0/resumed") == true);
    place
        .check(well.len())
        .or_else(|wrong| if one { place.check(1) } else { Err(wrong) })
        .map_err(|wrong| format!("{wrong}; first: {}\nsecond: {}", running.told(), other.told()))
}

fn until(limit: Duration, mut done: impl FnMut() -> bool) -> Option<()> {
    let end = Instant::now() + limit;
    while Instant::now() < end {
        if done() {
            return Some(());
        }
        thread::sleep(Duration::from_millis(5));
    }
    None
}

fn cells(world: &World, random: &mut Seeded) -> Vec<Cell> {
    let mut cells = Vec::new();
    for mode in Mode::ALL {
        let (all, points) = undisturbed(world, mode);
        if mode != Mode::Incremental {
            for point in MANDATED {
                assert!(points.contains_key(*point), "{}: `{point}` is not hit; there are {points:?}", mode.name());
            }
        }
        assert!(points.len() >= 20, "{points:?}");
        let last_commit = all.iter().rposition(|point| point.ends_with(".sent")).expect("a COMMIT is sent");
        let noted = all.iter().position(|point| point == "engine.published.noted").unwrap_or(usize::MAX);
        for (point, places) in &points {
            for act in ACTS {
                let hit = random.below(places.len() as u64);
                let at = places[usize::try_from(hit).expect("a small number")];
                let cell = Cell {
                    mode,
                    point: point.clone(),
                    hit: hit + 1,
                    act,
                    settled: at > last_commit,
                    finished: at >= noted || point.starts_with("engine.confirm"),
                };
                cells.push(cell);
            }
        }
    }
    random.shuffle(&mut cells);
    cells
}

/// Few cells that have each point, and each act in each mode.
fn sample(cells: Vec<Cell>) -> Vec<Cell> {
    let (mut points, mut pairs) = (BTreeSet::new(), BTreeSet::new());
    let (mut chosen, mut others): (Vec<Cell>, Vec<Cell>) = (Vec::new(), Vec::new());
    for cell in cells {
        let new_pair = pairs.insert((cell.mode.name(), cell.act));
        if points.insert(cell.point.clone()) || new_pair { chosen.push(cell) } else { others.push(cell) }
    }
    let missing = SAMPLE.saturating_sub(chosen.len());
    chosen.extend(others.into_iter().take(missing));
    chosen
}

#[test]
fn prove_every_fault_at_every_point_in_every_mode_loses_and_repeats_nothing() {
    let world = World::new();
    let seed = Seeded::seed_of_environment();
    let all = cells(&world, &mut Seeded::new(seed));
    let total = all.len();
    let only = std::env::var("RAPIDBYTE_TEST_CELL").ok();
    let cells = match &only {
        Some(only) => all.into_iter().filter(|cell| cell.name().contains(only.as_str())).collect(),
        None if is_full() => all,
        None => sample(all),
    };
    assert!(only.is_some() || cells.len() >= SAMPLE);
    let mut failures = Vec::new();
    for cell in &cells {
        if let Err(wrong) = disturb(&world, cell) {
            failures.push(format!("{} (seed {seed}): {wrong}", cell.name()));
        }
    }
    let points: BTreeSet<&str> = cells.iter().map(|cell| cell.point.as_str()).collect();
    Proof {
        name: "every fault at every point in every mode, PostgreSQL to PostgreSQL",
        cases: cells.len(),
        failures: failures.len(),
        seed: seed.to_string(),
        detail: format!(
            "{} points × 4 modes × {{{}}}; {} of {total} cells; {} rows each",
            points.len(),
            ACTS.join(", "),
            cells.len(),
            world.expected.rows
        ),
    }
    .record();
    assert!(failures.is_empty(), "{} of {} cells went wrong:\n{}", failures.len(), cells.len(), failures.join("\n\n"));
}

#[test]
fn a_fault_that_does_not_come_to_pass_is_noticed() {
    let world = World::new();
    let cell = Cell { mode: Mode::Append, point: "dest.claim.after".into(), hit: 99, act: "cut", settled: false, finished: false };
    let wrong = disturb(&world, &cell).expect_err("there is no 99th hit");
    assert!(wrong.contains("did not come to pass"), "{wrong}");
    // And rows that are there twice, or not at all.
    let place = world.place(Mode::Replace);
    let project = place.project();
    run(&project).finish().success();
    place.check(1).expect("all is well");
    place.sql("DELETE FROM {schema}.items WHERE id = 7");
    assert!(place.check(1).is_err());
}
