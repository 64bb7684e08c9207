CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy "quoted"');
CREATE TYPE pair AS (a int, b text);
CREATE DOMAIN posint AS int CHECK (VALUE > 0);
CREATE DOMAIN price AS numeric(12,3);
CREATE DOMAIN special_price AS price;

CREATE TABLE wide (
  id bigint PRIMARY KEY, c_uuid uuid, c_jsonb jsonb, c_json json, c_numeric numeric(38,9), c_numeric_free numeric, c_numeric_76 numeric(76,38),
  c_numeric_small numeric(5,2), c_numeric_odd numeric(3,5), c_numeric_round numeric(5,-2), c_bytea bytea,
  c_int_arr int[], c_text_arr text[], c_numeric_arr numeric(10,2)[], c_ts_arr timestamp[], c_date date, c_time time, c_timestamp timestamp,
  c_timestamptz timestamptz, c_interval interval, c_inet inet, c_enum mood, c_real real, c_double double precision, c_small smallint,
  c_int int, c_bool boolean, c_char char(5), c_varchar varchar(40), c_text text, c_name name, c_oid oid, c_posint posint, c_price special_price,
  c_timetz timetz, c_cidr cidr, c_mac macaddr, c_money money, c_bit bit(5), c_varbit varbit, c_qchar "char", c_xml xml, c_pair pair,
  c_range int4range, c_multi int4multirange, c_tsv tsvector, c_lsn pg_lsn, c_point point, c_enum_arr mood[], c_inet_arr inet[]);

