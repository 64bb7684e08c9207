"""What is measured, as data.

A cell fills tables in the source database, may load them once untimed (`start`), may change the source after that, and then lets
every arm do the same work in turns. Keys and their defaults:

  about       one line for people
  tables      name -> SQL that makes and fills it; `{rows}` is the cell's number of rows
  rows        rows of each table
  moved       rows that one run moves, when that is not all of them
  write       append, replace or upsert
  sync        full_refresh, or incremental with `cursor`
  start       empty: a new database. loaded: the arm itself has loaded the tables, untimed
  change      SQL at the source after the untimed load
  source      postgres or datagen; `to`: postgres, parquet or null
  parallelism tasks at once; `partitions`: one table is cut into as many shares
  tls         encrypt, for the floor too
  targets     ratio (floor / rapidbyte, wall, at least), cpu (tool CPU s per million rows, at most), rss (MB, at most), wall (s, at most)
"""

LINEITEM = """
CREATE TABLE lineitem (
  l_orderkey bigint NOT NULL, l_partkey bigint NOT NULL, l_suppkey bigint NOT NULL, l_linenumber integer NOT NULL,
  l_quantity numeric(15,2) NOT NULL, l_extendedprice numeric(15,2) NOT NULL, l_discount numeric(15,2) NOT NULL, l_tax numeric(15,2) NOT NULL,
  l_returnflag char(1) NOT NULL, l_linestatus char(1) NOT NULL, l_shipdate date NOT NULL, l_commitdate date NOT NULL,
  l_receiptdate date NOT NULL, l_shipinstruct char(25) NOT NULL, l_shipmode char(10) NOT NULL, l_comment varchar(44) NOT NULL);
SELECT setseed(0.42);
INSERT INTO lineitem
SELECT (i-1)/4+1, 1+(random()*200000)::int, 1+(random()*10000)::int, (i-1)%4+1,
       1+(random()*49)::int, round((900+random()*104000)::numeric,2), round((random()*0.1)::numeric,2), round((random()*0.08)::numeric,2),
       (ARRAY['R','A','N'])[1+(random()*2)::int], (ARRAY['O','F'])[1+random()::int], d, d+30, d+(1+random()*29)::int,
       (ARRAY['DELIVER IN PERSON','COLLECT COD','NONE','TAKE BACK RETURN'])[1+(random()*3)::int],
       (ARRAY['REG AIR','AIR','RAIL','SHIP','TRUCK','MAIL','FOB'])[1+(random()*6)::int],
       substr('carefully final deposits sleep quickly across the bold ideas',1+(random()*15)::int,10+(random()*33)::int)
FROM (SELECT i, DATE '1992-01-02'+(random()*2500)::int AS d FROM generate_series(1,{rows}) i) g;
"""
NARROW = """
CREATE TABLE narrow (id bigint NOT NULL, ts timestamptz NOT NULL, name text NOT NULL, value float8 NOT NULL, ok boolean NOT NULL);
SELECT setseed(0.42);
INSERT INTO narrow SELECT i, TIMESTAMPTZ '2024-01-01 00:00:00+00'+i*interval '37 milliseconds', 'event_'||(random()*1000)::int,
       random()*1e6, random()<0.9 FROM generate_series(1,{rows}) i;
"""
# Texts that compression at rest can do nothing about, kept in the row or beside it.
WIDE = """
CREATE TABLE wide (id bigint NOT NULL, a text NOT NULL, b text NOT NULL, c bytea NOT NULL);
INSERT INTO wide SELECT i, string_agg(md5(i::text||k), '') FILTER (WHERE k<=20), string_agg(md5(k::text||i), '') FILTER (WHERE k<=20),
       decode(string_agg(md5(i::text||k||'c'), '') FILTER (WHERE k<=20), 'hex') FROM generate_series(1,{rows}) i, generate_series(1,20) k GROUP BY i;
"""
HUGE = """
CREATE TABLE huge (id bigint NOT NULL, body text NOT NULL);
ALTER TABLE huge ALTER body SET STORAGE EXTERNAL;
INSERT INTO huge SELECT i, repeat(md5(i::text), 2112) FROM generate_series(1,{rows}) i;
"""
CHANGING = """
CREATE TABLE changing (id bigint PRIMARY KEY, customer bigint NOT NULL, status text NOT NULL, amount numeric(12,2) NOT NULL, updated_at timestamptz NOT NULL);
SELECT setseed(0.42);
INSERT INTO changing SELECT i, 1+(random()*50000)::int, (ARRAY['new','paid','sent','done'])[1+(random()*3)::int], round((random()*1000)::numeric,2),
       TIMESTAMPTZ '2024-01-01 00:00:00+00'+i*interval '1 second' FROM generate_series(1,{rows}) i;
"""
# 100,000 rows changed all over the table, 50,000 new ones; each with a later moment.
DELTA = """
UPDATE changing SET status = 'late', updated_at = TIMESTAMPTZ '2025-01-01 00:00:00+00'+id*interval '1 second' WHERE id % 10 = 0;
INSERT INTO changing SELECT 1000000+i, i, 'new', 1.5, TIMESTAMPTZ '2025-02-01 00:00:00+00'+i*interval '1 second' FROM generate_series(1,50000) i;
VACUUM ANALYZE changing;
"""
NEW_ROWS = """
INSERT INTO changing SELECT 1000000+i, i, 'new', 1.5, TIMESTAMPTZ '2025-02-01 00:00:00+00'+i*interval '1 second' FROM generate_series(1,200000) i;
VACUUM ANALYZE changing;
"""
TINY = "CREATE TABLE {table} (id bigint PRIMARY KEY, note text NOT NULL); INSERT INTO {table} SELECT i, 'note '||i FROM generate_series(1,{rows}) i;"
STREAM = NARROW.replace("narrow", "{table}")


