//! The keys of `source-postgres` and `dest-postgres`: nearly the same, tried from both sides. What only the server sees of a
//! session it tells: to the source as a row, to the destination through a trigger that notes who makes a table.

use super::{Pair, Pipeline, Side, pair};
use rapidbyte_testkit::{Authority, Database, Postgres, PostgresOptions};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::OnceLock;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Source,
    Destination,
}

/// What the server knows of the session that asks.
const SESSION: &str =
    "SELECT 'name=' || current_setting('application_name') || '; patience=' || current_setting('statement_timeout')
       || '; locks=' || current_setting('lock_timeout') || '; encrypted=' || ssl || '; certificate=' || coalesce(client_dn, 'none') || ';' AS v
     FROM pg_catalog.pg_stat_ssl WHERE pid = pg_catalog.pg_backend_pid()";

/// A server with TLS, the authority of its certificate and of its clients', and one it does not know.
struct Server {
    postgres: Postgres,
    authority: Authority,
    stranger: Authority,
    one: (PathBuf, PathBuf),
    other: (PathBuf, PathBuf),
    /// Takes connections and never says a word.
    silent: TcpListener,
}

fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        let (authority, stranger) = (Authority::new("the server's"), Authority::new("a stranger's"));
        Server {
            postgres: Postgres::start(PostgresOptions::default().with_tls(&authority).with_clients(&authority)),
            one: authority.issue("one", "one", "DNS:one"),
            other: authority.issue("other", "other", "DNS:other"),
            silent: TcpListener::bind(("127.0.0.1", 0)).expect("a port can be bound"),
            authority,
            stranger,
        }
    })
}

/// One of the two connectors, and what it is pointed at.
struct Party {
    role: Role,
    database: Database<'static>,
    /// Where each statement takes seconds.
    slow: Database<'static>,
}

impl Party {
    fn new(role: Role) -> Self {
        let trigger = |does: &str| {
            format!(
                "CREATE FUNCTION public.notice() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN {does}; END $$;
                 CREATE EVENT TRIGGER notice ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION public.notice();"
            )
        };
        let (database, slow) = (server().postgres.database("keys"), server().postgres.database("keys_slow"));
        match role {
            Role::Source => {
                database
                    .sql(&format!("CREATE SCHEMA apart; CREATE TABLE apart.t AS SELECT 'apart' AS v; CREATE VIEW t AS {SESSION}"));
                slow.sql("CREATE VIEW t AS SELECT 'slow' AS v FROM pg_sleep(5)");
            }
            Role::Destination => {
                let note = format!("INSERT INTO public.noticed {SESSION}");
                database.sql(&format!("CREATE TABLE public.noticed (v text); {}", trigger(&note)));
                slow.sql(&trigger("PERFORM pg_catalog.pg_sleep(5)"));
            }
        }
        Self { role, database, slow }
    }

    /// A pipeline with this configuration at this end.
    fn with(&self, config: &str, shows: &str) -> Side {
        let base = Pipeline::new().with("rest", "resources: { max_retries: 0 }\n");
        let config = format!("{{ {config} }}");
        match self.role {
            Role::Source => base
                .with("source", "source-postgres")
                .with("source_config", config)
                .with("stream", "name: t, destination: { table: orders }")
                .shows(shows),
            Role::Destination => {
                let mut side = base.with("destination", "dest-postgres").with("destination_config", config).shows(shows);
                let noticed = "WITH seen AS (DELETE FROM noticed RETURNING v) SELECT string_agg(DISTINCT v, ' ') FROM seen";
                side.asks = Some((self.database.clone(), noticed.to_owned()));
                side
            }
        }
    }

    /// The configuration that works, with something in it changed.
    fn but(&self, from: &str, to: &str) -> String {
        let config = self.database.config();
        assert!(config.contains(from), "{config}");
        config.replacen(from, to, 1)
    }

    /// The configuration that works, and the given keys.
    fn and(&self, more: &str) -> String {
        format!("{}, {more}", self.database.config())
    }

    /// A pair that differs in what is added.
    fn added(&self, key: &str, one: (&str, &str), other: (&str, &str)) -> Pair {
        pair(key, self.with(&self.and(one.0), one.1), self.with(&self.and(other.0), other.1))
    }

    /// A pair over a table with a type of its user, which is asked for and removed afterwards.
    fn missing_types(&self) -> Pair {
        let source = server().postgres.database("keys_types");
        source.sql("CREATE TYPE mood AS ENUM ('ok'); CREATE TABLE typed AS SELECT 'ok'::mood AS m");
        let of = "SELECT 'm is ' || format_type(atttypid, NULL) || ';' FROM pg_attribute
                  WHERE attrelid = 'public.typed'::regclass AND attname = 'm'; DROP TABLE public.typed; DROP TYPE IF EXISTS public.mood";
        let side = |policy: &str, shows: &str| {
            let mut side = Pipeline::new()
                .with("source", "source-postgres")
                .with("source_config", format!("{{ {} }}", source.config()))
                .with("stream", "name: typed")
                .with("destination", "dest-postgres")
                .with("destination_config", format!("{{ {} }}", self.and(&format!("missing_types: {policy}"))))
                .shows(shows);
            side.asks = Some((self.database.clone(), of.to_owned()));
            side
        };
        pair("missing_types", side("create", "m is mood;"), side("text", "m is text;"))
    }

