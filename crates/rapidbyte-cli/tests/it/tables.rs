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
