"""dlt's sql_database source with its fastest plain backend: SRC DST TABLE merge|replace [CURSOR]."""

import os
import sys

import dlt
from dlt.sources.sql_database import sql_table

src, dst, table, disposition, cursor = sys.argv[1:6]
arguments = {"backend": "pyarrow", "chunk_size": 50000, "reflection_level": "full_with_precision"}
if cursor:
    arguments["incremental"] = dlt.sources.incremental(cursor)
if disposition == "merge":
    arguments["primary_key"] = "id"
resource = sql_table(credentials=src.replace("postgresql://", "postgresql+psycopg2://"), schema="public", table=table, **arguments)
pipeline = dlt.pipeline("bench", destination=dlt.destinations.postgres(dst), dataset_name="public", pipelines_dir=os.environ["WORK"] + "/dlt")
pipeline.run(resource, write_disposition=disposition)
