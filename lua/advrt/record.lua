--- The record of one image and loss: what records.msgpack holds, in its order.

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

--- Iterates over the records of a finished records.msgpack, or of a records.part as far as it is
-- whole: `for r in record.each(path) do print(r.file, r.loss, r.l2[1]) end`. Each r is a new table,
-- its series arrays whose first element is n = 0. A file that cannot be read, or is damaged, is a
-- failure. Memory is bounded by the largest record, whatever the file claims.
record.each = core.each

--- Opens a file in which a run keeps its records until it is finished: record.part(path) an empty
-- one, record.part(path, "append") behind what record.recover leaves of the one that is there.
-- Returns the part; or nil and a message, where another process has it open, too. It is a row of
-- frames with checksums, counted from 1; #part is their number. Methods return nil and a message where
-- the disk fails. advrt.run.journal is what a run does with it.
record.part = core.part

--- part:append(bytes) -> true
-- Once a frame of records is on disk.

--- part:add(kind, bytes) -> true
-- A frame that is on disk after part:sync(). kind: "records"; "note", one record about the run; or
-- "bytes", kept for another file.

--- part:sync() -> true
-- Once all frames are on disk.

--- part:kind(i), part:bytes(i), part:record(i), part:head(i) -> text, text, table, table
-- A frame's kind, its bytes, its first record, and of that the fields before its first series.

--- part:cut(n) -> true
-- Forgets the frames behind the first n.

--- part:write(path[, order]) -> true
-- The bytes of the frames in the array `order`, or of all frames of records, under that name at once.

--- part:finish(final_path) -> true
-- All records under that name at once, and the part file gone; where it fails the part file is as it
-- was.

--- part:close()
-- Leaves the part file for later; also done by garbage collection.

--- Cuts off what a crash left behind the last whole frame of a part file; returns the bytes of
-- records and the number of frames that are whole, or nil and a message.
record.recover = core.part_recover

return record
