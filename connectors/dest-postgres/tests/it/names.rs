//! Names never collide: whatever they are made of, two streams or columns are two tables or columns, or the load is refused.

use crate::harness::{Pipe, Place, batch, field};
use arrow_array::{ArrayRef, Int64Array};
use arrow_schema::DataType;
use rapidbyte_sdk::{ClaimRequest, ClaimStream, Destination, ErrorCategory, StreamContext, StreamName, SyncMode, WriteMode};
use std::collections::HashSet;
use std::sync::Arc;

/// What has ever broken a name: quotes, case, dots, the bound of 63 bytes within a character, signs that look like another.
const PIECES: [&str; 22] = [
    "\"",
    "'",
    "\\",
    "a",
    "A",
    "b",
    ".",
    " ",
    ";",
    "--",
    "/*",
    "é",
    "e\u{301}",
    "😀",
    "\n",
    "$$",
    "%",
    "\u{202e}",
    "_",
    "\0",
    "x234567890",
    "ﬁ",
];

/// Names of up to 70 bytes, the same for the same seed; some twice, some differing in one letter's case or beyond the bound.
fn hostile(seed: u64, count: usize) -> Vec<String> {
    let mut state = seed;
    let mut below = |bound: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % bound
    };
    let mut names: Vec<String> = vec![String::new(), "user".into(), "public.orders".into(), "orders".into(), "select".into()];
    while names.len() < count {
        let mut name = String::new();
        for _ in 0..below(8) {
            name.push_str(PIECES[below(PIECES.len())]);
        }
        if below(4) == 0 {
            // At the bound, and one byte beyond it.
            let length = 62 + below(3);
            while name.len() < length {
                name.push(if below(2) == 0 { 'y' } else { 'Y' });
            }
        }
        names.push(name.clone());
        if below(3) == 0 {
            names.push(name.to_uppercase());
        }
    }
    names
}

fn numbers(value: i64) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values([value]))
}

#[test]
fn every_stream_has_a_table_of_its_own_or_is_refused() {
    let place = Place::new();
    let mut loaded: HashSet<String> = HashSet::new();
    let mut refused = 0;
    for (number, name) in (0..).zip(hostile(7, 36)) {
        let again = loaded.contains(&name);
        let mut pipe = Pipe::new(&place, "t", WriteMode::Append);
        pipe.context = StreamContext::full_refresh(StreamName::new(name.clone()));
        let fits = !name.is_empty() && !name.contains('\0') && name.len() <= 63;
        match pipe.try_claim("source", 0) {
            Ok(_) if again => {}
            Ok(_) => {
                pipe.load(&[batch(vec![(field("v", DataType::Int64, false, &[("type", "bigint")]), numbers(number))])]);
                loaded.insert(name.clone());
                let quoted = postgres_wire::quote_ident(&name).unwrap();
                assert_eq!(place.value(&format!("SELECT string_agg(v::text, ' ') FROM {quoted}")), number.to_string(), "{name:?}");
            }
            Err(error) => {
                assert!(!fits, "{name:?}: {error}");
                assert!(error.hint.is_some(), "{name:?}: {error}");
                refused += 1;
            }
        }
    }
    let tables = place.value("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'");
    assert_eq!(tables, loaded.len().to_string());
    assert!(loaded.len() > 20 && refused > 3, "{} {refused}", loaded.len());
}

