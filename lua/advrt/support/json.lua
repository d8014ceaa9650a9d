--- JSON that is always valid UTF-8, whatever bytes a file name holds.

local dkjson = require "dkjson"
local fail = require "advrt.support.fail"

local json = {null = dkjson.null}

--- Text in which each byte that is no UTF-8 becomes the text \xHH, its backslash written as given.
local function escape_bytes(text, backslash)
    local parts, from = {}, 1
    while true do
        local whole, bad = utf8.len(text, from)
        if whole then
            parts[#parts + 1] = text:sub(from)
            return table.concat(parts)
        end
        parts[#parts + 1] = text:sub(from, bad - 1)
        parts[#parts + 1] = ("%sx%02x"):format(backslash, text:byte(bad))
        from = bad + 1
    end
end

--- A finite number as text that reads back as the same number, in as few digits as that takes.
function json.number(v)
    local text = tostring(v)
    for digits = 15, 17 do
        if tonumber(text) == v then break end
        text = ("%%.%dg"):format(digits):format(v)
    end
    return text
end

--- A value with numbers that dkjson, which writes 14 digits, would write as others.
local function exact(value)
    local meta = getmetatable(value)
    if math.type(value) == "float" and value - value == 0 and tonumber(tostring(value)) ~= value then
        return setmetatable({}, {__tojson = function() return json.number(value) end})
    elseif type(value) ~= "table" or meta and meta.__tojson then
        return value
    end
    local copy = setmetatable({}, meta)
    for key, v in pairs(value) do copy[key] = exact(v) end
    return copy
end

--- The JSON text of a value; `state` is dkjson's (keyorder, indent). A byte of a string that is no
-- UTF-8 is written as the four characters \xHH. Numbers read back as they were.
function json.encode(value, state)
    return escape_bytes(dkjson.encode(exact(value), state), "\\\\")
end

--- Text as UTF-8: a byte that is none is written as the four characters \xHH.
function json.utf8(text) return escape_bytes(text, "\\") end

--- The value of a JSON text, null as json.null; nil and a message where it is none.
function json.decode(text)
    local ok, value, _, message = fail.try(dkjson.decode, text, 1, dkjson.null)
    if ok then return value, message end
    if not tostring(value):find("stack overflow", 1, true) then error(value, 0) end
    return nil, "it is nested too deep"
end

return json
