//! TLS of the host as `tokio-postgres` wants to see it: the same socket, encrypted, with its channel binding.

use rapidbyte_sdk::host_tcp::{HostTcpStream, NetError, TlsVerify};
use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};

/// Asks the host to encrypt a socket.
pub(crate) struct HostTls {
    server_name: String,
    verify: TlsVerify,
}

impl HostTls {
    pub(crate) fn new(server_name: String, verify: TlsVerify) -> Self {
        Self { server_name, verify }
    }
}

impl TlsConnect<HostTcpStream> for HostTls {
    type Stream = Encrypted;
    type Error = NetError;
    type Future = Ready<Result<Encrypted, NetError>>;

    fn connect(self, mut stream: HostTcpStream) -> Self::Future {
        let started = stream.start_tls(&self.server_name, self.verify, &[]);
        ready(started.map(|info| Encrypted { stream, endpoint_hash: info.endpoint_hash }))
    }
}

/// A socket the host encrypts.
pub(crate) struct Encrypted {
    stream: HostTcpStream,
    endpoint_hash: Option<Vec<u8>>,
}

impl TlsStream for Encrypted {
    fn channel_binding(&self) -> ChannelBinding {
        match &self.endpoint_hash {
            Some(hash) => ChannelBinding::tls_server_end_point(hash.clone()),
            None => ChannelBinding::none(),
        }
    }
}

impl AsyncRead for Encrypted {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