#[test]
fn every_column_is_one_of_its_own_or_the_load_is_refused() {
    for seed in 0..2 {
        let place = Place::new();
        let names = hostile(seed, 40);
        let distinct: HashSet<&String> = names.iter().collect();
        let usable: Vec<&String> =
            distinct.into_iter().filter(|name| !name.is_empty() && !name.contains('\0') && name.len() <= 63).collect();
        let columns = |names: &[&String]| {
            let one =
                |(at, name): (usize, &&String)| (field(name, DataType::Int64, false, &[("type", "bigint")]), numbers(at as i64));
            batch(names.iter().enumerate().map(one).collect())
        };
        Pipe::new(&place, "t", WriteMode::Append).load(&[columns(&usable)]);
        for (at, name) in usable.iter().enumerate() {
            let quoted = postgres_wire::quote_ident(name).unwrap();
            assert_eq!(place.value(&format!("SELECT {quoted} FROM t")), at.to_string(), "{name:?}");
        }
        // A name that the server would cut off, drop or take for another's.
        for odd in names.iter().filter(|name| !usable.contains(name)).chain([usable[0]]) {
            let mut with: Vec<&String> = usable.clone();
            with.push(odd);
            let code = Pipe::new(&place, "refused", WriteMode::Append).load_fails(&[columns(&with)]);
            assert!(matches!(code.as_str(), "bad_identifier" | "duplicate_column"), "{odd:?}: {code}");
        }
    }
}

#[test]
fn streams_whose_names_differ_in_their_namespace_alone_are_told_apart() {
    let place = Place::new();
    let context = |namespace: Option<&str>| {
        let mut context = StreamContext::full_refresh(match namespace {
            Some(namespace) => StreamName::qualified(namespace, "orders"),
            None => StreamName::new("orders"),
        });
        context.target = StreamName::new("orders");
        context
    };
    let claim = |contexts: &[StreamContext]| {
        let streams = contexts
            .iter()
            .map(|context| ClaimStream { context: context.clone(), known_epoch: 0, source_identity: "s".into() })
            .collect();
        place.destination().claim(&ClaimRequest { run: rapidbyte_sdk::testing::run_context(), streams })
    };
    for (one, other) in [(None, Some("public")), (Some("a"), Some("A")), (Some("a"), Some("b"))] {
        let error = claim(&[context(one), context(other)]).unwrap_err();
        assert_eq!(error.code, "target_conflict");
    }
    assert_eq!(place.value("SELECT count(*) FROM _rapidbyte.streams"), "0");
}

#[test]
fn a_stream_that_goes_on_is_not_begun_anew_under_another_spelling() {
    let place = Place::new();
    let mut pipe = Pipe::new(&place, "orders", WriteMode::Append);
    pipe.context.sync_mode = SyncMode::Incremental;
    pipe.context.name = StreamName::new("orders");
    pipe.begin();
    let mut spelled = Pipe::new(&place, "orders", WriteMode::Append);
    spelled.context.sync_mode = SyncMode::Incremental;
    let error = spelled.try_claim("source", 0).unwrap_err();
    assert_eq!((error.code.as_str(), error.category), ("target_conflict", ErrorCategory::Config));
    assert!(error.message.contains("`public.orders`") && error.message.contains("stream `orders`"), "{}", error.message);
    let hint = error.hint.unwrap();
    assert_eq!(place.value("SELECT count(*) FROM _rapidbyte.streams"), "1", "nothing was noted");
    // The old name goes on; another table is another matter, and so are another pipeline, and a stream of another name.
    pipe.claim();
    let mut other = Pipe::new(&place, "orders", WriteMode::Append);
    other.context.sync_mode = SyncMode::Incremental;
    other.context.name = StreamName::qualified("public", "orders_2");
    other.context.target = StreamName::new("orders");
    other.claim();
    spelled.context.target = StreamName::new("others");
    spelled.claim();
    spelled.context.target = StreamName::new("orders");
    let run = std::mem::replace(&mut spelled.run.pipeline_id, "00000000-0000-4000-8000-000000000077".into());
    spelled.claim();
    spelled.run.pipeline_id = run;
    assert_eq!(spelled.try_claim("source", 0).unwrap_err().code, "target_conflict");
    place.run_hint(&hint);
    spelled.begin();
    // Two that go on are left alone: neither begins anew.
    place.run("UPDATE _rapidbyte.streams SET namespace = '' WHERE stream = 'orders_2'; UPDATE _rapidbyte.streams SET stream = 'orders' WHERE stream = 'orders_2'");
    spelled.claim();
}
