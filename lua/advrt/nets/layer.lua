--- The base of the layers of a net definition (advrt.nets.builder). Each file of layers/ adds one
-- Builder method per layer, and an entry of `takes` for its arguments.

local arguments = require "advrt.support.check"
local fail = require "advrt.support.fail"
local loaded = require "advrt.support.loaded"
local nearest = require "advrt.support.nearest"

local ROOM = debug.getinfo(1, "S").source:match("^(.*/)") -- these files are not definitions
local CALLER = debug.getinfo(loaded.during, "S").source -- the caller of a definition's build

local Builder = {}
Builder.__index = Builder

--- Fields of a builder that may be nil; any other missing name is a mistake.
local may_be_nil = {stem = true, head = true, last = true}

setmetatable(Builder, {__index = function(_, name)
    if may_be_nil[name] then return nil end
    local layers = {}
    for layer, f in pairs(Builder) do
        if type(f) == "function" and layer ~= "normalize" then layers[#layers + 1] = layer end
    end
    table.sort(layers)
    error(("a net definition has no layer '%s'%s (layers: %s)"):format(tostring(name),
        nearest.hint(tostring(name), layers), table.concat(layers, ", ")), 2)
end})

local function is_own(source)
    return source and (source == ROOM .. "layer.lua" or source == ROOM .. "builder.lua"
        or source:sub(1, #ROOM + 7) == ROOM .. "layers/")
end

--- The stack level of the definition's line, relative to the calling function: the first level
-- outside the layers' files. 0 if the call was the whole of a `return`, which leaves no line.
local function level_of_line()
    local level = 3
    while is_own((debug.getinfo(level, "S") or {}).source) do level = level + 1 end
    return (debug.getinfo(level, "S") or {}).source == CALLER and 0 or level - 1
end

--- Raises an error at the definition's line.
local function wrong(text, ...) error(text:format(...), level_of_line()) end

local function whole(v, least) return math.type(v) == "integer" and v >= least end

local function is_pair(v, least)
    return type(v) == "table" and #v == 2 and whole(v[1], least) and whole(v[2], least)
end

--- Two sizes, {height, width}, from one or two numbers; `what` is their name in messages.
local function pair(v, default, what, least)
    if v == nil then v = default end
    if whole(v, least) then return {v, v} end
    if is_pair(v, least) then return v end
    wrong("%s must be a whole number of at least %d or {height, width}%s, got %s", what, least,
        what:find(": pad$") and ", \"same\" or {top, left, bottom, right}" or "", arguments.text(v))
end

-- TensorFlow's "same" padding: ceil(in / stride) outputs; an odd element of padding goes after the
-- input.
local function same(size, kernel, stride)
    local total = math.max(((size + stride - 1) // stride - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2
end

local function padding(kind, x, pad, kernel, stride)
    if pad == "same" then
        local top, bottom = same(x.H, kernel[1], stride[1])
        local left, right = same(x.W, kernel[2], stride[2])
        return {top, left, bottom, right}
    end
    if type(pad) == "table" and #pad == 4 and is_pair({pad[1], pad[2]}, 0)
        and is_pair({pad[3], pad[4]}, 0) then
        return pad
    end
    local p = pair(pad, 0, kind .. ": pad", 0)
    return {p[1], p[2], p[1], p[2]}
end

--- The arguments of each layer after its input, in order; a nested list names the attributes of a
-- table.
local takes = {}

local function check_input(self, kind, x, i)
    if type(x) ~= "table" or not self.values[x] then
        wrong("%s: input %d is not a layer's output of this net, got %s", kind, i, arguments.text(x))
    end
end

local function check_self(self, kind)
    if getmetatable(self) ~= Builder then wrong("%s is called with a colon: b:%s(x, ...)", kind, kind) end
end

--- Checks the arguments of a layer: its builder, its input, and the number of further arguments.
local function check(self, kind, x, ...)
    check_self(self, kind)
    check_input(self, kind, x, 1)
    local given = {...}
    for i, name in ipairs(takes[kind]) do
        local v = given[i]
        if name == "name" and (type(v) ~= "string" or v == "") then
            wrong("%s needs the name of its parameters, got %s", kind, arguments.text(v))
        elseif type(name) == "table" then
            if v ~= nil and type(v) ~= "table" then
                wrong("%s takes a table of attributes (%s), got %s", kind, table.concat(name, ", "),
                    arguments.text(v))
            end
            local problem = arguments.keys(v, name)
            if problem then wrong("%s: %s", kind, problem) end
        end
    end
    for i = #takes[kind] + 1, select("#", ...) do
        if given[i] ~= nil then
            wrong("%s takes %d argument%s, but argument %d is %s", kind, #takes[kind] + 1,
                #takes[kind] == 0 and "" or "s", i + 1, arguments.text(given[i]))
        end
    end
end

--- An attribute, checked to be an integer, a number or a boolean; or its default.
local function attribute(kind, o, name, wanted, default)
    local v = o[name]
    if v == nil then v = default end
    local fits = wanted == "a whole number of at least 1" and whole(v, 1)
        or wanted == "a number" and math.type(v) ~= nil or wanted == "true or false" and type(v) == "boolean"
    if not fits then wrong("%s: %s must be %s, got %s", kind, name, wanted, arguments.text(v)) end
    return v
end

local COUNT, NUMBER, SWITCH = "a whole number of at least 1", "a number", "true or false"

--- A value of a graph: its number, its shape, and the same shape as an image [C,H,W].
local function value(id, shape)
    local n = #shape
    local H, W = 1, n > 2 and shape[n] or 1
    for i = 2, n > 2 and n - 1 or n do H = H * shape[i] end
    return {id = id, shape = shape, C = shape[1] or 1, H = H, W = W}
end

--- Adds a layer whose inputs (values) have been checked.
local function add(self, layer, ...)
    layer.input = {}
    for i, x in ipairs {...} do
        layer.input[i] = x.id
        self.values[x].read = true
    end
    -- Catch the error, so that the message gets the definition's position.
    local ok, id, shape = fail.try(self.graph.add, self.graph, layer)
    if not ok then wrong("%s", tostring(id)) end
    self.last = value(id, shape)
    local at = debug.getinfo(level_of_line(), "Sl")
    self.values[self.last] = {what = layer.name and ("%s '%s'"):format(layer.kind, layer.name) or layer.kind,
        where = at and at.currentline > 0 and ("%s:%d"):format(at.short_src, at.currentline) or nil}
    self.order[#self.order + 1] = self.last
    return self.last
end

return {Builder = Builder, takes = takes, add = add, value = value, attribute = attribute, pair = pair,
    padding = padding, wrong = wrong, whole = whole, check = check, check_self = check_self,
    check_input = check_input, COUNT = COUNT, NUMBER = NUMBER, SWITCH = SWITCH}
