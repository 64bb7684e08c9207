//! Documents of Rapidbyte, from text to checked plan.
//!
//! Three shapes, never mixed: a document as written ([`spec::PipelineSpec`]), resolved ([`plan::PipelinePlan`]), and, in
//! another crate, running. Beside it stand the manifest of a connector ([`manifest`]) and the check of its configuration
//! ([`connector_config`]). Nothing here reads the environment, opens a socket or starts a guest.

pub mod connector_config;
pub mod contract;
mod document;
mod error;
pub mod manifest;
pub mod plan;
pub mod schema;
pub mod secrets;
pub mod spec;
mod suggest;

pub use connector_config::{ConfigGrants, ConfigSchema, InvalidConfig};
pub use error::{ConfigError, ConfigErrorKind, Mark};
pub use manifest::{Manifest, ManifestError};
pub use plan::{ConnectorPlan, ConnectorRef, PipelinePlan, SelectionError, StreamPattern};
pub use secrets::{Redactor, Secret, Secrets};
