//! Which hosts an instance may dial: what the manifest or the configuration names, within what the operator allows.

use super::address::{Reach, reach};
use rapidbyte_config::connector_config::TlsFiles;
use rapidbyte_config::manifest::TlsRule;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// What an instance may reach.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkGrant {
    /// Hosts named by the manifest.
    pub manifest: Vec<HostPattern>,
    /// Hosts named by the configuration, where the manifest lets it.
    pub config: Vec<HostPattern>,
    /// What the operator allows; `None` = anything.
    pub operator: Option<Vec<HostPattern>>,
    /// Whether connections are encrypted.
    pub tls: TlsRule,
    /// Files for TLS.
    pub files: TlsFiles,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Name(String),
    Address(IpAddr),
    /// Names below this one.
    Below(String),
    Anything,
}

/// `db.example.com`, `*.example.com`, `10.0.0.5`, `[::1]`, each with or without `:port`; `*` is any public host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPattern {
    host: Host,
    port: Option<u16>,
}

/// A text that names no host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPatternError {
    found: String,
    why: &'static str,
}

impl fmt::Display for HostPatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` names no host: {}", self.found, self.why)
    }
}

impl std::error::Error for HostPatternError {}

/// A host as asked for: normalised, and never something a resolver would read in another way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Target {
    Name(String),
    Address(IpAddr),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// Reads a host: an address in its usual notation, or a DNS name in ASCII.
pub(crate) fn parse_target(text: &str) -> Result<Target, HostPatternError> {
    let refuse = |why| HostPatternError { found: text.chars().take(64).collect(), why };
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if let Some(inner) = bare {
        return match inner.parse::<Ipv6Addr>() {
            Ok(v6) => Ok(Target::Address(super::address::plain(IpAddr::V6(v6)))),
            Err(_) => Err(refuse("the brackets hold no IPv6 address")),
        };
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(Target::Address(super::address::plain(address)));
    }
    if !text.is_ascii() {
        return Err(refuse("write international names in their `xn--` form"));
    }
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    if name.is_empty() || name.len() > 253 {
        return Err(refuse("a name has 1 to 253 characters"));
    }
    for label in name.split('.') {
        let fine = !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-');
        if !fine {
            return Err(refuse("a label is empty, too long, or has other characters than letters, digits, `-` and `_`"));
        }
    }
    // `0177.0.0.1`, `2130706433`, `0x7f.1`: a resolver may take them for addresses.
    let last = name.rsplit('.').next().unwrap_or("");
    let hex = last.strip_prefix("0x").is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_hexdigit()));
    if hex || last.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(refuse("a name that ends in a number must be a plain `a.b.c.d` address"));
    }
    Ok(Target::Name(name))
}

impl FromStr for HostPattern {
    type Err = HostPatternError;

    fn from_str(text: &str) -> Result<Self, HostPatternError> {
        let refuse = |why| HostPatternError { found: text.chars().take(64).collect(), why };
        let text = text.trim();
        let (host, port) = match text.rsplit_once(':') {
            // A bare IPv6 address has no port.
            Some(_) if text.parse::<Ipv6Addr>().is_ok() || (text.starts_with('[') && text.ends_with(']')) => (text, None),
            Some((host, port)) => {
                let port = port.parse::<u16>().ok().filter(|port| *port > 0);
                (host, Some(port.ok_or_else(|| refuse("the port is not a number from 1 to 65535"))?))
            }
            None => (text, None),
        };
        let host = if host == "*" {
            Host::Anything
        } else if let Some(below) = host.strip_prefix("*.") {
            match parse_target(below)? {
                Target::Name(name) => Host::Below(name),
                Target::Address(_) => return Err(refuse("`*.` stands before a name only")),
            }
        } else {
            match parse_target(host)? {
                Target::Name(name) => Host::Name(name),
                Target::Address(address) => Host::Address(address),
            }
        };
        Ok(Self { host, port })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Name(name) => f.write_str(name)?,
            Host::Address(IpAddr::V6(v6)) => write!(f, "[{v6}]")?,
            Host::Address(IpAddr::V4(v4)) => v4.fmt(f)?,
            Host::Below(name) => write!(f, "*.{name}")?,
            Host::Anything => f.write_str("*")?,
        }
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

/// How well a pattern names a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Match {
    No,
    Wildcard,
    Outright,
}

impl HostPattern {
    /// A host named outright: nothing in the text is a wildcard or a port.
    ///
    /// # Errors
    /// When the text is no host.
    pub fn outright(text: &str) -> Result<Self, HostPatternError> {
        let host = match parse_target(text.trim())? {
            Target::Name(name) => Host::Name(name),
            Target::Address(address) => Host::Address(address),
        };
        Ok(Self { host, port: None })
    }

    fn matches(&self, target: &Target, port: u16) -> Match {
        if self.port.is_some_and(|only| only != port) {
            return Match::No;
        }
        match (&self.host, target) {
            (Host::Name(name), Target::Name(asked)) if name == asked => Match::Outright,
            (Host::Address(address), Target::Address(asked)) if address == asked => Match::Outright,
            (Host::Below(parent), Target::Name(asked))
                if asked.strip_suffix(parent.as_str()).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')) =>
            {
                Match::Wildcard
            }
            (Host::Anything, _) => Match::Wildcard,
            _ => Match::No,
        }
    }
}

/// A name that may be dialled; its addresses are yet to be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NameAllowed {
    outright: bool,
}

/// Why a dial was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Denied {
    pub(crate) message: String,
    pub(crate) hint: String,
}

impl NetworkGrant {
    /// Judges the name, before anything is resolved.
    pub(crate) fn check_name(&self, target: &Target, port: u16) -> Result<NameAllowed, Denied> {
        let best = |patterns: &[HostPattern]| patterns.iter().map(|p| p.matches(target, port)).max().unwrap_or(Match::No);
        let asked = best(&self.manifest).max(best(&self.config));
        if asked == Match::No {
            return Err(Denied {
                message: format!("`{target}:{port}` is not among the hosts this connector may reach"),
                hint: "name the host in the connector's configuration, or in `permissions.network.allowed_domains` of its manifest"
                    .into(),
            });
        }
        if let Some(operator) = &self.operator
            && best(operator) == Match::No
        {
            return Err(Denied {
                message: format!("the operator does not allow `{target}:{port}`"),
                hint: "add the host to the operator's list (on the command line: `RAPIDBYTE_ALLOWED_HOSTS`)".into(),
            });
        }
        Ok(NameAllowed { outright: asked == Match::Outright })
    }

    /// Judges an address the name has led to.
    pub(crate) fn check_address(allowed: NameAllowed, target: &Target, address: IpAddr) -> Result<(), Denied> {
        match reach(address) {
            Reach::Public => Ok(()),
            Reach::Local if allowed.outright => Ok(()),
            Reach::Local => Err(Denied {
                message: format!("`{target}` leads to the private address {address}, and only a wildcard allows it"),
                hint: "name the host outright instead of through `*`".into(),
            }),
            Reach::Never => Err(Denied {
                message: format!("`{target}` leads to {address}, a link-local, metadata, multicast or unspecified address"),
                hint: "name another host: such addresses are never dialled for a connector".into(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> HostPattern {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    fn grant(manifest: &[&str], config: &[&str]) -> NetworkGrant {
        NetworkGrant {
            manifest: manifest.iter().map(|text| pattern(text)).collect(),
            config: config.iter().map(|text| pattern(text)).collect(),
            ..NetworkGrant::default()
        }
    }

    fn name_ok(grant: &NetworkGrant, host: &str, port: u16) -> bool {
        parse_target(host).is_ok_and(|target| grant.check_name(&target, port).is_ok())
    }

    #[test]
    fn names_match_as_written_and_wildcards_below_only() {
        let grant = grant(&["*.example.com", "exact.org:5432"], &["db.internal", "10.0.0.5"]);
        for (host, port, allowed) in [
            ("a.example.com", 1, true),
            ("a.b.EXAMPLE.com.", 1, true),
            ("example.com", 1, false),
            ("evilexample.com", 1, false),
            (".example.com", 1, false),
            ("a.example.com.evil.net", 1, false),
            ("exact.org", 5432, true),
            ("exact.org", 5433, false),
            ("db.internal", 9, true),
            ("db.internal.", 9, true),
            ("db.internal..", 9, false),
            ("10.0.0.5", 9, true),
            ("[::ffff:10.0.0.5]", 9, true),
            ("10.0.0.6", 9, false),
            ("010.0.0.5", 9, false),
            ("", 9, false),
        ] {
            assert_eq!(name_ok(&grant, host, port), allowed, "{host}:{port}");
        }
    }

    #[test]
    fn hosts_a_resolver_may_read_as_addresses_are_refused() {
        for host in [
            "2130706433",
            "017700000001",
            "0x7f000001",
            "0x7f.1",
            "127.1",
            "127.0.1",
            "0177.0.0.1",
            "127.0.0.0x1",
            "0x",
            "1.2.3.4.5",
            "a b",
            "a/b",
            "/var/run/postgresql",
            "host%00",
            "ho\0st",
            "user@host",
            "bücher.example",
            "[fe80::1%eth0]",
            "fe80::1%1",
            "[::1",
            "-a.example",
            "a-.example",
        ] {
            assert!(parse_target(host).is_err(), "{host:?}");
        }
        let long = "a".repeat(64);
        assert!(parse_target(&long).is_err());
    }

    #[test]
    fn a_private_address_needs_the_host_to_be_named_outright() {
        let wild = grant(&["*", "*.example.com"], &[]);
        let named = grant(&["*.example.com"], &["db.example.com", "localhost"]);
        let target = parse_target("db.example.com").expect("a name");
        for (address, by_wildcard, by_name) in [
            ("8.8.8.8", true, true),
            ("127.0.0.1", false, true),
            ("10.0.0.1", false, true),
            ("::1", false, true),
            ("169.254.169.254", false, false),
            ("::ffff:169.254.169.254", false, false),
            ("64:ff9b::a9fe:a9fe", false, false),
            ("fd00:ec2::254", false, false),
            ("0.0.0.0", false, false),
        ] {
            let address = address.parse().expect("an address");
            for (grant, expected) in [(&wild, by_wildcard), (&named, by_name)] {
                let allowed = grant.check_name(&target, 1).expect("allowed by name");
                assert_eq!(NetworkGrant::check_address(allowed, &target, address).is_ok(), expected, "{address}");
            }
        }
    }

    #[test]
    fn the_operator_can_only_narrow() {
        let mut grant = grant(&[], &["db.example.com", "other.net"]);
        grant.operator = Some(vec![pattern("*.example.com"), pattern("third.org")]);
        assert!(name_ok(&grant, "db.example.com", 1));
        assert!(!name_ok(&grant, "other.net", 1));
        assert!(!name_ok(&grant, "third.org", 1));
        grant.operator = Some(Vec::new());
        assert!(!name_ok(&grant, "db.example.com", 1));
    }

    #[test]
    fn patterns_read_back_as_written() {
        for text in ["db.example.com", "*.example.com:443", "10.0.0.1:5432", "[::1]:80", "[::1]", "*", "*:443"] {
            assert_eq!(pattern(text).to_string(), text);
        }
        assert_eq!(pattern("::1").to_string(), "[::1]");
        for text in ["", "a:0", "a:b", "*.1.2.3.4", "**.a", "a*.b", "http://a", "a:1:2"] {
            assert!(text.parse::<HostPattern>().is_err(), "{text}");
        }
    }
}
