//! `init`: a first pipeline, made from the connectors' own schemas, so that what it says is what they take.

use super::Context;
use crate::args::InitArgs;
use crate::bundle::{self, Connectors};
use crate::failure::{Failure, Outcome};
use crate::schema::{self, Key, plain};
use crate::table::printable;
use rapidbyte_config::Manifest;
use rapidbyte_config::manifest::Role;
use rapidbyte_types::{SyncMode, WriteMode};
use serde_json::Value;

pub(crate) fn run(context: &Context, args: &InitArgs) -> Outcome {
    let connectors = Connectors::of(&context.environment)?;
    let source = with_role(&connectors, &args.source, Role::Source)?;
    let destination = with_role(&connectors, &args.destination, Role::Destination)?;
    let text = pipeline(&args.source, &source, &args.destination, &destination);
    if context.printer.is_json() {
        return context.printer.json(&serde_json::json!({ "pipeline": text }));
    }
    context.printer.data(&text)
}

fn with_role(connectors: &Connectors, name: &str, role: Role) -> Outcome<Manifest> {
    let manifest = bundle::manifest_of(name, &connectors.find(name)?)?;
    if !manifest.has_role(role) {
        return Err(Failure::usage(
            format!("`{name}` can't be used as a {role}"),
            "`rapidbyte connectors` lists what each connector is",
        ));
    }
    Ok(manifest)
}

fn pipeline(source_name: &str, source: &Manifest, destination_name: &str, destination: &Manifest) -> String {
    let short = |name: &str| {
        let stem = name.rsplit('/').next().unwrap_or(name).trim_end_matches(".wasm");
        let stem = stem.split_once('-').map_or(stem, |(_, stem)| stem);
        stem.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect::<String>()
    };
    let sync_mode = pick(source.roles.source.iter().flat_map(|role| &role.supported_sync_modes).copied(), SyncMode::FullRefresh);
    let write_mode =
        pick(destination.roles.destination.iter().flat_map(|role| &role.supported_write_modes).copied(), WriteMode::Append);
    let write_modes: Vec<&str> =
        destination.roles.destination.iter().flat_map(|role| &role.supported_write_modes).map(|mode| mode.as_str()).collect();
    format!(
        "\
# A Rapidbyte pipeline: {source_title} → {destination_title}.
#
#   rapidbyte check <this file>     looks whether it would run
#   rapidbyte run <this file>       moves the rows; after an interruption it goes on where it stopped
#
# Values may come from the environment: ${{NAME}}, ${{NAME:-default}}, or ${{NAME:?what to say when it is not set}}.
version: \"1.0\"
{pipeline:<32} # progress is kept under this name

source:
  use: {source_name}
  config:
{source_config}  streams:                         # `rapidbyte discover <this file>` lists what there is
    - name: {stream}
      sync_mode: {sync_mode}
      # columns: [id, name]        # all of them when left out

# transforms:                      # what rows pass through, in order
#   - use: transform-mask
#     config: {{ fields: [email] }}

destination:
  use: {destination_name}
  config:
{destination_config}{write_mode:<32} # one of: {write_modes}
  on_data_error: fail              # what happens to a row that can't be written

# state:                           # where progress is kept; by default a file beside this one
#   backend: sqlite
#   connection: .rapidbyte/state.db

resources:
  parallelism: 4                   # tasks at once
  max_retries: 3                   # after the first attempt
  # checkpoint_interval_bytes: 64mb
  # max_memory: 2gb
  # compression: lz4               # between the stages; off by default
",
        source_title = comment(&source.name),
        destination_title = comment(&destination.name),
        pipeline = format!("pipeline: {}_to_{}", short(source_name), short(destination_name)),
        source_name = scalar(&Value::String(source_name.to_owned())),
        destination_name = scalar(&Value::String(destination_name.to_owned())),
        source_config = config(source, &variable_prefix(source_name)),
        destination_config = config(destination, &variable_prefix(destination_name)),
        stream = stream_name(source),
        sync_mode = sync_mode.map_or("full_refresh", SyncMode::as_str),
        write_mode = format!("  write_mode: {}", write_mode.map_or("append", WriteMode::as_str)),
        write_modes = write_modes.join(", "),
    )
}

/// The preferred mode where it is supported, otherwise the first that is.
fn pick<T: PartialEq + Copy>(supported: impl Iterator<Item = T>, preferred: T) -> Option<T> {
    let all: Vec<T> = supported.collect();
    if all.contains(&preferred) { Some(preferred) } else { all.first().copied() }
}

/// A stream that is there by default: a source that makes its data names it after its pattern.
fn stream_name(source: &Manifest) -> String {
    let pattern = source.config_schema.pointer("/properties/pattern/default").and_then(Value::as_str);
    pattern.map_or_else(|| "public.my_table".to_owned(), |pattern| scalar(&Value::String(pattern.to_owned())))
}

fn variable_prefix(name: &str) -> String {
    let stem = name.rsplit('/').next().unwrap_or(name).trim_end_matches(".wasm");
    stem.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}

