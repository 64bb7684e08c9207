-- What has come since the earlier load.
INSERT INTO orders SELECT i, 'order ' || i FROM generate_series(1001, 1100) i;
