//! What a stream's columns are held to at the boundary of its source, resolved.

mod type_name;

pub use type_name::{TypeName, Unit, UnknownType};

use std::fmt;

/// Bytes of compiled regular expression, its own and of what its matching keeps at hand. Guessed: thousands of times an
/// ordinary one.
const REGEX_BYTES: usize = 1 << 20;
/// Nesting of a regular expression.
const REGEX_DEPTH: u32 = 64;

/// A text from the document, exactly as it was meant. It may come from the environment: `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Literal(String);

impl Literal {
    /// A literal of a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Literal")
    }
}

/// What becomes of what breaks a contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OnViolation {
    /// The load ends.
    Fail,
    /// Values are cast, where that is exact; else the load ends.
    Coerce,
    /// Values are cast where that is exact; rows that break a rule are left out.
    DiscardRow,
    /// A column that is not as expected is left out; a value that breaks a rule becomes NULL.
    DiscardColumn,
}

impl OnViolation {
    /// Every word, in the order of the documentation.
    pub const WORDS: &'static [&'static str] = &["fail", "coerce", "discard_row", "discard_column"];

    /// The word as written in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fail => "fail",
            Self::Coerce => "coerce",
            Self::DiscardRow => "discard_row",
            Self::DiscardColumn => "discard_column",
        }
    }
}

/// What becomes of columns that a contract does not name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OtherColumns {
    /// They pass.
    Allow,
    /// The load ends.
    Fail,
    /// They are left out.
    DiscardColumn,
}

impl OtherColumns {
    /// Every word, in the order of the documentation.
    pub const WORDS: &'static [&'static str] = &["allow", "fail", "discard_column"];

    /// The word as written in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Fail => "fail",
            Self::DiscardColumn => "discard_column",
        }
    }
}

/// Bounds of a value, both included; at least one is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// The least.
    pub min: Option<Literal>,
    /// The greatest.
    pub max: Option<Literal>,
}

/// What one column is held to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnContract {
    /// Its name at the source.
    pub name: String,
    /// What becomes of a violation. It never contradicts the rules: no `discard_column` beside `not_null`, no `coerce`
    /// without `data_type` or `not_nullable`.
    pub on_violation: OnViolation,
    /// It must be there.
    pub required: bool,
    /// Its type.
    pub data_type: Option<TypeName>,
    /// The source must declare that it is never NULL.
    pub not_nullable: bool,
    /// No value may be NULL.
    pub not_null: bool,
    /// Values lie within.
    pub range: Option<Range>,
    /// Texts match; the expression compiles under [`compile_regex`].
    pub regex: Option<Literal>,
    /// Values are among these.
    pub one_of: Option<Vec<Literal>>,
}

/// What a stream's columns are held to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contract {
    /// Columns it does not name.
    pub other_columns: OtherColumns,
    /// Columns it names, each once, in the document's order.
    pub columns: Vec<ColumnContract>,
}

impl Contract {
    /// A text that differs exactly where contracts do, for digests. It may hold values from the environment.
    pub fn print(&self) -> String {
        let mut text = String::from(self.other_columns.as_str());
        let mut part = |part: &str| {
            text.push_str(&part.len().to_string());
            text.push(':');
            text.push_str(part);
        };
        for column in &self.columns {
            let ColumnContract { name, on_violation, required, data_type, not_nullable, not_null, range, regex, one_of } = column;
            part(name);
            part(on_violation.as_str());
            part(&format!("{required} {not_nullable} {not_null}"));
            part(&data_type.as_ref().map_or_else(String::new, TypeName::to_string));
            let texts = |list: &[Option<&Literal>]| {
                list.iter().map(|one| one.map_or_else(|| "-".to_owned(), |one| format!("{}={}", one.0.len(), one.0))).collect()
            };
            let of_range = |range: &Range| -> String { texts(&[range.min.as_ref(), range.max.as_ref()]) };
            part(&range.as_ref().map_or_else(String::new, of_range));
            part(&texts(&[regex.as_ref()]));
            let of_list = |list: &Vec<Literal>| -> String { texts(&list.iter().map(Some).collect::<Vec<_>>()) };
            part(&one_of.as_ref().map_or_else(String::new, of_list));
        }
        text
    }
}

/// Compiles the expression of a rule, within bounds: matching is linear in the text, and memory is capped.
///
/// # Errors
/// In words that may repeat the expression: it is no regular expression, or too large.
pub fn compile_regex(expression: &Literal) -> Result<regex::Regex, regex::Error> {
    regex::RegexBuilder::new(expression.as_str())
        .size_limit(REGEX_BYTES)
        .dfa_size_limit(REGEX_BYTES)
        .nest_limit(REGEX_DEPTH)
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contract() -> Contract {
        let column = ColumnContract {
            name: "a".into(),
            on_violation: OnViolation::Fail,
            required: false,
            data_type: None,
            not_nullable: false,
            not_null: false,
            range: Some(Range { min: Some(Literal::new("1")), max: None }),
            regex: None,
            one_of: Some(vec![Literal::new("x"), Literal::new("y")]),
        };
        Contract { other_columns: OtherColumns::Allow, columns: vec![column] }
    }

    #[test]
    fn another_contract_prints_another_text() {
        let mut texts = vec![contract().print()];
        let changes: [fn(&mut Contract); 11] = [
            |c| c.other_columns = OtherColumns::Fail,
            |c| c.columns[0].name = "b".into(),
            |c| c.columns[0].on_violation = OnViolation::DiscardRow,
            |c| c.columns[0].required = true,
            |c| c.columns[0].not_nullable = true,
            |c| c.columns[0].not_null = true,
            |c| c.columns[0].data_type = Some(TypeName::Boolean),
            |c| c.columns[0].range = Some(Range { min: None, max: Some(Literal::new("1")) }),
            |c| c.columns[0].regex = Some(Literal::new("1")),
            |c| c.columns[0].one_of = Some(vec![Literal::new("xy")]),
            |c| c.columns.push(c.columns[0].clone()),
        ];
        for change in changes {
            let mut changed = contract();
            change(&mut changed);
            assert!(!texts.contains(&changed.print()), "{changed:?}");
            texts.push(changed.print());
        }
    }

    #[test]
    fn literals_do_not_show() {
        assert!(!format!("{:?}", Literal::new("canary")).contains("canary"));
    }

    #[test]
    fn expressions_are_capped() {
        assert!(compile_regex(&Literal::new("^[^@]+@[^@]+$")).is_ok());
        for bad in ["(", "a{1000}{1000}", &"(".repeat(100), &format!("{}a{}", "(".repeat(100), ")".repeat(100)), "(a)\\1"] {
            assert!(compile_regex(&Literal::new(bad)).is_err(), "{bad}");
        }
    }
}
