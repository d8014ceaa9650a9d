--- A run's unfinished work, kept through crashes: a part file (advrt.record) in which units of work are
-- committed one after another, each whole or not there, so that a later process goes on behind the
-- last one; and beside it one checkpoint of the unit at hand.
--
--     local j <close>, message = journal.open(path)
--     if not j.header then j:begin {{"about", text}} end
--     for _, unit in ipairs(j.units) do ... end            -- what earlier processes committed
--     j:look(text)                                         -- what the next units are made from
--     j:add("records", bytes); j:add("bytes", image)       -- frames of the next unit, in any number
--     j:commit {{"batch", 3}, {"seconds", 1.5}}            -- on disk when it returns
--     j:remove()                                           -- once all that it held is elsewhere
--
-- One process at a time has a journal open. What depends on the disk fails in one line. Checksums tell what
-- a crash or a disk did to the file; what its notes hold is for advrt.run.units to check.

local core = require "advrt.core.record"
local fail = require "advrt.support.fail"
local loaded = require "advrt.support.loaded"
local schema = require "advrt.run.schema"
local sealed = require "advrt.run.sealed"
local system = require "advrt.core.system"
local tensor = require "advrt.tensor"

local journal = {}

local Journal = {}
Journal.__index = Journal

local CHECKPOINT = "checkpoint.safetensors"

local function check(value, message)
    if value == nil then fail("%s", message) end
    return value
end

