-- Streams whose next run begins anew.
CREATE TABLE resets (
    pipeline TEXT NOT NULL REFERENCES pipelines (id),
    stream TEXT NOT NULL,
    asked_at_ms INTEGER NOT NULL,
    sum INTEGER NOT NULL,
    PRIMARY KEY (pipeline, stream)
) STRICT, WITHOUT ROWID;

INSERT INTO ledger (name, count, total) VALUES ('resets', 0, 0);
CREATE TRIGGER resets_inserted AFTER INSERT ON resets BEGIN
    UPDATE ledger SET count = count + 1, total = (total | new.sum) - (total & new.sum) WHERE name = 'resets';
END;
CREATE TRIGGER resets_deleted AFTER DELETE ON resets BEGIN
    UPDATE ledger SET count = count - 1, total = (total | old.sum) - (total & old.sum) WHERE name = 'resets';
END;
CREATE TRIGGER resets_updated AFTER UPDATE ON resets BEGIN
    UPDATE ledger SET total = (total | old.sum) - (total & old.sum) WHERE name = 'resets';
    UPDATE ledger SET total = (total | new.sum) - (total & new.sum) WHERE name = 'resets';
END;
