//! Incremental reads: order, bounds, resume at every barrier, cursor types, NULL cursors, refusals.

use crate::render::rows;
use crate::{request, server, source, stream};
use postgres_wire::Connection;
use postgres_wire::test_server::PostgresServer;
use rapidbyte_sdk::testing::{Emitted, FakeHost, run_context};
use rapidbyte_sdk::{
    CheckStatus, ConnectorError, CursorType, Lookback, NullCursorPolicy, PlanRequest, Position, ReadSummary, SafeBoundary, Source,
    StreamContext, SyncMode, WriteMode,
};

/// An incremental stream whose batches are small, so that there are many barriers.
pub(crate) fn incremental(table: &str, cursor: &str) -> StreamContext {
    let mut context = stream(table);
    context.sync_mode = SyncMode::Incremental;
    context.write_mode = WriteMode::Upsert;
    context.cursor_field = Some(cursor.to_owned());
    context.limits.max_batch_bytes = 512;
    context
}

/// A row as texts.
pub(crate) type Shown = Vec<Option<String>>;

/// What one read put out: rows with the barrier after them, if there is one, in order.
pub(crate) struct Read {
    pub(crate) windows: Vec<(Vec<Shown>, Option<Position>)>,
    pub(crate) summary: ReadSummary,
}

impl Read {
    /// All rows.
    pub(crate) fn rows(&self) -> Vec<Shown> {
        self.windows.iter().flat_map(|(rows, _)| rows.clone()).collect()
    }

    /// Where the next run goes on.
    pub(crate) fn end(&self) -> Position {
        let (rows, end) = self.windows.last().expect("a read ends with a barrier");
        assert!(rows.is_empty() || end.is_some(), "rows after the last barrier");
        end.clone().expect("a barrier after the last row")
    }

    /// Values of one column.
    pub(crate) fn column(&self, index: usize) -> Vec<String> {
        self.rows().into_iter().map(|row| row[index].clone().unwrap_or_else(|| "NULL".into())).collect()
    }
}

pub(crate) fn try_read(
    server: &PostgresServer,
    context: &StreamContext,
    resume: Option<&Position>,
) -> Result<Read, ConnectorError> {
    let host = FakeHost::install();
    let mut output = host.source_output();
    let mut asked = request(context.clone());
    asked.resume = resume.cloned();
    let summary = source(server).read(&asked, &mut output)?;
    let mut batches = host.batches(0).unwrap().into_iter();
    let mut windows = vec![(Vec::new(), None)];
    for emitted in host.emitted() {
        match emitted {
            Emitted::Batch { .. } => {
                if windows.last().is_some_and(|(_, barrier)| barrier.is_some()) {
                    windows.push((Vec::new(), None));
                }
                let batch = batches.next().unwrap();
                windows.last_mut().unwrap().0.extend(rows(&[batch]));
            }
            Emitted::Barrier(position) => match windows.last_mut().unwrap() {
                (_, barrier @ None) => *barrier = Some(position),
                _ => windows.push((Vec::new(), Some(position))),
            },
            _ => {}
        }
    }
    Ok(Read { windows, summary })
}

pub(crate) fn read(context: &StreamContext, resume: Option<&Position>) -> Read {
    try_read(server(), context, resume).unwrap()
}

fn code(context: &StreamContext, resume: Option<&Position>) -> (String, String) {
    let error = try_read(server(), context, resume).map(|_| ()).unwrap_err();
    (error.code, error.hint.unwrap_or_default())
}

pub(crate) fn make(sql: &str) -> Connection {
    let mut connection = server().connect();
    connection.batch_execute(sql).unwrap();
    connection
}

/// Reads whole, then goes on from several barriers of that: what came before it and what comes then must be the whole.
fn assert_resumes_everywhere(context: &StreamContext, exact: bool) -> Read {
    let whole = read(context, None);
    let all = whole.rows();
    let mut before = 0;
    let every = whole.windows.len().div_ceil(6);
    for (index, (rows, barrier)) in whole.windows.iter().enumerate() {
        before += rows.len();
        let Some(barrier) = barrier.as_ref().filter(|_| index % every == 0 || index + 1 == whole.windows.len()) else { continue };
        assert!(barrier.value.len() <= 64 << 10);
        let mut rest = read(context, Some(barrier)).rows();
        let mut wanted = all[before..].to_vec();
        if !exact {
            rest.retain(|row| wanted.contains(row));
        }
        rest.sort();
        wanted.sort();
        assert_eq!(rest, wanted, "going on from {barrier:?}");
    }
    whole
}

