//! A fixture: `tokio-postgres` over a host socket, and the blocking face of such a socket. Its check runs a query; it reads no
//! streams.

mod tls;

use postgres_wire::{ConnectConfig, Secret, SslMode, split_config};
use rapidbyte_sdk::host_tcp::{HostTcpStream, TlsVerify, block_on};
use rapidbyte_sdk::{
    CheckItem, CheckStatus, ConnectorError, DiscoveredStream, InitContext, ReadRequest, ReadSummary, Source, SourceOutput,
    StreamContext,
};
use serde::Deserialize;
use std::future::{Future, poll_fn};
use std::io::{self, Read, Write};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;
use tls::HostTls;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_postgres::{Client, Config, Connection, NoTls};

rapidbyte_sdk::connector_main!(source, Probe);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProbeConfig {
    #[serde(default = "default_query")]
    query: String,
}

fn default_query() -> String {
    "SELECT current_user::text".to_owned()
}

/// Runs a query through `tokio-postgres`.
pub struct Probe {
    connect: ConnectConfig,
    config: ProbeConfig,
}

fn driver(error: &tokio_postgres::Error) -> ConnectorError {
    let code = error.code().map_or("driver", |state| state.code()).to_owned();
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    ConnectorError::config(code, format!("tokio-postgres: {error}{cause}"))
}

/// Drives the connection beside the query: a guest has one thread and nobody else to do it.
async fn beside<S, T, F>(connection: Connection<S, T>, work: F) -> Result<F::Output, ConnectorError>
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
    F: Future,
{
    let (mut connection, mut work) = (pin!(connection), pin!(work));
    poll_fn(|context| {
        if let Poll::Ready(output) = work.as_mut().poll(context) {
            return Poll::Ready(Ok(output));
        }
        if let Poll::Ready(ended) = connection.as_mut().poll(context) {
            // What ended the connection decides unless the work noticed it first.
            if let Poll::Ready(output) = work.as_mut().poll(context) {
                return Poll::Ready(Ok(output));
            }
            let early = || ConnectorError::internal("driver", "tokio-postgres: the connection ended early");
            return Poll::Ready(Err(ended.err().as_ref().map_or_else(early, driver)));
        }
        Poll::Pending
    })
    .await
}

async fn ask(client: &Client, query: &str) -> Result<String, tokio_postgres::Error> {
    let row = client.query_one(query, &[]).await?;
    let value: String = row.try_get(0)?;
    // A parameter goes through prepare, describe and bind.
    let echoed: String = client.query_one("SELECT $1::text || '!'", &[&value]).await?.try_get(0)?;
    let rows = client.query("SELECT g, repeat('x', 1000) FROM generate_series(1, 2000) g", &[]).await?;
    Ok(format!("{echoed} and {} rows", rows.len()))
}

/// What a client sends to ask for TLS: its length and a number that is no version, as the server's protocol has it.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

impl Probe {
    /// Asks the server for TLS through `Read` and `Write`, as a driver without async does, and leaves it at that.
    fn ask_for_tls(&self) -> io::Result<String> {
        let timeout = Duration::from_secs(self.connect.connect_timeout_seconds);
        let mut stream = HostTcpStream::connect(&self.connect.host, self.connect.port, timeout)?;
        stream.set_timeout(timeout);
        stream.write_all(&SSL_REQUEST)?;
        stream.flush()?;
        let mut answer = [0];
        stream.read_exact(&mut answer)?;
        // The server has said all it will say, and is still there.
        stream.set_timeout(Duration::from_millis(50));
        let then = stream.read(&mut [0; 8]).map_or_else(|error| format!("{:?}", error.kind()), |count| format!("{count} bytes"));
        stream.set_timeout(timeout);
        stream.shutdown()?;
        let rest = stream.read_to_end(&mut Vec::new())?;
        Ok(format!("`{}`, then {then}, then {rest} bytes and the end", char::from(answer[0])))
    }

