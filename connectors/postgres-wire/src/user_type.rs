//! Types of users, as the source describes them to a destination that may have to make them: the value of the field metadata
//! `rapidbyte.pg.types`.

use serde::{Deserialize, Serialize};

/// A type and what it is made of. Names of types are as the source's `format_type` writes them, always with their schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserType {
    /// Its name with its schema.
    pub name: String,
    /// Its name alone, not quoted.
    pub typname: String,
    /// How it is made.
    pub shape: Shape,
}

/// How a type of users is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Shape {
    /// One of several words.
    Enum {
        /// The words, in their order.
        labels: Vec<String>,
    },
    /// Another type under a name of its own.
    Domain {
        /// That type, with its modifier.
        base: String,
    },
    /// Several values.
    Composite {
        /// Names and types of the fields, in order.
        fields: Vec<(String, String)>,
    },
    /// From a value to a value.
    Range {
        /// The type of the values.
        subtype: String,
        /// The name, without its schema, of the multirange that came with it.
        multirange: Option<String>,
    },
    /// Several ranges.
    Multirange {
        /// The range.
        range: String,
    },
    /// Found where its extension is installed.
    Extension {
        /// The extension.
        extension: String,
    },
    /// The row type of a table, and whatever else can't be made by itself.
    #[serde(other)]
    Other,
}

impl UserType {
    /// The metadata's text of a list, each type after those it needs. Nothing in it can fail to be written.
    pub fn write_all(types: &[Self]) -> Option<String> {
        serde_json::to_string(types).ok()
    }

    /// Reads the metadata's text; `None` if it is not of this form.
    pub fn read_all(text: &str) -> Option<Vec<Self>> {
        serde_json::from_str(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_is_read_as_it_was_written() {
        let texts = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let shapes = [
            Shape::Enum { labels: texts(&["a", "odd \"one\""]) },
            Shape::Domain { base: "numeric(5,2)".into() },
            Shape::Composite { fields: vec![("f".into(), "public.mood[]".into())] },
            Shape::Range { subtype: "integer".into(), multirange: None },
            Shape::Multirange { range: "public.r".into() },
            Shape::Extension { extension: "citext".into() },
            Shape::Other,
        ];
        let types: Vec<UserType> = shapes.map(|shape| UserType { name: "public.t".into(), typname: "t".into(), shape }).into();
        assert_eq!(UserType::read_all(&UserType::write_all(&types).unwrap()).unwrap(), types);
        // A shape of a later release can't be made here, and is no error.
        let later = r#"[{"name":"public.t","typname":"t","shape":{"kind":"later","more":1}}]"#;
        assert_eq!(UserType::read_all(later).unwrap()[0].shape, Shape::Other);
        assert_eq!(UserType::read_all("[{}]"), None);
    }
}