    /// A pair over a table that refuses the row that comes.
    fn dlq_table(&self) -> Pair {
        let source = server().postgres.database("keys_letters");
        source.sql("CREATE TABLE refused AS SELECT 'bad' AS v");
        self.database.sql("CREATE TABLE refused (v text CHECK (v <> 'bad'))");
        let of = "SELECT 'letters in ' || relname || ';' FROM pg_class WHERE relname IN ('one_table', 'another_table');
                  DROP TABLE IF EXISTS one_table, another_table";
        let side = |table: &str| {
            let mut side = Pipeline::new()
                .with("source", "source-postgres")
                .with("source_config", format!("{{ {} }}", source.config()))
                .with("stream", "name: refused")
                .with("destination", "dest-postgres")
                .with("destination_config", format!("{{ {} }}", self.and(&format!("dlq_table: {table}"))))
                .with("settings", "  on_data_error: dlq\n")
                .shows(format!("letters in {table};"));
            side.asks = Some((self.database.clone(), of.to_owned()));
            side
        };
        pair("dlq_table", side("one_table"), side("another_table"))
    }

    /// A pair of what works and what is refused.
    fn refused(&self, key: &str, from: &str, to: &str, shows: &str) -> Pair {
        pair(key, self.with(&self.database.config(), "exit 0"), self.with(&self.but(from, to), shows))
    }
}

pub(super) fn pairs(role: Role) -> Vec<Pair> {
    let Server { postgres, authority, stranger, one, other, silent } = server();
    let party = Party::new(role);
    let port = format!("port: {}", postgres.port());
    let silent = party.but(&port, &format!("port: {}", silent.local_addr().expect("an address").port()));
    let password = postgres.password().replace('\\', "\\\\");
    let ca = |of: &Authority| format!("sslmode: verify-ca, sslrootcert: {}", of.certificate().display());
    let client = |certificate: &PathBuf, key: &PathBuf| {
        format!("sslmode: require, sslcert: {}, sslkey: {}", certificate.display(), key.display())
    };
    let patient = |seconds: u32| format!("{}, idle_timeout_seconds: {seconds}", party.slow.config());
    let schema = match role {
        Role::Source => ("\"v\":\"name=", "\"v\":\"apart\""),
        Role::Destination => ("location public.orders", "location apart.orders"),
    };
    let mut pairs = vec![
        party.refused("host", "127.0.0.1", "host.invalid", "host.invalid"),
        party.refused("port", &port, "port: 1", "exit 6"),
        party.refused("user", postgres.user(), "stranger", "exit 4"),
        party.refused("password", &password, "wrong", "exit 4"),
        party.refused("database", party.database.name(), "no_such_database", "no_such_database"),
        party.added("schema", ("schema: public", schema.0), ("schema: apart", schema.1)),
        party.added("sslmode", ("sslmode: require", "encrypted=true;"), ("sslmode: disable", "encrypted=false;")),
        party.added("sslrootcert", (&ca(authority), "exit 0"), (&ca(stranger), "UnknownIssuer")),
        party.added(
            "sslcert",
            (&client(&one.0, &one.1), "certificate=/CN=one;"),
            (&client(&other.0, &other.1), "certificate=/CN=other;"),
        ),
        party.added(
            "sslkey",
            (&client(&one.0, &one.1), "certificate=/CN=one;"),
            (&client(&one.0, &other.1), "is not that of the certificate"),
        ),
        pair(
            "connect_timeout_seconds",
            party.with(&format!("{silent}, connect_timeout_seconds: 1"), "the server was silent for 1 seconds"),
            party.with(&format!("{silent}, connect_timeout_seconds: 2"), "the server was silent for 2 seconds"),
        ),
        party.added(
            "statement_timeout_seconds",
            ("statement_timeout_seconds: 77", "patience=77s;"),
            ("statement_timeout_seconds: 78", "patience=78s;"),
        ),
        pair(
            "idle_timeout_seconds",
            party.with(&patient(1), "the server was silent for 1 seconds"),
            party.with(&patient(2), "the server was silent for 2 seconds"),
        ),
        party.added("application_name", ("application_name: first", "name=first;"), ("application_name: second", "name=second;")),
    ];
    if role == Role::Destination {
        pairs.push(party.missing_types());
        pairs.push(party.dlq_table());
        pairs.push(party.added(
            "lock_timeout_seconds",
            ("lock_timeout_seconds: 21", "locks=21s;"),
            ("lock_timeout_seconds: 22", "locks=22s;"),
        ));
    }
    pairs
}
