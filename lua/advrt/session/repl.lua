--- The session: reads Lua line by line, shows the values of expressions, and continues after
-- errors. Incomplete input continues on the next line. On a terminal, lines can be edited and are
-- stored for the next session. Without a terminal it prints only results, and exits with status 1
-- if an error occurred.

local count_of = require "advrt.support.count"
local docs = require "advrt.session.docs"
local fail = require "advrt.support.fail"
local lfs = require "lfs"
local names = require "advrt.session.names"
local show = require "advrt.session.show"
local system = require "advrt.core.system"

local PATIENCE = 3          -- seconds in which a second Ctrl-C does not end the session
local HISTORY_MOST = 2000   -- when the history file has more lines,
local HISTORY_LEFT = 1000   -- it is cut to this many

-- Makes the public modules available under their own names; each is loaded when first used.
local function offer_modules()
    local at_hand = {}
    for _, name in ipairs(docs.modules) do at_hand[name] = true end
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

-- Compiles a text. Returns a function that runs it and packs its values, and whether to show them.
-- Or returns nil, the problem, and whether more text could complete the input. It tries the text as
-- an expression first, because the user wants its values. The call is not a tail call, so that an
-- error keeps its position. A `local` at the start becomes global; otherwise the variable would be
-- lost at once.
local function compile(text)
    local silent = text:find(";%s*$") ~= nil
    local chunk, problem = load("return " .. text, "=stdin", "t")
    if chunk then
        local bare = text:gsub("[;%s]+$", "")
        local packed = "local v = (...)(" .. bare
        chunk = load(packed .. ") return v", "=stdin", "t")
            or assert(load(packed .. "\n) return v", "=stdin", "t")) -- the text ends with a comment
        return function()
            local values = chunk(table.pack)
            return values
        end, not silent
    end
    local more = problem:find("<eof>$")
    local lasting = text:match("^%s*local%s+(function%s.*)$")
        or text:match("^%s*local%s+([%a_][%w_%s,]*=.*)$")
    chunk, problem = load(lasting or text, "=stdin", "t")
    if not chunk and lasting then chunk, problem = load(text, "=stdin", "t") end
    if chunk then
        return function()
            local values = table.pack(chunk())
            return values
        end, not silent
    end
    return nil, problem, (more or problem:find("<eof>$")) ~= nil
end

-- The text about an error.
local function explain(problem)
    return fail.is(problem) and problem or docs.mended(system.explain(tostring(problem)))
end

local function complain(problem)
    io.stdout:flush()
    io.stderr:write("advrt: ", system.printable(tostring(problem), true), "\n")
end

-- Runs the result of compile and shows its values. Returns true, or false and the reason.
local function evaluate(run, shown, timed)
    local start = system.clock()
    local alive, problem = xpcall(function()
        local values = run()
        if shown and values.n > 0 then print(system.printable(show.values(values), true)) end
    end, explain)
    if timed then print(("[%.3f s]"):format(system.clock() - start)) end
    return alive, problem
end

-- The first of these folders that the environment names, else the one below the home folder, with
-- "advrt" appended. nil if there is none.
local function user_folder(variable, below_home)
    local base, home = os.getenv(variable), os.getenv("HOME")
    if base and base:sub(1, 1) == "/" then return base .. "/advrt" end
    return home and home ~= "" and ("%s/%s/advrt"):format(home, below_home) or nil
end

local function make_folders(path)
    local made = ""
    for part in path:gmatch("/[^/]+") do
        made = made .. part
        lfs.mkdir(made)
    end
end

