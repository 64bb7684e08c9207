//! Every type of PostgreSQL, generated values and extremes: into PostgreSQL and into files that a foreign reader reads.

use rapidbyte_testkit::{Database, Postgres, Project, Proof, is_full, postgres_bin, python, root};
use std::fmt::Write as _;
use std::fs;
use std::process::Command;

/// The table; `:rows` stands for the number of generated rows.
fn every_type() -> String {
    let rows = if is_full() { "10000" } else { "200" };
    fs::read_to_string(root().join("tests/types/every_type.sql")).expect("the table").replace(":rows", rows)
}

fn pipeline(source: &Database<'_>, destination: &str) -> String {
    format!(
        "version: \"1.0\"\npipeline: types\nsource:\n  use: source-postgres\n  config: {{ {} }}\n\
         \x20 streams: [ {{ name: public.every_type }} ]\ndestination:\n{destination}",
        source.config()
    )
}

/// Columns of the table with their types, arrays and domains by their names.
fn columns(database: &Database<'_>) -> Vec<(String, String)> {
    let listed = database.sql(
        "SET search_path = pg_catalog; SELECT quote_ident(attname) || E'\\t' || format_type(atttypid, atttypmod) FROM pg_attribute
         WHERE attrelid = 'public.every_type'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
    );
    let pair = |line: &str| line.split_once('\t').map(|(name, of)| (name.to_owned(), of.to_owned())).expect("a name and a type");
    listed.lines().map(pair).collect()
}

/// What `pg_dump` says of the table and its types, without what a copy leaves behind: defaults, identities, expressions, checks, and
/// functions that only speed ranges up.
fn declared(database: &Database<'_>) -> String {
    let dumped = Command::new(postgres_bin().join("pg_dump"))
        .args(["--schema-only", "--no-owner", "--no-privileges", "-h", "127.0.0.1", "-U", database.server().user()])
        .args(["-p", &database.server().port().to_string(), "-d", database.name()])
        .env("PGPASSWORD", database.server().password())
        .output()
        .expect("pg_dump can be started");
    assert!(dumped.status.success(), "{}", String::from_utf8_lossy(&dumped.stderr));
    let text = String::from_utf8(dumped.stdout).expect("UTF-8");
    let mut kept = String::new();
    let mut statement = "";
    for line in text.lines() {
        if line.starts_with("CREATE ") || line.starts_with("ALTER ") || line.starts_with("--") {
            statement = ["CREATE TYPE", "CREATE DOMAIN", "CREATE TABLE public.every_type"]
                .into_iter()
                .find(|wanted| line.starts_with(wanted))
                .unwrap_or_default();
        }
        if statement.is_empty() || line.trim_start().starts_with("CONSTRAINT") || line.contains("subtype_diff") {
            continue;
        }
        let not_null = statement != "CREATE DOMAIN" && line.contains(" NOT NULL");
        let cut = [" DEFAULT ", " GENERATED ", " NOT NULL"].iter().filter_map(|word| line.find(word)).min().unwrap_or(line.len());
        let plain = line[..cut].trim_end_matches([',', ';']);
        let _ = writeln!(kept, "{plain}{}", if not_null { " NOT NULL" } else { "" });
    }
    assert!(kept.contains("c_nested public.nested"), "{text}");
    kept
}

#[test]
fn prove_every_type_arrives() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("types_source"), server.database("types_destination"));
    source.sql(&every_type());
    destination.sql("CREATE EXTENSION citext; CREATE EXTENSION hstore; CREATE EXTENSION ltree");
    let project =
        Project::with_pipeline(&pipeline(&source, &format!("  use: dest-postgres\n  config: {{ {} }}\n", destination.config())));
    project.run().finish().success();
    let columns = columns(&source);
    let mut wrong = Vec::new();
    for (column, of) in &columns {
        // As the type's own output function writes it, within a row.
        let part = format!("(SELECT id, {column} AS v FROM every_type)");
        if source.hash(&part) != destination.hash(&part) {
            wrong.push(format!("{column} {of}"));
        }
    }
    assert!(wrong.is_empty(), "content of {wrong:?}");
    assert_eq!(declared(&source), declared(&destination), "pg_dump --schema-only");
    let kind = destination.sql("SELECT relpersistence FROM pg_class WHERE oid = 'every_type'::regclass");
    assert_eq!(kind, "p", "the table is logged");
    let hash = source.hash("every_type");
    assert_eq!(hash, destination.hash("every_type"));
    Proof {
        name: "PostgreSQL to PostgreSQL, every type",
        cases: columns.len(),
        failures: 0,
        seed: "0.42".into(),
        detail: format!("{} rows with NULLs and extremes, content hash {}, declared the same by pg_dump", hash.rows, hash.hash),
    }
    .record();
}

