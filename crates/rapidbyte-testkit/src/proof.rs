//! The record of long proofs.

use serde_json::json;
use std::fs::OpenOptions;
use std::io::Write;

/// Whether the proofs run whole (`cargo xtask prove`) rather than as a seeded sample.
pub fn is_full() -> bool {
    std::env::var("RAPIDBYTE_PROVE").is_ok_and(|value| value == "full")
}

/// What a proof has to show for itself.
#[derive(Debug, Clone)]
pub struct Proof {
    /// Its name.
    pub name: &'static str,
    /// How many cases were run.
    pub cases: usize,
    /// How many of them failed.
    pub failures: usize,
    /// The seed they came from, or `-`.
    pub seed: String,
    /// What else a reader should know, on one line.
    pub detail: String,
}

impl Proof {
    /// Adds the proof to the file that `RAPIDBYTE_PROOF_FILE` names, if any.
    ///
    /// # Panics
    /// When the file can't be written.
    pub fn record(&self) {
        let Some(path) = std::env::var_os("RAPIDBYTE_PROOF_FILE") else { return };
        let line = json!({
            "proof": self.name, "cases": self.cases, "failures": self.failures, "seed": self.seed, "detail": self.detail,
        });
        let mut file = OpenOptions::new().create(true).append(true).open(path).expect("the proofs' record can be opened");
        // One write for one line: proofs run in parallel.
        file.write_all(format!("{line}\n").as_bytes()).expect("the proofs' record can be written");
    }
}