def many(count, filling, prefix):
    return {f"{prefix}{number}": filling.replace("{table}", f"{prefix}{number}") for number in range(1, count + 1)}


CELLS = {
    "lineitem": {"about": "append, 16 columns", "tables": {"lineitem": LINEITEM}, "rows": 1_000_000, "peers": True,
                 "targets": {"ratio": 0.97, "cpu": 0.6, "rss": 128}},
    "narrow": {"about": "append, 5 columns", "tables": {"narrow": NARROW}, "rows": 2_000_000, "peers": True,
               "targets": {"ratio": 1.0, "cpu": 0.16, "rss": 128}},
    "lineitem-10m": {"about": "append, 16 columns, for memory", "tables": {"lineitem": LINEITEM}, "rows": 10_000_000,
                     "parallelism": 1, "targets": {"ratio": 0.97, "cpu": 0.6, "rss": 128}},
    "lineitem-tls": {"about": "append, 16 columns, TLS on both ways", "tables": {"lineitem": LINEITEM}, "rows": 1_000_000, "tls": True,
                     "targets": {"ratio": 0.97}},
    "wide": {"about": "append, rows of 1.6 KB", "tables": {"wide": WIDE}, "rows": 200_000},
    "huge": {"about": "append, rows of 66 KB", "tables": {"huge": HUGE}, "rows": 5_000},
    "replace": {"about": "replace a loaded table", "tables": {"lineitem": LINEITEM}, "rows": 1_000_000, "write": "replace", "start": "loaded"},
    "upsert-first": {"about": "upsert into nothing", "tables": {"changing": CHANGING}, "rows": 1_000_000, "write": "upsert"},
    "upsert-again": {"about": "upsert, everything delivered a second time", "tables": {"changing": CHANGING}, "rows": 1_000_000,
                     "write": "upsert", "start": "loaded", "peers": True},
    "upsert-delta": {"about": "upsert, 150,000 changed rows found by the cursor", "tables": {"changing": CHANGING}, "rows": 1_000_000,
                     "moved": 150_000, "write": "upsert", "sync": "incremental", "cursor": "updated_at", "start": "loaded", "change": DELTA,
                     "peers": True, "targets": {"ratio": 0.91}},
    "incremental": {"about": "append, 200,000 new rows found by the cursor", "tables": {"changing": CHANGING}, "rows": 1_000_000,
                    "moved": 200_000, "sync": "incremental", "cursor": "updated_at", "start": "loaded", "change": NEW_ROWS},
    "parquet": {"about": "PostgreSQL to Parquet", "tables": {"lineitem": LINEITEM}, "rows": 1_000_000, "to": "parquet", "peers": True},
    "datagen-null": {"about": "generated rows to nowhere: the sandbox alone", "tables": {}, "rows": 5_000_000, "source": "datagen", "to": "null"},
    "one-row-embedded": {"about": "one generated row to nowhere, cold", "tables": {}, "rows": 1, "source": "datagen", "to": "null",
                         "targets": {"wall": 0.030}},
    "one-row": {"about": "one row, PostgreSQL to PostgreSQL, cold", "tables": many(1, TINY, "tiny"), "rows": 1},
    "empty": {"about": "an empty table, cold", "tables": many(1, TINY, "tiny"), "rows": 0, "peers": True, "targets": {"wall": 0.10}},
    "tiny-tables": {"about": "1,000 tables of 10 rows", "tables": many(1000, TINY, "tiny"), "rows": 10, "targets": {"wall": 60.0}},
    **{f"streams-{count}": {"about": f"four tables, {count} at once", "tables": many(4, STREAM, "s"), "rows": 500_000, "parallelism": count}
       for count in (1, 2, 3, 4)},
    **{f"partitions-{count}": {"about": f"one table in {count} shares", "tables": {"lineitem": LINEITEM}, "rows": 1_000_000,
                               "parallelism": count, "partitions": count} for count in (1, 2, 3, 4)},
}
# What a plain run measures, and what `--all` leaves to be named.
PLAIN = ["lineitem"]
LONG = ["lineitem-10m"]
