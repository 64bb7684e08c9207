-- One row per table that progress depends on: how many rows it has, and the exclusive or of their checksums.
CREATE TABLE ledger (
    name TEXT NOT NULL PRIMARY KEY,
    count INTEGER NOT NULL,
    total INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE probe (
    id TEXT NOT NULL PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE pipelines (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    source_identity TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    sum INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE epochs (
    pipeline TEXT NOT NULL REFERENCES pipelines (id),
    stream TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    sum INTEGER NOT NULL,
    PRIMARY KEY (pipeline, stream)
) STRICT, WITHOUT ROWID;

CREATE TABLE generations (
    pipeline TEXT NOT NULL REFERENCES pipelines (id),
    stream TEXT NOT NULL,
    number INTEGER NOT NULL,
    snapshot TEXT NOT NULL,
    state TEXT NOT NULL,
    sum INTEGER NOT NULL,
    PRIMARY KEY (pipeline, stream, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE checkpoints (
    pipeline TEXT NOT NULL REFERENCES pipelines (id),
    stream TEXT NOT NULL,
    generation INTEGER NOT NULL,
    partition TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    position_type TEXT,
    position_value TEXT,
    rows INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    last INTEGER NOT NULL,
    committed_at_ms INTEGER NOT NULL,
    sum INTEGER NOT NULL,
    PRIMARY KEY (pipeline, stream, generation, partition)
) STRICT, WITHOUT ROWID;

-- `value` stands last and has a checksum of its own, so that the keys can be looked over without reading the values.
CREATE TABLE key_values (
    pipeline TEXT NOT NULL REFERENCES pipelines (id),
    scope TEXT NOT NULL,
    key TEXT NOT NULL,
    value_sum INTEGER NOT NULL,
    sum INTEGER NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (pipeline, scope, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE runs (
    ordinal INTEGER PRIMARY KEY,
    run_id TEXT NOT NULL UNIQUE,
    pipeline TEXT NOT NULL REFERENCES pipelines (id),
    status TEXT NOT NULL,
    started_at_ms INTEGER NOT NULL,
    finished_at_ms INTEGER,
    duration_ms INTEGER,
    error_category TEXT,
    error_code TEXT,
    error_message TEXT,
    error_hint TEXT,
    rows_read INTEGER NOT NULL,
    bytes_read INTEGER NOT NULL,
    rows_written INTEGER NOT NULL,
    bytes_written INTEGER NOT NULL,
    timings_json TEXT,
    sum INTEGER NOT NULL
) STRICT;

CREATE TABLE stream_results (
    run INTEGER NOT NULL REFERENCES runs (ordinal),
    stream TEXT NOT NULL,
    status TEXT NOT NULL,
    rows INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    partitions INTEGER NOT NULL,
    skipped INTEGER NOT NULL,
    dead_letters INTEGER NOT NULL,
    sum INTEGER NOT NULL,
    PRIMARY KEY (run, stream)
) STRICT, WITHOUT ROWID;

-- `record` stands last and has a checksum of its own, so that lists need not read it.
CREATE TABLE dead_letters (
    id INTEGER PRIMARY KEY,
    pipeline TEXT NOT NULL REFERENCES pipelines (id),
    stream TEXT NOT NULL,
    generation INTEGER NOT NULL,
    partition TEXT NOT NULL,
    seq INTEGER NOT NULL,
    ordinal INTEGER NOT NULL,
    run_id TEXT NOT NULL,
    error_message TEXT NOT NULL,
    error_category TEXT NOT NULL,
    failed_at_ms INTEGER NOT NULL,
    record_sum INTEGER NOT NULL,
    sum INTEGER NOT NULL,
    record TEXT NOT NULL,
    UNIQUE (pipeline, stream, generation, partition, seq, ordinal)
) STRICT;

