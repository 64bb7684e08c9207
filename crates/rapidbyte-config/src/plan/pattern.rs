//! Streams named by a pattern, which become streams once the source has said what it has. No I/O here.

use super::PipelinePlan;
use crate::contract::Contract;
use rapidbyte_types::{StreamContext, StreamName};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// Whether a name as written is a pattern.
pub(super) fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?'])
}

/// A pattern over names: `*` stands for any text, `?` for one character, everything else for itself, letter case included.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Glob(Vec<char>);

impl Glob {
    fn matches(&self, name: &str) -> bool {
        let name: Vec<char> = name.chars().collect();
        let (mut at, mut seen) = (0, 0);
        // Where the last `*` stood, and how much of the name it has taken.
        let mut star: Option<(usize, usize)> = None;
        while seen < name.len() {
            match self.0.get(at) {
                Some('*') => {
                    star = Some((at, seen));
                    at += 1;
                }
                Some(one) if *one == '?' || *one == name[seen] => {
                    at += 1;
                    seen += 1;
                }
                _ => {
                    let Some((place, taken)) = star else { return false };
                    star = Some((place, taken + 1));
                    at = place + 1;
                    seen = taken + 1;
                }
            }
        }
        self.0[at..].iter().all(|one| *one == '*')
    }
}

/// A pattern over names within namespaces.
#[derive(Debug, Clone, PartialEq, Eq)]
struct NamePattern {
    /// As written.
    text: String,
    namespace: Option<Glob>,
    name: Glob,
}

impl NamePattern {
    /// `name` or `namespace.name`; the first dot is the one between them.
    fn new(text: &str) -> Option<Self> {
        let glob = |text: &str| (!text.is_empty()).then(|| Glob(text.chars().collect()));
        let (namespace, name) = match text.split_once('.') {
            Some((namespace, name)) => (Some(glob(namespace)?), glob(name)?),
            None => (None, glob(text)?),
        };
        Some(Self { text: text.to_owned(), namespace, name })
    }

    /// Without a namespace of its own it matches streams that have none.
    fn matches(&self, stream: &StreamName) -> bool {
        let within = match (&self.namespace, &stream.namespace) {
            (Some(glob), Some(namespace)) => glob.matches(namespace),
            (None, None) => true,
            _ => false,
        };
        within && self.name.matches(&stream.name)
    }

    /// Without a namespace of its own it leaves streams of any out.
    fn excludes(&self, stream: &StreamName) -> bool {
        self.matches(stream) || (self.namespace.is_none() && self.name.matches(&stream.name))
    }
}

/// Streams that are chosen by a pattern.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamPattern {
    what: NamePattern,
    exclude: Vec<NamePattern>,
    /// What holds for each of them; its name is the pattern.
    template: StreamContext,
    /// The target's name; `*` in it stands for the stream's.
    table: Option<StreamName>,
    contract: Option<Arc<Contract>>,
}

impl StreamPattern {
    /// `None` where one of the texts is no pattern.
    pub(super) fn new(
        text: &str,
        exclude: &[String],
        template: StreamContext,
        table: Option<StreamName>,
        contract: Option<Arc<Contract>>,
    ) -> Option<Self> {
        let exclude = exclude.iter().map(|text| NamePattern::new(text)).collect::<Option<_>>()?;
        Some(Self { what: NamePattern::new(text)?, exclude, template, table, contract })
    }

    /// The pattern as written.
    pub fn text(&self) -> &str {
        &self.what.text
    }

    /// The settings of each stream that it becomes. Name and target are the pattern's.
    pub fn template(&self) -> &StreamContext {
        &self.template
    }

    fn takes(&self, stream: &StreamName) -> bool {
        self.what.matches(stream) && !self.exclude.iter().any(|pattern| pattern.excludes(stream))
    }

    /// Exclusions that leave out none of the streams there are.
    pub fn idle<'p>(&'p self, found: &[StreamName]) -> Vec<&'p str> {
        let idle = |pattern: &&NamePattern| !found.iter().any(|stream| self.what.matches(stream) && pattern.excludes(stream));
        self.exclude.iter().filter(idle).map(|pattern| pattern.text.as_str()).collect()
    }

    fn stream(&self, name: &StreamName) -> StreamContext {
        let target = match &self.table {
            Some(table) => StreamName { namespace: table.namespace.clone(), name: table.name.replace('*', &name.name) },
            None => StreamName::new(name.name.clone()),
        };
        StreamContext { name: name.clone(), target, ..self.template.clone() }
    }
}

/// Why patterns did not become streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelectionError {
    /// The stream or pattern concerned.
    pub stream: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

impl fmt::Display for SelectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for SelectionError {}

