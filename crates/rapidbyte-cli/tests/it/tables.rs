//! Tables that several tests move.

/// A table like TPC-H's `lineitem`: 16 columns, deterministic.
pub(crate) fn lineitem(rows: u32) -> String {
    format!(
        "CREATE TABLE lineitem (
           l_orderkey bigint NOT NULL, l_partkey bigint NOT NULL, l_suppkey bigint NOT NULL, l_linenumber integer NOT NULL,
           l_quantity numeric(15,2) NOT NULL, l_extendedprice numeric(15,2) NOT NULL, l_discount numeric(15,2) NOT NULL,
           l_tax numeric(15,2) NOT NULL, l_returnflag char(1) NOT NULL, l_linestatus char(1) NOT NULL, l_shipdate date NOT NULL,
           l_commitdate date NOT NULL, l_receiptdate date NOT NULL, l_shipinstruct char(25) NOT NULL, l_shipmode char(10) NOT NULL,
           l_comment varchar(44) NOT NULL);
         SELECT setseed(0.42);
         INSERT INTO lineitem
         SELECT (i-1)/4+1, 1+(random()*200000)::int, 1+(random()*10000)::int, (i-1)%4+1, 1+(random()*49)::int,
                round((900+random()*104000)::numeric,2), round((random()*0.1)::numeric,2), round((random()*0.08)::numeric,2),
                (ARRAY['R','A','N'])[1+(random()*2)::int], (ARRAY['O','F'])[1+random()::int], d, d+30, d+(1+random()*29)::int,
                (ARRAY['DELIVER IN PERSON','COLLECT COD','NONE','TAKE BACK RETURN'])[1+(random()*3)::int],
                (ARRAY['REG AIR','AIR','RAIL','SHIP','TRUCK','MAIL','FOB'])[1+(random()*6)::int],
                substr('carefully final deposits sleep quickly across the bold ideas',1+(random()*15)::int,10+(random()*33)::int)
         FROM (SELECT i, DATE '1992-01-02'+(random()*2500)::int AS d FROM generate_series(1,{rows}) i) g;"
    )
}

/// The columns of [`EVERYTHING`]'s table, apart from `id`.
pub(crate) const TYPES: &[&str] = &[
    "smallint",
    "integer",
    "bigint",
    "numeric(38,9)",
    "numeric",
    "real",
    "double precision",
    "boolean",
    "character(5)",
    "character varying(40)",
    "text",
    "bytea",
    "date",
    "time without time zone",
    "timestamp without time zone",
    "timestamp with time zone",
    "interval",
    "uuid",
    "json",
    "jsonb",
    "inet",
    "cidr",
    "macaddr",
    "public.mood",
    "integer[]",
    "text[]",
    "numeric[]",
    "time with time zone",
    "oid",
    "bit varying(12)",
    "int4range",
    "public.positive",
];

