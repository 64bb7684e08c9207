//! How to reach the server: the part of the configuration both connectors share.

use rapidbyte_sdk::ConnectorError;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::fmt;

/// Text that must not be shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Keeps `text` from being shown.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Whether the connection is encrypted, and how far the server's certificate is checked. Where `sslrootcert` is set, which only
/// the host sees, it checks the certificate's chain in any encrypted mode.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SslMode {
    /// Never encrypted.
    Disable,
    /// Encrypted where the server offers it, without a check of its identity.
    #[default]
    Prefer,
    /// Encrypted or refused, without a check of its identity.
    Require,
    /// The certificate's chain is checked.
    VerifyCa,
    /// The certificate's chain and name are checked.
    VerifyFull,
}

/// Where the server is and who we are.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectConfig {
    /// Name or address of the server.
    pub host: String,
    /// Its port.
    #[serde(default = "default_port")]
    pub port: u16,
    /// The role to log in as.
    pub user: String,
    /// Its password; none where the server asks for none.
    #[serde(default)]
    pub password: Option<Secret>,
    /// The database.
    pub database: String,
    /// Encryption.
    #[serde(default)]
    pub sslmode: SslMode,
    /// How long reaching the server and logging in may take, each.
    #[serde(default = "default_connect_timeout")]
    pub connect_timeout_seconds: u64,
    /// The server's `statement_timeout` for our sessions; none leaves the server's own.
    #[serde(default)]
    pub statement_timeout_seconds: Option<u64>,
    /// How long the server may be silent while we wait for it.
    #[serde(default = "default_idle_timeout")]
    pub idle_timeout_seconds: u64,
    /// What `pg_stat_activity` shows.
    #[serde(default = "default_application_name")]
    pub application_name: String,
}

fn default_port() -> u16 {
    5432
}

fn default_connect_timeout() -> u64 {
    10
}

fn default_idle_timeout() -> u64 {
    600
}

fn default_application_name() -> String {
    "rapidbyte".to_owned()
}

/// The keys of [`ConnectConfig`].
const CONNECT_KEYS: [&str; 10] = [
    "host",
    "port",
    "user",
    "password",
    "database",
    "sslmode",
    "connect_timeout_seconds",
    "statement_timeout_seconds",
    "idle_timeout_seconds",
    "application_name",
];

/// Longest wait that can be configured: a day.
const MAX_SECONDS: u64 = 86_400;

impl ConnectConfig {
    fn check(&self) -> Result<(), ConnectorError> {
        let seconds = [
            ("connect_timeout_seconds", Some(self.connect_timeout_seconds)),
            ("idle_timeout_seconds", Some(self.idle_timeout_seconds)),
            ("statement_timeout_seconds", self.statement_timeout_seconds),
        ];
        for (key, value) in seconds {
            if value.is_some_and(|value| value == 0 || value > MAX_SECONDS) {
                return Err(ConnectorError::config("config_range", format!("`{key}` must lie between 1 and {MAX_SECONDS}")));
            }
        }
        let texts = [
            ("host", self.host.as_str()),
            ("user", self.user.as_str()),
            ("database", self.database.as_str()),
            ("application_name", self.application_name.as_str()),
            ("password", self.password.as_ref().map_or("", Secret::reveal)),
        ];
        for (key, value) in texts {
            if value.contains('\0') {
                return Err(ConnectorError::config("config_nul", format!("`{key}` contains a NUL character")));
            }
        }
        Ok(())
    }
}

/// Splits a connector's configuration into the shared part and the connector's own, `O`, which denies unknown fields.
pub fn split_config<O: DeserializeOwned>(config: Value) -> Result<(ConnectConfig, O), ConnectorError> {
    let Value::Object(all) = config else {
        return Err(ConnectorError::config("config_shape", "the configuration is not a mapping"));
    };
    let (mut shared, mut own) = (Map::new(), Map::new());
    for (key, value) in all {
        let part = if CONNECT_KEYS.contains(&key.as_str()) { &mut shared } else { &mut own };
        part.insert(key, value);
    }
    let connect: ConnectConfig = parse(Value::Object(shared))?;
    connect.check()?;
    Ok((connect, parse(Value::Object(own))?))
}

fn parse<T: DeserializeOwned>(value: Value) -> Result<T, ConnectorError> {
    serde_json::from_value(value).map_err(|error| {
        // Serde quotes values of the wrong type, which may be the password: only words about keys are passed on.
        let text = error.to_string();
        let about = if text.starts_with("unknown field") || text.starts_with("missing field") {
            text
        } else {
            "a key has a value of the wrong type".to_owned()
        };
        ConnectorError::config("config_shape", format!("the configuration does not fit the connector: {about}"))
            .with_hint("compare the keys under `config:` with `rapidbyte spec <connector>`")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Own {
        schema: String,
    }

    #[test]
    fn shared_and_own_keys_are_told_apart() {
        let config = json!({"host": "h", "user": "u", "database": "d", "password": "p", "sslmode": "verify-full", "schema": "s"});
        let (connect, own) = split_config::<Own>(config).unwrap();
        assert_eq!((connect.port, connect.sslmode), (5432, SslMode::VerifyFull));
        assert_eq!(own, Own { schema: "s".into() });
    }

    #[test]
    fn unknown_keys_and_zero_timeouts_are_refused() {
        let base = json!({"host": "h", "user": "u", "database": "d", "schema": "s"});
        for (key, value, word) in [("shema", json!(1), "shema"), ("connect_timeout_seconds", json!(0), "connect_timeout_seconds")] {
            let mut config = base.clone();
            config[key] = value;
            assert!(split_config::<Own>(config).unwrap_err().message.contains(word));
        }
    }

    #[test]
    fn the_password_is_never_shown() {
        let config = json!({"host": "h", "user": "u", "database": "d", "password": "canary", "schema": "s"});
        let (connect, _) = split_config::<Own>(config).unwrap();
        assert!(!format!("{connect:?}").contains("canary"));
        let wrong = json!({"host": "h", "user": "u", "database": "d", "port": "canary", "schema": "s"});
        assert!(!split_config::<Own>(wrong).unwrap_err().message.contains("canary"));
    }
}
