//! What a failure must leave as it is, and what is there once it has been mended.

use rapidbyte_testkit::{Database, Project, TableHash};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

/// `keeps`: names something, or the case proves nothing.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Keeps {
    tables: Vec<String>,
    folders: Vec<String>,
    files: Vec<String>,
    no_tables: Vec<String>,
    no_paths: Vec<String>,
}

/// Rows and bytes, as far as a comparison needs them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Content {
    tables: BTreeMap<String, TableHash>,
    files: BTreeMap<PathBuf, (usize, u64)>,
}

impl Keeps {
    /// What is there now. What must not be there is not.
    #[track_caller]
    pub(super) fn content(&self, project: &Project, database: Option<&Database<'_>>) -> Content {
        let Self { tables, folders, files, no_tables, no_paths } = self;
        assert!([tables, folders, files, no_tables, no_paths].iter().any(|list| !list.is_empty()), "`keeps` names nothing");
        let database = || database.expect("tables need `postgres` among the services");
        for table in no_tables {
            assert!(!database().has(table), "there is a table `{table}`");
        }
        for path in no_paths {
            assert!(!project.path(path).exists(), "there is `{path}`");
        }
        let mut found = Content { tables: BTreeMap::new(), files: BTreeMap::new() };
        for table in tables {
            let hash = database().hash(table);
            assert!(hash.rows > 0, "`{table}` has no rows that could be lost");
            found.tables.insert(table.clone(), hash);
        }
        for folder in folders {
            let visible = visible(&project.path(folder));
            assert!(!visible.is_empty(), "`{folder}` has no files that could be lost");
            found.files.extend(visible.into_iter().map(|path| print(&path)));
        }
        found.files.extend(files.iter().map(|file| print(&project.path(file))));
        found
    }
}

#[track_caller]
fn print(path: &Path) -> (PathBuf, (usize, u64)) {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    (path.to_owned(), (bytes.len(), hasher.finish()))
}

/// The files that readers of a folder see: names that begin with `_` or `.` are the connector's own.
fn visible(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with(['_', '.']) {
        } else if path.is_dir() {
            found.extend(visible(&path));
        } else {
            found.push(path);
        }
    }
    found
}

/// `arrives`: the rows that the command has moved in the end.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Arrives {
    rows: u64,
    table: Option<String>,
    /// The table at the source.
    like: Option<String>,
    folder: Option<String>,
}

impl Arrives {
    #[track_caller]
    pub(super) fn check(&self, project: &Project, database: Option<&Database<'_>>) {
        match (self, database) {
            (Self { table: Some(table), like: Some(like), folder: None, .. }, Some(database)) => {
                let found = database.hash(table);
                assert_eq!(found.rows, self.rows, "rows of `{table}`");
                assert_eq!(found, database.hash(like), "content of `{table}`");
            }
            (Self { folder: Some(folder), table: None, like: None, .. }, _) => {
                let rows: usize = visible(&project.path(folder)).iter().map(|path| rows(path)).sum();
                assert_eq!(rows as u64, self.rows, "rows in `{folder}`");
            }
            _ => panic!("`arrives` names a `table` and the one it is `like`, or a `folder`: {self:?}"),
        }
    }
}

#[track_caller]
fn rows(path: &Path) -> usize {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let header = usize::from(path.extension().is_some_and(|kind| kind == "csv"));
    text.lines().count() - header
}
