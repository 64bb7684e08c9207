//! A secret that must not sing.

use std::fs;
use std::path::{Path, PathBuf};

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// A secret value whose appearance anywhere is a fault.
#[derive(Clone)]
pub struct Canary {
    value: String,
}

impl Canary {
    /// A value that appears nowhere else; `place` tells one canary from another.
    pub fn new(place: &str) -> Self {
        Self { value: format!("cAnArY{}{place}xQ7wZ2", std::process::id()) }
    }

    /// The secret.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Whether bytes hold the secret: as it is, with any case, in hex, or in base64 at any of the three alignments.
    pub fn sings_in(&self, bytes: &[u8]) -> bool {
        let lower = bytes.to_ascii_lowercase();
        let plain = self.value.to_ascii_lowercase().into_bytes();
        let hex = plain_hex(self.value.as_bytes()).into_bytes();
        holds(&lower, &plain)
            || holds(&lower, &hex)
            || (0..3).any(|skip| holds(bytes, base64_core(self.value.as_bytes(), skip).as_bytes()))
    }

    /// The files below a directory that hold the secret, apart from `allowed`.
    ///
    /// # Panics
    /// When the directory can't be read.
    #[track_caller]
    pub fn sings_below(&self, dir: &Path, allowed: &[&Path]) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for entry in fs::read_dir(dir).expect("a directory to search for secrets").flatten() {
            let path = entry.path();
            if allowed.contains(&path.as_path()) {
                continue;
            }
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => found.extend(self.sings_below(&path, allowed)),
                Ok(kind) if kind.is_file() && self.sings_in(&fs::read(&path).expect("a file to search for secrets")) => {
                    found.push(path)
                }
                Ok(_) | Err(_) => {}
            }
        }
        found
    }
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

fn plain_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The base64 of the bytes from `skip` on, without the digits that depend on what follows.
fn base64_core(bytes: &[u8], skip: usize) -> String {
    let digit = |index: u32| char::from(ALPHABET[usize::try_from(index & 63).expect("below 64")]);
    bytes[skip..]
        .chunks_exact(3)
        .flat_map(|chunk| {
            let word = u32::from(chunk[0]) << 16 | u32::from(chunk[1]) << 8 | u32::from(chunk[2]);
            [digit(word >> 18), digit(word >> 12), digit(word >> 6), digit(word)]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_heard_in_every_form() {
        let canary = Canary { value: "secret-Word-99".into() };
        for text in
            ["x secret-Word-99 y", "SECRET-WORD-99", "7365637265742d576f72642d3939", "c2VjcmV0LVdvcmQtOTk=", "eHNlY3JldC1Xb3JkLTk5"]
        {
            assert!(canary.sings_in(text.as_bytes()), "{text}");
        }
        assert!(!canary.sings_in(b"secret-Word-9"));
    }

    #[test]
    fn it_is_heard_in_files() {
        let dir = tempfile::tempdir().expect("directory");
        let canary = Canary::new("file");
        fs::create_dir(dir.path().join("below")).expect("directory");
        let (loud, allowed) = (dir.path().join("below/loud"), dir.path().join("allowed"));
        fs::write(&loud, canary.value()).expect("written");
        fs::write(&allowed, canary.value()).expect("written");
        fs::write(dir.path().join("silent"), "nothing").expect("written");
        assert_eq!(canary.sings_below(dir.path(), &[&allowed]), [loud]);
    }
}
