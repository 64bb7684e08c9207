//! The documents of lessons and faults name tests that are there.

use rapidbyte_testkit::root;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The names of all functions behind `#[test]` below a directory.
fn tests(dir: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).expect("a directory of the checkout").flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                tests(&path, found);
            }
        } else if name.ends_with(".rs") {
            let text = fs::read_to_string(&path).expect("source is text");
            let mut marked = false;
            for line in text.lines().map(str::trim) {
                if line == "#[test]" || line.starts_with("#[tokio::test") {
                    marked = true;
                } else if let Some((_, rest)) = line.split_once("fn ").filter(|_| marked) {
                    found.insert(rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect());
                    marked = false;
                }
            }
        }
    }
}

/// What stands in backticks and looks like the name of a test: several words, and none of a setting or variable.
fn named(text: &str) -> Vec<&str> {
    let words = text.split('`').skip(1).step_by(2);
    words
        .filter(|word| {
            word.matches('_').count() >= 2 && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        })
        .collect()
}

#[test]
fn every_lesson_and_fault_names_tests_that_are_there() {
    let mut there = BTreeSet::new();
    for dir in ["crates", "connectors"] {
        tests(&root().join(dir), &mut there);
    }
    // Settings and codes that have as many words.
    let others = [
        "connect_timeout_seconds",
        "idle_timeout_seconds",
        "lock_timeout_seconds",
        "statement_timeout_seconds",
        "too_many_connections",
        "max_record_bytes",
        "max_slot_lag_bytes",
        "on_lost_slot",
    ];
    for (document, at_least) in [("docs/design/lessons.md", 40), ("docs/reference/faults.md", 15)] {
        let text = fs::read_to_string(root().join(document)).expect("a document");
        let names: Vec<_> = named(&text).into_iter().filter(|name| !others.contains(name)).collect();
        assert!(names.len() >= at_least, "{document}: {names:?}");
        let missing: Vec<_> = names.iter().filter(|name| !there.contains(**name)).collect();
        assert!(missing.is_empty(), "{document} names tests that are not there: {missing:?}");
        // Each row of a table of lessons has at least one.
        for row in text.lines().filter(|line| document.contains("lessons") && line.starts_with("| ") && !line.starts_with("| #")) {
            assert!(!named(row).is_empty(), "{document}: a lesson without a test: {row}");
        }
    }
}
