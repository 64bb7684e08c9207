//! A destination that tells what a run would do.

use crate::convert::cut;
use crate::destination::DestinationInstance;
use crate::error::{GuestError, HostError, HostErrorKind};
use crate::instance::{Guest, InstanceOptions, call_fallible};
use crate::runtime::Connector;
use crate::source::violation;
use crate::wit::exports::rapidbyte::connector::{destination, dry_run as exports};
use rapidbyte_config::manifest::Role;
use rapidbyte_types::{Effect, EffectKind, PlannedTarget, StreamContext};
use std::sync::Arc;

/// Effects of one stream: a table of the most columns, each with several.
const MAX_EFFECTS: usize = 10_000;
/// A statement's length in bytes: a table of 1,600 columns with long names fits.
const MAX_STATEMENT: usize = 1 << 20;

/// A stream that would be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedStream {
    /// The stream.
    pub context: StreamContext,
    /// What would arrive: one encapsulated Arrow IPC schema message.
    pub schema: Vec<u8>,
}

/// One instance that tells what would be done, with a store of its own.
pub struct DryRunInstance {
    guest: Guest,
    role: destination::Guest,
    exports: exports::Guest,
}

impl DryRunInstance {
    /// Opens a destination for which [`Connector::dry_runs`] holds.
    ///
    /// # Errors
    /// As opening it for its role, or when its dry runs are of another shape.
    pub async fn open(connector: &Arc<Connector>, options: &InstanceOptions) -> Result<Self, GuestError> {
        if connector.role() != Role::Destination {
            return Err(violation(format!("a {} makes nothing that could be planned", connector.role())));
        }
        let (mut guest, role) = DestinationInstance::open(connector, options).await?.into_parts();
        let exports = exports::GuestIndices::new(connector.pre())
            .and_then(|indices| indices.load(&mut guest.store, &guest.instance))
            .map_err(|error| {
                HostError::new(HostErrorKind::Protocol, "the component's dry runs are of another shape").because(error)
            })?;
        Ok(Self { guest, role, exports })
    }

    /// What would be done for each stream, in order.
    ///
    /// # Errors
    /// As every call: the connector's own error, a trap, or the host's failure.
    pub async fn dry_run(&mut self, streams: Vec<PlannedStream>) -> Result<Vec<PlannedTarget>, GuestError> {
        let Self { guest, exports, .. } = self;
        let wanted = streams.len();
        let stream = |PlannedStream { context, schema }| exports::PlannedStream { context: context.into(), schema };
        let streams: Vec<exports::PlannedStream> = streams.into_iter().map(stream).collect();
        let planned = call_fallible!(guest, call_timeout, exports.call_dry_run(&mut guest.store, &streams))?;
        if planned.len() != wanted {
            return Err(violation(format!("`dry-run` answers for {} streams, {wanted} were asked for", planned.len())));
        }
        if planned.iter().any(|target| target.effects.len() > MAX_EFFECTS) {
            return Err(violation(format!("`dry-run` tells of more than {MAX_EFFECTS} effects")));
        }
        let words = |text: String| guest.words(&cut(text, MAX_STATEMENT));
        let target = |exports::PlannedTarget { place, exists, rows, effects }| PlannedTarget {
            place: words(place),
            exists,
            rows,
            effects: effects
                .into_iter()
                .map(|exports::Effect { kind, message, sql, hint }| Effect {
                    kind: match kind {
                        exports::EffectKind::Create => EffectKind::Create,
                        exports::EffectKind::Alter => EffectKind::Alter,
                        exports::EffectKind::Write => EffectKind::Write,
                        exports::EffectKind::Policy => EffectKind::Policy,
                        exports::EffectKind::Refusal => EffectKind::Refusal,
                    },
                    message: words(message),
                    sql: sql.map(words),
                    hint: hint.map(words),
                })
                .collect(),
        };
        Ok(planned.into_iter().map(target).collect())
    }

    /// Closes the connector and gives its memory back.
    ///
    /// # Errors
    /// As every call.
    pub async fn close(mut self) -> Result<(), GuestError> {
        let Self { guest, role, .. } = &mut self;
        call_fallible!(guest, call_timeout, role.call_close(&mut guest.store))
    }
}
