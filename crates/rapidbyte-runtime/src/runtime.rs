//! The engine of a process, and connectors loaded into it.

use crate::aot::{self, AotCache};
use crate::error::{HostError, HostErrorKind};
use crate::host::HostState;
use crate::world::{self, World};
use rapidbyte_config::manifest::{Manifest, ManifestError, ManifestErrorKind, Role, unpack, verify};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;
use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime::{Config, Engine};

/// How often a running guest can be interrupted.
const TICK: Duration = Duration::from_millis(10);
/// Stack of a guest, and of the fiber it runs on.
const WASM_STACK: usize = 1 << 20;
const FIBER_STACK: usize = 2 << 20;

/// Whether compiled components are kept on disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum AotMode {
    /// Compile at every start.
    #[default]
    Off,
    /// Keep them in this directory, which is made private to this user.
    Cache(PathBuf),
}

/// How a [`Runtime`] is made.
#[derive(Debug, Clone, Default)]
pub struct RuntimeOptions {
    /// Whether compiled components are kept.
    pub aot: AotMode,
    /// Names this build; code compiled by another is not used.
    pub build_id: String,
}

/// One engine per process. Clones share it.
#[derive(Clone)]
pub struct Runtime {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    engine: Engine,
    cache: Option<AotCache>,
    /// Held while a component is compiled: one takes all cores, and a lot of memory.
    compiling: Mutex<()>,
    /// Lives as long as any connector does: without it a spinning guest could not be stopped.
    _ticker: Ticker,
}

/// A component that has passed every check, ready to be instantiated.
pub struct Connector {
    shared: Arc<Shared>,
    manifest: Manifest,
    world: World,
    pre: InstancePre<HostState>,
    digests: bool,
    dry_runs: bool,
    digest: String,
    from_cache: bool,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").field("id", &self.manifest.id).field("version", &self.manifest.version).finish_non_exhaustive()
    }
}

impl Runtime {
    /// Starts the engine.
    ///
    /// # Errors
    /// When the machine or the cache directory does not allow it.
    pub fn new(options: RuntimeOptions) -> Result<Self, HostError> {
        let engine_error = |what: &str| HostError::new(HostErrorKind::Engine, what);
        let engine = Engine::new(&config()).map_err(|error| engine_error("the sandbox could not be started").because(error))?;
        let cache = match &options.aot {
            AotMode::Off => None,
            AotMode::Cache(dir) => {
                let build_id = format!("{} {}", env!("CARGO_PKG_VERSION"), options.build_id);
                Some(AotCache::open(dir, &engine, &build_id).map_err(|error| aot::unusable(dir, error))?)
            }
        };
        let ticker =
            Ticker::start(&engine).map_err(|error| engine_error("the sandbox's clock could not be started").because(error))?;
        Ok(Self { shared: Arc::new(Shared { engine, cache, compiling: Mutex::default(), _ticker: ticker }) })
    }

    /// Checks, compiles and links a packed component. `beside` is the manifest file that lies beside it, if any. Takes about a
    /// second for a component that is not in the cache: call it off the async threads.
    ///
    /// # Errors
    /// When the bytes are not a connector this host can run, or the manifest is not theirs.
    pub fn load(&self, packed: &[u8], beside: Option<&[u8]>) -> Result<Arc<Connector>, HostError> {
        if Engine::detect_precompiled(packed).is_some() {
            return Err(HostError::new(HostErrorKind::Precompiled, "the file is compiled code, not WebAssembly")
                .with_hint("give the `.wasm` file; compiled code is never taken from outside"));
        }
        let manifest = verify(packed, beside).map_err(refused)?;
        if manifest.roles() == [Role::Utility] {
            return Err(HostError::new(
                HostErrorKind::World,
                "the manifest names no role but `utility`, which no pipeline has a use for",
            )
            .with_hint("name `source`, `destination` or `transform` under `roles`, whichever the component is"));
        }
        let bytes = unpack(packed).map_err(refused)?.component;
        // What the manifest says has just been compared with the bytes.
        let checksum = manifest.artifact.checksum.as_deref().and_then(|text| text.strip_prefix("sha256:"));
        let digest = checksum.map_or_else(|| aot::digest(bytes), str::to_owned);
        let (component, from_cache) = self.compile(bytes, &digest)?;
        let engine = &self.shared.engine;
        let world = world::detect(engine, &component)?;
        let digests = world::exports(engine, &component, "digest-ranges");
        let dry_runs = world::exports(engine, &component, "dry-run");
        if !manifest.has_role(world.role()) {
            return Err(HostError::new(
                HostErrorKind::Manifest,
                format!("the component is a {}, its manifest says {}", world.role(), roles(&manifest)),
            )
            .with_hint("correct `roles` in the manifest and package the component again"));
        }
        if manifest.roles().iter().any(|role| *role != world.role() && *role != Role::Utility) {
            return Err(HostError::new(
                HostErrorKind::Manifest,
                format!("the manifest says {}, the component is a {} only", roles(&manifest), world.role()),
            )
            .with_hint("correct `roles` in the manifest and package the component again"));
        }
        if manifest.protocol_version != rapidbyte_types::PROTOCOL_VERSION {
            return Err(HostError::new(
                HostErrorKind::Protocol,
                format!(
                    "the manifest speaks protocol `{}`, this host `{}`",
                    manifest.protocol_version,
                    rapidbyte_types::PROTOCOL_VERSION
                ),
            ));
        }
        let linker = link(engine, world)?;
        let pre = linker.instantiate_pre(&component).map_err(|error| {
            HostError::new(HostErrorKind::Imports, "the component imports something this host does not offer")
                .with_hint("rebuild it with this version's SDK")
                .because(error)
        })?;
        Ok(Arc::new(Connector { shared: Arc::clone(&self.shared), manifest, world, pre, digests, dry_runs, digest, from_cache }))
    }