--- The committed units of a part file: their notes, as tables by key, with the frames that each
-- added, {records = {numbers}, bytes = {numbers}}, as `frames`. Frames behind the last note belong to
-- a unit that never was whole, and are cut off. Besides, the texts that look was given.
local function read_units(part, path)
    local units, looked, frames = {}, {}, {records = {}, bytes = {}}
    local last = 0
    for i = 1, #part do
        local kind = part:kind(i)
        if kind ~= "note" then
            table.insert(frames[kind], i)
        else
            local note = check(part:record(i))
            last = i
            local problem = schema.problem(note, {{"looked_at", schema.text, optional = true}})
            if problem then fail("%s: the journal is damaged: %s; give another --out", path, problem) end
            if note.looked_at then
                looked[#looked + 1] = note.looked_at
            else
                note.frames, frames = frames, {records = {}, bytes = {}}
                units[#units + 1] = note
            end
        end
    end
    check(part:cut(last))
    return units, looked
end

--- Opens the journal at `path`, an empty one where there is none. Returns it: header, what it was begun
-- with, as a table by key, nil where it is empty; units, the notes committed since, each with the
-- frames that belong to it, frames.records and frames.bytes; looked, the texts that look was given. Or
-- nil and a message, where another process is at work on it or it cannot be read.
function journal.open(path)
    local part, message = core.part(path, "append")
    if not part then return nil, message end
    local self = setmetatable({path = path, part = part, pending = {records = {}, bytes = {}},
        checkpoint = (path:match("^(.*/)") or "") .. CHECKPOINT}, Journal)
    self.units, self.looked = read_units(part, path)
    self.header = table.remove(self.units, 1)
    return self
end

--- Adds a note, on disk when this returns. One of which that cannot be told is cut off again: a process
-- that goes on would take its unit for done, of which this one, as it fails, removes what else it left.
local function add_note(part, note)
    local frames = #part
    check(part:add("note", core.pack(note)))
    local done, message = part:sync()
    if done then return end
    part:cut(frames)
    fail("%s", message)
end

--- Begins an empty journal with a header, an array of {key, value} as record.pack takes it.
function Journal:begin(header)
    self:commit(header)
    self.header = table.remove(self.units, 1)
end

--- Notes a text that tells what the units to come are made from: on disk when this returns. For between
-- two units.
function Journal:look(text)
    add_note(self.part, {{"looked_at", text}})
    self.looked[#self.looked + 1] = text
end

--- Adds a frame to the unit that the next commit makes whole. kind: "records", bytes of whole
-- records; or "bytes", which are kept for another file.
function Journal:add(kind, bytes)
    check(self.part:add(kind, bytes))
    table.insert(self.pending[kind], #self.part)
end

local function files_of(unit) return type(unit.loaded) == "string" and loaded.of_text(unit.loaded) or {} end

--- From here on the notes name each file that is read (advrt.support.loaded), unless it is among these
-- or in an earlier note.
function Journal:know(list)
    self.knows = {}
    for _, one in ipairs(list) do self.knows[one[2]] = true end
    for _, unit in ipairs(self.units) do
        for _, one in ipairs(files_of(unit)) do self.knows[one[2]] = true end
    end
end

--- All files that the notes tell of.
function Journal:loaded()
    local list = {}
    for _, unit in ipairs(self.units) do
        for _, one in ipairs(files_of(unit)) do list[#list + 1] = one end
    end
    return list
end

--- The files that were read since the journal knows of some (advrt.support.loaded), as a field of a note.
function Journal:newly_loaded()
    local list = {}
    for _, one in ipairs(self.knows and loaded.list() or {}) do
        if not self.knows[one[2]] then
            self.knows[one[2]], list[#list + 1] = true, one
        end
    end
    return #list > 0 and {"loaded", loaded.text(list)} or nil
end

--- Makes a unit of what was added and of a note, an array of {key, value}: on disk, all of it, when
-- this returns. A checkpoint was of this unit, so it goes.
function Journal:commit(note)
    note[#note + 1] = self:newly_loaded()
    add_note(self.part, note)
    local unit = {frames = self.pending}
    for _, field in ipairs(note) do unit[field[1]] = field[2] end
    self.units[#self.units + 1] = unit
    self.pending = {records = {}, bytes = {}}
    os.remove(self.checkpoint)
end

--- The payload of a frame, whose checksum is looked at again.
function Journal:bytes(frame) return check(self.part:bytes(frame)) end

--- The fields of a frame's record that come before its first series: whose it is.
function Journal:head(frame) return check(self.part:head(frame)) end

--- What tells the run from others.
function Journal:run() return system.digest(self.header.about .. "\0" .. self.header.files) end

--- Keeps the state inside the unit at hand: tensors by name, and numbers by name; it replaces the last
-- one at once.
function Journal:save(tensors, numbers)
    local all = {["number.unit"] = tensor.from({#self.units + 1}, "f64"),
        ["text.run"] = sealed.of_text(self:run())}
    for name, v in pairs(tensors) do all["tensor." .. name] = v end
    for name, v in pairs(numbers) do all["number." .. name] = tensor.from({v}, "f64") end
    check(sealed.save(self.checkpoint, all))
end

--- Says why the state inside the unit at hand cannot be gone on with; the unit begins anew.
function Journal:forget(problem)
    local line = ("advrt: %s: %s; the batch at hand begins anew"):format(self.checkpoint, problem)
    io.stderr:write((line:gsub("%c", "?")), "\n")
    os.remove(self.checkpoint)
end

--- What save kept of the unit at hand: tensors and numbers; nil where there is nothing, or nothing that can
-- be gone on with, which is told. The state of another unit, left where a process ended right after a
-- commit, is none.
function Journal:saved()
    local all, message = sealed.load(self.checkpoint)
    if not all then
        if message then self:forget((message:gsub("^.-%.safetensors: ", ""))) end
        return nil
    end
    local tensors, numbers = {}, {}
    for name, v in pairs(all) do
        local kind, rest = name:match("^(%l+)%.(.*)")
        if kind == "tensor" then tensors[rest] = v
        elseif kind == "number" and v:dtype() == "f64" and v:dim() == 1 and #v == 1 then
            numbers[rest] = v:get(1)
        end
    end
    if sealed.to_text(all["text.run"]) ~= self:run() then return self:forget("is of another run") end
    if numbers.unit ~= #self.units + 1 then return nil end
    return tensors, numbers
end

--- Writes the records of the frames in `order` to a file, whole or not at all. The journal stays.
function Journal:write(path, order) check(self.part:write(path, order)) end

--- Ends the journal: the run is finished, and nothing is left to go on with.
function Journal:remove()
    os.remove(self.checkpoint)
    local done, message = os.remove(self.path)
    if not done then fail("%s", message) end
    self.units = {}
    self.part:close()
end

--- Leaves the journal for later.
function Journal:close() self.part:close() end

function Journal:__close() self.part:close() end


return journal
