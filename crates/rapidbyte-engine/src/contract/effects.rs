//! What a contract does to the columns there are: in words for `plan`, and what is left to compare for `verify`.

use super::bind::{Bound, Column, LeftOut};
use super::kinds::{plain, shown};
use super::rule::Rule;
use arrow_schema::{DataType, FieldRef, SchemaRef};
use rapidbyte_config::contract::OnViolation;
use rapidbyte_types::DataErrorPolicy;
use rapidbyte_types::arrow::split;

/// What a contract leaves of a comparison.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Comparable {
    /// Columns that need not be the same on both sides, each with the reason.
    pub(crate) apart: Vec<(String, String)>,
    /// Rows may be left out.
    pub(crate) fewer_rows: bool,
}

impl Bound {
    /// The columns that go on.
    pub(crate) fn passes(&self) -> &SchemaRef {
        &self.schema
    }

    /// A line for each thing that may happen to a column or its values.
    pub(crate) fn told(&self, on_data_error: DataErrorPolicy) -> Vec<String> {
        let mut lines: Vec<String> =
            self.left_out.iter().map(|LeftOut { name, why }| format!("column `{name}` is left out: {why}")).collect();
        for column in &self.columns {
            column.tell(on_data_error, &mut lines);
        }
        lines.extend(self.absent.iter().map(|name| format!("column `{name}` is not there, and its rules say nothing")));
        lines
    }

    /// What has to be the same on both sides though a contract stands between them.
    pub(crate) fn comparable(&self) -> Comparable {
        let mut apart: Vec<(String, String)> = Vec::new();
        for LeftOut { name, .. } in &self.left_out {
            apart.push((name.clone(), "the contract leaves it out".to_owned()));
        }
        for column in &self.columns {
            let name = column.field.name();
            // Values of a text and of what it was cast to are told in texts that need not be the same, as in `1.5` and `1.50`.
            if column.cast.is_some() && is_text(&column.from) != is_text(&column.field) {
                let (from, to) = (shown(&split::whole(&column.from)), shown(&split::whole(&column.field)));
                apart.push((name.clone(), format!("the contract casts it from {from} to {to}")));
            } else if column.policy == OnViolation::DiscardColumn && !column.tests.is_empty() {
                apart.push((name.clone(), "the contract may put NULL in place of its values".to_owned()));
            }
        }
        let fewer_rows = self.columns.iter().any(|column| column.policy == OnViolation::DiscardRow && column.asks_something());
        Comparable { apart, fewer_rows }
    }
}

fn is_text(field: &FieldRef) -> bool {
    matches!(plain(split::whole(field).data_type()), DataType::Utf8 | DataType::LargeUtf8)
}

impl Column {
    /// Whether a value may break a rule, or have no place in another type.
    fn asks_something(&self) -> bool {
        self.cast.is_some() || self.no_nulls.is_some() || !self.tests.is_empty()
    }