-- The lines of earlier sessions, oldest first. A long file is cut to its newest lines.
local function read_history(path)
    local lines = {}
    local file = path and io.open(path, "r")
    if not file then return lines end
    for line in file:lines() do lines[#lines + 1] = line end
    file:close()
    if #lines > HISTORY_MOST then
        lines = table.move(lines, #lines - HISTORY_LEFT + 1, #lines, 1, {})
        system.write(path, table.concat(lines, "\n") .. "\n")
    end
    return lines
end

-- A function (prompt) -> line that edits lines, stores them and completes words; nil if the
-- terminal cannot. Works without history if it cannot be stored.
local function editing_reader()
    local term = os.getenv("TERM") or ""
    if term == "" or term == "dumb" or not system.isatty(1) then return nil end
    local edit = require "advrt.core.edit"
    local editor = edit.open(function(line)
        return names.complete(line:gsub("^%s*%?%s*", ""), _G, docs.modules, system.columns())
    end)
    if not editor then return nil end
    local folder = user_folder("XDG_STATE_HOME", ".local/state")
    local path = folder and folder .. "/history"
    if folder then make_folders(folder) end
    local newest
    for _, line in ipairs(read_history(path)) do
        editor:remember(line)
        newest = line
    end
    return function(prompt)
        io.stdout:flush()
        local text = editor:read(prompt)
        local line = text and text:gsub("\n$", "")
        if line and line:find("%S") and line ~= newest then
            editor:remember(line)
            if path then edit.keep(path, line) end
            newest = line
        end
        return text
    end
end

-- The same without editing; prints prompts only on a terminal.
local function plain_reader(terminal)
    return function(prompt)
        if terminal then io.write(prompt) end
        io.stdout:flush()
        return io.read("L")
    end
end

-- Runs the user's own start-up file, if it exists, before the first command.
local function run_init()
    local folder = user_folder("XDG_CONFIG_HOME", ".config")
    local path = folder and folder .. "/init.lua"
    if not path or lfs.attributes(path, "mode") ~= "file" then return end
    local chunk, problem = loadfile(path, "t")
    local alive = chunk ~= nil
    if chunk then alive, problem = xpcall(chunk, explain) end
    if not alive then complain(problem) end
end

local function greet()
    local o = system.options
    io.write(("advrt %s, %s, on %s (%s, %s). Ctrl-D ends the session.\n"):format(o.version, _VERSION,
        o.device, o.isa, count_of(o.threads, "thread")))
    io.write("Type demo() to see an attack in ten seconds, or ? to list what there is.\n")
    io.write("Experiments start in the shell: advrt equal_perturbation (--help lists the options).\n")
end

local Session = {}
Session.__index = Session

-- Runs input that is not Lua: `? name` and `:command`. Returns the results of evaluate, or nil if
-- the text is Lua.
function Session:command(text)
    local asked = text:match("^%s*%?(.*)")
    if asked then
        local help = docs.help(asked, _G)
        if not help then
            local near = docs.near(asked, _G)
            return false, ("there is no documentation of '%s'%s"):format(asked:match("^%s*(.-)%s*$"),
                near and ("; did you mean '%s'?"):format(near) or "; ? lists what there is")
        end
        print(help)
        return true
    end
    local word = text:match("^%s*(%a+)%s*%(?%s*%)?%s*$")
    if (word == "help" or word == "quit" or word == "exit") and rawget(_G, word) == nil then
        print("? lists what there is, ? NAME explains one thing, demo() shows an attack; "
            .. "Ctrl-D ends the session")
        return true
    end
    local name, rest = text:match("^%s*:(%a*)%s*(.-)%s*$")
    if not name then return nil end
    if name ~= "time" then
        return false, ("there is no command ':%s'; the commands are :time and ? NAME"):format(name)
    elseif rest == "" then
        self.timed = not self.timed
        print(self.timed and "every command is timed" or "commands are not timed")
        return true
    end
    local run, shown = compile(rest)
    if not run then return false, shown end
    return evaluate(run, shown, true)
end

-- Reads and runs one input of one or more lines. Returns whether there was one, and the results of
-- evaluate.
function Session:step()
    local text = self.read("> ")
    if not text then return false end
    local done, problem = self:command(text)
    if done ~= nil then return true, done, problem end
    while true do
        local run, shown, unfinished = compile(text)
        if run then return true, evaluate(run, shown, self.timed) end
        local more = unfinished and self.read(">> ")
        if not more then return true, false, shown end
        text = text .. more
    end
end

function Session:run()
    local failures = 0
    while true do
        local unharmed, going_on, alive, problem = pcall(self.step, self)
        -- An interrupted read looks like the end of the input; system.interrupted tells them apart.
        if system.interrupted() then
            if not self.terminal or system.interrupt().status ~= 130 then fail.interrupted() end
            system.interrupted(true)
            io.write("\n")
        elseif not unharmed then
            failures = failures + 1
            complain(going_on)
        elseif not going_on then
            break
        elseif not alive then
            failures = failures + 1
            complain(problem)
        end
    end
    return failures
end

--- Runs the session until its input ends. quiet: no greeting.
return function(quiet)
    local terminal = system.isatty(0)
    offer_modules()
    if terminal then
        system.patience(PATIENCE)
        if not quiet then greet() end
        run_init()
    end
    local read = terminal and editing_reader() or plain_reader(terminal)
    local failures = setmetatable({read = read, terminal = terminal}, Session):run()
    if terminal then io.write("\n") end
    if failures > 0 and not terminal then os.exit(1, true) end
end