impl PipelinePlan {
    /// The plan with each pattern replaced by the streams it stands for, behind those that are named. `found` are the streams that
    /// the source has. A stream that is named keeps its own settings.
    ///
    /// # Errors
    /// When a pattern matches nothing, two patterns match one stream, or two streams would write to one target.
    pub fn with_found(&self, found: &[StreamName]) -> Result<Self, SelectionError> {
        let error = |stream: &dyn fmt::Display, message: String, hint: String| {
            Err(SelectionError { stream: stream.to_string(), message, hint })
        };
        let mut streams = self.streams.clone();
        let mut contracts = self.contracts.clone();
        let mut taken: HashMap<&StreamName, &str> = HashMap::new();
        for pattern in &self.patterns {
            let matching: Vec<&StreamName> = found.iter().filter(|name| pattern.takes(name)).collect();
            if matching.is_empty() {
                let left_out = found.iter().filter(|name| pattern.what.matches(name)).count();
                let message = format!("`{}` matches none of the source's {} streams", pattern.text(), found.len());
                return error(&pattern.text(), message, nothing_found(pattern, found, left_out));
            }
            for name in matching {
                if self.streams.iter().any(|stream| stream.name == *name) {
                    continue;
                }
                // Which namespace a bare name means, only the connector knows.
                if let Some(bare) = self.streams.iter().find(|one| one.name.namespace.is_none() && one.name.name == name.name) {
                    let message = format!("stream `{}` may be `{name}`, which `{}` matches too", bare.name, pattern.text());
                    return error(&bare.name, message, format!("name it with its namespace, as `{name}`"));
                }
                if let Some(first) = taken.insert(name, pattern.text()) {
                    let message = format!("stream `{name}` is matched by `{first}` and by `{}`", pattern.text());
                    return error(
                        name,
                        message,
                        format!("name it among the streams, or `exclude: [\"{name}\"]` in one of the two"),
                    );
                }
                streams.push(pattern.stream(name));
                if let Some(contract) = &pattern.contract {
                    contracts.insert(name.clone(), Arc::clone(contract));
                }
            }
        }
        let mut targets: HashMap<&StreamName, &StreamName> = HashMap::new();
        for stream in &streams {
            if let Some(first) = targets.insert(&stream.target, &stream.name) {
                let message = format!("streams `{first}` and `{}` would both be written to `{}`", stream.name, stream.target);
                let hint = "give one of them its own `destination: { table: … }`, for a pattern as in `table: \"raw.*\"`";
                return error(&stream.name, message, hint.to_owned());
            }
        }
        Ok(Self { streams, contracts, patterns: Vec::new(), ..self.clone() })
    }
}

fn nothing_found(pattern: &StreamPattern, found: &[StreamName], left_out: usize) -> String {
    if left_out > 0 {
        return format!("its `exclude` leaves all {left_out} of them out");
    }
    let mut namespaces: Vec<&str> = found.iter().filter_map(|name| name.namespace.as_deref()).collect();
    namespaces.sort_unstable();
    namespaces.dedup();
    match (&pattern.what.namespace, namespaces.first()) {
        (None, Some(first)) => format!("its streams have namespaces: write `{first}.{}`", pattern.text()),
        (Some(_), Some(_)) => {
            let shown: Vec<String> = namespaces.iter().take(10).map(|namespace| format!("`{namespace}`")).collect();
            format!("it has streams in {}; `rapidbyte discover <PIPELINE>` lists them", shown.join(", "))
        }
        (_, None) => "`rapidbyte discover <PIPELINE>` lists what can be read".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_names() {
        let cases = [
            ("*", "", true),
            ("*", "anything at all", true),
            ("a*", "abc", true),
            ("a*", "ba", false),
            ("*a", "banana", true),
            ("b*n*a", "banana", true),
            ("b*n?a", "banana", false),
            ("?", "ü", true),
            ("?", "", false),
            ("a**b", "ab", true),
            ("Users", "users", false),
            ("odd.*", "odd.name", true),
            ("a*b", "a\"*'b", true),
        ];
        for (pattern, name, matches) in cases {
            assert_eq!(Glob(pattern.chars().collect()).matches(name), matches, "{pattern} {name}");
        }
        // Many stars do not make it slow.
        let slow = Glob("a*a*a*a*a*a*a*a*a*a*b".chars().collect());
        assert!(!slow.matches(&"a".repeat(10_000)));
    }

    #[test]
    fn the_first_dot_is_the_one_behind_the_namespace() {
        let matches = |pattern: &str, stream: &StreamName| NamePattern::new(pattern).expect("a pattern").matches(stream);
        let dotted = StreamName::qualified("public", "a.b");
        assert!(matches("public.a.*", &dotted) && matches("public.*", &dotted) && matches("p*.*b", &dotted));
        assert!(!matches("*", &dotted) && !matches("public.a.b.*", &dotted));
        assert!(matches("*", &StreamName::new("orders")) && !matches("*.*", &StreamName::new("orders")));
        assert_eq!(NamePattern::new(".x"), None);
        assert_eq!(NamePattern::new("x."), None);
    }
}
