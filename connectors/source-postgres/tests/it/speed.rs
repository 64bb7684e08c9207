//! How fast the reference table is read natively: `cargo xtask bench speeds`.

use crate::{read, stream};
use postgres_wire::test_server::PostgresServer;
use std::time::Instant;

const ROWS: u64 = 1_000_000;

#[test]
#[ignore = "a measurement: `cargo xtask bench speeds`"]
fn speed_of_lineitem() {
    let server = PostgresServer::start();
    server
        .connect()
        .batch_execute(&format!(
            "CREATE TABLE lineitem (
               l_orderkey bigint NOT NULL, l_partkey bigint NOT NULL, l_suppkey bigint NOT NULL, l_linenumber integer NOT NULL,
               l_quantity numeric(15,2) NOT NULL, l_extendedprice numeric(15,2) NOT NULL, l_discount numeric(15,2) NOT NULL,
               l_tax numeric(15,2) NOT NULL, l_returnflag char(1) NOT NULL, l_linestatus char(1) NOT NULL, l_shipdate date NOT NULL,
               l_commitdate date NOT NULL, l_receiptdate date NOT NULL, l_shipinstruct char(25) NOT NULL, l_shipmode char(10) NOT NULL,
               l_comment varchar(44) NOT NULL);
             INSERT INTO lineitem SELECT (i-1)/4+1, 1+(random()*200000)::int, 1+(random()*10000)::int, (i-1)%4+1, 1+(random()*49)::int,
               round((900+random()*104000)::numeric,2), round((random()*0.1)::numeric,2), round((random()*0.08)::numeric,2), 'R', 'O',
               '1992-01-02'::date + i % 2500, '1992-02-02'::date + i % 2500, '1992-03-02'::date + i % 2500, 'DELIVER IN PERSON', 'TRUCK',
               substr('carefully final deposits sleep quickly across the bold ideas',1+(random()*15)::int,10+(random()*33)::int)
             FROM generate_series(1, {ROWS}) i"
        ))
        .unwrap();
    for _ in 0..5 {
        let started = Instant::now();
        let (_, summary) = read(&server, stream("lineitem")).unwrap();
        assert_eq!(summary.records, ROWS);
        let perf = summary.perf;
        let ms = |ns: u64| ns / 1_000_000;
        println!(
            "{ROWS} rows in {} ms: connect {}, query {}, fetch {}, decode {} ms ({} k rows/s of decode), {} batches",
            started.elapsed().as_millis(),
            ms(perf.connect_ns),
            ms(perf.query_ns),
            ms(perf.fetch_ns),
            ms(perf.encode_ns),
            ROWS * 1_000_000 / perf.encode_ns.max(1),
            summary.batches_emitted
        );
    }
}
