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
