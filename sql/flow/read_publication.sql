-- A publication by name: what it publishes and how. $1 text: name
select
    p.puballtables as all_tables,
    p.pubviaroot as via_root,
    p.pubinsert and p.pubupdate and p.pubdelete and p.pubtruncate as all_operations
from pg_catalog.pg_publication as p
where p.pubname = $1