INSERT INTO wide
SELECT i, md5('u' || i)::uuid,
  CASE WHEN i % 11 = 0 THEN NULL ELSE jsonb_build_object('k', i, 'big', i * 90071992547409911::numeric, 'nested', jsonb_build_array(i, 'é"\', null, 1.10)) END,
  CASE WHEN i % 11 = 1 THEN NULL ELSE ('{"b" : ' || i || ',  "a":1.50}')::json END,
  CASE WHEN i % 7 = 0 THEN NULL ELSE (i * 1234567890123456789012.123456789)::numeric(38,9) * (CASE WHEN i % 2 = 0 THEN -1 ELSE 1 END) END,
  CASE WHEN i % 7 = 1 THEN NULL ELSE i / 1000000.0000000000000000001 END,
  i * 12345678901234567890123456789.12345678901234567890123456789012345678, i / 7.0, i / 1000000.0, i * 7, decode(md5(i::text), 'hex') || '\x00ff'::bytea,
  CASE WHEN i % 7 = 3 THEN NULL ELSE ARRAY[i, NULL, -i] END,
  CASE WHEN i % 7 = 4 THEN NULL ELSE ARRAY['a' || i, NULL, 'with,comma', '"q"', ''] END,
  ARRAY[i / 7.0, NULL], ARRAY['2024-01-01'::timestamp, 'infinity'],
  DATE '1950-01-01' + i % 60000, TIME '00:00:00' + (i * interval '12345 microseconds'),
  CASE WHEN i % 5 = 0 THEN NULL ELSE TIMESTAMP '1960-01-01' + i * interval '7919.123457 seconds' END,
  CASE WHEN i % 5 = 1 THEN NULL ELSE TIMESTAMPTZ '1960-01-01 00:00:00+00' + i * interval '7919.123457 seconds' END,
  (i % 50) * interval '1 month' - (i % 40) * interval '1 day' + i * interval '0.001234 seconds',
  CASE WHEN i % 2 = 0 THEN ('10.' || i % 256 || '.7.0/24')::inet ELSE ('2001:db8::' || to_hex(i % 65536))::inet END,
  (ARRAY['sad', 'ok', 'happy "quoted"'])[1 + i % 3]::mood, i * 0.1::real, sqrt(i::float8), (i % 32768)::smallint, -i, i % 2 = 0,
  'c' || i % 100, 'v' || i, E'tab\there\nline \\N "quoted" ü€😀 ' || i, 'name' || i, i, 1 + i, i / 3.0,
  '12:00:00.5+05:30', '10.0.0.0/8', '08:00:2b:01:02:03', i::numeric::money, B'10101', B'1', 'x', '<a>1</a>', ROW(i, 'b,"c"')::pair,
  int4range(i, i + 5), int4multirange(int4range(1, 2), int4range(5, i + 9)), 'a fat cat'::tsvector, '16/B374D848', '(1.5,2)',
  ARRAY['sad', 'ok']::mood[], ARRAY['10.0.0.1']::inet[]
FROM generate_series(1, 3000) i;

CREATE TABLE edge (LIKE wide INCLUDING ALL);
INSERT INTO edge (id) VALUES (1);
INSERT INTO edge (id, c_timestamp, c_timestamptz, c_date) VALUES (2, 'infinity', '-infinity', 'infinity'), (102, '-infinity', 'infinity', '-infinity');
INSERT INTO edge (id, c_numeric, c_numeric_free) VALUES (3, 99999999999999999999999999999.999999999, 'NaN'), (103, -99999999999999999999999999999.999999999, 'Infinity'), (203, 0, '-Infinity');
INSERT INTO edge (id, c_numeric_76, c_numeric_free) VALUES (303, repeat('9', 38)::numeric + ('0.' || repeat('9', 38))::numeric, '1e-16383'), (403, ('-' || repeat('9', 38) || '.' || repeat('9', 38))::numeric, '1e131071'), (503, '1e-38', '0.000'), (603, '5e37', '1e20');
INSERT INTO edge (id, c_date, c_timestamp) VALUES (4, '0044-03-15 BC', '4713-01-01 00:00:00 BC'), (104, '4713-01-01 BC', '4714-11-24 00:00:00 BC'), (204, '5874897-12-31', '294247-01-10 04:00:54.775806');
INSERT INTO edge (id, c_time) VALUES (6, '24:00:00'), (106, '00:00:00'), (206, '23:59:59.999999');
INSERT INTO edge (id, c_int_arr, c_text_arr) VALUES (7, '{}', '{}'), (107, '{NULL}', '{NULL,"NULL",""}');
INSERT INTO edge (id, c_real, c_double) VALUES (9, 'NaN', '-Infinity'), (10, '-0', '1e308'), (110, '1e-45', '5e-324');
INSERT INTO edge (id, c_interval) VALUES (11, '-1 year 2 months -3 days 04:05:06.000001'), (111, '292 years -999999 days 2562047:47:16.854775');
INSERT INTO edge (id, c_jsonb, c_json) VALUES (12, 'null', 'null'), (13, '"a \" b"', '1e400');
INSERT INTO edge (id, c_text, c_varchar, c_char) VALUES (14, '', '  lead and trail  ', '  '), (15, E'\\N', '\N', '\N'), (16, 'NULL', 'null', '');
INSERT INTO edge (id, c_bytea) VALUES (17, ''), (18, '\x5c78303031'::bytea);
INSERT INTO edge (id, c_inet, c_qchar) VALUES (19, '::1/128', ''), (20, '192.168.1.5/16', 'z');
INSERT INTO edge (id, c_small, c_int, c_oid, c_bool) VALUES (22, -32768, -2147483648, 4294967295, true), (23, 32767, 2147483647, 0, false);
INSERT INTO edge (id) VALUES (9223372036854775807), (-9223372036854775808);

-- Values no Arrow type of their column holds.
CREATE TABLE beyond (LIKE wide INCLUDING ALL);
INSERT INTO beyond SELECT * FROM wide WHERE id <= 50;
INSERT INTO beyond (id, c_numeric) VALUES (1001, 'NaN');
INSERT INTO beyond SELECT * FROM wide WHERE id BETWEEN 51 AND 100;
INSERT INTO beyond (id, c_timestamp, c_timestamptz) VALUES (1002, '294276-12-31 23:59:59.999999', '294276-12-31 23:59:59+00');
INSERT INTO beyond (id, c_int_arr, c_text_arr) VALUES (1003, '{{1,2},{3,4}}', '[0:1]={a,b}');
INSERT INTO beyond (id, c_numeric_76, c_interval, c_numeric_arr) VALUES (1004, 'NaN', '100000000 hours', '{NaN}');
INSERT INTO beyond SELECT * FROM wide WHERE id BETWEEN 101 AND 150;

CREATE TABLE "Odd ""names""; --" ("a ""b"" \ '" int, "sixty_three_bytes_long_column_name_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" text, "ü😀" bool);
INSERT INTO "Odd ""names""; --" VALUES (1, 'one', true);
CREATE TABLE no_rows (a int NOT NULL, b text);
CREATE TABLE parent (id int, v text) PARTITION BY RANGE (id);
CREATE TABLE child_1 PARTITION OF parent FOR VALUES FROM (0) TO (100);
CREATE TABLE child_2 PARTITION OF parent FOR VALUES FROM (100) TO (200);
INSERT INTO parent SELECT i, 'v' || i FROM generate_series(0, 199) i;
CREATE VIEW a_view AS SELECT id, c_text, c_numeric FROM wide WHERE id <= 10;
CREATE MATERIALIZED VIEW a_matview AS SELECT id, c_text FROM wide WHERE id <= 20;
CREATE TABLE keyed (b int, a int NOT NULL, g int GENERATED ALWAYS AS (a * 2) STORED, i int GENERATED ALWAYS AS IDENTITY, dropped int, PRIMARY KEY (a, b) INCLUDE (i));
ALTER TABLE keyed DROP COLUMN dropped;
INSERT INTO keyed (a, b) VALUES (1, 2), (3, 4);
CREATE TABLE base (a int);
CREATE TABLE inheritor (b int) INHERITS (base);
INSERT INTO base VALUES (1);
INSERT INTO inheritor VALUES (2, 3);
ANALYZE;
