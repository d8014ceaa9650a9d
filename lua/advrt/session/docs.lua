--- Docstrings, read from the source; a session's `?` shows them.
--
-- A docstring is a comment that begins with three hyphens. At the top of a file it describes the
-- module. Directly before a definition it describes that. Elsewhere its first line begins with
-- calls, such as `x:size(d) -> n`, and it describes these; so a module documents the core
-- functions that it offers.

local lfs = require "lfs"
local nearest = require "advrt.support.nearest"
local names = require "advrt.session.names"
local show = require "advrt.session.show"
local system = require "advrt.core.system"

local docs = {}

local GIST = 100 -- characters per module in the overview

--- The public modules, in the order in which a user meets them.
docs.modules = {"demo", "tensor", "autograd", "net", "loss", "attack", "attacks", "data", "image", "plot",
    "record", "device"}

--- Modules without a public name whose methods users meet: the builder of net definitions.
local behind = {"nets.builder"}

local function read_lines(path)
    local lines = {}
    local file = io.open(path, "r")
    if not file then return lines end
    for line in file:lines() do lines[#lines + 1] = line end
    file:close()
    return lines
end

--- A line of a docstring as plain text.
local function plain(line)
    return (line:gsub("^@param%s+", ""):gsub("^@return%s+", "Returns "))
end

--- The docstring that begins at line i: its lines, and the number of the line after it.
local function block(lines, i)
    local text = {plain(lines[i]:match("^%s*%-%-%- ?(.*)"))}
    local next_line = i + 1
    while (lines[next_line] or ""):find("^%s*%-%-") and not lines[next_line]:find("^%s*%-%-%-") do
        local more = lines[next_line]:match("^%s*%-%- ?(.*)")
        if not more:find("^@module") then text[#text + 1] = plain(more) end
        next_line = next_line + 1
    end
    return text, next_line
end

--- The calls at the start of a text, such as the two in `x:min(y) x:max(y) -> z`: an array of name,
-- separator and last name.
local function calls(text)
    local found, at = {}, 1
    while true do
        local owner, separator, last, stop = text:match("^([%a_][%w_]*)([.:])([%a_][%w_]*)%b()[, ]*()", at)
        if not owner then return found end
        found[#found + 1] = {owner = owner, separator = separator, last = last}
        at = stop
    end
end

--- The definition in a source line: its owner, last name and arguments.
local function definition(line)
    local owner, separator, last, arguments =
        line:match("^function ([%a_][%w_.]*)([.:])([%a_][%w_]*)%s*(%b())")
    if not owner then
        owner, separator, last, arguments = line:match("^([%a_][%w_]*)([.])([%a_][%w_]*) = (.*)$")
    end
    if owner then
        local signature = arguments:match("^function%s*(%b())") or arguments:match("^%b()$") or ""
        return {owner = owner, separator = separator, last = last, arguments = signature}
    end
    last, arguments = line:match("function ([%a_][%w_]*)%s*(%b())")
    return last and {last = last, arguments = arguments, private = line:find("^%s*local") ~= nil}
end

--- The docstrings of a source. Returns `about`, the lines on the module, and an array of entries in
-- source order. An entry has owner, separator and last (`x`, `:`, `size`), signature, text
-- (lines), the line of its definition if one follows, and `private` if that is local. `name` is
-- the name of the module; it replaces the name of the table in the source.
function docs.read(path, name)
    local lines, entries, about = read_lines(path), {}, nil
    local own = (lines[#lines] or ""):match("^return ([%a_][%w_]*)$")
    local i = 1
    while i <= #lines do
        if lines[i]:find("^%s*%-%-%-") then
            local first = i
            local text
            text, i = block(lines, i)
            local defined = definition(lines[i] or "")
            local listed = calls(text[1])
            if first == 1 then
                about = text
            elseif #listed > 0 then
                local rest = table.move(text, 2, #text, 1, {})
                for _, entry in ipairs(listed) do
                    entry.signature, entry.text, entry.line = text[1], rest, i
                    entries[#entries + 1] = entry
                end
            elseif not defined and lines[i] and lines[i]:find("^return function%s*%b()") then
                -- the module itself is that function
                entries[#entries + 1] = {last = name, signature = name .. lines[i]:match("%b()"),
                    text = text, line = i}
            elseif defined then
                if own and defined.owner == own then defined.owner = name end
                defined.signature = (defined.owner and defined.owner .. defined.separator or "")
                    .. defined.last .. defined.arguments
                defined.text, defined.line = text, i
                entries[#entries + 1] = defined
            end
        else
            i = i + 1
        end
    end
    return {name = name, path = path, about = about or {}, entries = entries}
end

local known = {}

--- Adds the layers of a net definition, which are in separate files.
local function add_layers(module)
    local files = {}
    for file in lfs.dir(system.options.root .. "/lua/advrt/nets/layers") do
        if file:find("%.lua$") then files[#files + 1] = file end
    end
    table.sort(files)
    for _, file in ipairs(files) do
        local read = docs.read(system.options.root .. "/lua/advrt/nets/layers/" .. file)
        table.move(read.entries, 1, #read.entries, #module.entries + 1, module.entries)
    end
    return module
end

--- The docstrings of advrt's module with this name, such as `tensor` or `attacks.cw`; nil if it has
-- none.
function docs.module(name)
    if not known[name] and name:find("^[%w_.]+$") then
        local path = ("%s/lua/advrt/%s.lua"):format(system.options.root, (name:gsub("%.", "/")))
        known[name] = lfs.attributes(path, "mode") == "file" and docs.read(path, name) or nil
        if name == "nets.builder" then add_layers(known[name]) end
    end
    return known[name]
end

--- The docstring of a Lua function, found by the position of its definition; nil if it has none.
local function by_place(f)
    local where = debug.getinfo(f, "S")
    local path = where.source:match("^@(.*)")
    if not path then return nil end
    local name = path:match("/advrt/([%w_]+)%.lua$")
    for _, entry in ipairs((name and docs.module(name) or docs.read(path)).entries) do
        if entry.line == where.linedefined then return entry end
    end
end

--- The entries of all public modules for which `wanted` returns true.
local function collect(wanted)
    local found = {}
    for _, list in ipairs {docs.modules, behind} do
        for _, module in ipairs(list) do
            for _, entry in ipairs(docs.module(module).entries) do
                if not entry.private and wanted(entry, module) then found[#found + 1] = entry end
            end
        end
    end
    return found
end

--- An array of the docstrings for an expression such as `tensor.stack`, `x:clamp` or `clamp`.
-- `globals` is the table of variables.
function docs.find(expression, globals)
    local value, holder = names.value(expression, globals)
    local owner, last = expression:match("^%s*(.-)[.:]?([%a_][%w_]*)%s*$")
    if type(value) == "function" then
        local entry = by_place(value)
        if entry then return {entry} end
    end
    if not last then return {} end
    for _, module in ipairs(docs.modules) do
        if holder and package.loaded["advrt." .. module] == holder then owner = module end
    end
    local found = collect(function(entry) return entry.owner == owner and entry.last == last end)
    local method = expression:find(":", 1, true)
    if #found > 0 or value == nil and owner ~= "" and not method then return found end
    return collect(function(entry)
        return entry.last == last and (owner == "" or entry.separator == ":")
    end)
end

local function entry_text(entry)
    local lines = {entry.signature}
    for _, line in ipairs(entry.text) do lines[#lines + 1] = ("  " .. line):gsub("%s+$", "") end
    return table.concat(lines, "\n")
end

local function module_text(name)
    local module = docs.module(name)
    local lines = table.move(module.about, 1, #module.about, 1, {})
    while lines[#lines] == "" do lines[#lines] = nil end
    lines[#lines + 1] = ""
    local last
    for _, entry in ipairs(module.entries) do
        if not entry.private and entry.signature ~= last then
            last = entry.signature
            lines[#lines + 1] = "  " .. last
        end
    end
    if last then lines[#lines + 1] = "\n? NAME explains one of them." end
    return (table.concat(lines, "\n"):gsub("%s+$", ""))
end

--- The first sentence about a module (a result of docs.module), shortened if it is long.
local function gist_of(module)
    local lines = {}
    for _, line in ipairs(module.about) do
        if line == "" then break end
        lines[#lines + 1] = line
    end
    local about = table.concat(lines, " ")
    about = about:match("^(.-%w%w%w)[.]%s+%u") or about
    if #about > GIST then
        about = about:sub(1, GIST):match("^(.*)[:;,]%s") or about
        -- the cut may leave a parenthesis open
        local open = about:gsub("%b()", function(inside) return ("."):rep(#inside) end):find("(", 1, true)
        if open then about = about:sub(1, open - 1):gsub("%s+$", "") end
    end
    return (about:gsub("[.,:;]$", ""))
end

--- The first sentence about the module with this name, shortened if it is long.
function docs.gist(name) return gist_of(docs.module(name)) end

local function experiments_folder() return system.options.root .. "/experiments/" end

--- The names of the experiments, sorted.
local function experiments()
    local list = {}
    for file in lfs.dir(experiments_folder()) do list[#list + 1] = file:match("^([%w_]+)%.lua$") end
    table.sort(list)
    return list
end

--- The text of a script's --help; a separate process reads the options.
local function usage_of(script)
    local pipe <close> = system.spawn {system.options.executable, "--device", "cpu", script, "--help"}
    local text = pipe and pipe:read("a"):gsub("%s+$", "")
    return pipe and pipe:close() and text or ""
end

--- The experiments, each with its first sentence. With a name: the full text and options of that
-- one, or nil if it does not exist.
local function experiments_text(name)
    if name then
        local path = ("%s%s.lua"):format(experiments_folder(), name)
        local about = docs.read(path, name).about
        if #about == 0 then return nil end
        return ("%s\n\nadvrt %s, or advrt experiments/%s.lua:\n\n%s"):format(table.concat(about, "\n"), name,
            name, usage_of(path))
    end
    local lines = {}
    for i, script in ipairs(experiments()) do
        lines[i] = ("  %-19s %s"):format(script,
            gist_of(docs.read(("%s%s.lua"):format(experiments_folder(), script), script)))
    end
    return "Experiments, run as advrt experiments/NAME.lua (--help lists a script's options):\n"
        .. table.concat(lines, "\n") .. "\n? experiments.NAME explains one of them, with its options."
end

--- The description of one of advrt's losses beyond the paper's, and how to load it; nil if there is
-- none with this name.
local function loss_text(name)
    local module = docs.module("losses." .. name)
    if not module then return nil end
    return ("%s\n\nTo load it: loss.load %q, or an experiment's --require %s."):format(
        table.concat(module.about, "\n"), name, name)
end

local function overview()
    local lines = {"Modules at hand:"}
    for _, name in ipairs(docs.modules) do
        lines[#lines + 1] = ("  %-8s %s"):format(name, docs.gist(name))
    end
    lines[#lines + 1] = "? NAME explains a module, a function (? tensor.stack) or a method (? x:clamp)."
    lines[#lines + 1] = "? experiments lists the experiments, ? Builder the layers of a net definition."
    lines[#lines + 1] = "A line that ends in ; shows no values. :time times every command, :time CODE one."
    return table.concat(lines, "\n")
end

--- The text for `? expression`: the docstring, else the value; nil if there is neither. For an
-- empty expression: all modules.
function docs.help(expression, globals)
    expression = expression:gsub("%b()%s*$", ""):match("^%s*(.-)%s*$")
    if expression == "" then return overview() end
    local module = expression:gsub("^advrt%.", ""):gsub("^Builder$", "nets.builder")
    if docs.module(module) then return module_text(module) end
    local texts, shown = {}, {}
    for _, entry in ipairs(docs.find(expression, globals)) do
        local text = entry_text(entry)
        if not shown[text] then texts[#texts + 1], shown[text] = text, true end
    end
    if #texts > 0 then return table.concat(texts, "\n\n") end
    local of_loss = expression:match("^loss%.([%w_]+)$")
    local text = of_loss and loss_text(of_loss)
    if text then return text end
    local value = names.value(expression, globals)
    if value ~= nil then return show.value(value) end
    if expression == "experiments" then return experiments_text() end
    local script = expression:gsub("^experiments[./]", ""):gsub("%.lua$", "")
    return script:find("^[%w_]+$") and experiments_text(script) or nil
end

--- The expression with its last name corrected, if help knows nothing about it and an existing name
-- is near; else nil.
function docs.near(expression, globals)
    expression = expression:gsub("%b()%s*$", ""):match("^%s*(.-)%s*$")
    local owner, last = expression:match("^(.*[.:/])([^.:/]*)$")
    owner, last = owner or "", last or expression
    local list = {}
    if owner == "" then
        table.move(docs.modules, 1, #docs.modules, 1, list)
        list[#list + 1] = "Builder"
    end
    if owner == "" or owner:find("^experiments[./]$") then
        local scripts = experiments()
        table.move(scripts, 1, #scripts, #list + 1, list)
    end
    local holder = globals
    if owner ~= "" then holder = names.value(owner:sub(1, -2), globals) end
    for name in pairs(holder ~= nil and names.fields(holder) or {}) do list[#list + 1] = name end
    table.sort(list)
    local near = nearest(last, list)
    return near and owner .. near
end

--- A message of Lua's on a call of what is nil, with the name that is near the one called: of a method, or of
-- any function where that was called as a field. Any other text stays as it is.
function docs.mended(text)
    local first, kind, name = text:match("^([^\n]*attempt to call a nil value %((%l+) '([%w_]+)'%))")
    if kind ~= "method" and kind ~= "field" then return text end
    local list = {}
    for i, entry in ipairs(collect(function(entry) return kind == "field" or entry.separator == ":" end)) do
        list[i] = entry.last
    end
    table.sort(list)
    return first .. nearest.hint(name, list) .. text:sub(#first + 1)
end

return docs