    fn run(&self) -> Result<String, ConnectorError> {
        let timeout = Duration::from_secs(self.connect.connect_timeout_seconds);
        let mut stream = HostTcpStream::connect(&self.connect.host, self.connect.port, timeout)?;
        stream.set_timeout(timeout);
        let mut config = Config::new();
        config.user(&self.connect.user).dbname(&self.connect.database);
        if let Some(password) = &self.connect.password {
            config.password(Secret::reveal(password));
        }
        let verify = match self.connect.sslmode {
            SslMode::Disable => None,
            SslMode::Prefer | SslMode::Require => Some(TlsVerify::None),
            SslMode::VerifyCa => Some(TlsVerify::Ca),
            SslMode::VerifyFull => Some(TlsVerify::Full),
        };
        let query = self.config.query.clone();
        let mut answer: Pin<Box<dyn Future<Output = Result<String, ConnectorError>>>> = match verify {
            None => Box::pin(async move {
                config.ssl_mode(tokio_postgres::config::SslMode::Disable);
                let (client, connection) = config.connect_raw(stream, NoTls).await.map_err(|error| driver(&error))?;
                beside(connection, ask(&client, &query)).await?.map_err(|error| driver(&error))
            }),
            Some(verify) => {
                let tls = HostTls::new(self.connect.host.clone(), verify);
                Box::pin(async move {
                    config.ssl_mode(tokio_postgres::config::SslMode::Require);
                    config.channel_binding(tokio_postgres::config::ChannelBinding::Require);
                    let (client, connection) = config.connect_raw(stream, tls).await.map_err(|error| driver(&error))?;
                    beside(connection, ask(&client, &query)).await?.map_err(|error| driver(&error))
                })
            }
        };
        block_on(answer.as_mut()).map_err(|error| ConnectorError::internal("block_on", error.to_string()))?
    }
}

impl Source for Probe {
    type Config = serde_json::Value;

    fn init(config: serde_json::Value, _: InitContext) -> Result<Self, ConnectorError> {
        let (connect, config) = split_config::<ProbeConfig>(config)?;
        Ok(Self { connect, config })
    }

    fn validate(&mut self, _: &[StreamContext]) -> Result<Vec<CheckItem>, ConnectorError> {
        let item = |name: &str, outcome: Result<String, ConnectorError>| {
            let (status, message, hint) = match outcome {
                Ok(answer) => (CheckStatus::Ok, answer, None),
                Err(error) => (CheckStatus::Failed, error.to_string(), error.hint),
            };
            CheckItem { name: name.into(), status, message, hint }
        };
        let asked = self.ask_for_tls().map_err(|error| ConnectorError::config("blocking", format!("{:?}: {error}", error.kind())));
        Ok(vec![item("query", self.run()), item("blocking socket", asked)])
    }

    fn discover(&mut self) -> Result<Vec<DiscoveredStream>, ConnectorError> {
        Ok(Vec::new())
    }

    fn read(&mut self, _: &ReadRequest, _: &mut SourceOutput) -> Result<ReadSummary, ConnectorError> {
        Err(ConnectorError::config("no_streams", "this fixture reads no streams").with_hint("use `source-postgres`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postgres_wire::test_server::PostgresServer;
    use serde_json::json;

    fn check(config: serde_json::Value) -> CheckItem {
        Probe::init(config, InitContext::default()).unwrap().validate(&[]).unwrap().remove(0)
    }

    #[test]
    fn a_driver_without_async_runs_over_the_host_socket() {
        let server = PostgresServer::start();
        let mut probe = Probe::init(server.config_json("app"), InitContext::default()).unwrap();
        let found = probe.validate(&[]).unwrap().remove(1);
        assert_eq!((found.status, found.message.as_str()), (CheckStatus::Ok, "`N`, then TimedOut, then 0 bytes and the end"));
    }

    #[test]
    fn a_driver_runs_over_the_host_socket() {
        let server = PostgresServer::start();
        let config = server.config_json("app");
        let found = check(config.clone());
        assert_eq!((found.status, found.message.as_str()), (CheckStatus::Ok, "app! and 2000 rows"));
        let mut wrong = config.clone();
        wrong["password"] = json!("canary");
        let found = check(wrong);
        assert!(found.status == CheckStatus::Failed && found.message.contains("28P01"), "{found:?}");
        let mut tls = config;
        tls["sslmode"] = json!("require");
        assert_eq!(check(tls).status, CheckStatus::Failed);
    }
}
