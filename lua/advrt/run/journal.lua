--- A run's unfinished work, safe against crashes. Units of work are committed one after another to a
-- part file (advrt.record), each complete or absent, so a later process continues after the last one.
-- A checkpoint of the current unit lies beside it.
--
--     local j <close>, message = journal.open(path)
--     if not j.header then j:begin {{"about", text}} end
--     for _, unit in ipairs(j.units) do ... end            -- what earlier processes committed
--     j:look(text)                                         -- what the next units are made from
--     j:add("records", bytes); j:add("bytes", image)       -- frames of the next unit, in any number
--     j:commit {{"batch", 3}, {"seconds", 1.5}}            -- on disk when it returns
--     j:remove()                                           -- once all that it held is elsewhere
--
-- One process at a time has a journal open. A disk error is a failure in one line. Checksums detect damage
-- by a crash or a disk; advrt.run.units checks the notes' contents.

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

--- The committed units of a part file: their notes as tables by key, each with its frames as
-- `frames`, {records = {numbers}, bytes = {numbers}}. Frames after the last note belong to an
-- incomplete unit and are removed. Also returns the texts that `look` added.
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

--- Opens the journal at `path`, or creates an empty one. Returns it with the fields: header, the table
-- it began with, nil if empty; units, the committed notes, each with its frames.records and
-- frames.bytes; looked, the texts of `look`. Returns nil and a message if another process uses it or
-- it is unreadable.
function journal.open(path)
    local part, message = core.part(path, "append")
    if not part then return nil, message end
    local self = setmetatable({path = path, part = part, pending = {records = {}, bytes = {}},
        checkpoint = (path:match("^(.*/)") or "") .. CHECKPOINT}, Journal)
    self.units, self.looked = read_units(part, path)
    self.header = table.remove(self.units, 1)
    return self
end

--- Adds a note; it is on disk when this returns. If the write cannot be verified, the note is removed:
-- a resumed run would skip its unit, although the failing process removes the unit's other files.
local function add_note(part, note)
    local frames = #part
    check(part:add("note", core.pack(note)))
    local done, message = part:sync()
    if done then return end
    part:cut(frames)
    fail("%s", message)
end

--- Starts an empty journal with a header, an array of {key, value} as for record.pack.
function Journal:begin(header)
    self:commit(header)
    self.header = table.remove(self.units, 1)
end

--- Notes a text that describes the inputs of the next units; it is on disk when this returns. Call it
-- between two units.
function Journal:look(text)
    add_note(self.part, {{"looked_at", text}})
    self.looked[#self.looked + 1] = text
end

--- Adds a frame to the unit of the next commit. kind: "records", bytes of complete records; or
-- "bytes", data for another file.
function Journal:add(kind, bytes)
    check(self.part:add(kind, bytes))
    table.insert(self.pending[kind], #self.part)
end

local function files_of(unit) return type(unit.loaded) == "string" and loaded.of_text(unit.loaded) or {} end

--- From now on each note lists the files read since (advrt.support.loaded), except these files and
-- those of earlier notes.
function Journal:know(list)
    self.knows = {}
    for _, one in ipairs(list) do self.knows[one[2]] = true end
    for _, unit in ipairs(self.units) do
        for _, one in ipairs(files_of(unit)) do self.knows[one[2]] = true end
    end
end

--- All files named in the notes.
function Journal:loaded()
    local list = {}
    for _, unit in ipairs(self.units) do
        for _, one in ipairs(files_of(unit)) do list[#list + 1] = one end
    end
    return list
end

--- The files read that the journal does not yet know (advrt.support.loaded), as a field of a note.
function Journal:newly_loaded()
    local list = {}
    for _, one in ipairs(self.knows and loaded.list() or {}) do
        if not self.knows[one[2]] then
            self.knows[one[2]], list[#list + 1] = true, one
        end
    end
    return #list > 0 and {"loaded", loaded.text(list)} or nil
end

--- Commits the added frames with a note, an array of {key, value}, as a unit; it is on disk when
-- this returns. Removes the checkpoint, which belongs to this unit.
function Journal:commit(note)
    note[#note + 1] = self:newly_loaded()
    add_note(self.part, note)
    local unit = {frames = self.pending}
    for _, field in ipairs(note) do unit[field[1]] = field[2] end
    self.units[#self.units + 1] = unit
    self.pending = {records = {}, bytes = {}}
    os.remove(self.checkpoint)
end

--- The payload of a frame; verifies its checksum.
function Journal:bytes(frame) return check(self.part:bytes(frame)) end

--- The fields of a frame's record before its first series: they identify the record.
function Journal:head(frame) return check(self.part:head(frame)) end

--- An identifier of the run.
function Journal:run() return system.digest(self.header.about .. "\0" .. self.header.files) end

--- Saves the state inside the current unit: tensors by name, and numbers by name. Atomically replaces
-- the last state.
function Journal:save(tensors, numbers)
    local all = {["number.unit"] = tensor.from({#self.units + 1}, "f64"),
        ["text.run"] = sealed.of_text(self:run())}
    for name, v in pairs(tensors) do all["tensor." .. name] = v end
    for name, v in pairs(numbers) do all["number." .. name] = tensor.from({v}, "f64") end
    check(sealed.save(self.checkpoint, all))
end

--- Warns that the state inside the current unit is unusable; the unit restarts.
function Journal:forget(problem)
    local line = ("advrt: warning: %s: %s; the current batch restarts"):format(self.checkpoint, problem)
    io.stderr:write((line:gsub("%c", "?")), "\n")
    os.remove(self.checkpoint)
end

--- The state saved for the current unit: tensors and numbers. nil if there is none or it is unusable (with
-- a warning). The state of another unit, left when a process ended right after a commit, is ignored.
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
    if sealed.to_text(all["text.run"]) ~= self:run() then return self:forget("belongs to another run") end
    if numbers.unit ~= #self.units + 1 then return nil end
    return tensors, numbers
end

--- Writes the records of the frames in `order` to a file, atomically. The journal stays.
function Journal:write(path, order) check(self.part:write(path, order)) end

--- Removes the journal: the run is finished.
function Journal:remove()
    os.remove(self.checkpoint)
    local done, message = os.remove(self.path)
    if not done then fail("%s", message) end
    self.units = {}
    self.part:close()
end

--- Closes the journal and keeps it for later.
function Journal:close() self.part:close() end

function Journal:__close() self.part:close() end


return journal
