//! What `use` refers to.

use super::ConnectorRef;
use crate::error::{ConfigError, ConfigErrorKind};
use crate::manifest::is_slug;
use crate::spec::Marked;
use std::path::Path;

const OWNER: &str = "rapidbyte/";

impl ConnectorRef {
    /// Reads a reference: `source-postgres` or `rapidbyte/source-postgres` is bundled; what begins with `./`, `../` or `/`,
    /// or ends in `.wasm`, is a file, and a relative one is joined to `base_dir`. Anything else is neither.
    pub fn parse(text: &str, base_dir: &Path) -> Option<Self> {
        if ["./", "../", "/"].iter().any(|prefix| text.starts_with(prefix)) || text.ends_with(".wasm") {
            return Some(Self::Path(base_dir.join(text).components().collect()));
        }
        let name = text.strip_prefix(OWNER).unwrap_or(text);
        is_slug(name).then(|| Self::Bundled(name.to_owned()))
    }
}

pub(super) fn read(written: &Marked<String>, base_dir: &Path) -> Result<ConnectorRef, ConfigError> {
    ConnectorRef::parse(&written.value, base_dir).ok_or_else(|| {
        let message = format!("`{}` is neither the name of a bundled connector nor a path", written.shown());
        ConfigError::new(ConfigErrorKind::InvalidValue, written.mark, message)
            .with_hint("name a bundled connector, as `source-postgres`, or a file, as `./my_source.wasm`")
    })
}