    fn tell(&self, on_data_error: DataErrorPolicy, lines: &mut Vec<String>) {
        let (name, policy) = (self.field.name(), self.policy.as_str());
        // What becomes of a row with such a value.
        let then = match (self.policy, on_data_error) {
            (OnViolation::Fail | OnViolation::Coerce, _) => "ends the load",
            (OnViolation::DiscardRow, DataErrorPolicy::Dlq) => "sends its row to the dead letters",
            (OnViolation::DiscardRow, DataErrorPolicy::Fail | DataErrorPolicy::Skip) => "leaves its row out, which is counted",
            (OnViolation::DiscardColumn, _) => "becomes NULL",
        };
        if self.cast.is_some() {
            let (from, to) = (shown(&split::whole(&self.from)), shown(&split::whole(&self.field)));
            lines.push(format!(
                "column `{name}` is cast from {from} to {to}; a value that does not fit {then} (`on_violation: {policy}`)"
            ));
        }
        if self.no_nulls == Some(Rule::Nullable) {
            lines.push(format!("column `{name}` is declared NOT NULL from here on; a NULL {then} (`on_violation: {policy}`)"));
        }
        let no_nulls = self.no_nulls.filter(|rule| *rule == Rule::NotNull);
        let rules: Vec<String> = no_nulls
            .into_iter()
            .chain(self.tests.iter().map(|(rule, _)| *rule))
            .map(|rule| format!("`{}`", rule.as_str()))
            .collect();
        if !rules.is_empty() {
            let rules = rules.join(" or ");
            lines.push(format!("column `{name}`: a value that breaks {rules} {then} (`on_violation: {policy}`)"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::bind::KEY_ORDINAL;
    use super::super::fixture::{contract, field};
    use super::*;
    use arrow_schema::Schema;
    use rapidbyte_types::StreamName;

    fn bound(yaml: &str) -> Bound {
        let schema = Schema::new(vec![
            field("id", DataType::Int64, false, &[(KEY_ORDINAL, "1")]),
            field("note", DataType::Utf8, true, &[]),
            field("n", DataType::Int32, true, &[]),
        ]);
        Bound::new(&contract(yaml), &StreamName::new("s"), &[], &schema).unwrap()
    }

    fn told(yaml: &str) -> Vec<String> {
        bound(yaml).told(DataErrorPolicy::Fail)
    }

    #[test]
    fn each_policy_says_what_it_would_do() {
        for (yaml, expected) in [
            ("{ columns: { id: { type: int64, required: true, nullable: false } } }", &[][..]),
            (
                "{ columns: { note: { regex: x, not_null: true } } }",
                &["column `note`: a value that breaks `not_null` or `regex` ends the load (`on_violation: fail`)"],
            ),
            (
                "{ columns: { n: { range: { min: 0 }, on_violation: discard_row } } }",
                &["column `n`: a value that breaks `range` leaves its row out, which is counted (`on_violation: discard_row`)"],
            ),
            (
                "{ columns: { n: { one_of: [1], on_violation: discard_column } } }",
                &["column `n`: a value that breaks `one_of` becomes NULL (`on_violation: discard_column`)"],
            ),
            (
                "{ columns: { note: { type: int32, nullable: false, on_violation: coerce } } }",
                &[
                    "column `note` is cast from `utf8` to `int32`; a value that does not fit ends the load (`on_violation: coerce`)",
                    "column `note` is declared NOT NULL from here on; a NULL ends the load (`on_violation: coerce`)",
                ],
            ),
            (
                "{ columns: { note: { type: int32, on_violation: discard_column } } }",
                &["column `note` is left out: it is `utf8`, not `int32` (`on_violation: discard_column`)"],
            ),
            (
                "{ columns: { note: { nullable: false, on_violation: discard_column } } }",
                &["column `note` is left out: the source does not declare it NOT NULL (`on_violation: discard_column`)"],
            ),
            (
                "{ other_columns: discard_column, columns: { id: {}, n: {} } }",
                &["column `note` is left out: the contract does not name it (`other_columns: discard_column`)"],
            ),
            ("{ columns: { gone: { not_null: true } } }", &["column `gone` is not there, and its rules say nothing"]),
        ] {
            assert_eq!(told(yaml), expected, "{yaml}");
        }
        let letters = bound("{ columns: { n: { not_null: true, on_violation: discard_row } } }").told(DataErrorPolicy::Dlq);
        assert!(letters.len() == 1 && letters[0].contains("to the dead letters"), "{letters:?}");
    }

    #[test]
    fn what_a_contract_may_change_is_not_compared() {
        for (yaml, apart, fewer_rows) in [
            (
                "{ other_columns: fail, columns: { id: { range: { min: 0 } }, note: { regex: x }, n: { not_null: true } } }",
                "",
                false,
            ),
            ("{ columns: { n: { nullable: false, on_violation: coerce } } }", "", false),
            // Every value that fits is the same number.
            ("{ columns: { n: { type: int64, on_violation: coerce } } }", "", false),
            ("{ columns: { n: { type: int64, on_violation: discard_row } } }", "", true),
            ("{ columns: { n: { nullable: false, on_violation: discard_row } } }", "", true),
            ("{ columns: { note: { regex: x, on_violation: discard_row } } }", "", true),
            // The source has nothing but NOT NULLs there.
            ("{ columns: { id: { nullable: false, on_violation: discard_row } } }", "", false),
            ("{ columns: { note: { type: int64, on_violation: coerce } } }", "note", false),
            ("{ columns: { n: { type: utf8, on_violation: coerce } } }", "n", false),
            ("{ columns: { note: { type: int64, on_violation: discard_column } } }", "note", false),
            ("{ columns: { note: { one_of: [x], on_violation: discard_column } } }", "note", false),
            ("{ other_columns: discard_column, columns: { id: {} } }", "note n", false),
        ] {
            let Comparable { apart: found, fewer_rows: fewer } = bound(yaml).comparable();
            let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!((names.join(" ").as_str(), fewer), (apart, fewer_rows), "{yaml}");
        }
    }
}
