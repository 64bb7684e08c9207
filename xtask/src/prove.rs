//! The long proofs, whole; `docs/proof.md` is their record, each with the commit it was seen at.
//!
//! The same tests run in CI on a seeded sample. `RAPIDBYTE_PROVE=full` makes them run all of it, and each appends a line of
//! JSON (`{"proof","cases","failures","seed","detail"}`) to the file that `RAPIDBYTE_PROOF_FILE` names.

use crate::run::{Failure, Outcome, cargo, io, must, output, root, say, target_dir};
use crate::{system, tests};
use std::collections::BTreeMap;
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
        // The whole workspace, as in CI: a package alone would compile its dependencies with other features, once more.
        .args(["test", "--release", "--locked", "--workspace", "--test", "it", "--"])
        .args(if filters.is_empty() { vec!["prove_"] } else { filters.iter().map(String::as_str).collect() })
        .env("RAPIDBYTE_PROVE", "full")
        .env("RAPIDBYTE_PROOF_FILE", &record);
    tests::told(&mut proofs, &binary, &crashing)?;
    must(&mut proofs)?;
    write(&fs::read_to_string(&record).map_err(io("the proofs left no record"))?)
}

/// Puts the record's proofs on the page; those of earlier runs stay, each with the commit it was seen at.
fn write(record: &str) -> Outcome {
    let commit = output(Command::new("git").current_dir(root()).args(["rev-parse", "--short=12", "HEAD"]))?;
    let dirty = !output(Command::new("git").current_dir(root()).args([
        "status",
        "--porcelain",
        "--untracked-files=no",
        "--",
        ":!docs/proof.md",
    ]))?
    .is_empty();
    let commit = format!("`{commit}`{}", if dirty { " with uncommitted changes" } else { "" });
    let path = root().join("docs/proof.md");
    let mut rows = fs::read_to_string(&path).map(|page| rows(&page)).unwrap_or_default();
    for line in record.lines() {
        let value: serde_json::Value =
            serde_json::from_str(line).map_err(|error| Failure::new(format!("the proofs' record is not JSON: {error}")))?;
        let text = |key: &str| match &value[key] {
            serde_json::Value::String(text) => text.replace('|', "\\|"),
            other => other.to_string(),
        };
        let row = format!(
            "| {} | {} | {} | `{}` | {commit} | {} |",
            text("proof"),
            text("cases"),
            text("failures"),
            text("seed"),
            text("detail")
        );
        rows.insert(text("proof"), row);
    }
    let rows: Vec<String> = rows.into_values().collect();
    fs::write(&path, format!("{HEAD}{}\n", rows.join("\n"))).map_err(io("could not write docs/proof.md"))?;
    say("wrote docs/proof.md");
    Ok(())
}

const HEAD: &str = "# Proof

The last whole run of each proof: how many cases there were, how many failed, the seed that repeats them, and the commit they were seen at. `cargo xtask prove`
runs all of them, `cargo xtask prove NAME …` those whose tests' names hold a word; the names are those of the tests that begin with `prove_`.

| Proof | Cases | Failures | Seed | Commit | Detail |
|---|---:|---:|---|---|---|
";

/// The page's rows by the name of their proof.
fn rows(page: &str) -> BTreeMap<String, String> {
    page.lines()
        .filter_map(|line| Some((line.strip_prefix("| ")?.split_once(" | ")?.0.to_owned(), line.to_owned())))
        .filter(|(name, line)| name != "Proof" && line.matches(" | ").count() == 5)
        .collect()
}

#[cfg(test)]
mod page {
    use super::*;

    #[test]
    fn rows_are_read_back_from_the_page() {
        let page = format!("{HEAD}| b | 1 | 0 | `1` | `c` | x |\n| a | 1 | 0 | `1` | `c` | y |\n");
        let read: Vec<(String, String)> = rows(&page).into_iter().collect();
        assert_eq!(read[0], ("a".to_owned(), "| a | 1 | 0 | `1` | `c` | y |".to_owned()));
        assert_eq!(read.len(), 2);
        assert!(rows("| Proof | Cases | Failures | Seed | Detail |\n| old | 1 | 0 | `1` | no commit |\n").is_empty());
    }
}