#[test]
fn reading_goes_on_at_every_barrier_within_equal_cursors_too() {
    make(
        "CREATE TABLE equal_cursors (id int PRIMARY KEY, at timestamptz NOT NULL);
         INSERT INTO equal_cursors SELECT i, '2026-01-01 00:00:00.000001'::timestamptz + (i % 3) * interval '1 microsecond'
         FROM generate_series(1, 240) i",
    );
    for boundary in [None, Some(SafeBoundary::None)] {
        let mut context = incremental("equal_cursors", "at");
        context.safe_boundary = boundary;
        let whole = assert_resumes_everywhere(&context, true);
        assert!(whole.windows.len() > 10, "{}", whole.windows.len());
        assert_eq!(whole.rows().len(), 240);
        let order: Vec<(String, u32)> =
            whole.rows().into_iter().map(|row| (row[1].clone().unwrap(), row[0].clone().unwrap().parse().unwrap())).collect();
        assert!(order.is_sorted());
        assert!(read(&context, Some(&whole.end())).rows().is_empty());
    }
}

#[test]
fn without_a_key_barriers_stand_between_cursor_values() {
    make(
        "CREATE TABLE keyless (n numeric, note text);
         INSERT INTO keyless SELECT CASE WHEN i % 2 = 0 THEN 1 ELSE 1.00 END + i / 50, 'row ' || i FROM generate_series(0, 399) i",
    );
    for boundary in [None, Some(SafeBoundary::None)] {
        let mut context = incremental("keyless", "n");
        context.safe_boundary = boundary;
        let whole = assert_resumes_everywhere(&context, true);
        assert!((3..=9).contains(&whole.windows.len()), "{}", whole.windows.len());
        assert_eq!(whole.rows().len(), 400);
    }
}

/// A million equal cursors must be one tie that neither repeats nor grows the position; here as many as a test can take.
#[test]
fn one_constant_cursor_is_read_in_windows() {
    make(
        "CREATE TABLE constant (id int PRIMARY KEY, at date NOT NULL);
          INSERT INTO constant SELECT i, '2026-01-01' FROM generate_series(1, 200000) i",
    );
    let mut context = incremental("constant", "at");
    context.limits.max_batch_bytes = 64 << 20;
    context.safe_boundary = Some(SafeBoundary::None);
    let whole = read(&context, None);
    assert_eq!(whole.windows.len(), 4);
    let (first, barrier) = &whole.windows[0];
    assert_eq!(read(&context, barrier.as_ref()).rows().len(), 200_000 - first.len());
    assert!(whole.windows.iter().all(|(_, barrier)| barrier.as_ref().is_none_or(|at| at.value.len() < 200)));
}

#[test]
fn cursors_of_every_type_are_exact() {
    let cases = [
        ("timestamptz", "'2026-01-01 00:00:00.000001+00'::timestamptz + i * interval '1 microsecond'"),
        ("timestamp", "'0044-03-15 BC'::timestamp + i * interval '1 microsecond'"),
        ("date", "'2026-01-01'::date + i"),
        ("bigint", "9223372036854775807 - 60 + i"),
        ("smallint", "i - 32768"),
        ("numeric", "12345678901234567890.0000000001 + i * 0.0000000001"),
        ("numeric(76,38)", "0.1 + i * 0.00000000000000000000000000000000000001"),
        ("float8", "0.1::float8 + i * 1e-15"),
        ("uuid", "md5(i::text)::uuid"),
        ("text", "repeat('Ä''\\ ' || (i % 7), 3) || i"),
        ("text COLLATE \"und-x-icu\"", "(ARRAY['a','B','b','A','ä','_'])[1 + i % 6] || i"),
        ("varchar(40)", "'v' || i"),
        ("char(12)", "'c' || i"),
        ("bytea", "decode(lpad(to_hex(i * 7919 % 65536), 4, '0'), 'hex')"),
        ("time", "'00:00'::time + i * interval '1 microsecond'"),
        ("interval", "i * interval '1 microsecond'"),
        ("inet", "'10.0.0.0'::inet + i"),
    ];
    for (index, (sql_type, value)) in cases.into_iter().enumerate() {
        let table = format!("typed_{index}");
        make(&format!(
            "CREATE TABLE {table} (id int PRIMARY KEY, c {sql_type} NOT NULL);
             INSERT INTO {table} SELECT i, {value} FROM generate_series(1, 60) i"
        ));
        let mut context = incremental(&table, "c");
        context.safe_boundary = Some(SafeBoundary::None);
        let whole = assert_resumes_everywhere(&context, true);
        assert_eq!(whole.rows().len(), 60, "{sql_type}");
        // One more row, the least step beyond the largest.
        let end = whole.end();
        make(&format!("INSERT INTO {table} SELECT 1000, c FROM {table} ORDER BY c DESC, id DESC LIMIT 1"));
        assert_eq!(read(&context, Some(&end)).column(0), ["1000"], "{sql_type}");
        context.safe_boundary = None;
        assert_eq!(assert_resumes_everywhere(&context, true).rows().len(), 61, "{sql_type}");
    }
}

