//! The names of slot and publication, and the plugin that tells the log.

use rapidbyte_sdk::ConnectorError;
use serde::Deserialize;

/// As long as the server takes names.
const MAX_NAME: usize = 63;
const PREFIX: &str = "rapidbyte_";

/// What tells the log's changes at the server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Plugin {
    /// The server's own, which sends what a publication names.
    #[default]
    Pgoutput,
    /// Text of every table's changes, where there can be no publication.
    TestDecoding,
}

impl Plugin {
    /// As the server and the configuration name it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Pgoutput => "pgoutput",
            Self::TestDecoding => "test_decoding",
        }
    }
}

/// The keys of the configuration that are about changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CdcConfig {
    pub(crate) plugin: Plugin,
    pub(crate) slot: Option<String>,
    pub(crate) publication: Option<String>,
}

/// What changes are read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) plugin: Plugin,
    pub(crate) slot: String,
    pub(crate) publication: String,
    /// Whether the publication is the pipeline's own, so that tables which are no stream any more leave it.
    pub(crate) own_publication: bool,
}

/// FNV-1a, for names that had to be changed: two pipelines must not meet in one slot.
fn fingerprint(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// `rapidbyte_{pipeline}` in the letters a slot may have: lower case, digits and underscores.
fn default_name(pipeline: &str) -> String {
    let plain: String = pipeline
        .chars()
        .map(|letter| match letter {
            'a'..='z' | '0'..='9' | '_' => letter,
            _ => '_',
        })
        .collect();
    if plain == pipeline && PREFIX.len() + plain.len() <= MAX_NAME {
        return format!("{PREFIX}{plain}");
    }
    let room = MAX_NAME - PREFIX.len() - 9;
    let kept: String = plain.chars().take(room).collect();
    format!("{PREFIX}{kept}_{:08x}", fingerprint(pipeline))
}

impl CdcConfig {
    /// The names for a pipeline.
    pub(crate) fn names(&self, pipeline: Option<&str>) -> Result<Names, ConnectorError> {
        let named = |given: &Option<String>| match (given, pipeline) {
            (Some(name), _) => Ok(name.clone()),
            (None, Some(pipeline)) => Ok(default_name(pipeline)),
            (None, None) => {
                Err(ConnectorError::config("no_pipeline", "changes are read on behalf of a pipeline, and there is none")
                    .with_hint("set `replication_slot` and `publication_name`"))
            }
        };
        if self.plugin == Plugin::TestDecoding && self.publication.is_some() {
            return Err(ConnectorError::config("unused_publication", "`plugin: test_decoding` knows no publications")
                .with_hint("remove `publication_name`, or `plugin`"));
        }
        let slot = named(&self.slot)?;
        if slot.is_empty() || slot.len() > MAX_NAME || !slot.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_')) {
            return Err(ConnectorError::config(
                "bad_slot_name",
                format!("`{}` is no name of a replication slot", slot.escape_default()),
            )
            .with_hint("use up to 63 lower-case letters, digits and underscores for `replication_slot`"));
        }
        Ok(Names { plugin: self.plugin, slot, publication: named(&self.publication)?, own_publication: self.publication.is_none() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_the_pipeline_and_never_meet() {
        assert_eq!(default_name("orders_1"), "rapidbyte_orders_1");
        let changed: Vec<String> = ["Orders", "orders-1", "orders.1", "ördërs"].into_iter().map(default_name).collect();
        let long = [default_name(&"x".repeat(54)), default_name(&"x".repeat(55)), default_name(&"x".repeat(200))];
        for name in changed.iter().chain(&long) {
            assert!(name.len() <= MAX_NAME && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_')), "{name}");
        }
        let all: std::collections::BTreeSet<&String> = changed.iter().chain(&long).collect();
        assert_eq!(all.len(), changed.len() + long.len());
        assert_eq!(default_name(&"x".repeat(53)), format!("rapidbyte_{}", "x".repeat(53)));
    }

    #[test]
    fn what_the_server_would_refuse_is_refused() {
        let slot = |name: &str| CdcConfig { slot: Some(name.into()), ..CdcConfig::default() }.names(Some("p"));
        assert_eq!(slot("mine_1").unwrap().slot, "mine_1");
        for name in ["", "Mine", "a-b", "a'b", &"x".repeat(64)] {
            assert_eq!(slot(name).unwrap_err().code, "bad_slot_name", "{name}");
        }
        assert_eq!(CdcConfig::default().names(None).unwrap_err().code, "no_pipeline");
        let names = CdcConfig::default().names(Some("p")).unwrap();
        let odd = CdcConfig { plugin: Plugin::TestDecoding, publication: Some("p".into()), slot: None };
        assert_eq!(odd.names(Some("p")).unwrap_err().code, "unused_publication");
        assert_eq!((names.slot.as_str(), names.publication.as_str(), names.own_publication), ("rapidbyte_p", "rapidbyte_p", true));
    }
}
