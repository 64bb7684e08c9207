//! Contracts held against what the source lists, for `check`.

use super::bind::Bound;
use arrow_schema::{FieldRef, Schema};
use rapidbyte_config::PipelinePlan;
use rapidbyte_config::contract::Contract;
use rapidbyte_runtime::DiscoveredStream;
use rapidbyte_types::arrow::decode_schema;
use rapidbyte_types::{CheckItem, CheckStatus, ConnectorError, StreamContext, StreamName};

/// One line for each stream with a contract.
pub(crate) fn look(plan: &PipelinePlan, found: &[DiscoveredStream]) -> Vec<CheckItem> {
    let held = plan.streams.iter().filter_map(|stream| Some((stream, plan.contracts.get(&stream.name)?)));
    held.map(|(stream, contract)| one(stream, contract, found)).collect()
}

fn one(stream: &StreamContext, contract: &Contract, found: &[DiscoveredStream]) -> CheckItem {
    let item = |status, message: String, hint| CheckItem { name: stream.name.to_string(), status, message, hint };
    let Some(listed) = named(&stream.name, found) else {
        let message = "the source does not list the stream; its contract is looked at when it is read".to_owned();
        return item(CheckStatus::Warning, message, None);
    };
    match bound(stream, contract, listed) {
        Ok(bound) if bound.left_out > 0 => {
            let message = format!("its columns are as the contract says, and {} are left out", bound.left_out);
            item(CheckStatus::Ok, message, None)
        }
        Ok(_) => item(CheckStatus::Ok, "its columns are as the contract says".to_owned(), None),
        Err(error) => item(CheckStatus::Failed, error.message, error.hint),
    }
}

/// Which namespace a bare name means, only the source knows: it is looked at where there is one of that name.
fn named<'f>(name: &StreamName, found: &'f [DiscoveredStream]) -> Option<&'f DiscoveredStream> {
    let exact = found.iter().find(|one| one.name == *name);
    exact.or_else(|| {
        let mut bare = found.iter().filter(|one| name.namespace.is_none() && one.name.name == name.name);
        bare.next().filter(|_| bare.next().is_none())
    })
}

fn bound(stream: &StreamContext, contract: &Contract, listed: &DiscoveredStream) -> Result<Bound, ConnectorError> {
    let schema = decode_schema(&listed.schema)?;
    let schema = match &stream.selected_columns {
        None => schema,
        Some(names) => {
            let field = |name: &String| schema.fields().iter().find(|field| field.name() == name).cloned();
            Schema::new(names.iter().filter_map(field).collect::<Vec<FieldRef>>())
        }
    };
    let key = if stream.primary_key.is_empty() { &listed.primary_key } else { &stream.primary_key };
    Bound::new(contract, &stream.name, key, &schema)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_schema::{DataType, Field};
    use rapidbyte_types::arrow::encode_schema;
    use std::path::Path;

    fn plan(stream: &str) -> PipelinePlan {
        let text = format!(
            "version: \"1\"\npipeline: p\nsource:\n  use: source-datagen\n  streams:\n    - {{ {stream} }}\ndestination: {{ use: dest-postgres }}\n"
        );
        PipelinePlan::from_str(&text, Path::new("p.yaml"), &|_| None).unwrap()
    }

    fn listed(namespace: &str) -> DiscoveredStream {
        let schema = Schema::new(vec![Field::new("id", DataType::Int64, false), Field::new("x", DataType::Utf8, true)]);
        DiscoveredStream {
            name: StreamName::qualified(namespace, "s"),
            kind: "table".into(),
            schema: encode_schema(&schema).unwrap(),
            primary_key: vec![],
            cursor_candidates: vec![],
            sync_modes: vec![],
            estimated_rows: None,
            estimated_bytes: None,
        }
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
