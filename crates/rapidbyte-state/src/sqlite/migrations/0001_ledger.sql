-- SQLite has no exclusive or: (a | b) - (a & b) is the same.
INSERT INTO ledger (name, count, total) VALUES ('pipelines', 0, 0);
CREATE TRIGGER pipelines_inserted AFTER INSERT ON pipelines BEGIN
    UPDATE ledger SET count = count + 1, total = (total | new.sum) - (total & new.sum) WHERE name = 'pipelines';
END;
CREATE TRIGGER pipelines_deleted AFTER DELETE ON pipelines BEGIN
    UPDATE ledger SET count = count - 1, total = (total | old.sum) - (total & old.sum) WHERE name = 'pipelines';
END;
CREATE TRIGGER pipelines_updated AFTER UPDATE ON pipelines BEGIN
    UPDATE ledger SET total = (total | old.sum) - (total & old.sum) WHERE name = 'pipelines';
    UPDATE ledger SET total = (total | new.sum) - (total & new.sum) WHERE name = 'pipelines';
END;

INSERT INTO ledger (name, count, total) VALUES ('epochs', 0, 0);
CREATE TRIGGER epochs_inserted AFTER INSERT ON epochs BEGIN
    UPDATE ledger SET count = count + 1, total = (total | new.sum) - (total & new.sum) WHERE name = 'epochs';
END;
CREATE TRIGGER epochs_deleted AFTER DELETE ON epochs BEGIN
    UPDATE ledger SET count = count - 1, total = (total | old.sum) - (total & old.sum) WHERE name = 'epochs';
END;
CREATE TRIGGER epochs_updated AFTER UPDATE ON epochs BEGIN
    UPDATE ledger SET total = (total | old.sum) - (total & old.sum) WHERE name = 'epochs';
    UPDATE ledger SET total = (total | new.sum) - (total & new.sum) WHERE name = 'epochs';
END;

INSERT INTO ledger (name, count, total) VALUES ('generations', 0, 0);
CREATE TRIGGER generations_inserted AFTER INSERT ON generations BEGIN
    UPDATE ledger SET count = count + 1, total = (total | new.sum) - (total & new.sum) WHERE name = 'generations';
END;
CREATE TRIGGER generations_deleted AFTER DELETE ON generations BEGIN
    UPDATE ledger SET count = count - 1, total = (total | old.sum) - (total & old.sum) WHERE name = 'generations';
END;
CREATE TRIGGER generations_updated AFTER UPDATE ON generations BEGIN
    UPDATE ledger SET total = (total | old.sum) - (total & old.sum) WHERE name = 'generations';
    UPDATE ledger SET total = (total | new.sum) - (total & new.sum) WHERE name = 'generations';
END;

INSERT INTO ledger (name, count, total) VALUES ('checkpoints', 0, 0);
CREATE TRIGGER checkpoints_inserted AFTER INSERT ON checkpoints BEGIN
    UPDATE ledger SET count = count + 1, total = (total | new.sum) - (total & new.sum) WHERE name = 'checkpoints';
END;
CREATE TRIGGER checkpoints_deleted AFTER DELETE ON checkpoints BEGIN
    UPDATE ledger SET count = count - 1, total = (total | old.sum) - (total & old.sum) WHERE name = 'checkpoints';
END;
CREATE TRIGGER checkpoints_updated AFTER UPDATE ON checkpoints BEGIN
    UPDATE ledger SET total = (total | old.sum) - (total & old.sum) WHERE name = 'checkpoints';
    UPDATE ledger SET total = (total | new.sum) - (total & new.sum) WHERE name = 'checkpoints';
END;

INSERT INTO ledger (name, count, total) VALUES ('key_values', 0, 0);
CREATE TRIGGER key_values_inserted AFTER INSERT ON key_values BEGIN
    UPDATE ledger SET count = count + 1, total = (total | new.sum) - (total & new.sum) WHERE name = 'key_values';
END;
CREATE TRIGGER key_values_deleted AFTER DELETE ON key_values BEGIN
    UPDATE ledger SET count = count - 1, total = (total | old.sum) - (total & old.sum) WHERE name = 'key_values';
END;
CREATE TRIGGER key_values_updated AFTER UPDATE ON key_values BEGIN
    UPDATE ledger SET total = (total | old.sum) - (total & old.sum) WHERE name = 'key_values';
    UPDATE ledger SET total = (total | new.sum) - (total & new.sum) WHERE name = 'key_values';
END;
