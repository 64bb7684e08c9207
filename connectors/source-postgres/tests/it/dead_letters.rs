//! Rows that can't be read follow `on_data_error`.

use crate::{read, stream};
use postgres_wire::test_server::PostgresServer;
use rapidbyte_sdk::testing::{Emitted, FakeHost};
use rapidbyte_sdk::{DataErrorPolicy, DeadLetter};

fn letters(host: &FakeHost) -> Vec<DeadLetter> {
    host.emitted()
        .into_iter()
        .filter_map(|what| if let Emitted::DeadLetters(letters) = what { Some(letters) } else { None })
        .flatten()
        .collect()
}

fn rows(host: &FakeHost) -> usize {
    host.batches(0).unwrap().iter().map(|batch| batch.num_rows()).sum()
}

#[test]
fn a_record_above_the_limit_is_passed_over_and_the_others_are_read() {
    let server = PostgresServer::start();
    // The first row of all comes with the header, the last one before the trailer.
    server
        .connect()
        .batch_execute(
            "CREATE TABLE big (id int PRIMARY KEY, small text, large bytea);
             INSERT INTO big SELECT i, 'a' || i, CASE WHEN i IN (1, 500, 501, 1000) THEN decode(repeat('00', 3000000), 'hex') ELSE '' END
             FROM generate_series(1, 1000) i",
        )
        .unwrap();
    let mut context = stream("big");
    context.limits.max_record_bytes = 1 << 20;
    for (policy, skipped) in [(DataErrorPolicy::Skip, 4), (DataErrorPolicy::Dlq, 0)] {
        context.policies.on_data_error = policy;
        let (host, summary) = read(&server, context.clone()).unwrap();
        assert_eq!((summary.records, summary.records_skipped, rows(&host)), (996, skipped, 996));
        let letters = letters(&host);
        assert_eq!(letters.len() as u64, 4 - skipped);
        if let Some(letter) = letters.get(1) {
            assert!(letter.error_message.contains("larger than `max_record_bytes`"), "{letter:?}");
            assert!(
                letter.record_json.starts_with(r#"{"id":{"type":"Int32","value":"500","not_null":true"#),
                "{}",
                letter.record_json
            );
            assert!(letter.record_json.contains(r#""small":{"type":"Utf8","value":"a500""#), "{}", letter.record_json);
            assert!(letter.record_json.contains(r#""large":{"type":"Binary","omitted":"not read"#), "{}", letter.record_json);
        }
    }
}

#[test]
fn a_text_that_is_no_utf8_is_passed_over_and_the_others_are_read() {
    let server = PostgresServer::start();
    server.connect().batch_execute("CREATE DATABASE old ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0").unwrap();
    let sql = "SET client_encoding = 'SQL_ASCII'; CREATE TABLE t (id int, note text);
               INSERT INTO t SELECT i, CASE WHEN i = 77 THEN E'a\\377' ELSE 'é' END FROM generate_series(1, 200) i";
    server.connect_to("old").batch_execute(sql).unwrap();
    let mut context = stream("t");
    context.policies.on_data_error = DataErrorPolicy::Dlq;
    let host = FakeHost::install();
    let mut output = host.source_output();
    let config = server.config_json("old");
    let mut source: source_postgres::PostgresSource =
        rapidbyte_sdk::Source::init(config, rapidbyte_sdk::InitContext::default()).unwrap();
    let summary = rapidbyte_sdk::Source::read(&mut source, &crate::request(context), &mut output).unwrap();
    assert_eq!((summary.records, rows(&host)), (199, 199));
    let letters = letters(&host);
    assert_eq!(letters.len(), 1);
    assert!(letters[0].error_message.contains("column `note`, row 77 of the read"), "{}", letters[0].error_message);
    assert!(letters[0].record_json.contains(r#""id":{"type":"Int32","value":"77""#), "{}", letters[0].record_json);
    assert!(letters[0].record_json.contains(r#""omitted":"the value can't be decoded""#), "{}", letters[0].record_json);
}
