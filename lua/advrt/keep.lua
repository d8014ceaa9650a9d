--- Adversarial images kept in float32 (--save-adversarial), as adversarial.safetensors.
--
-- For each loss: LOSS f32 [M,C,H,W], the images in the order of the records, and LOSS.label,
-- LOSS.target, LOSS.iteration i64 [M], of which the last is the step at which the image was taken.
-- The metadata hold "files.LOSS", a JSON array of the M file names, and "when", first or last.
-- With "first" images that never flipped are left out.
--
-- While a run goes on the images lie in a part for each loss on the disk, not in memory; at the end
-- they are copied behind the header, which takes the images' size once more until the parts go.

local fail = require "advrt.fail"
local json = require "advrt.json"
local system = require "advrt.core.system"

local keep = {}

local Keep = {}
Keep.__index = Keep

local CHUNK = 1 << 20 -- bytes copied at a time
local NAME = "adversarial.safetensors"

local function check(done, message, path)
    if not done then fail("cannot write %s: %s", path, message) end
    return done
end

--- out: the run's folder; losses: names; when: "first" or "last"; input: {C,H,W}.
function keep.new(out, losses, when, input)
    local self = setmetatable({out = out, losses = losses, when = when, input = input, parts = {}},
        Keep)
    for i, name in ipairs(losses) do
        local path = out:scratch(("adversarial-%d.part"):format(i))
        local file, message = io.open(path, "w+b")
        check(file, message, path)
        self.parts[name] = {path = path, file = file, files = {}, label = {}, target = {},
            iteration = {}}
    end
    return self
end

--- Adds what attack.run returned for a batch and one loss.
function Keep:add(queue, real, name, r)
    local part = self.parts[name]
    for k = 1, real do
        local flip = r.flip_iteration:get(k)
        if self.when == "last" or flip >= 0 then
            local x = self.when == "first" and r.first or r.adversarial
            local done, message = part.file:write(x[k]:bytes())
            check(done, message, part.path)
            local i = #part.files + 1
            part.files[i], part.label[i], part.target[i] = queue.files[k], queue.labels[k],
                queue.targets[k]
            part.iteration[i] = self.when == "first" and flip or #r.series.l2 - 1
        end
    end
end

--- What M images take.
function Keep:bytes(M)
    local C, H, W = table.unpack(self.input)
    return 4 * M * C * H * W
end

local integers = {"label", "target", "iteration"}

--- The header, padded to 8 bytes, with the 64-bit tensors first so that all are aligned.
function Keep:header()
    local C, H, W = table.unpack(self.input)
    local about, order, at = {when = self.when}, {"__metadata__"}, 0
    local entries = {__metadata__ = about}
    local function add(name, dtype, shape, bytes)
        entries[name] = {dtype = dtype, shape = shape, data_offsets = {at, at + bytes}}
        order[#order + 1] = name
        at = at + bytes
    end
    for _, name in ipairs(self.losses) do
        local part = self.parts[name]
        about["files." .. name] = json.encode(setmetatable(part.files, {__jsontype = "array"}))
        for _, kind in ipairs(integers) do
            add(name .. "." .. kind, "I64", {#part.files}, 8 * #part.files)
        end
    end
    for _, name in ipairs(self.losses) do
        local M = #self.parts[name].files
        add(name, "F32", {M, C, H, W}, self:bytes(M))
    end
    local text = json.encode(entries, {keyorder = order})
    return text .. (" "):rep(-#text % 8)
end

--- Writes the file: complete under its name, or absent.
function Keep:save(out)
    local path = out:scratch(NAME .. ".part")
    local file, message = io.open(path, "wb")
    check(file, message, path)
    local function write(bytes)
        local done, problem = file:write(bytes)
        check(done, problem, path)
    end
    local header = self:header()
    write(string.pack("<s8", header))
    for _, name in ipairs(self.losses) do
        for _, kind in ipairs(integers) do
            for _, v in ipairs(self.parts[name][kind]) do write(string.pack("<i8", v)) end
        end
    end
    for _, name in ipairs(self.losses) do
        local part = self.parts[name]
        local left = check(part.file:seek("end"), "cannot be measured", part.path)
        check(part.file:seek("set"), "cannot go back to its start", part.path)
        check(left == self:bytes(#part.files), "its images are not all there", part.path)
        while left > 0 do
            local bytes, problem = part.file:read(CHUNK)
            write(check(bytes, problem or "it ended early", part.path))
            left = left - #bytes
        end
        part.file:close()
    end
    local done, problem = file:close()
    check(done, problem, path)
    done, problem = system.replace(path, out:file(NAME))
    check(done, problem, path)
end

return keep
