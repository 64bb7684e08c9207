//! What the tests of contracts share.

use arrow_schema::{DataType, Field};
use rapidbyte_config::PipelinePlan;
use rapidbyte_config::contract::Contract;
use rapidbyte_types::ConnectorError;
use std::path::Path;

/// A contract from the text of its mapping.
pub(super) fn contract(yaml: &str) -> Contract {
    let text = format!(
        "version: \"1\"\npipeline: p\nsource:\n  use: source-datagen\n  streams:\n    - {{ name: s, contract: {yaml} }}\ndestination: {{ use: dest-postgres }}\n"
    );
    let plan = PipelinePlan::from_str(&text, Path::new("p.yaml"), &|_| None).expect(yaml);
    plan.contracts.values().next().expect("a contract").as_ref().clone()
}

pub(super) fn field(name: &str, data_type: DataType, nullable: bool, metadata: &[(&str, &str)]) -> Field {
    let metadata = metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Field::new(name, data_type, nullable).with_metadata(metadata)
}

pub(super) fn error<T>(result: Result<T, ConnectorError>) -> ConnectorError {
    result.err().expect("an error")
}
