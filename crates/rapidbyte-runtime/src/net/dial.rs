//! From a name to a connected socket: judged, resolved once, pinned.

use super::acl::{NetworkGrant, Target, parse_target};
use super::address::plain;
use super::stream::{Connection, TcpStream};
use super::tls::TlsConfigs;
#[cfg(feature = "crash-points")]
use super::wire::Wire;
use super::{io_error, net_error};
use crate::wit::rapidbyte::connector::net::{NetCode, NetError};
use rapidbyte_config::manifest::TlsRule;
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// Names a guest may look up in its life; each is kept.
const MAX_NAMES: usize = 256;
/// Addresses tried for one name.
const MAX_ADDRESSES: usize = 16;
/// No host call waits longer, whatever is asked for.
const MAX_WAIT: Duration = Duration::from_secs(3600);

/// Turns names into addresses.
pub trait Resolve: Send + Sync {
    /// The addresses of a name, in the order they should be tried.
    fn resolve(&self, name: &str) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;
}

/// The operating system's resolver.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(&self, name: &str) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>> {
        let name = name.to_owned();
        Box::pin(async move { Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect()) })
    }
}

pub(crate) fn deadline(timeout_ms: u32) -> Instant {
    Instant::now() + Duration::from_millis(timeout_ms.into()).min(MAX_WAIT)
}

/// The network as one instance sees it.
pub(crate) struct NetState {
    grant: NetworkGrant,
    resolver: Arc<dyn Resolve>,
    pinned: HashMap<String, Vec<IpAddr>>,
    places: Arc<Semaphore>,
    tls: Arc<TlsConfigs>,
    /// The instance, for the sweeps of faults.
    #[cfg(feature = "crash-points")]
    instance: u64,
}

impl NetState {
    pub(crate) fn new(grant: NetworkGrant, resolver: Arc<dyn Resolve>, max_sockets: usize, tls: Arc<TlsConfigs>) -> Self {
        Self {
            grant,
            resolver,
            pinned: HashMap::new(),
            places: Arc::new(Semaphore::new(max_sockets)),
            tls,
            #[cfg(feature = "crash-points")]
            instance: 0,
        }
    }

    #[cfg(feature = "crash-points")]
    pub(crate) fn of_instance(mut self, instance: u64) -> Self {
        self.instance = instance;
        self
    }

    pub(crate) async fn connect(&mut self, host: &str, port: u16, timeout_ms: u32) -> Result<TcpStream, NetError> {
        let deadline = deadline(timeout_ms);
        let target = parse_target(host).map_err(|error| net_error(NetCode::Denied, error.to_string()))?;
        if port == 0 {
            return Err(net_error(NetCode::Denied, "port 0 can't be dialled"));
        }
        let allowed = self.grant.check_name(&target, port).map_err(denied)?;
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return Err(net_error(NetCode::Limit, "this connector has as many sockets open as it may"));
        };
        let addresses = match &target {
            Target::Address(address) => vec![*address],
            Target::Name(name) => self.resolve(name, deadline).await?,
        };
        #[cfg(feature = "crash-points")]
        if crate::fault::connecting(self.instance) {
            return Err(net_error(NetCode::Refused, format!("could not connect to {target}: the sweep refused it")));
        }
        let mut last = None;
        for address in addresses {
            if let Err(refusal) = NetworkGrant::check_address(allowed, &target, address) {
                // One bad address among good ones is a sign of rebinding, or of a split view: the rest may be tried.
                last.get_or_insert(denied(refusal));
                continue;
            }
            let socket = SocketAddr::new(address, port);
            match tokio::time::timeout_at(deadline, tokio::net::TcpStream::connect(socket)).await {
                Ok(Ok(stream)) => {
                    return self.wrap(stream, place).map_err(|error| io_error("could not set up the socket", &error));
                }
                Ok(Err(error)) => last = Some(io_error(&format!("could not connect to {target} at {socket}"), &error)),
                Err(_) => {
                    return Err(net_error(NetCode::TimedOut, format!("no answer from {target} at {socket} before the deadline")));
                }
            }
        }
        Err(last.unwrap_or_else(|| net_error(NetCode::NameNotFound, format!("`{target}` has no address"))))
    }

    fn wrap(&self, stream: tokio::net::TcpStream, place: tokio::sync::OwnedSemaphorePermit) -> io::Result<TcpStream> {
        stream.set_nodelay(true)?;
        socket2::SockRef::from(&stream).set_keepalive(true)?;
        #[cfg(feature = "crash-points")]
        let stream = Wire::new(stream);
        #[cfg(feature = "crash-points")]
        crate::fault::connected(self.instance, stream.tamper());
        let plaintext_allowed = self.grant.tls != TlsRule::Required;
        let connection = Connection::new(stream, plaintext_allowed, place);
        Ok(TcpStream::new(connection, self.grant.tls != TlsRule::Forbidden, Arc::clone(&self.tls)))
    }

    /// Looks a name up once; later dials get the same addresses, so that a name can't change its mind after it was judged.
    async fn resolve(&mut self, name: &str, deadline: Instant) -> Result<Vec<IpAddr>, NetError> {
        if let Some(addresses) = self.pinned.get(name) {
            return Ok(addresses.clone());
        }
        if self.pinned.len() >= MAX_NAMES {
            return Err(net_error(NetCode::Limit, format!("this connector has looked up {MAX_NAMES} names already")));
        }
        let found = tokio::time::timeout_at(deadline, self.resolver.resolve(name)).await;
        let Ok(found) = found else {
            return Err(net_error(NetCode::TimedOut, format!("the lookup of `{name}` took too long")));
        };
        let found = found.map_err(|error| NetError {
            code: NetCode::NameNotFound,
            message: format!("`{name}` could not be looked up: {error}"),
            hint: Some("check the spelling of the host and the name service of this machine".into()),
        })?;
        let mut addresses: Vec<IpAddr> = found.into_iter().map(plain).collect();
        addresses.truncate(MAX_ADDRESSES);
        if addresses.is_empty() {
            return Err(net_error(NetCode::NameNotFound, format!("`{name}` has no address")));
        }
        self.pinned.insert(name.to_owned(), addresses.clone());
        Ok(addresses)
    }
}

fn denied(refusal: super::acl::Denied) -> NetError {
    NetError { code: NetCode::Denied, message: refusal.message, hint: Some(refusal.hint) }
}
