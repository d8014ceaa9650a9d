--- The files that a run depends on besides those that its options name: what a file of losses or a net's
-- definition loads (dofile, loadfile, require), and what a definition reads (io.open, io.lines,
-- tensor.load). Each is noted with its SHA-256 at that time; advrt's own and the distribution's are not.
--
--     loaded.during(f, ...)       calls f, noting what it reads
--     loaded.list()               {{"k.lua", "d94c..."}, ...}, as run.json has them

local fail = require "advrt.support.fail"
local image = require "advrt.core.image"
local system = require "advrt.core.system"
local tensor = require "advrt.tensor"

local loaded = {}

local function is_reading(mode) return mode == nil or type(mode) == "string" and mode:find("^r") ~= nil end

local function always() return true end

-- Functions that read a file named by their first argument, and which second arguments mean reading.
local readers = {{io, "open", is_reading}, {io, "lines", always}, {tensor, "load", always},
    {image, "load", always}}

--- Calls f(...), which is another's code, and notes the files that it reads; returns what f returns.
function loaded.during(f, ...)
    local before = {}
    for i, one in ipairs(readers) do before[i] = one[1][one[2]] end
    local _ <close> = setmetatable({}, {__close = function()
        for i, one in ipairs(readers) do rawset(one[1], one[2], before[i]) end
    end})
    for i, one in ipairs(readers) do
        local read, reads = before[i], one[3]
        rawset(one[1], one[2], function(path, ...)
            if type(path) == "string" and reads((...)) then system.note_file(path) end
            return read(path, ...)
        end)
    end
    return f(...)
end

--- The files noted so far, an array of {path, SHA-256}. Fails where one changed since it was first read.
function loaded.list()
    local list, known = system.noted(), {}
    for _, one in ipairs(list) do
        local path, sum = table.unpack(one)
        if known[path] and known[path] ~= sum then
            fail("%s: the file changed while the run read it; start a new run", path)
        end
        known[path] = sum
    end
    return setmetatable(list, {__jsontype = "array"})
end

--- What tells the files of a run from those of another, both as list has them: nil where they have the same
-- contents, wherever they lie, else one line's beginning: "k.lua has changed".
function loaded.difference(old, new)
    local sums, of_path = {}, {}
    for _, one in ipairs(new) do sums[one[2]], of_path[one[1]] = true, one[2] end
    for _, one in ipairs(old) do
        if not sums[one[2]] then
            return ("%s %s"):format(one[1], of_path[one[1]] and "has changed" or "is not loaded any more")
        end
        of_path[one[1]] = nil
    end
    sums = {}
    for _, one in ipairs(old) do sums[one[2]] = true end
    for _, one in ipairs(new) do
        if not sums[one[2]] then return one[1] .. " was not loaded" end
    end
end

--- The same for files that either run may have read or not: nil where none of one path has two contents.
-- Lists that are missing are empty.
function loaded.conflict(old, new)
    local sums = {}
    for _, one in ipairs(old or {}) do sums[one[1]] = one[2] end
    for _, one in ipairs(new or {}) do
        if sums[one[1]] and sums[one[1]] ~= one[2] then return one[1] .. " has changed" end
    end
end

--- The text of a list, for a journal, and the list of a text; nil where it is none.
function loaded.text(list)
    local parts = {}
    for i, one in ipairs(list) do parts[i] = ("%s %s\0"):format(one[2], one[1]) end
    return table.concat(parts)
end

--- The list that loaded.text made this text of.
function loaded.of_text(text)
    local list, at = {}, 1
    while at <= #text do
        local stop = text:find("\0", at, true)
        local sum, path = text:sub(at, (stop or 0) - 1):match("^(%x+) (.+)$")
        if not stop or not sum or #sum ~= 64 then return nil end
        list[#list + 1] = {path, sum}
        at = stop + 1
    end
    return list
end

--- Fails where one of the files is another one by now. dir: the run's folder.
function loaded.check(list, dir)
    for _, one in ipairs(list) do
        local path, sum = table.unpack(one)
        local now, message = system.sha256(path)
        if now ~= sum then
            fail("%s: the file was read by the run in %s and %s; put it back, or give another --out", path,
                dir, now and "has changed since (another SHA-256)" or "cannot be read now: " .. message)
        end
    end
end

return loaded