/// What a file must hold for a column, as SQL over `v`; see `tests/independent/types_parquet.py` for the words.
#[derive(Clone, Copy)]
enum Policy {
    Null,
    Text,
}

/// A moment as ISO 8601 writes it, years outside of 0 to 9999 with their sign.
fn iso(name: &str, time: &str) -> String {
    format!(
        "CASE WHEN isfinite({name}) THEN
           CASE WHEN extract(year FROM {name}) BETWEEN 1 AND 9999 THEN lpad(extract(year FROM {name})::int::text, 4, '0')
                WHEN extract(year FROM {name}) > 9999 THEN '+' || extract(year FROM {name})::int
                WHEN extract(year FROM {name}) = -1 THEN '0000'
                ELSE '-' || lpad((- extract(year FROM {name}) - 1)::int::text, 4, '0') END
           || '-' || lpad(extract(month FROM {name})::int::text, 2, '0') || '-' || lpad(extract(day FROM {name})::int::text, 2, '0'){time}
         ELSE {name}::text END"
    )
}

/// The expression for a value of a plain type, and the word for how the file's value is to be read.
fn expected(of: &str, name: &str, policy: Policy) -> (String, &'static str) {
    let text = matches!(policy, Policy::Text);
    // `time(3) without time zone` is `time`, `interval day to second(3)` is `interval`.
    let base = of.split('(').next().unwrap_or_default().split(" with").next().unwrap_or_default();
    let base = if base.starts_with("interval") { "interval" } else { base };
    let decimal = |max: u32| {
        let digits: Vec<i32> = of
            .trim_end_matches(')')
            .split_once('(')
            .map_or(Vec::new(), |(_, digits)| digits.split(',').filter_map(|digit| digit.parse().ok()).collect());
        matches!(digits[..], [precision, scale] if precision <= max as i32 && (0..=precision).contains(&scale))
    };
    match base {
        "boolean" => (format!("{name}::text"), "bool"),
        "smallint" | "integer" | "bigint" | "oid" | "xid" => (format!("{name}::text"), "number"),
        "real" => (format!("encode(float4send({name}), 'hex')"), "float4"),
        "double precision" => (format!("encode(float8send({name}), 'hex')"), "float8"),
        "money" => (format!("{name}::numeric::text"), "number"),
        "numeric" if decimal(76) && text => (format!("{name}::text"), "text"),
        "numeric" if decimal(76) => (format!("nullif({name}, 'NaN')::text"), "number"),
        "bytea" => (format!("encode({name}, 'hex')"), "bytes"),
        "uuid" => (format!("{name}::text"), "uuid"),
        "character" | "bpchar" => (format!("convert_from(bpcharsend({name}), 'UTF8')"), "text"),
        "date" if text => (iso(name, ""), "text"),
        "date" => (format!("CASE WHEN isfinite({name}) THEN ({name} - '1970-01-01'::date)::text END"), "date"),
        "time" if !of.contains("with time zone") && text => (format!("to_char({name}::interval, 'HH24:MI:SS.US')"), "text"),
        "time" if !of.contains("with time zone") => {
            (format!("CASE WHEN {name} < '24:00' THEN (extract(epoch FROM {name}) * 1000000)::bigint::text END"), "time")
        }
        "timestamp" if text && of.ends_with("with time zone") => {
            (iso(name, &format!(" || to_char({name}, '\"T\"HH24:MI:SS.US\"Z\"')")), "text")
        }
        "timestamp" if text => (iso(name, &format!(" || to_char({name}, '\"T\"HH24:MI:SS.US')")), "text"),
        "timestamp" => (
            format!(
                "CASE WHEN isfinite({name}) AND {name} <= '294247-01-10 04:00:54.775806' THEN (extract(epoch FROM {name}) * 1000000)::numeric(30)::text END"
            ),
            "timestamp",
        ),
        "interval" => (format!("encode(interval_send({name}), 'hex')"), "interval"),
        _ => (format!("{name}::text"), "text"),
    }
}

/// Element types whose arrays become lists.
const LISTED: &[&str] = &[
    "boolean",
    "smallint",
    "integer",
    "bigint",
    "real",
    "double precision",
    "numeric",
    "money",
    "text",
    "character varying",
    "character",
    "name",
    "bytea",
    "uuid",
    "json",
    "jsonb",
    "date",
    "time without time zone",
    "timestamp without time zone",
    "timestamp with time zone",
    "public.mood",
    "public.citext",
    "\"char\"",
];
/// Those of them that PostgreSQL writes within an array as the file does.
const WRITTEN_ALIKE: &[&str] = &[
    "smallint",
    "integer",
    "bigint",
    "numeric",
    "text",
    "character varying",
    "name",
    "uuid",
    "json",
    "jsonb",
    "public.mood",
    "public.citext",
];

