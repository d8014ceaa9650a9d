--- advrt tests/nonsense/main.lua FOLDER SEED COUNT: calls every public function, and every method of
-- every kind of object, with nonsense, at least COUNT times, in the empty folder FOLDER. Any error
-- will do; what must not be is a crash, a call without end, or memory that stays. Ends
-- with a line of figures; what it is about to do stands in FOLDER/last.
--
-- There are calls of two sorts: right ones (objects.lua) in which one argument, or one field of one,
-- is made wrong, so that they come far; and any function with any arguments.

local home, seed, count = arg[1], assert(math.tointeger(tonumber(arg[2]))), tonumber(arg[3])
local SLOWEST = 60 -- seconds of one call
local STEPS = 3000000 -- instructions of Lua in one call: a loop that was asked for is not a hang

package.path = arg[0]:match("^(.*/)") .. "?.lua;" .. package.path
local lfs = require "lfs"
local system = require "advrt.core.system"
local docs = require "advrt.session.docs"
local finalisers = require "finalisers"
local objects = require "objects"

-- Everything is taken before nonsense can reach it.
local pcall, type, tostring, rawget, next, select = pcall, type, tostring, rawget, next, select
local collectgarbage, setmetatable, error, pairs, ipairs = collectgarbage, setmetatable, error, pairs, ipairs
local clock, memory = os.clock, system.memory
local hook, metatable_of = debug.sethook, debug.getmetatable
local unpack, wrap, out = table.unpack, coroutine.wrap, io.stdout

assert(lfs.chdir(home))
-- The end of the process, other programs and the terminal are out of reach.
rawset(os, "exit", function() error("os.exit") end)
rawset(os, "execute", function() error("os.execute") end)
rawset(io, "popen", function() return nil, "io.popen" end)
rawset(_G, "print", function() end)

local random = {state = seed}
function random.below(n) -- 0 .. n-1; not Lua's generator, which nonsense may seed
    random.state = (random.state * 6364136223846793005 + 1442695040888963407)
    return (random.state >> 33) % n
