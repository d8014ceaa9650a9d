--- Finalisers that strike inside an operation: the collector is held where it has many of them to call, and
-- calls some at each value that is made, those that an operation makes for itself, too.
local finalisers = {}

local GARBAGE = 4000 -- finalisers that are made at a time; the collector calls about ten at each value
local LEAST = 100 -- with fewer left new ones are made

local pending = 0
local strike, after -- what a finaliser calls, and which of them

local function finalise()
    pending = pending - 1
    if not strike then return end
    after = after - 1
    if after > 0 then return end
    local now = strike
    strike = nil
    now()
end

local function refill()
    collectgarbage()
    for _ = 1, GARBAGE do setmetatable({}, {__gc = finalise}) end
    pending = GARBAGE
    while pending == GARBAGE do collectgarbage("step", 0) end
end

--- Runs f; finaliser number `number` from here on calls `what`. Returns whether that was inside f.
function finalisers.run(f, what, number)
    collectgarbage("stop")
    if pending < LEAST then refill() end
    strike, after = what, number
    local struck = pcall(function()
        collectgarbage("restart")
        pcall(f)
    end) and strike == nil
    collectgarbage("stop")
    strike = nil
    return struck
end

--- Calls body with the collector as run wants it, and then puts it back.
function finalisers.with(body)
    local mode = collectgarbage("incremental", 100, 100, 1)
    body()
    strike = nil
    collectgarbage("restart")
    collectgarbage("incremental", 200, 100, 13) -- Lua's own numbers
    collectgarbage(mode)
end

return finalisers