/// The same for any type; none for columns that are only counted.
fn expected_of_any(of: &str, name: &str, policy: Policy) -> Option<(String, String)> {
    // Domains are what they are made of.
    let of = match of {
        "public.positive" => "integer",
        "public.special_price" => "numeric(12,3)",
        "public.word_list" => "text[]",
        other => other,
    };
    let Some(element) = of.strip_suffix("[]") else {
        let (sql, kind) = expected(of, name, policy);
        return Some((sql, kind.to_owned()));
    };
    let base = element.split('(').next().unwrap_or_default();
    if !LISTED.contains(&base) && !LISTED.contains(&element) {
        return Some((format!("{name}::text"), "text".into()));
    }
    if matches!(policy, Policy::Text) {
        return WRITTEN_ALIKE.contains(&base).then(|| (format!("{name}::text"), "text".into()));
    }
    let (value, kind) = expected(element, "v", policy);
    // A list as a whole gives way to an element that its type can't hold.
    let beyond = match base {
        "numeric" if element.contains('(') => "v = 'NaN'",
        "timestamp without time zone" | "timestamp with time zone" => "isfinite(v) AND v > '294247-01-10 04:00:54.775806'",
        _ => "false",
    };
    let sql = format!(
        "CASE WHEN coalesce(array_ndims({name}), 1) = 1 AND coalesce(array_lower({name}, 1), 1) = 1
              AND NOT EXISTS (SELECT FROM unnest({name}) v WHERE {beyond}) AND {name} IS NOT NULL
         THEN (SELECT coalesce(string_agg(coalesce('<' || ({value}) || '>', 'null'), ',' ORDER BY at), '') FROM unnest({name}) WITH ORDINALITY AS e(v, at)) END"
    );
    Some((sql, format!("list {kind}")))
}

/// Loads the table into Parquet and lets the foreign reader compare it with what the source's server says of each value.
fn into_parquet(source: &Database<'_>, policy: Policy) -> usize {
    let word = match policy {
        Policy::Null => "null",
        Policy::Text => "text",
    };
    let project = Project::with_pipeline(&pipeline(
        source,
        &format!("  use: dest-file\n  config: {{ path: out, unsupported_values: {word} }}\n  write_mode: replace\n"),
    ));
    project.run().finish().success();
    let (mut list, mut kinds) = (Vec::new(), Vec::new());
    for (name, of) in columns(source) {
        let (sql, kind) = expected_of_any(&of, &name, policy).unwrap_or((format!("({name} IS NOT NULL)::text"), "counted".into()));
        list.push(format!("coalesce(encode(convert_to(({sql})::text, 'UTF8'), 'hex'), 'NULL')"));
        kinds.push(kind);
    }
    let rows = source.sql(&format!(
        "SET timezone = 'UTC'; SET datestyle = 'ISO'; SET lc_monetary = 'C'; SET search_path = pg_catalog; SET bytea_output = 'hex';
         SELECT array_to_string(ARRAY[{}], ',') FROM public.every_type ORDER BY id",
        list.join(",\n")
    ));
    project.write("expected", format!("{}\n{rows}\n", kinds.join(",")));
    let compared = Command::new(python())
        .arg("-B")
        .arg(root().join("tests/independent/types_parquet.py"))
        .args([project.path("out/every_type"), project.path("expected")])
        .output()
        .expect("the tests' Python can be started");
    assert!(
        compared.status.success(),
        "{word}: {}{}",
        String::from_utf8_lossy(&compared.stdout),
        String::from_utf8_lossy(&compared.stderr)
    );
    rows.lines().count()
}

#[test]
fn prove_every_type_is_read_by_others_from_parquet() {
    let server = Postgres::shared();
    let source = server.database("types_files");
    source.sql(&every_type());
    // Files know no infinity: without a policy the load fails, and says what helps.
    let refused = Project::with_pipeline(&pipeline(&source, "  use: dest-file\n  config: { path: out }\n"));
    let refused = refused.run().finish();
    assert!(refused.code.is_some_and(|code| code != 0) && refused.told().contains("unsupported_values"), "{}", refused.told());
    let rows = into_parquet(&source, Policy::Null);
    assert_eq!(rows, into_parquet(&source, Policy::Text));
    Proof {
        name: "PostgreSQL to Parquet, every type, read by pyarrow",
        cases: columns(&source).len(),
        failures: 0,
        seed: "0.42".into(),
        detail: format!("{rows} rows with NULLs and extremes; policies null and text"),
    }
    .record();
}
