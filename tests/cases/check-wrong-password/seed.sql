-- What is to be moved, and what an earlier load has left at the destination.
CREATE TABLE orders AS SELECT i AS id, 'order ' || i AS title FROM generate_series(1, 1000) i;
CREATE SCHEMA raw;
CREATE TABLE raw.kept AS SELECT i AS id FROM generate_series(1, 10) i;
