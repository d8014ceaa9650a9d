--- Adversarial images kept in float32 (--save-adversarial), as adversarial.safetensors.
--
-- For each loss: LOSS f32 [M,C,H,W], the images in the order of the records, and LOSS.label,
-- LOSS.target, LOSS.iteration i64 [M]; iteration is the step at which the image was saved. The
-- metadata are "files.LOSS", a JSON array of the M file names, and "when", first or last. With
-- "first", images that never flipped are left out.
--
-- Full attacks save the final image of each attack ("last"), successful or not. The names are those of
-- the attacks, and NAME.success, 1 or 0, replaces LOSS.iteration.
--
-- Everything but the images comes from the records. During a run the images are in its journal, not
-- in memory. At the end they are copied after the header, so the disk briefly holds them twice.

local core = require "advrt.core.weights"
local fail = require "advrt.support.fail"
local json = require "advrt.support.json"
local record = require "advrt.record"
local system = require "advrt.core.system"
local tensor = require "advrt.core.tensor"

local keep = {}

local NAME = "adversarial.safetensors"

local function check(done, message)
    if not done then fail("cannot write %s", message) end
    return done
end

--- The saved image k of attack.run's result: f32 [C,H,W]; nil if none is saved.
function keep.image(r, k, when)
    if when == "last" then return r.adversarial[k] end
    return r.flip_iteration:get(k) >= 0 and r.first[k] or nil
end

--- The integers saved with each image, by kind of run: the record's field with the name, the integers,
-- and the function for the last integer.
local kinds = {
    loss = {integers = {"label", "target", "iteration"}, last = function(r, when)
        return when == "first" and r.flip_iteration or #r.l2 - 1
    end},
    attack = {integers = {"label", "target", "success"}, last = function(r) return r.success and 1 or 0 end},
}

--- The saved images according to the records at `path`: name -> {files, and each of the kind's
-- integers}, lists.
local function listed(path, names, when, field)
    local lists, kind = {}, kinds[field]
    for _, name in ipairs(names) do
        lists[name] = {files = setmetatable({}, {__jsontype = "array"})}
        for _, integer in ipairs(kind.integers) do lists[name][integer] = {} end
    end
    for r in record.each(path) do
        local list = lists[r[field]]
        if when == "last" or r.flip_iteration >= 0 then
            local i = #list.files + 1
            list.files[i], list.label[i], list.target[i] = r.file, r.label, r.target
            list[kind.integers[3]][i] = kind.last(r, when)
        end
    end
    return lists
end

--- The tensors of the file, 64-bit ones first as the format requires, and its metadata.
local function contents_of(losses, lists, when, input, integers)
    local C, H, W = table.unpack(input)
    local about, entries = {when = when}, {}
    for _, name in ipairs(losses) do
        about["files." .. name] = json.encode(lists[name].files)
        for _, integer in ipairs(integers) do
            entries[#entries + 1] = {name .. "." .. integer, "i64", {#lists[name].files}}
        end
    end
    for _, name in ipairs(losses) do
        entries[#entries + 1] = {name, "f32", {#lists[name].files, C, H, W}}
    end
    return entries, about
end

--- Writes the file atomically.
--
-- out: the run's folder, which holds the records; losses: names; when: "first" or "last"; input:
-- {C,H,W}; pixels: function(l) -> an iterator over the bytes of the images kept of losses[l], in the
-- order of the records, in pieces of any size; field: of the records, that holds the name, "loss" (the
-- default) or "attack".
function keep.save(out, losses, when, input, pixels, field)
    field = field or "loss"
    local integers = kinds[field].integers
    local lists = listed(out:file("records.msgpack"), losses, when, field)
    local path = out:scratch(NAME .. ".part")
    local file <close> = check(core.stream(path, contents_of(losses, lists, when, input, integers)))
    for _, name in ipairs(losses) do
        for _, integer in ipairs(integers) do
            if #lists[name][integer] > 0 then
                check(file:put(tensor.from(lists[name][integer], "i64"):bytes()))
            end
        end
    end
    for l, name in ipairs(losses) do
        local left = 4 * #lists[name].files * input[1] * input[2] * input[3]
        for bytes in pixels(l) do
            check(file:put(bytes))
            left = left - #bytes
        end
        if left ~= 0 then
            fail("cannot write %s: some images of %s are missing from the journal", out:file(NAME), name)
        end
    end
    check(file:finish())
    check(system.replace(path, out:file(NAME)))
end

local CHUNK = 1 << 20 -- bytes per read

local function is_size(value) return math.type(value) == "integer" and value >= 0 end

local sizes = {F32 = 4.0, U8 = 1.0} -- floats: a product of sizes cannot overflow

--- Locates a tensor's images in a safetensors file: {dtype "f32" or "u8", shape {M,C,H,W}, from, bytes};
-- `from` counts from the start of the file. nil if the file has no such complete images.
function keep.place(file, name)
    file:seek("set")
    local size = string.unpack("<i8", file:read(8) or ("\0"):rep(8))
    local room = file:seek("end") - 8 - size
    local header = size >= 0 and room >= 0 and file:seek("set", 8) and json.decode(file:read(size) or "")
    local entry = type(header) == "table" and header[name]
    if type(entry) ~= "table" or type(entry.shape) ~= "table" or type(entry.data_offsets) ~= "table" then
        return nil
    end
    local bytes, from, to = sizes[entry.dtype], table.unpack(entry.data_offsets, 1, 2)
    for i = 1, 4 do
        if not bytes or not is_size(entry.shape[i]) then return nil end
        bytes = bytes * entry.shape[i]
    end
    if #entry.shape > 4 or not is_size(from) or not is_size(to) or to > room or to - from ~= bytes then
        return nil
    end
    return {dtype = entry.dtype:lower(), shape = entry.shape, from = 8 + size + from, bytes = to - from}
end

--- The bytes of one tensor of a folder's adversarial.safetensors, as an iterator over pieces; and its
-- shape.
function keep.pixels(dir, name)
    local path = dir .. "/" .. NAME
    local file, message = io.open(path, "rb")
    if not file then fail("%s", message) end
    local place = keep.place(file, name)
    if not place or place.dtype ~= "f32" then fail("%s: holds no images of %s", path, name) end
    file:seek("set", place.from)
    local left = place.bytes
    return function()
        local bytes = left > 0 and file:read(math.min(left, CHUNK)) or nil
        left = left - #(bytes or "")
        if not bytes then file:close() end
        return bytes
    end, place.shape
end

return keep