#[test]
fn the_cursor_need_not_be_among_the_columns() {
    make(
        "CREATE TABLE narrow (id int PRIMARY KEY, at timestamptz NOT NULL, note text);
          INSERT INTO narrow SELECT i, now() + i * interval '1 s', 'n' || i FROM generate_series(1, 100) i",
    );
    let mut context = incremental("narrow", "at");
    context.selected_columns = Some(vec!["note".into()]);
    let whole = assert_resumes_everywhere(&context, true);
    assert_eq!(whole.rows()[0], [Some("n1".to_owned())]);
}

#[test]
fn rows_without_a_cursor_follow_their_policy() {
    let mut sql = make(
        "CREATE TABLE holes (id int PRIMARY KEY, at timestamptz);
          INSERT INTO holes SELECT i, CASE WHEN i % 3 > 0 THEN now() + i * interval '1 s' END FROM generate_series(1, 90) i",
    );
    let mut context = incremental("holes", "at");
    let (found, hint) = code(&context, None);
    assert_eq!(found, "null_cursor");
    assert!(hint.contains("null_cursor: include"), "{hint}");
    context.null_cursor = NullCursorPolicy::Skip;
    let skipped = read(&context, None);
    assert_eq!((skipped.rows().len(), skipped.summary.records_skipped), (60, 30));
    assert_eq!(read(&context, Some(&skipped.end())).summary.records_skipped, 0);
    context.null_cursor = NullCursorPolicy::Include;
    let whole = assert_resumes_everywhere(&context, true);
    assert_eq!(whole.rows().len(), 90);
    assert!(whole.rows()[..30].iter().all(|row| row[1].is_none()));
    assert!(read(&context, Some(&whole.end())).rows().is_empty());
    // A new row without a cursor is new all the same.
    sql.batch_execute("INSERT INTO holes VALUES (1000, NULL)").unwrap();
    assert_eq!(read(&context, Some(&whole.end())).column(0), ["1000"]);
    context.safe_boundary = Some(SafeBoundary::Lookback(Lookback::Seconds(5)));
    let again = read(&context, Some(&whole.end()));
    assert_eq!(again.column(1).iter().filter(|at| *at == "NULL").count(), 31);
    context.safe_boundary = Some(SafeBoundary::None);
    assert_eq!(code(&context, None).0, "null_cursor");
}

#[test]
fn a_lookback_reads_a_stretch_again() {
    let mut sql = make(
        "CREATE TABLE back (id int PRIMARY KEY, at timestamptz NOT NULL, n bigint NOT NULL);
          INSERT INTO back SELECT i, '2026-01-01'::timestamptz + i * interval '1 min', i * 10 FROM generate_series(1, 100) i",
    );
    for (cursor, lookback, again) in [("at", Lookback::Seconds(300), 6), ("n", Lookback::Values(30), 4)] {
        let mut context = incremental("back", cursor);
        context.safe_boundary = Some(SafeBoundary::Lookback(lookback));
        let end = assert_resumes_everywhere(&context, false).end();
        let second = read(&context, Some(&end));
        assert_eq!(second.rows().len(), again, "{cursor}");
        sql.batch_execute("INSERT INTO back SELECT 200, at + interval '1 s', n + 1 FROM back WHERE id = 97").unwrap();
        let late = read(&context, Some(&second.end()));
        assert!(late.column(0).contains(&"200".to_owned()), "{cursor}");
        // The bound stays although the largest row went.
        sql.batch_execute("DELETE FROM back WHERE id = 200").unwrap();
        context.write_mode = WriteMode::Append;
        assert_eq!(code(&context, None).0, "lookback_append");
    }
    let mut context = incremental("back", "n");
    context.safe_boundary = Some(SafeBoundary::Lookback(Lookback::Seconds(300)));
    assert_eq!(code(&context, None).0, "lookback_type");
    context.cursor_field = Some("at".into());
    context.safe_boundary = Some(SafeBoundary::Lookback(Lookback::Values(300)));
    assert_eq!(code(&context, None).0, "lookback_type");
}

