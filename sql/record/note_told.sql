-- On the subscriber: what the publisher has noted as applied. $1 text: flow; $2 text: id of the detour; $3 pg_lsn
update pgdetour.progress set told = $3 where flow = $1 and detour = $2::text::uuid
