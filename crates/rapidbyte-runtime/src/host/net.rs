//! `net`: sockets by the host's hand.

use super::HostState;
use super::pollables::Interest;
use crate::net::TcpStream;
use crate::wit::rapidbyte::connector::net::{Host, HostTcpStream, NetError, ReadOutcome, TlsInfo, TlsOptions};
use wasmtime::component::Resource;
use wasmtime_wasi::p2::{DynPollable, subscribe};

impl Host for HostState {}

impl HostTcpStream for HostState {
    async fn connect(
        &mut self,
        host: String,
        port: u16,
        timeout_ms: u32,
    ) -> wasmtime::Result<Result<Resource<TcpStream>, NetError>> {
        if let Some(error) = self.struck()? {
            return Ok(Err(error));
        }
        #[cfg(feature = "crash-points")]
        self.reached("connecting")?;
        match self.net.connect(&host, port, timeout_ms).await {
            Ok(stream) => Ok(Ok(self.table.push(stream)?)),
            Err(error) => Ok(Err(error)),
        }
    }

    async fn read(
        &mut self,
        stream: Resource<TcpStream>,
        max: u32,
        min: u32,
        timeout_ms: u32,
    ) -> wasmtime::Result<Result<ReadOutcome, NetError>> {
        if let Some(error) = self.struck()? {
            return Ok(Err(error));
        }
        Ok(self.table.get(&stream)?.read(max, min, timeout_ms).await)
    }

    async fn write(
        &mut self,
        stream: Resource<TcpStream>,
        bytes: Vec<u8>,
        timeout_ms: u32,
    ) -> wasmtime::Result<Result<u64, NetError>> {
        if let Some(error) = self.struck()? {
            return Ok(Err(error));
        }
        Ok(self.table.get(&stream)?.write(&bytes, timeout_ms).await)
    }

    async fn subscribe_read(&mut self, stream: Resource<TcpStream>) -> wasmtime::Result<Resource<DynPollable>> {
        let interest = Interest::Read(self.table.get(&stream)?.read_interest());
        self.pollable(interest)
    }

    async fn subscribe_write(&mut self, stream: Resource<TcpStream>) -> wasmtime::Result<Resource<DynPollable>> {
        let interest = Interest::Write(self.table.get(&stream)?.write_interest());
        self.pollable(interest)
    }

    async fn start_tls(
        &mut self,
        stream: Resource<TcpStream>,
        options: TlsOptions,
        timeout_ms: u32,
    ) -> wasmtime::Result<Result<TlsInfo, NetError>> {
        if let Some(error) = self.struck()? {
            return Ok(Err(error));
        }
        let secured = self.table.get(&stream)?.start_tls(options, timeout_ms).await;
        #[cfg(feature = "crash-points")]
        if secured.is_ok() {
            self.reached("encrypted")?;
        }
        Ok(secured)
    }

    async fn shutdown(&mut self, stream: Resource<TcpStream>) -> wasmtime::Result<Result<(), NetError>> {
        Ok(self.table.get(&stream)?.shutdown().await)
    }

    async fn drop(&mut self, stream: Resource<TcpStream>) -> wasmtime::Result<()> {
        self.table.delete(stream)?;
        Ok(())
    }
}

impl HostState {
    /// A point of this instance's on its way to a server.
    #[cfg(feature = "crash-points")]
    fn reached(&self, point: &str) -> wasmtime::Result<()> {
        match crate::fault::hit(&format!("net.{}.{point}", self.telemetry.connector()), Some(self.instance)) {
            crate::fault::Struck::Trap => Err(crate::fault::trap()),
            _ => Ok(()),
        }
    }

    pub(super) fn pollable(&mut self, interest: Interest) -> wasmtime::Result<Resource<DynPollable>> {
        let owned = self.table.push(interest)?;
        subscribe(&mut self.table, owned)
    }
}
