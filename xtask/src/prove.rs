//! The long proofs, whole; `docs/proof.md` is their record.
//!
//! The same tests run in CI on a seeded sample. `RAPIDBYTE_PROVE=full` makes them run all of it, and each appends a line of
//! JSON (`{"proof","cases","failures","seed","detail"}`) to the file that `RAPIDBYTE_PROOF_FILE` names.

use crate::run::{Failure, Outcome, cargo, io, must, output, root, say, target_dir};
use crate::{system, tests};
use std::fmt::Write as _;
use std::fs;
use std::process::Command;

pub(crate) fn run(filters: &[String]) -> Outcome {
    system::for_tests()?;
    let (binary, crashing) = tests::binaries()?;
    let record = target_dir().join("proof.jsonl");
    if record.exists() {
        fs::remove_file(&record).map_err(io("could not remove the last record"))?;
    }
    let mut proofs = cargo();
    proofs
        .args(["test", "--release", "--locked", "--package", "rapidbyte-cli", "--test", "it"])
        .args(if filters.is_empty() { vec!["prove_"] } else { filters.iter().map(String::as_str).collect() })
        .env("RAPIDBYTE_PROVE", "full")
        .env("RAPIDBYTE_PROOF_FILE", &record);
    tests::told(&mut proofs, &binary, &crashing)?;
    must(&mut proofs)?;
    write(&fs::read_to_string(&record).map_err(io("the proofs left no record"))?)
}

fn write(record: &str) -> Outcome {
    let commit = output(Command::new("git").current_dir(root()).args(["rev-parse", "HEAD"]))?;
    let dirty =
        !output(Command::new("git").current_dir(root()).args(["status", "--porcelain", "--untracked-files=no"]))?.is_empty();
    let mut page = String::from("# Proof\n\nThe last full run of `cargo xtask prove`.\n\n");
    // Writing to a string can't fail.
    let _ = writeln!(page, "Commit: `{commit}`{}\n", if dirty { " with uncommitted changes" } else { "" });
    page.push_str("| Proof | Cases | Failures | Seed | Detail |\n|---|---:|---:|---|---|\n");
    for line in record.lines() {
        let value: serde_json::Value =
            serde_json::from_str(line).map_err(|error| Failure::new(format!("the proofs' record is not JSON: {error}")))?;
        let text = |key: &str| match &value[key] {
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let _ = writeln!(
            page,
            "| {} | {} | {} | `{}` | {} |",
            text("proof"),
            text("cases"),
            text("failures"),
            text("seed"),
            text("detail")
        );
    }
    fs::write(root().join("docs/proof.md"), page).map_err(io("could not write docs/proof.md"))?;
    say("wrote docs/proof.md");
    Ok(())
}
