-- "lua.pgdetour_side KEY" sets the variable txn.pgdetour_side to the backend that the map has for KEY. While the map
-- has "hold", the client waits here and is sent nowhere. The map's path comes from the environment: see haproxy.cfg.
local path = os.getenv("PGDETOUR_MAP")
local map = Map.new(path, Map._str)
-- For how many seconds a client waits in a process that a reload has replaced: pgdetour releases it, but for one that was killed.
local patience = tonumber(os.getenv("PGDETOUR_PATIENCE") or "30")
-- When this was looked at, and since when this process is replaced, in seconds.
local looked, replaced = 0, nil

local function is_forgotten()
    local now = core.now().sec
    if now ~= looked then
        looked = now
        if not replaced and tonumber(core.get_info()["Stopping"]) == 1 then
            replaced = now
        end
    end
    return replaced and now - replaced > patience
end

-- Where the file sends clients of the key: it always names a backend.
local function side_in_file(key)
    local file = io.open(path)
    if not file then
        return nil
    end
    for line in file:lines() do
        local found, side = line:match("^%s*([^#%s]%S*)%s+(%S+)")
        if found == key then
            file:close()
            return side
        end
    end
    file:close()
end

core.register_action("pgdetour_side", { "tcp-req", "http-req" }, function(txn, key)
    local side = map:lookup(key)
    if side == "hold" then
        if not is_forgotten() then
            -- Not core.msleep: HAProxy before 2.8 reads the clock anew as a sleep begins, and where it was kept from running
            -- for as long as the sleep is, takes it for over and forgets it: the client waits until inspect-delay ends.
            act.wake_time(5)
            return act.YIELD
        end
        side = side_in_file(key)
    end
    txn:set_var("txn.pgdetour_side", side)
    return act.CONTINUE
end, 1)
