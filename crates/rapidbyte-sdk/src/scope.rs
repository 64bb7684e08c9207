//! The streams that a transform is for.

use crate::{CheckItem, CheckStatus, ConnectorError, StreamContext, StreamName};

/// The streams that a transform is for, by its setting `streams`: those that are listed, or all where it is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    entries: Option<Vec<String>>,
}

fn names(entry: &str, stream: &StreamName) -> bool {
    entry == stream.name || entry == stream.to_string()
}

impl Scope {
    /// The setting as written. An entry is a stream's name, with its namespace or without.
    pub fn new(entries: Option<Vec<String>>) -> Self {
        Self { entries }
    }

    /// Whether the transform is for a stream.
    pub fn covers(&self, stream: &StreamName) -> bool {
        self.entries.as_ref().is_none_or(|entries| entries.iter().any(|entry| names(entry, stream)))
    }

    /// What [`Transform::validate`](crate::Transform::validate) answers: a failed item for each entry that names none of the
    /// streams, then one for each stream that is covered. `done` is what becomes of rows, as in `masked`; `look` tells of a
    /// stream what is done to it, or why that can't be done.
    pub fn validate(
        &self,
        streams: &[StreamContext],
        done: &str,
        look: impl Fn(&StreamContext) -> Result<String, ConnectorError>,
    ) -> Vec<CheckItem> {
        let strangers = self.entries.iter().flatten().filter(|entry| !streams.iter().any(|stream| names(entry, &stream.name)));
        let stranger = |entry: &String| CheckItem {
            name: format!("stream {entry}"),
            status: CheckStatus::Failed,
            message: format!("the pipeline has no stream `{entry}`, so nothing would be {done} there"),
            hint: Some("correct `streams`".into()),
        };
        let mut items: Vec<CheckItem> = strangers.map(stranger).collect();
        for stream in streams.iter().filter(|stream| self.covers(&stream.name)) {
            let (status, message, hint) = match look(stream) {
                Ok(message) => (CheckStatus::Ok, message, None),
                Err(error) => (CheckStatus::Failed, error.message, error.hint),
            };
            items.push(CheckItem { name: format!("stream {}", stream.name), status, message, hint });
        }
        items
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn streams() -> Vec<StreamContext> {
        let names = [StreamName::qualified("a", "t"), StreamName::qualified("b", "t"), StreamName::new("u")];
        names.map(StreamContext::full_refresh).into()
    }

    fn covered(entries: Option<&[&str]>) -> String {
        let scope = Scope::new(entries.map(|entries| entries.iter().map(|entry| (*entry).to_owned()).collect()));
        let names: Vec<String> =
            streams().iter().filter(|stream| scope.covers(&stream.name)).map(|stream| stream.name.to_string()).collect();
        names.join(" ")
    }

    #[test]
    fn an_entry_names_a_stream_with_its_namespace_or_without() {
        assert_eq!(covered(None), "a.t b.t u");
        assert_eq!(covered(Some(&["t"])), "a.t b.t");
        assert_eq!(covered(Some(&["b.t", "u"])), "b.t u");
        assert_eq!(covered(Some(&["a", "x.u"])), "");
    }

    #[test]
    fn entries_without_a_stream_are_told_before_the_streams() {
        let scope = Scope::new(Some(vec!["t".into(), "v".into()]));
        let look = |stream: &StreamContext| match stream.name.namespace.as_deref() {
            Some("a") => Ok("done".to_owned()),
            _ => Err(ConnectorError::config("c", "not here").with_hint("mend it")),
        };
        let items = scope.validate(&streams(), "masked", look);
        let shown: Vec<(&str, CheckStatus, &str, Option<&str>)> =
            items.iter().map(|item| (item.name.as_str(), item.status, item.message.as_str(), item.hint.as_deref())).collect();
        assert_eq!(
            shown,
            [
                (
                    "stream v",
                    CheckStatus::Failed,
                    "the pipeline has no stream `v`, so nothing would be masked there",
                    Some("correct `streams`")
                ),
                ("stream a.t", CheckStatus::Ok, "done", None),
                ("stream b.t", CheckStatus::Failed, "not here", Some("mend it")),
            ]
        );
    }
}
