//! `connectors`: what can be used by name.

use super::{Context, pack};
use crate::args::{ConnectorsArgs, ConnectorsCommand};
use crate::bundle::{self, Connectors, Place};
use crate::environment::CONNECTORS_DIR;
use crate::failure::{Failure, Outcome};
use crate::style::Style;
use crate::table::{Align, Table};
use rapidbyte_config::Manifest;
use serde_json::{Value, json};

pub(crate) fn run(context: &Context, args: &ConnectorsArgs) -> Outcome {
    match &args.command {
        Some(ConnectorsCommand::Pack(args)) => pack::run(context, args),
        None => list(context),
    }
}

fn list(context: &Context) -> Outcome {
    let connectors = Connectors::of(&context.environment)?;
    let listed: Vec<Listed<'_>> =
        connectors.iter().map(|(name, place)| Listed { name, place, manifest: bundle::manifest_of(name, place) }).collect();
    if context.printer.is_json() {
        return context.printer.json(&json!({ "connectors": listed.iter().map(document).collect::<Vec<_>>() }));
    }
    if listed.is_empty() {
        context.printer.note(&format!("this build carries no connectors; set `{}` to a directory of them\n", CONNECTORS_DIR.name));
        return Ok(());
    }
    context.printer.data(&render(&listed, context.printer.out()))
}

struct Listed<'a> {
    name: &'a str,
    place: &'a Place,
    manifest: Result<Manifest, Failure>,
}

/// How a connector can read or write, whatever it is.
fn modes(manifest: &Manifest) -> Vec<&'static str> {
    let reads = manifest.roles.source.iter().flat_map(|role| role.supported_sync_modes.iter().map(|mode| mode.as_str()));
    let writes = manifest.roles.destination.iter().flat_map(|role| role.supported_write_modes.iter().map(|mode| mode.as_str()));
    reads.chain(writes).collect()
}

fn roles(manifest: &Manifest) -> Vec<&'static str> {
    manifest.roles().into_iter().map(|role| role.as_str()).collect()
}

fn document(Listed { name, place, manifest }: &Listed<'_>) -> Value {
    match manifest {
        Ok(manifest) => json!({
            "name": name,
            "id": manifest.id,
            "version": manifest.version,
            "roles": roles(manifest),
            "modes": modes(manifest),
            "description": manifest.description,
            "from": place.shown(),
        }),
        Err(failure) => json!({ "name": name, "from": place.shown(), "error": failure.as_json() }),
    }
}

fn render(listed: &[Listed<'_>], style: Style) -> String {
    let columns = ["name", "role", "version", "modes", "from", "description"];
    let mut table = Table::new(&columns.map(|column| (column, Align::Left)));
    for Listed { name, place, manifest } in listed {
        let cells = match manifest {
            Ok(manifest) => [
                (*name).to_owned(),
                roles(manifest).join(", "),
                manifest.version.clone(),
                modes(manifest).join(", "),
                place.shown(),
                manifest.description.clone(),
            ],
            Err(failure) => {
                let why = failure.words().map(|words| words.cause.unwrap_or(words.what)).unwrap_or_default();
                [(*name).to_owned(), String::new(), String::new(), String::new(), place.shown(), format!("can't be loaded: {why}")]
            }
        };
        table.row(cells);
    }
    table.render(style)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::tests::connectors_in;

    #[test]
    fn good_and_broken_connectors_are_listed() {
        let dir = tempfile::tempdir().expect("directory");
        let connectors = connectors_in(dir.path(), &["source-a", "dest-b"]);
        std::fs::write(dir.path().join("dest-b/x.wasm"), "text").expect("written");
        let of = |name: &'static str| {
            let place = connectors.find(name).expect("found");
            let manifest = bundle::manifest_of(name, &place);
            (place, manifest)
        };
        let (a, b) = (of("source-a"), of("dest-b"));
        let listed =
            [Listed { name: "source-a", place: &a.0, manifest: a.1 }, Listed { name: "dest-b", place: &b.0, manifest: b.1 }];
        let text = render(&listed, Style::plain());
        let line = |name: &str| text.lines().find(|line| line.starts_with(name)).expect("line");
        assert!(line("source-a").contains("source  0.1.0    full_refresh"), "{text}");
        assert!(line("dest-b").contains("can't be loaded: not a WebAssembly file"), "{text}");
        assert_eq!(document(&listed[0])["modes"][0], "full_refresh");
        assert_eq!(document(&listed[1])["error"]["kind"], "connector");
    }
}
