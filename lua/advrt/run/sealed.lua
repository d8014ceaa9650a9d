--- Files of named tensors that carry a checksum of themselves: checkpoints, where a bit that flips would
-- give a run other numbers without a word.
--
--     local done, message = sealed.save(path, {x = x})
--     local tensors, message = sealed.load(path)        -- nil where there is no such file
--
-- The sum is the tensor "sha256", u8 [64]: the SHA-256 of a line "NAME DTYPE SHAPE SHA256" for each
-- tensor, by name.

local fail = require "advrt.support.fail"
local system = require "advrt.core.system"
local tensor = require "advrt.tensor"

local sealed = {}

local SUM = "sha256"
local TEXT = 1 << 16 -- bytes that a text may have

--- Text as a tensor of its bytes.
function sealed.of_text(text) return tensor.from({text:byte(1, -1)}, "u8") end

--- The text that a tensor of bytes holds; nil where `t` is no such tensor.
function sealed.to_text(t)
    if not t or t:dtype() ~= "u8" or t:dim() ~= 1 or #t > TEXT then return nil end
    return t:bytes()
end

local function sum_of(tensors)
    local lines = {}
    for name, t in pairs(tensors) do
        if name ~= SUM then
            lines[#lines + 1] = ("%s %s %s %s\n"):format(name, t:dtype(), table.concat(t:shape(), ","),
                system.digest(t:bytes()))
        end
    end
    table.sort(lines)
    return system.digest(table.concat(lines))
end

--- Writes the tensors, none of them named "sha256": whole or not at all; true, or nil and a message.
function sealed.save(path, tensors)
    local all = {[SUM] = sealed.of_text(sum_of(tensors))}
    for name, t in pairs(tensors) do all[name] = t end
    return tensor.save(path, all)
end

--- Reads them back; nil alone where there is no file; nil and a message where it cannot be read, and true
-- besides where it is not what was saved.
function sealed.load(path)
    local file, problem, code = io.open(path, "rb")
    if not file then return nil, code ~= fail.NO_FILE and problem or nil end
    file:close()
    local all, message = tensor.load(path)
    if not all then return nil, message, true end
    if sealed.to_text(all[SUM]) ~= sum_of(all) then
        return nil, path .. ": is damaged (its SHA-256 is another one)", true
    end
    all[SUM] = nil
    return all
end

return sealed
