//! Every variable of the environment that the command reads itself. A variable that is not in this table has no effect.

use rapidbyte_engine::{HostPattern, HostPatternError};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A variable and what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Variable {
    pub(crate) name: &'static str,
    /// What it takes.
    pub(crate) takes: &'static str,
    /// What it does.
    pub(crate) doc: &'static str,
}

pub(crate) const WASMTIME_AOT: Variable = Variable {
    name: "RAPIDBYTE_WASMTIME_AOT",
    takes: "`0` or `1`",
    doc: "`0` compiles connectors anew at each start and neither reads nor writes the cache. On by default.",
};
pub(crate) const CACHE_DIR: Variable = Variable {
    name: "RAPIDBYTE_CACHE_DIR",
    takes: "a directory",
    doc: "Where compiled connectors are kept. By default `$XDG_CACHE_HOME/rapidbyte`, or `~/.cache/rapidbyte`.",
};
pub(crate) const CONNECTORS_DIR: Variable = Variable {
    name: "RAPIDBYTE_CONNECTORS_DIR",
    takes: "a directory",
    doc: "Packed connectors, `<name>/<component>.wasm` each, usable by name beside the bundled ones. A connector of the same \
          name takes the bundled one's place.",
};
pub(crate) const ALLOWED_HOSTS: Variable = Variable {
    name: "RAPIDBYTE_ALLOWED_HOSTS",
    takes: "hosts, separated by commas: `db.example.com`, `*.example.com`, `10.0.0.5`, each with or without `:port`",
    doc: "The hosts that connectors may dial at most, whatever pipelines and manifests name. Unset: any that they name. Empty is an error.",
};
pub(crate) const RUST_LOG: Variable = Variable {
    name: "RUST_LOG",
    takes: "log directives, such as `rapidbyte_engine=debug`",
    doc: "What is logged, when neither `--log-level` nor `-v` is given.",
};
pub(crate) const NO_COLOR: Variable =
    Variable { name: "NO_COLOR", takes: "anything but nothing", doc: "No colours, unless `--color always` is given." };
pub(crate) const TERM: Variable =
    Variable { name: "TERM", takes: "a terminal's name", doc: "With `dumb` there are no colours and no moving display." };
pub(crate) const XDG_CACHE_HOME: Variable =
    Variable { name: "XDG_CACHE_HOME", takes: "a directory", doc: "Where caches are, see `RAPIDBYTE_CACHE_DIR`." };
pub(crate) const HOME: Variable =
    Variable { name: "HOME", takes: "a directory", doc: "Where `~/.cache` is, see `RAPIDBYTE_CACHE_DIR`." };

/// The whole table.
pub(crate) const VARIABLES: &[Variable] =
    &[WASMTIME_AOT, CACHE_DIR, CONNECTORS_DIR, ALLOWED_HOSTS, RUST_LOG, NO_COLOR, TERM, XDG_CACHE_HOME, HOME];

/// The environment as it was when the process began.
#[derive(Clone, Default)]
pub(crate) struct Environment(BTreeMap<String, String>);

impl Environment {
    /// Takes the process's own; what is not UTF-8 is left out.
    pub(crate) fn of_process() -> Self {
        Self(std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect())
    }

    #[cfg(test)]
    pub(crate) fn of(pairs: &[(&str, &str)]) -> Self {
        Self(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    /// A variable for `${…}` in a pipeline.
    pub(crate) fn substitute(&self, name: &str) -> Option<String> {
        self.0.get(name).cloned()
    }

    /// All of it, for the manifests' allow-lists to pick from.
    pub(crate) fn all(&self) -> &BTreeMap<String, String> {
        &self.0
    }

    /// The value of one of [`VARIABLES`]; an empty one counts as absent.
    pub(crate) fn get(&self, variable: Variable) -> Option<&str> {
        self.0.get(variable.name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Whether compiled connectors are kept.
    ///
    /// # Errors
    /// With what is wrong with the value.
    pub(crate) fn aot(&self) -> Result<bool, String> {
        match self.get(WASMTIME_AOT) {
            None | Some("1") => Ok(true),
            Some("0") => Ok(false),
            Some(_) => Err(format!("`{}` takes `0` or `1`", WASMTIME_AOT.name)),
        }
    }

    /// The hosts that connectors may dial at most; `None` = any. An empty list is not taken for either extreme.
    ///
    /// # Errors
    /// With what is wrong with the value.
    pub(crate) fn allowed_hosts(&self) -> Result<Option<Vec<HostPattern>>, String> {
        let Some(text) = self.0.get(ALLOWED_HOSTS.name) else { return Ok(None) };
        if text.trim().is_empty() {
            return Err(format!("`{}` is empty", ALLOWED_HOSTS.name));
        }
        let patterns: Result<_, _> = text.split(',').map(str::parse).collect();
        patterns.map(Some).map_err(|error: HostPatternError| format!("`{}`: {error}", ALLOWED_HOSTS.name))
    }

    /// Where compiled connectors are kept, if there is a place.
    pub(crate) fn cache_dir(&self) -> Option<PathBuf> {
        let absolute = |path: PathBuf| path.is_absolute().then_some(path);
        if let Some(dir) = self.get(CACHE_DIR) {
            return Some(PathBuf::from(dir));
        }
        // A relative XDG directory is invalid by its specification, and is not used.
        let xdg = self.get(XDG_CACHE_HOME).map(PathBuf::from).and_then(absolute);
        let home = || self.get(HOME).map(|home| PathBuf::from(home).join(".cache")).and_then(absolute);
        xdg.or_else(home).map(|cache| cache.join("rapidbyte"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn the_cache_is_where_it_is_told_to_be() {
        let all = [("RAPIDBYTE_CACHE_DIR", "/c"), ("XDG_CACHE_HOME", "/x"), ("HOME", "/h")];
        for (skip, expected) in [(0, Some("/c")), (1, Some("/x/rapidbyte")), (2, Some("/h/.cache/rapidbyte")), (3, None)] {
            assert_eq!(Environment::of(&all[skip..]).cache_dir().as_deref(), expected.map(Path::new));
        }
        assert_eq!(Environment::of(&[("XDG_CACHE_HOME", "x"), ("HOME", "")]).cache_dir(), None);
    }

    #[test]
    fn allowed_hosts_are_read_whole_or_refused() {
        let of = |text| Environment::of(&[("RAPIDBYTE_ALLOWED_HOSTS", text)]).allowed_hosts();
        let shown = |text| of(text).expect("hosts").expect("a list").iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(shown("*.example.com, 10.0.0.5:5432"), ["*.example.com", "10.0.0.5:5432"]);
        assert_eq!(Environment::of(&[]).allowed_hosts(), Ok(None));
        for wrong in ["", "  ", "a.example,", "http://a.example", "a b"] {
            assert!(of(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_compiler_switch_takes_two_values() {
        assert_eq!(Environment::of(&[]).aot(), Ok(true));
        assert_eq!(Environment::of(&[("RAPIDBYTE_WASMTIME_AOT", "0")]).aot(), Ok(false));
        assert!(Environment::of(&[("RAPIDBYTE_WASMTIME_AOT", "off")]).aot().is_err());
    }
}
