//! The wire's text, compared with a copy: a change to it must be meant.

use rapidbyte_testkit::root;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The texts below a directory, those of dependencies too, by their paths in it.
fn texts(dir: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display())).flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if path.is_dir() {
            found.extend(texts(&path).into_iter().map(|(below, text)| (format!("{name}/{below}"), text)));
        } else if path.extension().is_some_and(|extension| extension == "wit") {
            found.insert(name, fs::read_to_string(path).expect("WIT is text"));
        }
    }
    found
}

#[test]
fn the_wire_is_what_it_was() {
    let (now, golden) = (root().join("wit/v2"), root().join("tests/golden/wit-v2"));
    let (now, then) = (texts(&now), texts(&golden));
    let names = |texts: &BTreeMap<String, String>| texts.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&now), names(&then), "files of wit/v2 and of its copy");
    for (name, text) in &now {
        let copy = &then[name];
        let differing = text.lines().zip(copy.lines()).position(|(new, old)| new != old);
        let line = differing.unwrap_or_else(|| text.lines().count().min(copy.lines().count())) + 1;
        assert!(
            text == copy,
            "wit/v2/{name} differs from tests/golden/wit-v2/{name}, first in line {line}.\nThe wire between host and connectors has \
             changed. If that is meant: say so in docs/design/protocol.md, see that host, SDK and every connector follow, then copy the \
             file over its golden copy. Once the protocol is frozen, make a new directory instead."
        );
    }
}
