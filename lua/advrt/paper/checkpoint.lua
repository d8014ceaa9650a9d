--- The state of a training run in one file of named tensors. It holds everything that the remaining
-- run depends on, so that a resumed run gives the same bits as an uninterrupted one.
--
--   net.NAME                  the parameters and running statistics
--   state1.NAME, state2.NAME  the optimiser's
--   number.NAME               f64 [1]: the position of the run
--   entries                   f64 [epochs, columns]: the log so far
--   about                     u8: text that identifies the run
--   sha256                    u8: the checksum of everything (advrt.run.sealed)

local schema = require "advrt.run.schema"
local sealed = require "advrt.run.sealed"
local tensor = require "advrt.tensor"

local checkpoint = {}

local function each_state(optimiser, visit)
    for _, p in ipairs(optimiser.parameters) do
        for i, t in ipairs(p.state) do visit(("state%d.%s"):format(i, p.name), t) end
    end
end

--- Writes `path` atomically: returns true, or nil and a message. s: net, optimiser (prepared),
-- numbers (by name), entries (array of tables), columns (the fields of an entry to store), about.
function checkpoint.save(path, s)
    local all = {about = sealed.of_text(s.about)}
    for name, t in pairs(s.net:state()) do all["net." .. name] = t end
    each_state(s.optimiser, function(name, t) all[name] = t end)
    for name, value in pairs(s.numbers) do all["number." .. name] = tensor.from({value}, "f64") end
    local rows = {}
    for i, entry in ipairs(s.entries) do
        rows[i] = {}
        for k, name in ipairs(s.columns) do rows[i][k] = entry[name] end
    end
    if #rows > 0 then all.entries = tensor.from(rows, "f64") end
    return sealed.save(path, all)
end

local function entries_of(rows, columns)
    local entries = {}
    for i = 1, rows and #rows or 0 do
        entries[i] = {}
        for k, name in ipairs(columns) do
            local value = rows:get(i, k)
            entries[i][name] = name == "epoch" and i or value
        end
    end
    return entries
end

local function fits(t, like)
    return t and t:dtype() == like:dtype() and table.concat(t:shape(), ",") ==
        table.concat(like:shape(), ",")
end

--- The numbers of a checkpoint, by name; nil if one of them is invalid.
local function numbers_of(all, whole)
    local numbers = {}
    for name, t in pairs(all) do
        local kept = name:match("^number%.(.*)")
        if kept and (t:dtype() ~= "f64" or t:dim() ~= 1 or #t ~= 1) then return nil end
        if kept then numbers[kept] = t:get(1) end
    end
    for _, name in ipairs(whole) do numbers[name] = math.tointeger(numbers[name]) or numbers[name] end
    return numbers
end

--- Reads `path` into s.net and s.optimiser; returns {numbers, entries}. Returns nothing if the file
-- does not exist. Returns nil and a message, and changes neither, if the file is damaged or
-- belongs to another run. s.whole: names of the integer numbers. s.fields(numbers): the schema of
-- the numbers (advrt.run.schema). s.lines(numbers): the number of entries.
function checkpoint.load(path, s)
    local all, message, damaged = sealed.load(path)
    if not all then return nil, damaged and message .. "; remove it to start again" or message end
    local function wrong(form, ...) return nil, ("%s: the checkpoint%s"):format(path, form:format(...)) end
    local about = sealed.to_text(all.about) or "no training run"
    if about ~= s.about then
        return wrong(" belongs to another run (%s), not to this one (%s)", about, s.about)
    end
    local copies, unfit = {}, nil
    local function want(name, t)
        if not fits(all[name], t) then unfit = unfit or name end
        copies[#copies + 1] = {t, all[name]}
    end
    for name, t in pairs(s.net:state()) do want("net." .. name, t) end
    each_state(s.optimiser, want)
    if unfit then return wrong("'s '%s' does not fit the net", unfit) end
    local numbers, rows = numbers_of(all, s.whole), all.entries
    local problem = schema.problem(numbers, s.fields(numbers or {}))
    if problem then return wrong(": %s; remove it to start again", problem) end
    local count = s.lines(numbers)
    if count > 0 and not (rows and rows:dtype() == "f64" and rows:dim() == 2 and #rows == count
        and rows:size(2) == #s.columns) then
        return wrong("'s log does not have %d epochs; remove it to start again", count)
    end
    for _, pair in ipairs(copies) do pair[1]:copy(pair[2]) end
    return {numbers = numbers, entries = entries_of(count > 0 and rows or nil, s.columns)}
end

return checkpoint
