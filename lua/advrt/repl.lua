--- The session: reads Lua a line at a time, prints the values of expressions, and lives on after an
-- error. What does not end in its line goes on in the next. Without a terminal it says nothing by
-- itself, and ends with status 1 if anything went wrong.

local system = require "advrt.core.system"
local fail = require "advrt.fail"

-- Modules that a session finds under their own names, loaded when first used.
local at_hand = {tensor = true, net = true, loss = true, attack = true, data = true, image = true}

local function offer_modules()
    local meta = getmetatable(_G) or {}
    local before = meta.__index
    function meta.__index(globals, name)
        if at_hand[name] then
            local module = require("advrt." .. name)
            rawset(globals, name, module)
            return module
        end
        if type(before) == "function" then return before(globals, name) end
        return before and before[name]
    end
    setmetatable(_G, meta)
end

-- An expression's values are what is wanted of it, so that is tried first.
local function compile(text)
    local chunk = load("return " .. text, "=stdin", "t")
    if chunk then return chunk end
    return load(text, "=stdin", "t")
end

-- The way to a mistake, as far as it is the user's.
local function explain(problem)
    if fail.is(problem) then return problem end
    local trace = debug.traceback(tostring(problem), 2)
    return (trace:gsub("in upvalue 'chunk'.*", "in main chunk"))
end

local function evaluate(chunk)
    return xpcall(function()
        local values = table.pack(chunk())
        if values.n > 0 then print(table.unpack(values, 1, values.n)) end
    end, explain)
end

--- Runs the session until its input ends. quiet: no greeting.
return function(quiet)
    local terminal = system.isatty(0)
    local failures = 0

    local function complain(problem)
        failures = failures + 1
        io.stdout:flush()
        io.stderr:write("advrt: ", tostring(problem), "\n")
    end

    local function read(prompt)
        if terminal then io.write(prompt) end
        io.stdout:flush()
        return io.read("L")
    end

    -- Reads one chunk, of as many lines as it takes; nil at the end of the input.
    local function read_chunk()
        local text = read("> ")
        if not text then return nil end
        while true do
            local chunk, problem = compile(text)
            if chunk then return chunk end
            local more = problem:match("<eof>$") and read(">> ")
            if not more then return false, problem end
            text = text .. more
        end
    end

    offer_modules()
    if terminal and not quiet then
        local o = system.options
        io.write(("advrt %s, %s, on %s (%s, %d threads). Ctrl-D ends the session.\n"):format(
            o.version, _VERSION, o.device, o.isa, o.threads))
    end
    while true do
        local alive, chunk, problem = pcall(read_chunk)
        if not alive then
            problem = chunk
        elseif chunk then
            alive, problem = evaluate(chunk)
        elseif chunk == false then
            alive = false
        end
        -- An interrupted read looks like the end of the input; the mark tells them apart.
        if system.interrupted(terminal) then
            if not terminal then fail.interrupted() end
            io.write("\n")
        elseif not alive then
            complain(problem)
        elseif not chunk then
            break
        end
    end
    if terminal then io.write("\n") end
    if failures > 0 and not terminal then os.exit(1, true) end
end
