//! Names of folders and files. Whatever a stream is called, its name becomes one harmless path component, and two streams
//! never share one.

use rapidbyte_sdk::StreamName;
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// Where manifests stand, per stream.
pub(crate) const CONTROL: &str = "_rapidbyte";
/// Where files stand that are not visible yet, per stream.
pub(crate) const STAGING: &str = "_staging";
/// Where the directories stand that the streams' links lead to.
pub(crate) const GENERATIONS: &str = "_generations";

/// Where rows stand that could not be written, per stream.
pub(crate) const DEAD_LETTERS: &str = "_dead_letters";

/// File systems allow 255 bytes; two of these and an ending stay below.
const LONGEST: usize = 110;
const KEPT: usize = 72;

/// `namespace.name`, or `name` where the source has no namespaces.
pub(crate) fn folder(stream: &StreamName) -> String {
    match &stream.namespace {
        Some(namespace) => format!("{}.{}", escaped(namespace), escaped(&stream.name)),
        None => escaped(&stream.name),
    }
}

/// A data file: `part-<generation>-<partition>-<seq>[-<n>].<extension>`.
pub(crate) fn data_file(generation: u64, partition: &str, seq: u64, n: u32, extension: &str) -> String {
    let stem = file_stem(generation, partition, seq);
    if n == 1 { format!("{stem}.{extension}") } else { format!("{stem}-{n}.{extension}") }
}

/// What the names of a commit's files begin with, before a `.` or a `-`.
pub(crate) fn file_stem(generation: u64, partition: &str, seq: u64) -> String {
    format!("part-{generation:06}-{}-{seq:06}", escaped(partition))
}

/// The directory where an epoch stages files of a generation.
pub(crate) fn staging(generation: u64, epoch: u64) -> String {
    format!("g{generation}-e{epoch}")
}

/// The epoch in the name of a staging directory; `None` where the name is not ours.
pub(crate) fn staging_epoch(name: &str) -> Option<u64> {
    let (generation, epoch) = name.strip_prefix('g')?.split_once("-e")?;
    let (generation, epoch) = (generation.parse().ok()?, epoch.parse().ok()?);
    (staging(generation, epoch) == name).then_some(epoch)
}

/// The directory that a publish makes visible.
pub(crate) fn published(generation: u64, epoch: u64) -> String {
    format!("{generation}-{epoch}")
}

/// The directory that a commit of an open-ended generation makes visible.
pub(crate) fn committed(generation: u64, epoch: u64, seq: u64) -> String {
    format!("{}-{seq}", published(generation, epoch))
}

/// The epoch in the name of a published directory; `None` where the name is not ours.
pub(crate) fn published_epoch(name: &str) -> Option<u64> {
    let mut parts = name.split('-').map(|part| part.parse::<u64>().ok());
    let (generation, epoch) = (parts.next()??, parts.next()??);
    let again = match (parts.next(), parts.next()) {
        (None, None) => published(generation, epoch),
        (Some(seq), None) => committed(generation, epoch, seq?),
        _ => return None,
    };
    (again == name).then_some(epoch)
}

/// ASCII letters, digits, `-` and `_` stand for themselves, every other byte as `%XX`, as does a `_` at the beginning, because
/// our own folders begin with one. A long name keeps its beginning and ends with a hash.
fn escaped(text: &str) -> String {
    if text.is_empty() {
        return "%".into();
    }
    let mut name = String::with_capacity(text.len());
    for (i, byte) in text.bytes().enumerate() {
        if byte.is_ascii_alphanumeric() || byte == b'-' || (byte == b'_' && i > 0) {
            name.push(char::from(byte));
        } else {
            // Writing to a string can't fail.
            let _ = write!(name, "%{byte:02X}");
        }
    }
    if name.len() <= LONGEST {
        return name;
    }
    let digest = Sha256::digest(text.as_bytes());
    name.truncate(KEPT);
    // `%-` is no escape, so a hashed name equals no plain one.
    name.push_str("%-");
    for byte in &digest[..16] {
        let _ = write!(name, "{byte:02x}");
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn plain_names_stay_readable() {
        assert_eq!(folder(&StreamName::new("orders")), "orders");
        assert_eq!(folder(&StreamName::qualified("public", "order_items")), "public.order_items");
        assert_eq!(data_file(3, "0", 12, 1, "parquet"), "part-000003-0-000012.parquet");
        assert_eq!(data_file(3, "a/b", 12, 2, "csv.gz"), "part-000003-a%2Fb-000012-2.csv.gz");
    }

    #[test]
    fn hostile_names_are_single_components_and_never_meet() {
        let long = "x".repeat(300);
        let longer = format!("{long}y");
        let parts = [
            "",
            ".",
            "..",
            "a.b",
            "a",
            "b",
            "a/b",
            "/",
            "\\",
            "a b",
            "_staging",
            "_rapidbyte",
            "%",
            "%41",
            "A%2E",
            "\0",
            "größe",
            "-",
            "名前",
            "a\nb",
            "%-",
            long.as_str(),
            longer.as_str(),
        ];
        let mut seen: HashMap<String, StreamName> = HashMap::new();
        for name in parts {
            let namespaces = parts.iter().map(|namespace| Some((*namespace).to_owned()));
            for namespace in namespaces.chain([None]) {
                let stream = StreamName { namespace, name: name.to_owned() };
                let folder = folder(&stream);
                assert!(folder.len() <= 255 && folder.is_ascii(), "{folder}");
                assert!(!folder.starts_with('_') && !folder.starts_with('.'), "{folder}");
                assert!(!folder.bytes().any(|byte| matches!(byte, b'/' | b'\\' | 0..=31)), "{folder}");
                if let Some(other) = seen.insert(folder.clone(), stream.clone()) {
                    panic!("{other:?} and {stream:?} both map to `{folder}`");
                }
            }
        }
    }
}
