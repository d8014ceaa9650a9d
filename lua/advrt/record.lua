--- The record of one image and loss: the contents of records.msgpack, in order.

local arguments = require "advrt.support.check"
local attack = require "advrt.attack"
local core = require "advrt.core.record"
local tensor = require "advrt.tensor"

local record = {}

--- The series of image i of a run, [iterations+1] each, as {name, tensor} pairs. The tensors are
-- those of `kept`, overwritten by the next call.
local function series_of(r, i, kept)
    local pairs_of = {}
    for k, s in ipairs(attack.series) do
        local all = r.series[s[1]]
        local one = kept[s[1]]
        if not one or #one ~= #all then
            one = tensor.new({#all}, s[2])
            kept[s[1]] = one
        end
        for n = 1, #all do one:set(all:get(n, i), n) end
        pairs_of[k] = {s[1], one}
    end
    return pairs_of
end

local kept = {}

--- The bytes of one record, a msgpack map: `about` holds file, label, target, loss and setting, r is
-- what attack.run returned, i the image's row in it.
function record.pack(about, r, i)
    arguments.want("pack", 1, "table", about)
    arguments.want("pack", 2, "table", r)
    arguments.want("pack", 3, "number", i)
    local flip, survives = r.flip_iteration:get(i), r.survives_8bit:get(i)
    local fields = {
        {"file", about.file}, {"label", about.label}, {"target", about.target},
        {"loss", about.loss}, {"setting", about.setting},
        {"flip_iteration", flip},
        {"flip_l2", r.flip_l2:get(i)}, {"flip_linf", r.flip_linf:get(i)},
        {"survives_8bit", survives < 0 and survives or survives == 1},
        {"zero_steps", r.zero_steps:get(i)},
    }
    table.move(series_of(r, i, kept), 1, #attack.series, #fields + 1, fields)
    return core.pack(fields)
end

--- Iterates over the records of a finished records.msgpack, or the valid part of a records.part:
-- `for r in record.each(path) do print(r.file, r.loss, r.l2[1]) end`. Each r is a new table; its
-- series are arrays whose first element is n = 0. An unreadable or damaged file is a failure.
-- Memory is bounded by the largest record.
record.each = core.each

--- Opens the file of a run's records while it is unfinished: record.part(path) starts an empty one,
-- record.part(path, "append") continues after the valid records. Returns the part; or nil and a
-- message, also if another process has it open. A part is a sequence of frames with checksums,
-- counted from 1; #part is their number. Methods return nil and a message on a disk error.
-- advrt.run.journal uses it.
record.part = core.part

--- part:append(bytes) -> true
-- Adds a frame of records; returns when it is on disk.

--- part:add(kind, bytes) -> true
-- Adds a frame; part:sync() writes it to disk. kind: "records"; "note", one record about the run;
-- or "bytes", data for another file.

--- part:sync() -> true
-- Returns when all frames are on disk.

--- part:kind(i), part:bytes(i), part:record(i), part:head(i) -> text, text, table, table
-- A frame's kind, its bytes, its first record, and the fields of this record before its first
-- series.

--- part:cut(n) -> true
-- Removes the frames after the first n.

--- part:write(path[, order]) -> true
-- Writes the bytes of the frames in the array `order` (default: all frames of records) to a file,
-- atomically.

--- part:finish(final_path) -> true
-- Writes all records to a file atomically, and removes the part file; on failure the part file
-- stays.

--- part:close()
-- Closes the part file and keeps it; garbage collection does the same.

--- Truncates a part file after its last complete frame (after a crash). Returns the bytes of
-- records and the number of complete frames, or nil and a message.
record.recover = core.part_recover

return record
