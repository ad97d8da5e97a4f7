-- "lua.pgdetour_side KEY" sets the variable txn.pgdetour_side to the backend that the map has for KEY. While the map
-- has "hold", the client waits here and is sent nowhere. The map's path comes from the environment: see haproxy.cfg.
local map = Map.new(os.getenv("PGDETOUR_MAP"), Map._str)

core.register_action("pgdetour_side", { "tcp-req", "http-req" }, function(txn, key)
    local side = map:lookup(key)
    if side == "hold" then
        -- Not core.msleep: HAProxy before 2.8 reads the clock anew as a sleep begins, and where it was kept from running
        -- for as long as the sleep is, takes it for over and forgets it: the client waits until inspect-delay ends.
        act.wake_time(5)
        return act.YIELD
    end
    txn:set_var("txn.pgdetour_side", side)
    return act.CONTINUE
end, 1)