#[test]
fn a_bound_that_nothing_comes_behind_is_refused() {
    for (index, (sql_type, first, endless)) in [
        ("timestamptz", "2026-01-01", "infinity"),
        ("date", "2026-01-01", "infinity"),
        ("numeric", "1", "NaN"),
        ("numeric(9,2)", "1", "NaN"),
        ("numeric", "1", "Infinity"),
        ("float8", "1", "Infinity"),
    ]
    .into_iter()
    .enumerate()
    {
        let table = format!("endless_{index}");
        let mut sql = make(&format!(
            "CREATE TABLE {table} (id int PRIMARY KEY, c {sql_type} NOT NULL); INSERT INTO {table} VALUES (1, '{first}')"
        ));
        let mut context = incremental(&table, "c");
        context.safe_boundary = Some(SafeBoundary::None);
        let end = read(&context, None).end();
        sql.batch_execute(&format!("INSERT INTO {table} VALUES (2, '{endless}')")).unwrap();
        for resume in [None, Some(&end)] {
            let (found, hint) = code(&context, resume);
            assert_eq!(found, "endless_cursor", "{sql_type}");
            assert!(hint.contains("xact_horizon"), "{hint}");
        }
        // The hint's ways.
        context.safe_boundary = None;
        assert_eq!(read(&context, Some(&end)).column(0), ["2"], "{sql_type}");
        context.safe_boundary = Some(SafeBoundary::None);
        context.filter = Some(format!("c <> '{endless}'"));
        assert_eq!(read(&context, None).column(0), ["1"], "{sql_type}");
    }
}

#[test]
fn the_boundary_may_change_between_runs() {
    let mut sql = make(
        "CREATE TABLE changing (id int PRIMARY KEY, n int NOT NULL);
          INSERT INTO changing SELECT i, i FROM generate_series(1, 50) i",
    );
    let mut context = incremental("changing", "n");
    let mut position = read(&context, None).end();
    let boundaries =
        [SafeBoundary::None, SafeBoundary::XactHorizon, SafeBoundary::Lookback(Lookback::Values(1)), SafeBoundary::XactHorizon];
    for (step, boundary) in boundaries.into_iter().enumerate() {
        let id = 100 + step;
        sql.batch_execute(&format!("INSERT INTO changing VALUES ({id}, {id})")).unwrap();
        context.safe_boundary = Some(boundary);
        let next = read(&context, Some(&position));
        let ids = next.column(0);
        assert_eq!(ids.last(), Some(&id.to_string()), "{boundary}");
        let again = if matches!(boundary, SafeBoundary::Lookback(_)) { 2 } else { 0 };
        assert_eq!(ids.len(), 1 + again, "{boundary}: {ids:?}");
        position = next.end();
    }
}

#[test]
fn what_can_not_be_ordered_or_seen_is_refused_with_a_way_out() {
    make(
        "CREATE EXTENSION IF NOT EXISTS citext;
          CREATE TABLE unfit (id int PRIMARY KEY, doc json, name citext, at timestamptz);
          CREATE VIEW unfit_view AS SELECT id, at FROM unfit",
    );
    assert_eq!(code(&incremental("unfit", "doc"), None).0, "cursor_type");
    assert_eq!(code(&incremental("unfit", "name"), None).0, "cursor_type");
    let (found, hint) = code(&incremental("unfit", "att"), None);
    assert_eq!(found, "missing_column");
    assert!(hint.contains("`at`"), "{hint}");
    let (found, hint) = code(&incremental("unfit_view", "id"), None);
    assert_eq!(found, "no_xact_horizon");
    assert!(hint.contains("lookback"), "{hint}");
    let mut view = incremental("unfit_view", "id");
    view.safe_boundary = Some(SafeBoundary::None);
    assert!(read(&view, None).rows().is_empty());
    assert_eq!(code(&incremental("unfit", "id"), Some(&Position::new(CursorType::Int64, "5"))).0, "source_changed");
}

