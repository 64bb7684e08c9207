//! `spec`: a connector's abilities, permissions and configuration.

use super::Context;
use crate::args::SpecArgs;
use crate::bundle::{self, Connectors};
use crate::failure::Outcome;
use crate::schema::{self, plain};
use crate::style::Style;
use crate::table::{Align, Table, printable};
use rapidbyte_config::Manifest;
use rapidbyte_config::manifest::{Delivery, TlsRule};

pub(crate) fn run(context: &Context, args: &SpecArgs) -> Outcome {
    let place = Connectors::of(&context.environment)?.find(&args.connector)?;
    let manifest = bundle::manifest_of(&args.connector, &place)?;
    if context.printer.is_json() {
        return context.printer.json(&manifest);
    }
    context.printer.data(&render(&manifest, &place.shown(), context.printer.out()))
}

fn render(manifest: &Manifest, from: &str, style: Style) -> String {
    let mut text = format!("{} {} – {}\n", style.heading(&manifest.name), manifest.version, printable(&manifest.description));
    let mut fact = |name: &str, value: String| {
        if !value.is_empty() {
            text.push_str(&format!("  {:<13}{}\n", name, printable(&value)));
        }
    };
    fact("id", manifest.id.clone());
    fact("from", from.to_owned());
    fact("author", manifest.author.clone());
    fact("licence", manifest.license.clone());
    fact("protocol", manifest.protocol_version.clone());
    for role in manifest.roles() {
        fact("role", role.as_str().to_owned());
    }
    if let Some(source) = &manifest.roles.source {
        fact("sync modes", source.supported_sync_modes.iter().map(|mode| mode.as_str()).collect::<Vec<_>>().join(", "));
        fact("features", source.features.join(", "));
    }
    if let Some(destination) = &manifest.roles.destination {
        fact("write modes", destination.supported_write_modes.iter().map(|mode| mode.as_str()).collect::<Vec<_>>().join(", "));
        fact("features", destination.features.join(", "));
        let delivery = match destination.delivery {
            Delivery::ExactlyOnce => "exactly once",
            Delivery::AtLeastOnce => "at least once: a retry may repeat rows",
        };
        fact("delivery", delivery.to_owned());
    }
    fact("network", network(manifest));
    fact("environment", manifest.permissions.env.allowed_vars.join(", "));
    fact("directories", directories(manifest));
    fact("memory", format!("at least {} MB", manifest.artifact.min_memory_mb));
    text.push('\n');
    text.push_str(&config(manifest, style));
    text
}

/// What it may dial.
fn network(manifest: &Manifest) -> String {
    let Some(network) = &manifest.permissions.network else { return "none".to_owned() };
    let tls = match network.tls {
        TlsRule::Required => "TLS required",
        TlsRule::Optional => "TLS optional",
        TlsRule::Forbidden => "without TLS",
    };
    let mut peers = network.allowed_domains.clone();
    if network.allow_runtime_config_domains {
        peers.push("hosts in its configuration".to_owned());
    }
    let peers = if peers.is_empty() { "nowhere".to_owned() } else { peers.join(", ") };
    format!("{peers} ({tls})")
}

/// What it may open.
fn directories(manifest: &Manifest) -> String {
    let fixed = manifest.permissions.fs.preopens.iter().map(|preopen| format!("{} ({})", preopen.host, preopen.mode.as_str()));
    let configured =
        schema::keys(&manifest.config_schema).into_iter().filter(|key| key.is_path()).map(|key| format!("`{}`", key.path));
    let all: Vec<String> = fixed.chain(configured).collect();
    if all.is_empty() { "none".to_owned() } else { all.join(", ") }
}

fn config(manifest: &Manifest, style: Style) -> String {
    let keys = schema::keys(&manifest.config_schema);
    if keys.is_empty() {
        return "No configuration.\n".to_owned();
    }
    let mut table = Table::new(&["config", "takes", "default", "description"].map(|name| (name, Align::Left)));
    for key in keys {
        let default = match (key.required, key.default()) {
            (true, _) => "(required)".to_owned(),
            (false, Some(value)) => plain(value),
            (false, None) => String::new(),
        };
        table.row([key.path.clone(), key.takes(), default, key.description().to_owned()]);
    }
    table.render(style)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::tests::manifest_json;

    #[test]
    fn a_connector_is_shown_whole() {
        let manifest = Manifest::parse(manifest_json("dest-a").as_bytes()).expect("manifest");
        let text = render(&manifest, "bundled", Style::plain());
        for part in [
            "N 0.1.0 – Made for tests\n",
            "  write modes  append, replace\n",
            "  network      *.example.org, hosts in its configuration (TLS optional)\n",
            "  directories  `path`\n",
            "  delivery     exactly once\n",
            "port           integer, 1 to 65535             5432",
            "password       string, secret                  (required)",
            "fields[].name  string                          (required)  a column",
        ] {
            assert!(text.contains(part), "{part}\n---\n{text}");
        }
    }
}
