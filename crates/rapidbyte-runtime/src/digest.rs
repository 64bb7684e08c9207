//! A source or destination that digests its rows.

use crate::destination::DestinationInstance;
use crate::error::{GuestError, HostError, HostErrorKind};
use crate::instance::{Guest, InstanceOptions, call_fallible};
use crate::runtime::Connector;
use crate::source::{SourceInstance, violation};
use crate::wit::exports::rapidbyte::connector::{destination, digest_ranges as exports, source};
use rapidbyte_config::manifest::Role;
use rapidbyte_types::{ColumnEncoding, DigestColumn, DigestRequest, KeyDigest, PinRequest, Pinned, RangeDigest};
use std::sync::Arc;

/// PostgreSQL's own bound on columns, with room.
const MAX_COLUMNS: usize = 4096;
/// A digest's or key hash's length in bytes.
const MAX_DIGEST: usize = 128;
/// A key in words: 1,024 characters, each of at most 4 bytes.
const MAX_KEY: usize = 4096;

/// The exports of the role, for `close`.
enum Opened {
    Source(source::Guest),
    Destination(destination::Guest),
}

/// One instance that digests rows, with a store of its own.
pub struct DigestInstance {
    guest: Guest,
    opened: Opened,
    exports: exports::Guest,
}

impl DigestInstance {
    /// Opens a connector for which [`Connector::digests_ranges`] holds.
    ///
    /// # Errors
    /// As opening it for its role, or when its digests are of another shape.
    pub async fn open(connector: &Arc<Connector>, options: &InstanceOptions) -> Result<Self, GuestError> {
        let (mut guest, opened) = match connector.role() {
            Role::Source => {
                let (guest, role) = SourceInstance::open(connector, options).await?.into_parts();
                (guest, Opened::Source(role))
            }
            Role::Destination => {
                let (guest, role) = DestinationInstance::open(connector, options).await?.into_parts();
                (guest, Opened::Destination(role))
            }
            other => return Err(violation(format!("a {other} has no rows to digest"))),
        };
        let exports = exports::GuestIndices::new(connector.pre())
            .and_then(|indices| indices.load(&mut guest.store, &guest.instance))
            .map_err(|error| {
                HostError::new(HostErrorKind::Protocol, "the component's digests are of another shape").because(error)
            })?;
        Ok(Self { guest, opened, exports })
    }

    /// Fixes a view; `None` = the table is not there.
    ///
    /// # Errors
    /// As every call: the connector's own error, a trap, or the host's failure.
    pub async fn pin(&mut self, request: PinRequest) -> Result<Option<Pinned>, GuestError> {
        let Self { guest, exports, .. } = self;
        let PinRequest { stream, position } = request;
        let request = exports::PinRequest { stream: stream.into(), position: position.map(Into::into) };
        let Some(pinned) = call_fallible!(guest, call_timeout, exports.call_pin(&mut guest.store, &request))? else {
            return Ok(None);
        };
        let exports::Pinned { place, columns, key, estimated_rows, method } = pinned;
        if columns.len() > MAX_COLUMNS || key.len() > columns.len() || columns.iter().any(|column| column.encodings.is_empty()) {
            return Err(violation("`pin` describes no table that could be one".into()));
        }
        let column = |exports::DigestColumn { name, type_, encodings }| DigestColumn { name, type_name: type_, encodings };
        Ok(Some(Pinned {
            place: guest.words(&place),
            columns: columns.into_iter().map(column).collect(),
            key,
            estimated_rows,
            method,
        }))
    }

    /// Digests the pinned rows, range by range, in ascending order of the ranges.
    ///
    /// # Errors
    /// As every call.
    pub async fn digest(&mut self, request: &DigestRequest) -> Result<Vec<RangeDigest>, GuestError> {
        let Self { guest, exports, .. } = self;
        let wire = to_wit(request);
        let found = call_fallible!(guest, call_timeout, exports.call_digest(&mut guest.store, &wire))?;
        let found = found.into_iter().map(|exports::RangeDigest { range, rows, digest }| RangeDigest { range, rows, digest });
        let mut found: Vec<RangeDigest> = found.collect();
        found.sort_by_key(|digest| digest.range);
        let twice = found.windows(2).any(|pair| pair[0].range == pair[1].range);
        if twice || found.iter().any(|one| one.range >= request.ranges || one.digest.len() > MAX_DIGEST) {
            return Err(violation("`digest` gives ranges that were not asked for".into()));
        }
        Ok(found)
    }

    /// The keys of some ranges.
    ///
    /// # Errors
    /// As every call.
    pub async fn list_keys(&mut self, request: &DigestRequest, ranges: &[u32], max: u32) -> Result<Vec<KeyDigest>, GuestError> {
        let Self { guest, exports, .. } = self;
        let wire = to_wit(request);
        let found = call_fallible!(guest, call_timeout, exports.call_list_keys(&mut guest.store, &wire, ranges, max))?;
        let fits = |one: &exports::KeyDigest| {
            one.id.len() <= MAX_DIGEST && one.digest.len() <= MAX_DIGEST && one.key.as_ref().is_none_or(|key| key.len() <= MAX_KEY)
        };
        if found.len() > max as usize || !found.iter().all(fits) {
            return Err(violation("`list-keys` gives more than was asked for".into()));
        }
        let key = |exports::KeyDigest { id, key, rows, digest }| KeyDigest { id, key, rows, digest };
        Ok(found.into_iter().map(key).collect())
    }

    /// Closes the connector and gives its memory back.
    ///
    /// # Errors
    /// As every call.
    pub async fn close(mut self) -> Result<(), GuestError> {
        let Self { guest, opened, .. } = &mut self;
        match opened {
            Opened::Source(exports) => call_fallible!(guest, call_timeout, exports.call_close(&mut guest.store)),
            Opened::Destination(exports) => call_fallible!(guest, call_timeout, exports.call_close(&mut guest.store)),
        }
    }
}

fn to_wit(request: &DigestRequest) -> exports::DigestRequest {
    let DigestRequest { columns, key, ranges, whole } = request.clone();
    let column = |ColumnEncoding { name, encoding }| exports::ColumnEncoding { name, encoding };
    exports::DigestRequest { columns: columns.into_iter().map(column).collect(), key, ranges, whole }
}