/// The connector's keys: required ones with a value to be changed, others commented out with their defaults.
fn config(manifest: &Manifest, variable_prefix: &str) -> String {
    let mut text = String::new();
    let mut line = |start: &str, comment_text: &str| {
        if comment_text.is_empty() {
            text.push_str(&format!("{start}\n"));
        } else {
            text.push_str(&format!("{start:<32} # {}\n", comment(comment_text)));
        }
    };
    let keys = schema::keys(&manifest.config_schema);
    let top: Vec<&Key<'_>> = keys.iter().filter(|key| !key.path.contains(['.', '['])).collect();
    for key in &top {
        let about = about(key);
        if key.required {
            line(&format!("    {}: {}", key.path, example(key, variable_prefix)), &about);
        } else if let Some(default) = key.default() {
            line(&format!("    # {}: {}", key.path, scalar(default)), &about);
        } else {
            line(&format!("    # {}:", key.path), &about);
        }
    }
    if !top.iter().any(|key| key.required) {
        text.push_str("    {}\n");
        // An empty mapping in block style has to stand on a line of its own; its comments go above it.
    }
    text
}

/// What a key is for, and what it takes where its name and value do not say.
fn about(key: &Key<'_>) -> String {
    let (description, takes) = (key.description().trim_end_matches('.'), key.takes());
    if description.is_empty() {
        takes
    } else if takes.contains([' ', ',']) {
        format!("{description} ({takes})")
    } else {
        description.to_owned()
    }
}

/// A value that the schema takes and a person will want to look at.
fn example(key: &Key<'_>, variable_prefix: &str) -> String {
    let schema = key.schema;
    if key.is_secret() {
        let name: String = key.path.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
        return format!("\"${{{variable_prefix}_{name}:-change-me}}\"");
    }
    let from_schema = schema
        .get("examples")
        .and_then(Value::as_array)
        .and_then(|examples| examples.first())
        .or_else(|| key.default())
        .or_else(|| schema.get("const"))
        .or_else(|| schema.get("enum").and_then(Value::as_array).and_then(|options| options.first()));
    if let Some(value) = from_schema {
        return scalar(value);
    }
    if key.is_host() {
        return "localhost".to_owned();
    }
    if key.is_path() {
        return "output".to_owned();
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("integer" | "number") => schema.get("minimum").map_or_else(|| "1".to_owned(), plain),
        Some("boolean") => "false".to_owned(),
        Some("array") => match schema.get("items").and_then(|items| items.get("type")).and_then(Value::as_str) {
            Some("string") => "[\"change-me\"]".to_owned(),
            _ => "[]".to_owned(),
        },
        Some("object") => "{}".to_owned(),
        _ => "change_me".to_owned(),
    }
}

/// A value on one line: JSON is YAML, and plain words need no quotes.
fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) if is_plain_word(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Text that YAML reads as itself.
fn is_plain_word(text: &str) -> bool {
    let reserved = ["true", "false", "null", "yes", "no", "on", "off"];
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '.' || c == '/')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c))
        && !reserved.contains(&text.to_ascii_lowercase().as_str())
}

fn comment(text: &str) -> String {
    printable(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::tests::manifest_json;
    use rapidbyte_config::PipelinePlan;
    use std::path::Path;

    fn manifest(name: &str) -> Manifest {
        Manifest::parse(manifest_json(name).as_bytes()).expect("manifest")
    }

    fn accepted(source: &Manifest, destination: &Manifest) -> PipelinePlan {
        let text = pipeline("source-a", source, "dest-b", destination);
        let plan = PipelinePlan::from_str(&text, Path::new("/p/pipeline.yaml"), &|_| None)
            .unwrap_or_else(|error| panic!("{error}\n{text}"));
        for (manifest, connector) in [(source, &plan.source), (destination, &plan.destination)] {
            let schema = manifest.config_schema().expect("schema");
            schema.check(&connector.config, Path::new("/p")).unwrap_or_else(|error| panic!("{error}\n{text}"));
        }
        plan
    }

    #[test]
    fn the_example_is_a_valid_pipeline() {
        let plan = accepted(&manifest("source-a"), &manifest("dest-b"));
        assert_eq!(plan.pipeline, "a_to_b");
        assert_eq!(plan.source.config["host"], "localhost");
        assert_eq!(plan.source.config["password"], "change-me");
        assert_eq!(plan.streams[0].write_mode, WriteMode::Append);
    }

    #[test]
    fn connectors_without_required_keys_are_no_special_case() {
        let mut source = manifest("source-a");
        source.config_schema["required"] = serde_json::json!([]);
        let plan = accepted(&source, &manifest("dest-b"));
        assert_eq!(plan.source.config, serde_json::json!({}));
    }

    #[test]
    fn the_first_supported_mode_is_taken_where_the_usual_one_is_not() {
        let text = manifest_json("dest-b").replace("\"append\", \"replace\"", "\"replace\"");
        let destination = Manifest::parse(text.as_bytes()).expect("manifest");
        assert_eq!(accepted(&manifest("source-a"), &destination).streams[0].write_mode, WriteMode::Replace);
    }

    #[test]
    fn every_key_is_there_for_the_reader() {
        let text = pipeline("source-a", &manifest("source-a"), "dest-b", &manifest("dest-b"));
        for part in ["    # port: 5432", "    # format: parquet", "${SOURCE_A_PASSWORD:-change-me}", "# one of: append, replace"] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }
}