end
function random.of(list) return list[random.below(#list) + 1] end

objects.prepare(lfs)

-- Nonsense ------------------------------------------------------------------------------------

local victims = {} -- the arguments of the call at hand, for values that strike while it runs

--- Closes what the call is working with, as a finaliser or a metamethod could.
local function strike()
    for i = 1, victims.n or 0 do
        local v = victims[i]
        if type(v) == "userdata" then
            local meta = getmetatable(v)
            if type(meta) == "table" and rawget(meta, "__gc") then pcall(meta.__gc, v) end
            pcall(function() v:close() end)
        elseif type(v) == "table" then
            for _, inner in next, v do
                if type(inner) == "userdata" and type(getmetatable(inner)) == "table" then
                    pcall(getmetatable(inner).__gc, inner)
                end
            end
        end
    end
end

local function itself() local t = {}; t[1], t.x = t, t; return t end
local function deep() local t = {}; for _ = 1, 300 do t = {t} end; return t end
local function raises() error("raised by nonsense") end
local function trap()
    return setmetatable({}, {__index = function(_, k)
            strike()
            return k == "kind" and "relu" or nil
        end,
        __len = function() strike(); return 3 end, __call = strike, __tostring = function()
            strike()
            return "trap"
        end})
end

local numbers = {0, -0.0, 1, 2, 3, 4, 5, 7, -1, -2, 0.5, -0.5, 1e-300, 65536, 1000, 2 ^ 24, 2 ^ 31,
    1 << 31, (1 << 31) - 1, -(1 << 31), 1 << 32, 1 << 40, 1 << 53, 1 << 61, 1 << 62, 1e19, 1e300,
    0 / 0, 1 / 0, -1 / 0, math.maxinteger, math.mininteger, math.maxinteger - 1}
local texts = {"", "x", "f32", "i64", "nan", "1", "1e999", "\0", "a\0b", "%s%n%d", "\27[2J", "\xff\xfe",
    "inf", "gradient", "m_logit", "net.lua", "images", "images.idx", "weights.safetensors", "absent/file",
    "some.msgpack", ".", ("x"):rep(300), ("y"):rep(100000), ("[1,"):rep(1000), ("("):rep(500)}
local makers = {
    function() return random.of(numbers) end, function() return random.of(texts) end,
    function() return {} end, function() return {random.of(numbers), random.of(numbers)} end,
    function() return {random.of(numbers), random.of(numbers), random.of(numbers), random.of(numbers)} end,
    function() return {1, 2, 3} end, function() return {0, 1} end, function() return {{1, 2}, {3}} end,
    function() return {"a", "b"} end, function() return {x = random.of(numbers)} end,
    itself, deep, trap,
    function() return raises end, function() return print end, function() return strike end,
    function() return coroutine.yield end, function() return function(...) return ... end end,
    function() return setmetatable({}, {__index = raises, __len = raises, __tostring = raises,
        __call = raises, __pairs = raises, __add = raises, __close = raises}) end,
    function() return setmetatable({}, {__len = function() return random.of(numbers) end,
        __index = function() return random.of(numbers) end}) end,
    function() return setmetatable({}, {__tostring = function() return nil end, __name = 7}) end,
    function() return true end, function() return false end, function() return nil end,
    function() return io.stdin end,
}
local kinds = {}
for name in pairs(objects.makers) do kinds[#kinds + 1] = name end
table.sort(kinds)

--- A new object, alive or closed.
local function object()
    local made, v = pcall(objects.makers[random.of(kinds)])
    if not made then return nil end
    if random.below(6) == 0 and type(v) == "userdata" then
        local meta = getmetatable(v)
        local close = type(meta) == "table" and (rawget(meta, "__close") or rawget(meta, "__gc"))
        if close then pcall(close, v) end
    end
    return v
end

local function nonsense()
    if random.below(3) == 0 then return object() end
    return random.of(makers)()
end

-- Calling -------------------------------------------------------------------------------------

local figures = {calls = 0, errors = 0, slowest = 0, functions = 0}
local last = io.open("last", "w")

local function wrong(name, what)
    out:write(("nonsense, seed %d: call %d, %s: %s\n"):format(seed, figures.calls, name, what))
    out:flush()
    figures.wrong = (figures.wrong or 0) + 1
end

local function limited() error("out of steps") end

local ways = {
    plain = function(f) f() end,
    coroutine = function(f)
        local resume = wrap(function()
            hook(limited, "", STEPS)
            f()
        end)
        for _ = 1, 20 do -- where it yields
            if not pcall(resume) then break end
        end
    end,
    -- Lua calls no hooks in a thread that runs a finaliser: a coroutine of its own has them, without
    -- which a loop over a table whose length is said to be 2^62 would not end.
    finaliser = function(f)
        setmetatable({}, {__gc = function() wrap(f)() end})
        collectgarbage()
    end,
    closing = function(f)
        local _ <close> = setmetatable({}, {__close = function() f() end})
    end,
    metamethod = function(f)
        local t = setmetatable({}, {__index = function() f() end})
        local _ = t.x
    end,
    handler = function(f) xpcall(error, function() f() end) end,
}
local plain_first = {"plain", "plain", "plain", "plain", "plain", "plain", "coroutine", "coroutine",
    "closing", "metamethod", "handler", "finaliser"}

--- Runs f(arguments) in some way, and looks at what comes of it.
local function try(name, f, arguments, n)
    local way = random.of(plain_first)
    figures.calls = figures.calls + 1
    if way == "finaliser" and random.below(4) > 0 then way = "plain" end -- a collection takes long
    last:seek("set", 0)
    last:write(("call %d, %s: %s\n"):format(figures.calls, way, name), (" "):rep(80), "\n")
    last:flush()
    victims = {n = n}
    for i = 1, n do victims[i] = arguments[i] end
    local start = clock()
    pcall(ways[way], function()
        hook(limited, "", STEPS)
        local ok = pcall(f, unpack(arguments, 1, n))
        hook()
        if not ok then figures.errors = figures.errors + 1 end
    end)
    hook()
    local took = clock() - start
    if took > figures.slowest then figures.slowest = took end
    if took > SLOWEST then wrong(name, ("took %.1f seconds"):format(took)) end
end

-- What there is to call -----------------------------------------------------------------------

local functions, seen = {}, {}

local function add(name, f, make)
    if not seen[f] then figures.functions = figures.functions + 1 end
    seen[f] = true
    functions[#functions + 1] = {name = name, f = f, make = make}
end

--- The functions in a module's table, and in tables in it.
local function walk(name, t, depth, visited)
    if visited[t] or depth > 3 then return end
    visited[t] = true
    local keys = {}
    for k in next, t do if type(k) == "string" then keys[#keys + 1] = k end end
    table.sort(keys)
    for _, k in ipairs(keys) do
        local v = rawget(t, k)
        if type(v) == "function" then add(name .. "." .. k, v)
        elseif type(v) == "table" then walk(name .. "." .. k, v, depth + 1, visited) end
    end
    local meta = metatable_of(t)
    if type(meta) == "table" then walk(name .. "<meta>", meta, depth + 1, visited) end
end

--- The methods of an object: in its metatable, and in what its __index looks in.
local function methods(kind, v)
    local meta = metatable_of(v)
    local make = objects.makers[kind]
    local function take(t)
        local names = {}
        for k, f in next, t do
            if type(k) == "string" and type(f) == "function" then names[#names + 1] = k end
        end
        table.sort(names)
        for _, k in ipairs(names) do add(kind .. ":" .. k, t[k], make) end
    end
    if type(v) == "table" then take(v) end
    if type(meta) ~= "table" then return end
    -- A locked metatable's are out of a script's reach.
    if rawget(meta, "__metatable") == nil then take(meta) end
    local index = rawget(meta, "__index")
    if type(index) == "table" then take(index) end
    if type(index) == "function" then
        local _, held = debug.getupvalue(index, 1)
        if type(held) == "table" then take(held) end
    end
end

local function gather()
    local names = {}
    local function list(folder, prefix)
        for entry in lfs.dir(folder) do
            local stem = entry:match("^([%w_]+)%.lua$")
            if stem then names[#names + 1] = "advrt." .. prefix .. stem
            elseif entry:match("^[%w_]+$") then list(folder .. "/" .. entry, prefix .. entry .. ".") end
        end
    end
    list(system.options.root .. "/lua/advrt", "")
    for name in pairs(package.preload) do
        if name:find("^advrt%.core%.") then names[#names + 1] = name end
    end
    table.sort(names)
    local visited = {}
    for _, name in ipairs(names) do
        -- A file of losses is no module: it wants its names at hand.
        local ok, module = pcall(require, name)
        if ok and type(module) == "table" then walk(name, module, 0, visited)
        elseif ok and type(module) == "function" then add(name, module) end
        visited[name] = ok
    end
    for _, name in ipairs(docs.modules) do
        if not visited["advrt." .. name] then wrong(name, "a public module that cannot be had") end
    end
    for _, kind in ipairs(kinds) do
        local ok, v = pcall(objects.makers[kind])
        if not ok then wrong(kind, "cannot be made: " .. tostring(v)) end
        if ok and v ~= nil then methods(kind, v) end
    end
end

-- The two sorts of calls ----------------------------------------------------------------------

local function copy(t)
    local c = setmetatable({}, metatable_of(t))
    for k, v in next, t do c[k] = v end
    return c
end

--- A right call with something wrong in it.
local function nearly(call)
    local made, f, arguments = pcall(call.make)
    if not made then return end -- nonsense took what it is made of
    local n = #arguments
    if n == 0 then return try(call.name, f, arguments, 0) end
    local i = random.below(n) + 1
    local what = arguments[i]
    if type(what) == "table" and not metatable_of(what) and next(what) ~= nil and random.below(2) == 0 then
        local keys = {}
        for k in next, what do keys[#keys + 1] = k end
        table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)
        local key = random.of(keys)
        arguments[i] = copy(what)
        arguments[i][key] = nonsense()
        try(("%s with nonsense as field %s of argument %d"):format(call.name, key, i), f, arguments, n)
    else
        arguments[i] = nonsense()
        try(("%s with nonsense as argument %d"):format(call.name, i), f, arguments, n)
    end
end

--- Every right call with each table in turn become one of which reading the field `key` closes all that
-- the call has in its hands.
local function treacherous()
    for _, call in ipairs(objects.calls) do
        local _, first = select(2, pcall(call.make))
        for i, what in ipairs(type(first) == "table" and first or {}) do
            if type(what) == "table" and not metatable_of(what) then
                local keys = {"dtype", "shift", "flip", "threads", "stream", "p_initial", "subspace", "l2"}
                for k in next, what do keys[#keys + 1] = k end
                for _, key in ipairs(keys) do
                    local _, f, arguments = pcall(call.make)
                    local held = arguments[i]
                    arguments[i] = setmetatable({}, {__index = function(_, k)
                        if k == key then strike() end
                        return held[k]
                    end, __len = function() return #held end})
                    local n = #arguments
                    arguments[n + 1] = held -- where strike() finds what is in it
                    try(("%s, of which field %s of argument %d closes the others"):format(call.name,
                        tostring(key), i), function(...) return f(unpack({...}, 1, n)) end, arguments,
                        n + 1)
                end
            end
        end
    end
end

--- Changes what the call is working with, and no operation may believe what it has looked at before: an
-- index, a frame, a layer.
local function change()
    for i = 1, victims.n or 0 do
        local v = victims[i]
        for _, one in next, type(v) == "table" and not metatable_of(v) and v or {v} do
            pcall(function() one:set(1 << 40, 1) end)
            pcall(function() one:cut(0) end)
            pcall(function()
                for k = 1, 40 do one:add {kind = "linear", name = "more" .. k, input = {1}, out = 3} end
            end)
        end
    end
end

--- Every right call with a finaliser that closes, or changes, all that it has in its hands, at one of the
-- first values that are made on the way.
local function finalised()
    local struck = 0
    local function with(call, what, number)
        local _, f, arguments = pcall(call.make)
        try(("%s with a finaliser that %s its arguments"):format(call.name,
            what == strike and "closes" or "changes"), function(...)
            local given = table.pack(...)
            local function right() f(unpack(given, 1, given.n)) end
            if finalisers.run(right, what, number) then struck = struck + 1 end
        end, arguments, #arguments)
    end
    for _, call in ipairs(objects.calls) do
        for number = 1, 31, 10 do
            with(call, strike, number)
            with(call, change, number)
        end
    end
    if struck < 2 * #objects.calls then wrong("finalisers", ("only %d were called"):format(struck)) end
end

--- A function with whatever comes.
local function blind(one)
    local arguments, n = {}, random.below(7)
    for i = 1, n do arguments[i] = nonsense() end
    if one.make and random.below(8) > 0 then
        local made, v = pcall(one.make)
        if made then arguments[1], n = v, math.max(n, 1) end
    end
    try(one.name .. " with nonsense", one.f, arguments, n)
end

local function in_use()
    victims = {}
    for _ = 1, 3 do collectgarbage() end
    return memory().in_use
end

-- What ends a userdata, and what looks a tensor's method up.
local NO_OPERATIONS = {__gc = true, __close = true, __index = true}

--- What the core makes for scripts and no maker here makes would never be tried, nor what the
-- documentation promises and no list here holds: a new kind of object is to be added to objects.lua.
local function look_for_gaps()
    local tried, held = {}, {["advrt.buffer"] = true, ["advrt.tensor_list"] = true,
        ["advrt.weights_contents"] = true, ["advrt.weights_shards"] = true} -- no script gets these
    for _, one in ipairs(functions) do
        local word = one.name:match("[%w_]*$")
        tried[word] = true
        -- runtime/bind/operation.c calls every other function of the core.
        local ours = one.name:find("^advrt%.core%.")
            or one.name:find("^[%w_]+:") and not one.name:find("^file:")
        if ours and debug.getinfo(one.f, "S").what == "C" and not NO_OPERATIONS[word]
            and type((select(2, debug.getupvalue(one.f, 1)))) ~= "function" then
            wrong(one.name, "is not registered as an operation")
        end
    end
    for _, kind in ipairs(kinds) do
        local _, v = pcall(objects.makers[kind])
        local meta = metatable_of(v)
        if type(meta) == "table" and rawget(meta, "__name") then held[rawget(meta, "__name")] = true end
    end
    for name in next, debug.getregistry() do
        if type(name) == "string" and name:find("^advrt%.") and not held[name] then
            wrong(name, "a kind of object that objects.lua does not make")
        end
    end
    for _, name in ipairs(docs.modules) do
        local module = require("advrt." .. name)
        for _, entry in ipairs(docs.module(name).entries) do
            local is_data = entry.owner == name and type(module[entry.last]) == "table"
            if not entry.private and not is_data and not tried[entry.last] then
                wrong(name .. ": " .. entry.signature, "is told of, and not among what is called")
            end
        end
    end
end

gather()
look_for_gaps()
for _, call in ipairs(objects.calls) do
    local ok, problem = pcall(function()
        local f, arguments = call.make()
        return f(unpack(arguments))
    end)
    if not ok then wrong(call.name, "is right, and fails: " .. tostring(problem)) end
end

--- As many rounds as bring `calls` calls: a function is called in each, each right call twice.
local function rounds(calls)
    local enough = figures.calls + calls
    while figures.calls < enough do
        for _, call in ipairs(objects.calls) do
            nearly(call)
            nearly(call)
        end
        for _, one in ipairs(functions) do blind(one) end
    end
end

-- What modules keep once and for all is there after the first half; then nothing is to be added but
-- what a call may leave in them at the end (losses, the last run's buffers).
treacherous()
finalisers.with(finalised)
rounds(count / 2)
local before = in_use()
rounds(count / 2)
local after = in_use()
if after - before > (1 << 20) then wrong("memory", ("grew from %d to %d bytes"):format(before, after)) end

out:write(("%d calls of %d functions, %d errors, %d kinds of objects, slowest %.1f s, kept %d and %d "
    .. "bytes, %d wrong\n"):format(figures.calls, figures.functions, figures.errors, #kinds,
    figures.slowest, before, after, figures.wrong or 0))
out:flush()
