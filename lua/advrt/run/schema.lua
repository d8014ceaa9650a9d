--- What tables that come from files must hold: one check of types and ranges for the notes of journals,
-- run.json, and the numbers of checkpoints, so that none of them leads to an error further on.
--
--     schema.problem(note, {{"images", schema.whole(1, 32)}, {"left", schema.text, optional = true}})
--         -> nil, or "'images' is 1e+300, not a whole number from 1 to 32"
--
-- Fields that are not named may be there.

local schema = {}

--- Kinds: what a value must be, in words, and a function that tells whether one is it.
local function kind(wanted, is) return {wanted = wanted, is = is} end

schema.text = kind("text", function(v) return type(v) == "string" end)

schema.boolean = kind("true or false", function(v) return type(v) == "boolean" end)

--- A whole number in a range; its representation must be an integer's.
function schema.whole(low, high)
    return kind(("a whole number from %d to %d"):format(low, high),
        function(v) return math.type(v) == "integer" and v >= low and v <= high end)
end

--- One without an upper bound that matters: sums of some are still exact.
schema.count = kind("a whole number of at least 0",
    function(v) return math.type(v) == "integer" and v >= 0 and v < 1 << 53 end)

--- A finite number of at least 0.
schema.amount = kind("a number of at least 0",
    function(v) return type(v) == "number" and v >= 0 and v < math.huge end)

schema.number = kind("a finite number",
    function(v) return type(v) == "number" and v - v == 0 end)

--- A SHA-256 as text.
schema.sum = kind("a SHA-256",
    function(v) return type(v) == "string" and v:find("^%x+$") ~= nil and #v == 64 end)

--- One of these texts.
function schema.one_of(list)
    return kind("one of " .. table.concat(list, ", "), function(v)
        for _, name in ipairs(list) do if v == name then return true end end
        return false
    end)
end

--- An array of one kind; least: how many it has at least.
function schema.list(of, least)
    return kind("a list, each " .. of.wanted, function(v)
        if type(v) ~= "table" then return false end
        local count = 0
        for _ in pairs(v) do count = count + 1 end
        for i = 1, count do
            if not of.is(v[i]) then return false end
        end
        return count >= (least or 0)
    end)
end

--- Any of several kinds.
function schema.any(...)
    local kinds, wanted = {...}, {}
    for i, one in ipairs(kinds) do wanted[i] = one.wanted end
    return kind(table.concat(wanted, " or "), function(v)
        for _, one in ipairs(kinds) do if one.is(v) then return true end end
        return false
    end)
end

--- A value that only this one is.
function schema.only(value, name)
    return kind(name, function(v) return v == value end)
end

--- A kind of one's own.
schema.kind = kind

--- A value as a message shows it, short and in one line.
function schema.show(v)
    if type(v) == "string" then
        local short = #v > 40 and v:sub(1, 40) .. "..." or v
        return "'" .. short:gsub("%c", "?") .. "'"
    elseif v == nil then
        return "missing"
    elseif type(v) == "table" then
        return "a table"
    end
    return tostring(v)
end

--- nil where a table has the fields, an array of {key, kind, optional = boolean}; else what is wrong.
function schema.problem(value, fields)
    if type(value) ~= "table" then return ("it is %s, not a table"):format(schema.show(value)) end
    for _, field in ipairs(fields) do
        local key, of = table.unpack(field)
        local v = value[key]
        if not (v == nil and field.optional) and not of.is(v) then
            return ("'%s' is %s, not %s"):format(key, schema.show(v), of.wanted)
        end
    end
end

return schema
