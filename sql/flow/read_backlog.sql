-- Takes the next changes out of a slot, as its plugin writes them, up to the end of a transaction and so many messages at least; fewer
-- come when there are no more. Wrapped into a COPY, which knows no parameters.
-- :'slot' the slot; :count how many; :options of the plugin, an array of text
select data
from pg_catalog.pg_logical_slot_get_binary_changes(:'slot', null, :count, variadic :options)