/// A table of the commonest types: NULLs, ordinary values, and the extremes of each.
pub(crate) fn everything(rows: u32) -> String {
    format!(
        r#"CREATE TYPE mood AS ENUM ('sad','ok','happy', 'it''s "fine"');
CREATE DOMAIN positive AS integer CHECK (VALUE > 0);
CREATE TABLE everything (
  id bigint PRIMARY KEY, c_small smallint, c_int integer, c_big bigint, c_numeric numeric(38,9), c_free numeric, c_real real,
  c_double double precision, c_bool boolean, c_char char(5), c_varchar varchar(40), c_text text, c_bytea bytea, c_date date, c_time time,
  c_timestamp timestamp, c_timestamptz timestamptz, c_interval interval, c_uuid uuid, c_json json, c_jsonb jsonb, c_inet inet, c_cidr cidr,
  c_mac macaddr, c_enum mood, c_ints int[], c_texts text[], c_numerics numeric[], c_timetz timetz, c_oid oid, c_bits varbit(12),
  c_range int4range, c_domain positive);
INSERT INTO everything
SELECT i,
  (i%32768)::smallint, i*7919, i*90071992547, (i*1234567890123456789012.123456789)::numeric(38,9)*(CASE WHEN i%2=0 THEN -1 ELSE 1 END),
  i/1000000.0000000000000000001, i*0.1::real, sqrt(i::float8), i%2=0, 'c'||i%100, 'v'||i, E'tab\there\nline \\N "quoted" ü€😀 '||i,
  decode(md5(i::text),'hex')||'\x00ff'::bytea, DATE '1950-01-01'+i%60000, TIME '00:00:00'+(i*interval '12345 microseconds'),
  TIMESTAMP '1960-01-01'+i*interval '7919.123457 seconds', TIMESTAMPTZ '1960-01-01 00:00:00+00'+i*interval '7919.123457 seconds',
  (i%50)*interval '1 month'+(i%40)*interval '1 day'+i*interval '0.001234 seconds', md5('u'||i)::uuid,
  ('{{"b" : '||i||',  "a":1.50}}')::json, jsonb_build_object('k',i,'big',i*90071992547409911::numeric,'n',jsonb_build_array(i,'é"\',null,1.10)),
  CASE WHEN i%2=0 THEN ('10.'||i%256||'.7.0/24')::inet ELSE ('2001:db8::'||to_hex(i%65536))::inet END, ('10.'||i%256||'.0.0/16')::cidr,
  ('08:00:2b:01:02:'||lpad(to_hex(i%256),2,'0'))::macaddr, (ARRAY['sad','ok','happy','it''s "fine"'])[1+i%4]::mood, ARRAY[i,NULL,-i],
  ARRAY['a'||i,NULL,'with,comma','"q"',''], ARRAY[i+0.50,NULL,'NaN'], (TIME '00:00'+i*interval '1.000001 seconds')::timetz, (4294967295-i)::oid,
  ('1010'||(i%2)::text)::varbit, int4range(i,i+10), i
FROM generate_series(1,{rows}) i;
-- Each column empty somewhere, and all of them once.
UPDATE everything SET c_small=NULL, c_int=NULL, c_text=NULL WHERE id%11=0;
UPDATE everything SET c_big=NULL, c_numeric=NULL, c_free=NULL, c_real=NULL WHERE id%11=1;
UPDATE everything SET c_double=NULL, c_bool=NULL, c_char=NULL, c_varchar=NULL WHERE id%11=2;
UPDATE everything SET c_bytea=NULL, c_date=NULL, c_time=NULL, c_timestamp=NULL WHERE id%11=3;
UPDATE everything SET c_timestamptz=NULL, c_interval=NULL, c_uuid=NULL, c_json=NULL WHERE id%11=4;
UPDATE everything SET c_jsonb=NULL, c_inet=NULL, c_cidr=NULL, c_mac=NULL, c_enum=NULL WHERE id%11=5;
UPDATE everything SET c_ints=NULL, c_texts=NULL, c_numerics=NULL, c_timetz=NULL, c_oid=NULL, c_bits=NULL, c_range=NULL, c_domain=NULL WHERE id%11=6;
INSERT INTO everything(id) VALUES (1000001);
INSERT INTO everything(id,c_small,c_int,c_big) VALUES (1000002,32767,2147483647,9223372036854775807),(1000003,-32768,-2147483648,-9223372036854775808);
INSERT INTO everything(id,c_numeric,c_free) VALUES (1000004,99999999999999999999999999999.999999999,'NaN'),(1000005,'NaN','-0.0000'),
  (1000006,-99999999999999999999999999999.999999999,123456789012345678901234567890123456789012345678901234567890.123456789012345678901234567890),
  (1000007,0,'Infinity'),(1000008,NULL,'-Infinity'),(1000009,0.000000001,1e-200),(1000010,-0.000000001,10.500);
INSERT INTO everything(id,c_real,c_double) VALUES (1000011,'NaN','-Infinity'),(1000012,'-0','1e308'),(1000013,1e-45,5e-324),(1000014,3.4028235e38,0.1);
INSERT INTO everything(id,c_date,c_timestamp,c_timestamptz) VALUES (1000015,'infinity','infinity','-infinity'),
  (1000016,'0044-03-15 BC','4713-01-01 00:00:00 BC','4713-01-01 00:00:00+00 BC'),(1000017,'5874897-12-31','294276-12-31 23:59:59.999999','294276-12-31 23:59:59+00'),
  (1000018,'-infinity','1969-12-31 23:59:59.999999','1970-01-01 00:00:00+00'),(1000019,'4713-11-24 BC',NULL,NULL);
INSERT INTO everything(id,c_time,c_timetz,c_interval) VALUES (1000020,'24:00:00','24:00:00-15:59:59','-1 year 2 months -3 days 04:05:06.000001'),
  (1000021,'23:59:59.999999','00:00:00+15:59:59','178000000 years'),(1000022,'00:00','12:00+00','-178000000 years -2147483648:59:59.999999');
INSERT INTO everything(id,c_ints,c_texts,c_numerics) VALUES (1000023,'{{}}','{{}}','{{}}'),(1000024,'{{{{1,2}},{{3,4}}}}','{{{{a,b}},{{c,NULL}}}}','{{{{1.10}}}}'),
  (1000025,'[5:6]={{1,2}}','{{NULL,"NULL",null}}',ARRAY['Infinity'::numeric,-0.00]);
INSERT INTO everything(id,c_text,c_varchar,c_char) VALUES (1000026,'','  lead and trail  ','  '),(1000027,E'\\N','\N','\N'),(1000028,'NULL','null',''),
  (1000029,repeat('x',100000),repeat('é',40),'ééééé'),(1000030,E'\u0001\u007f\uffff','"','''');
INSERT INTO everything(id,c_bytea,c_json,c_jsonb) VALUES (1000031,'','null','null'),(1000032,'\x5c78303031'::bytea,'1e400','"a \" b"'),
  (1000033,'\x00','  {{ "a" : 1,  "a":2 }} ','1.10'),(1000034,decode(repeat('00ff',50000),'hex'),'""','[]');
INSERT INTO everything(id,c_inet,c_cidr,c_bits,c_range,c_oid) VALUES (1000035,'::1/128','::/0','','empty',0),(1000036,'192.168.1.5/16','0.0.0.0/0',B'111111111111','(,)',4294967295);"#
    )
}
