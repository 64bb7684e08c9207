//! Contracts held against what the source lists, for `check`, `plan` and `verify`.

use super::bind::Bound;
use crate::listing;
use rapidbyte_config::PipelinePlan;
use rapidbyte_config::contract::Contract;
use rapidbyte_runtime::DiscoveredStream;
use rapidbyte_types::{CheckItem, CheckStatus, ConnectorError, StreamContext};

/// One line for each stream with a contract.
pub(crate) fn look(plan: &PipelinePlan, found: &[DiscoveredStream]) -> Vec<CheckItem> {
    let held = plan.streams.iter().filter_map(|stream| Some((stream, plan.contracts.get(&stream.name)?)));
    held.map(|(stream, contract)| item(stream, held_to(contract, stream, listing::named(found, &stream.name)).as_ref())).collect()
}

/// A contract held against the columns that a stream is listed with, as a run holds it against those that are announced. `None`
/// where they are not known.
///
/// # Errors
/// What a run would end with before a row is moved.
pub(crate) fn held_to(
    contract: &Contract,
    stream: &StreamContext,
    listed: Option<&DiscoveredStream>,
) -> Option<Result<Bound, ConnectorError>> {
    let listed = listed?;
    let schema = listing::columns_of(stream, listed)?;
    let key = if stream.primary_key.is_empty() { &listed.primary_key } else { &stream.primary_key };
    Some(Bound::new(contract, &stream.name, key, &schema))
}

/// What was found, in words.
pub(crate) fn item(stream: &StreamContext, held: Option<&Result<Bound, ConnectorError>>) -> CheckItem {
    let (status, message, hint) = match held {
        None => {
            let message = "the source does not list its columns; its contract is looked at when it is read";
            (CheckStatus::Warning, message.to_owned(), None)
        }
        Some(Ok(bound)) if !bound.left_out.is_empty() => {
            let message = format!("its columns are as the contract says, and {} are left out", bound.left_out.len());
            (CheckStatus::Ok, message, None)
        }
        Some(Ok(_)) => (CheckStatus::Ok, "its columns are as the contract says".to_owned(), None),
        Some(Err(error)) => (CheckStatus::Failed, error.message.clone(), error.hint.clone()),
    };
    CheckItem { name: stream.name.to_string(), status, message, hint }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listing::fixture;
    use arrow_schema::{DataType, Field, Schema};
    use rapidbyte_types::StreamName;
    use std::path::Path;

    fn plan(stream: &str) -> PipelinePlan {
        let text = format!(
            "version: \"1\"\npipeline: p\nsource:\n  use: source-datagen\n  streams:\n    - {{ {stream} }}\ndestination: {{ use: dest-postgres }}\n"
        );
        PipelinePlan::from_str(&text, Path::new("p.yaml"), &|_| None).unwrap()
    }

    fn listed(namespace: &str) -> DiscoveredStream {
        let schema = Schema::new(vec![Field::new("id", DataType::Int64, false), Field::new("x", DataType::Utf8, true)]);
        fixture::listed(StreamName::qualified(namespace, "s"), &schema)
    }

    #[test]
    fn each_stream_with_a_contract_is_looked_at_where_the_source_lists_it() {
        for (stream, found, status, words) in [
            ("name: a.s, contract: { columns: { id: { type: int64 } } }", vec!["a"], CheckStatus::Ok, "as the contract says"),
            ("name: s, contract: { columns: { id: { type: int64 } } }", vec!["a"], CheckStatus::Ok, "as the contract says"),
            ("name: s, contract: { columns: { id: { type: int64 } } }", vec!["a", "b"], CheckStatus::Warning, "does not list"),
            ("name: a.s, contract: { columns: { id: { type: int32 } } }", vec!["a"], CheckStatus::Failed, "not `int32`"),
            (
                "name: a.s, columns: [x], contract: { columns: { id: { required: true } } }",
                vec!["a"],
                CheckStatus::Failed,
                "required",
            ),
            (
                "name: a.s, contract: { other_columns: discard_column, columns: { id: {} } }",
                vec!["a"],
                CheckStatus::Ok,
                "1 are left out",
            ),
            (
                "name: a.s, contract: { columns: { x: { range: { max: 2024 }, type: date, on_violation: coerce } } }",
                vec!["a"],
                CheckStatus::Failed,
                "range",
            ),
        ] {
            let found: Vec<DiscoveredStream> = found.into_iter().map(listed).collect();
            let items = look(&plan(stream), &found);
            assert!(items.len() == 1 && items[0].status == status && items[0].message.contains(words), "{stream}: {items:?}");
            assert_eq!(items[0].hint.is_some(), status == CheckStatus::Failed, "{stream}");
        }
        assert!(look(&plan("name: a.s"), &[listed("a")]).is_empty());
    }
}
