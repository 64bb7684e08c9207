//! A user's directory.

use crate::command::Rapidbyte;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A directory of its own with a pipeline in it, removed when dropped.
#[derive(Debug)]
pub struct Project {
    dir: TempDir,
}

impl Project {
    /// An empty one.
    ///
    /// # Panics
    /// When it can't be made.
    #[track_caller]
    pub fn empty() -> Self {
        Self { dir: tempfile::Builder::new().prefix("rapidbyte-project-").tempdir().expect("a temporary directory can be made") }
    }

    /// One with a `pipeline.yaml`.
    ///
    /// # Panics
    /// When it can't be made.
    #[track_caller]
    pub fn with_pipeline(yaml: &str) -> Self {
        let project = Self::empty();
        project.write("pipeline.yaml", yaml);
        project
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file in it, making directories as needed.
    ///
    /// # Panics
    /// When it can't be written.
    #[track_caller]
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a path below the project")).expect("a directory can be made");
        fs::write(path, text).expect("a file can be written");
    }

    /// The binary users get, to be run here.
    #[track_caller]
    pub fn rapidbyte(&self, arguments: &[&str]) -> Rapidbyte {
        Rapidbyte::new(self.dir()).args(arguments)
    }

    /// `run pipeline.yaml --output json`, to be run here.
    #[track_caller]
    pub fn run(&self) -> Rapidbyte {
        self.rapidbyte(&["run", "pipeline.yaml", "--output", "json"])
    }
}
