-- "lua.pgdetour_side KEY" sets the variable txn.pgdetour_side to the backend that the map has for KEY. While the map
-- has "hold", the client waits here and is sent nowhere. The map's path comes from the environment: see haproxy.cfg.
local map = Map.new(os.getenv("PGDETOUR_MAP"), Map._str)

core.register_action("pgdetour_side", { "tcp-req", "http-req" }, function(txn, key)
    local side = map:lookup(key)
    while side == "hold" do
        core.msleep(5)
        side = map:lookup(key)
    end
    txn:set_var("txn.pgdetour_side", side)
end, 1)
