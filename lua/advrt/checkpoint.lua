--- A training run's state in one file of named tensors: everything that the rest of the run depends
-- on, so that it can go on bit for bit as if it had never stopped.
--
--   net.NAME                  the parameters and running statistics
--   state1.NAME, state2.NAME  the optimiser's
--   number.NAME               f64 [1]: where the run is
--   entries                   f64 [epochs, columns]: the log so far
--   about                     u8: text that tells one run from another

local fail = require "advrt.fail"
local tensor = require "advrt.tensor"

local checkpoint = {}

local function each_state(optimiser, visit)
    for _, p in ipairs(optimiser.parameters) do
        for i, t in ipairs(p.state) do visit(("state%d.%s"):format(i, p.name), t) end
    end
end

local function text_tensor(text) return tensor.from({text:byte(1, -1)}, "u8") end

--- Writes `path`, whole or not at all: true, or nil and a message. s: net, optimiser (prepared),
-- numbers (by name), entries (array of tables), columns (the fields of an entry that are kept), about.
function checkpoint.save(path, s)
    local all = {about = text_tensor(s.about)}
    for name, t in pairs(s.net:state()) do all["net." .. name] = t end
    each_state(s.optimiser, function(name, t) all[name] = t end)
    for name, value in pairs(s.numbers) do all["number." .. name] = tensor.from({value}, "f64") end
    local rows = {}
    for i, entry in ipairs(s.entries) do
        rows[i] = {}
        for k, name in ipairs(s.columns) do rows[i][k] = entry[name] end
    end
    if #rows > 0 then all.entries = tensor.from(rows, "f64") end
    return tensor.save(path, all)
end

local function entries_of(rows, columns)
    local entries = {}
    for i = 1, rows and #rows or 0 do
        entries[i] = {}
        for k, name in ipairs(columns) do
            local value = rows:get(i, k)
            entries[i][name] = name == "epoch" and math.tointeger(value) or value
        end
    end
    return entries
end

local function fits(t, like)
    return t and t:dtype() == like:dtype() and table.concat(t:shape(), ",") ==
        table.concat(like:shape(), ",")
end

--- Reads `path` into s.net and s.optimiser: returns {numbers, entries}. Nothing where there is no such
-- file; nil and a message where it is damaged or of another run, and then neither is changed.
function checkpoint.load(path, s)
    local file, problem, code = io.open(path, "rb")
    if not file then return nil, code ~= fail.NO_FILE and problem or nil end
    file:close()
    local all, message = tensor.load(path)
    if not all then return nil, message end
    local about = all.about and string.char(table.unpack(all.about:totable())) or "no training run"
    if about ~= s.about then
        return nil, ("%s: the checkpoint is of another run (%s), not of this one (%s)"):format(path,
            about, s.about)
    end
    local copies, wrong = {}, nil
    local function want(name, t)
        if not fits(all[name], t) then wrong = wrong or name end
        copies[#copies + 1] = {t, all[name]}
    end
    for name, t in pairs(s.net:state()) do want("net." .. name, t) end
    each_state(s.optimiser, want)
    if wrong then return nil, ("%s: the checkpoint's '%s' does not fit the net"):format(path, wrong) end
    for _, pair in ipairs(copies) do pair[1]:copy(pair[2]) end
    local numbers = {}
    for name, t in pairs(all) do
        local kept = name:match("^number%.(.*)")
        if kept then numbers[kept] = t:get(1) end
    end
    return {numbers = numbers, entries = entries_of(all.entries, s.columns)}
end

return checkpoint
