//! The keys of the connectors: each has a test of its own, which holds its pairs against the schema of its manifest.

use super::{Pair, changes, check, datagen, files, incremental, postgres, reading, transforms};
use rapidbyte_testkit::connectors;
use serde_json::Value;
use std::fs;

fn schema(connector: &str) -> Value {
    let manifest = fs::read_to_string(connectors().join(connector).join("manifest.json")).expect("a manifest");
    let manifest: Value = serde_json::from_str(&manifest).expect("a manifest is JSON");
    manifest["config_schema"].clone()
}

fn whole(connector: &str, pairs: &[Pair]) {
    check(&schema(connector), pairs);
}

fn of_dest_postgres() -> Vec<Pair> {
    let mut pairs = postgres::pairs(postgres::Role::Destination);
    pairs.extend(incremental::of_dest_postgres());
    pairs.extend(changes::of_dest_postgres());
    pairs
}

fn of_source_postgres() -> Vec<Pair> {
    let mut pairs = postgres::pairs(postgres::Role::Source);
    pairs.extend(reading::of_source_postgres());
    pairs.extend(changes::of_source_postgres());
    pairs
}

macro_rules! tests {
    ($($test:ident = $connector:literal, $pairs:expr;)*) => {
        const TESTED: &[&str] = &[$($connector),*];
        $(
            #[test]
            fn $test() {
                whole($connector, &$pairs);
            }
        )*
    };
}

tests! {
    keys_of_dest_file = "dest-file", files::of_dest_file();
    keys_of_dest_postgres = "dest-postgres", of_dest_postgres();
    keys_of_dest_stdout = "dest-stdout", files::of_dest_stdout();
    keys_of_source_datagen = "source-datagen", datagen::pairs();
    keys_of_source_postgres = "source-postgres", of_source_postgres();
    keys_of_transform_filter = "transform-filter", transforms::of_filter();
    keys_of_transform_mask = "transform-mask", transforms::of_mask();
    keys_of_transform_row_number = "transform-row-number", transforms::of_row_number();
}

#[test]
fn every_connector_has_its_keys_tested_described_and_no_others() {
    let mut there: Vec<String> = fs::read_dir(connectors())
        .expect("the packed connectors")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    there.sort();
    assert_eq!(there, TESTED);
    for name in there {
        let schema = schema(&name);
        assert_eq!(schema["additionalProperties"], false, "{name} takes keys that it does not know");
        for (key, about) in schema["properties"].as_object().expect("properties") {
            assert!(about["description"].is_string(), "{name}: `{key}` is not described");
        }
    }
}