#[test]
fn long_cursors_are_refused_only_where_they_are_needed() {
    make(
        "CREATE TABLE long_cursor (id int PRIMARY KEY, c text NOT NULL);
          INSERT INTO long_cursor SELECT i, repeat('x', 70000) || i FROM generate_series(1, 3) i",
    );
    let mut context = incremental("long_cursor", "c");
    context.limits.max_batch_bytes = 64 << 20;
    let whole = read(&context, None);
    assert!(read(&context, Some(&whole.end())).rows().is_empty());
    context.safe_boundary = Some(SafeBoundary::None);
    assert_eq!(code(&context, None).0, "cursor_too_long");
}

#[test]
fn the_plan_names_what_must_stay() {
    let mut sql = make("CREATE TABLE planned (id int PRIMARY KEY, a int NOT NULL, b int NOT NULL)");
    let plan = |cursor: &str| {
        let request = PlanRequest { run: run_context(), stream: incremental("planned", cursor), max_partitions: 4, pinned: None };
        source(server()).plan_partitions(&request).unwrap()
    };
    let first = plan("a");
    assert_eq!((first.partitions.len(), first.partitions[0].id.as_str()), (1, "0"));
    assert_eq!(plan("a"), first);
    assert_ne!(plan("b").snapshot, first.snapshot);
    sql.batch_execute("ALTER TABLE planned ADD COLUMN more text").unwrap();
    assert_eq!(plan("a"), first);
    sql.batch_execute("ALTER TABLE planned ALTER COLUMN a TYPE bigint").unwrap();
    assert_ne!(plan("a").snapshot, first.snapshot);
}

#[test]
fn check_says_how_safe_the_bound_is() {
    make(
        "CREATE TABLE checked (id int PRIMARY KEY, at timestamptz NOT NULL, n int NOT NULL GENERATED ALWAYS AS IDENTITY, s serial);
         CREATE VIEW checked_view AS SELECT * FROM checked",
    );
    let say = |table: &str, boundary: Option<SafeBoundary>| {
        let mut context = incremental(table, "at");
        context.safe_boundary = boundary;
        source(server()).validate(&[context]).unwrap().pop().unwrap()
    };
    let item = say("checked", None);
    assert!(item.status == CheckStatus::Ok && item.message.contains("by their transactions"), "{item:?}");
    let item = say("checked", Some(SafeBoundary::Lookback(Lookback::Seconds(300))));
    assert!(item.message.contains("lookback(5m)"), "{item:?}");
    let item = say("checked", Some(SafeBoundary::None));
    assert!(item.status == CheckStatus::Warning && item.message.contains("missed"), "{item:?}");
    let item = say("checked_view", None);
    assert!(item.status == CheckStatus::Failed && item.hint.as_ref().is_some_and(|hint| hint.contains("lookback")), "{item:?}");
    let mut view = incremental("checked_view", "at");
    for (boundary, status) in
        [(SafeBoundary::None, CheckStatus::Warning), (SafeBoundary::Lookback(Lookback::Seconds(60)), CheckStatus::Ok)]
    {
        view.safe_boundary = Some(boundary);
        let item = source(server()).validate(&[view.clone()]).unwrap().pop().unwrap();
        assert!(
            item.status == status && item.message.contains("only tables show") && item.message.contains(&boundary.to_string()),
            "{item:?}"
        );
    }
    for column in ["n", "s"] {
        let mut numbered = incremental("checked", column);
        for boundary in [SafeBoundary::None, SafeBoundary::Lookback(Lookback::Values(100))] {
            numbered.safe_boundary = Some(boundary);
            let item = source(server()).validate(&[numbered.clone()]).unwrap().pop().unwrap();
            assert!(format!("{item:?}").contains("a sequence gives its numbers before"), "{item:?}");
        }
    }
}
