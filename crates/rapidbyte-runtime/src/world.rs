//! Which of the three worlds a component lives in, read from its own type, and what that world offers.

use crate::error::{HostError, HostErrorKind};
use crate::host::HostState;
use crate::wit::rapidbyte::connector as imports;
use rapidbyte_config::manifest::Role;
use wasmtime::Engine;
use wasmtime::component::{Component, HasSelf, Linker};

const PACKAGE: &str = "rapidbyte:connector/";
const MAJOR: &str = "2";

/// One of the connector worlds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum World {
    Source,
    Destination,
    Transform,
}

impl World {
    pub(crate) fn role(self) -> Role {
        match self {
            Self::Source => Role::Source,
            Self::Destination => Role::Destination,
            Self::Transform => Role::Transform,
        }
    }
}

/// Reads the world off the component's exports.
pub(crate) fn detect(engine: &Engine, component: &Component) -> Result<World, HostError> {
    let mut found = Vec::new();
    let mut other_version = None;
    for (name, _) in component.component_type().exports(engine) {
        let Some((interface, version)) = name.strip_prefix(PACKAGE).and_then(|rest| rest.split_once('@')) else { continue };
        let world = match interface {
            "source" => World::Source,
            "destination" => World::Destination,
            "transform" => World::Transform,
            _ => continue,
        };
        // A pre-release matches nothing but itself, so none is accepted.
        let stable = version.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        if stable && version.split('.').next() == Some(MAJOR) {
            found.push(world);
        } else {
            other_version = Some(name.chars().take(128).collect::<String>());
        }
    }
    match (found.as_slice(), other_version) {
        ([world], None) => Ok(*world),
        (_, Some(name)) => {
            Err(HostError::new(HostErrorKind::Protocol, format!("the component exports `{name}`, which this host can't speak"))
                .with_hint("rebuild it with this version's SDK"))
        }
        ([], None) => Err(HostError::new(HostErrorKind::World, "the component exports no connector interface")
            .with_hint("a connector exports one of `rapidbyte:connector/source@2`, `…/destination@2`, `…/transform@2`")),
        (_, None) => Err(HostError::new(HostErrorKind::World, "the component exports more than one connector interface")
            .with_hint("make one component for each role")),
    }
}

/// Whether the component has an optional interface in a version that this host speaks.
pub(crate) fn exports(engine: &Engine, component: &Component, interface: &str) -> bool {
    component.component_type().exports(engine).any(|(name, _)| {
        let version =
            name.strip_prefix(PACKAGE).and_then(|rest| rest.strip_prefix(interface)).and_then(|rest| rest.strip_prefix('@'));
        version.is_some_and(|version| version.split('.').next() == Some(MAJOR))
    })
}

/// Offers what the world imports, and WASI.
pub(crate) fn add_imports(linker: &mut Linker<HostState>, world: World) -> wasmtime::Result<()> {
    type Own = HasSelf<HostState>;
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    imports::types::add_to_linker::<_, Own>(linker, |state| state)?;
    imports::state::add_to_linker::<_, Own>(linker, |state| state)?;
    imports::telemetry::add_to_linker::<_, Own>(linker, |state| state)?;
    match world {
        World::Source => {
            imports::net::add_to_linker::<_, Own>(linker, |state| state)?;
            imports::output::add_to_linker::<_, Own>(linker, |state| state)?;
            imports::progress::add_to_linker::<_, Own>(linker, |state| state)
        }
        World::Destination => {
            imports::net::add_to_linker::<_, Own>(linker, |state| state)?;
            imports::input::add_to_linker::<_, Own>(linker, |state| state)?;
            imports::acknowledge::add_to_linker::<_, Own>(linker, |state| state)
        }
        World::Transform => {
            imports::input::add_to_linker::<_, Own>(linker, |state| state)?;
            imports::output::add_to_linker::<_, Own>(linker, |state| state)?;
            imports::forward::add_to_linker::<_, Own>(linker, |state| state)
        }
    }
}
