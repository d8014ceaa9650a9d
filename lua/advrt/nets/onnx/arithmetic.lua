--- Builds one formula for the builder's map from the formulas of several ONNX operators.
--
-- An expression is {text =, values =}: a formula in which $1, $2 ... mean the builder's values.

local M = {}

local MOST_VALUES, LONGEST = 4, 250 -- limits of one map
local LETTERS = {"x", "y", "z", "u"}

--- The expressions of a value, and of a number.
function M.atom(v) return {text = "$1", values = {v}} end
function M.number(v) return {text = ("(%.17g)"):format(v), values = {}} end

--- The layer of an expression.
function M.map(b, e)
    if e.text == "$1" then return e.values[1] end
    return b:map((e.text:gsub("%$(%d)", function(i) return LETTERS[tonumber(i)] end)),
        table.unpack(e.values))
end

local function place_of(values, v)
    for i, one in ipairs(values) do
        if one == v then return i end
    end
    values[#values + 1] = v
    return #values
end

local function put_together(text, operands)
    local values, parts = {}, {}
    for i, e in ipairs(operands) do
        local places = {}
        for k, v in ipairs(e.values) do places[k] = place_of(values, v) end
        parts[i] = e.text:gsub("%$(%d)", function(k) return "$" .. places[tonumber(k)] end)
    end
    return {text = text:gsub("%$(%d)", function(i) return parts[tonumber(i)] end), values = values}
end

--- The expression of a formula of operands; the first is $1. If one map cannot hold it, the longest
-- operands become separate layers.
function M.join(b, text, operands)
    local list = table.move(operands, 1, #operands, 1, {})
    while true do
        local e = put_together(text, list)
        if #e.values <= MOST_VALUES and #e.text <= LONGEST then return e end
        local longest
        for i, one in ipairs(list) do
            if one.text ~= "$1" and #one.values > 0 and (not longest or #one.text > #list[longest].text) then
                longest = i
            end
        end
        if not longest then error("a formula is too long for one layer", 0) end
        list[longest] = M.atom(M.map(b, list[longest]))
    end
end

return M