    fn compile(&self, bytes: &[u8], digest: &str) -> Result<(Component, bool), HostError> {
        let Shared { engine, cache, compiling, .. } = &*self.shared;
        if let Some(component) = cache.as_ref().and_then(|cache| cache.load(engine, digest)) {
            return Ok((component, true));
        }
        // It guards no data.
        let _turn = compiling.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever had the turn before may have compiled the same.
        if let Some(component) = cache.as_ref().and_then(|cache| cache.load(engine, digest)) {
            return Ok((component, true));
        }
        let component = Component::from_binary(engine, bytes).map_err(|error| {
            HostError::new(HostErrorKind::NotAComponent, "the component can't be compiled")
                .with_hint("it may be damaged, or use WebAssembly features that connectors may not")
                .because(error)
        })?;
        if let Some(cache) = cache {
            cache.store(digest, &component);
        }
        Ok((component, false))
    }
}

impl Connector {
    /// Its manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What it is, as read from the component itself.
    pub fn role(&self) -> Role {
        self.world.role()
    }

    /// Whether it can digest its rows for `verify`.
    pub fn digests_ranges(&self) -> bool {
        self.digests
    }

    /// Whether it can tell what a run would do, for `plan`.
    pub fn dry_runs(&self) -> bool {
        self.dry_runs
    }

    /// The SHA-256 of the component, in hexadecimal.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Whether its code came from the cache.
    pub fn from_cache(&self) -> bool {
        self.from_cache
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.shared.engine
    }

    pub(crate) fn pre(&self) -> &InstancePre<HostState> {
        &self.pre
    }
}

fn config() -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        // Async functions of the component model are not in use, and their bookkeeping is not free.
        .concurrency_support(false)
        .max_wasm_stack(WASM_STACK)
        .async_stack_size(FIBER_STACK)
        .wasm_backtrace_max_frames(std::num::NonZeroUsize::new(20));
    let off = wasmtime::WasmFeatures::THREADS
        | wasmtime::WasmFeatures::SHARED_EVERYTHING_THREADS
        | wasmtime::WasmFeatures::GC
        | wasmtime::WasmFeatures::FUNCTION_REFERENCES
        | wasmtime::WasmFeatures::EXCEPTIONS
        | wasmtime::WasmFeatures::LEGACY_EXCEPTIONS
        | wasmtime::WasmFeatures::MEMORY64
        | wasmtime::WasmFeatures::RELAXED_SIMD
        | wasmtime::WasmFeatures::TAIL_CALL
        | wasmtime::WasmFeatures::STACK_SWITCHING
        | wasmtime::WasmFeatures::CM_ASYNC;
    config.wasm_features(off, false);
    config
}

fn link(engine: &Engine, world: World) -> Result<Linker<HostState>, HostError> {
    let mut linker = Linker::new(engine);
    world::add_imports(&mut linker, world)
        .map_err(|error| HostError::new(HostErrorKind::Internal, "the host's functions could not be linked").because(error))?;
    Ok(linker)
}

fn roles(manifest: &Manifest) -> String {
    manifest.roles().iter().map(|role| role.as_str()).collect::<Vec<_>>().join(", ")
}

fn refused(error: ManifestError) -> HostError {
    let kind = match error.kind() {
        ManifestErrorKind::NotWasm | ManifestErrorKind::CoreModule | ManifestErrorKind::Malformed => HostErrorKind::NotAComponent,
        _ => HostErrorKind::Manifest,
    };
    let hint = error.hint().map(str::to_owned);
    let out = HostError::new(kind, "the file is not a connector that can be loaded").because(error);
    match hint {
        Some(hint) => out.with_hint(hint),
        None => out,
    }
}

/// Moves the epoch on, so that guests in a loop give way.
struct Ticker {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    fn start(engine: &Engine) -> std::io::Result<Self> {
        let engine = engine.weak();
        let (stop, stopped) = mpsc::channel::<()>();
        let thread = std::thread::Builder::new().name("rapidbyte-epoch".into()).spawn(move || {
            while stopped.recv_timeout(TICK) == Err(mpsc::RecvTimeoutError::Timeout) {
                let Some(engine) = engine.upgrade() else { return };
                engine.increment_epoch();
            }
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // It does nothing that can panic.
            let _ = thread.join();
        }
    }
}
