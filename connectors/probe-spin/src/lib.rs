//! A fixture: a source whose `read` is an endless loop that calls nothing, so that only the sandbox can stop it.

use rapidbyte_sdk::{
    CheckItem, ConnectorError, DiscoveredStream, InitContext, ReadRequest, ReadSummary, Source, SourceOutput, StreamContext,
};
use serde::Deserialize;

rapidbyte_sdk::connector_main!(source, Spin);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
/// No keys.
pub struct Nothing {}

/// Never comes back.
pub struct Spin;

impl Source for Spin {
    type Config = Nothing;

    fn init(_config: Nothing, _context: InitContext) -> Result<Self, ConnectorError> {
        Ok(Self)
    }

    fn validate(&mut self, _streams: &[StreamContext]) -> Result<Vec<CheckItem>, ConnectorError> {
        Ok(Vec::new())
    }

    fn discover(&mut self) -> Result<Vec<DiscoveredStream>, ConnectorError> {
        Ok(Vec::new())
    }

    fn read(&mut self, _request: &ReadRequest, _output: &mut SourceOutput) -> Result<ReadSummary, ConnectorError> {
        let mut turns = 0_u64;
        loop {
            turns = std::hint::black_box(turns.wrapping_add(1));
        }
    }
}
