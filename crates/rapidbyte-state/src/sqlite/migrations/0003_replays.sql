-- Dead letters that are written to their destination again. A replay without an end is gone on with before anything else.
CREATE TABLE replays (
    replay_id TEXT NOT NULL PRIMARY KEY,
    pipeline TEXT NOT NULL REFERENCES pipelines (id),
    stream TEXT NOT NULL,
    generation INTEGER,
    started_at_ms INTEGER NOT NULL,
    finished_at_ms INTEGER
) STRICT, WITHOUT ROWID;

-- `record` is what is written: that of the letter, or as it was edited.
CREATE TABLE replay_letters (
    replay_id TEXT NOT NULL REFERENCES replays (replay_id),
    letter INTEGER NOT NULL REFERENCES dead_letters (id),
    record TEXT NOT NULL,
    PRIMARY KEY (replay_id, letter)
) STRICT, WITHOUT ROWID;

CREATE INDEX replay_letters_by_letter ON replay_letters (letter);
