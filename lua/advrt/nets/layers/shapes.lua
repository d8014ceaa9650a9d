--- Layers that move elements or change shapes. Dimensions count from 1 without the batch, so 1 is
-- an image's channels as in PyTorch; -1 is the last.

local arguments = require "advrt.support.check"
local layer = require "advrt.nets.layer"
local Builder, takes = layer.Builder, layer.takes

--- A dimension of x as graphs count it, from 0.
local function dimension(kind, x, dim, default)
    if dim == nil then dim = default end
    local n = #x.shape
    if math.type(dim) ~= "integer" or dim == 0 or dim > n or dim < -n then
        layer.wrong("%s: dim must be a dimension of [%s], 1 to %d or -1 for the last, got %s", kind,
            table.concat(x.shape, ","), n, arguments.text(dim))
    end
    return dim > 0 and dim - 1 or dim + n
end

local function list(kind, what, v)
    if type(v) ~= "table" or #v == 0 then
        layer.wrong("%s takes a list of %s, got %s", kind, what, arguments.text(v))
    end
    for _, n in ipairs(v) do
        if math.type(n) ~= "integer" then
            layer.wrong("%s takes a list of %s, got %s", kind, what, arguments.text(v))
        end
    end
    return v
end

local function dimensions(kind, x, v)
    local dims = {}
    for i, dim in ipairs(list(kind, "dimensions", v)) do dims[i] = dimension(kind, x, dim) end
    return dims
end

--- The values of a list joined along a dimension: b:concat({x, y}, 1). All other dimensions must be
-- equal. dim = 1, the channels.
function Builder:concat(values, dim)
    layer.check_self(self, "concat")
    if type(values) ~= "table" or #values == 0 then
        layer.wrong("concat takes a list of layers' outputs, b:concat({x, y}, 1), got %s",
            arguments.text(values))
    end
    for i, x in ipairs(values) do layer.check_input(self, "concat", x, i) end
    local sizes = {dimension("concat", values[1], dim, 1)}
    return layer.add(self, {kind = "concat", sizes = sizes}, table.unpack(values))
end

takes.reshape = {"shape"}
--- The same elements in another shape. shape: a list of sizes; at most one may be -1 and is
-- inferred.
function Builder:reshape(x, shape)
    return layer.add(self, {kind = "reshape", sizes = list("reshape", "sizes", shape)}, x)
end

takes.flatten = {"first", "last"}
--- Merges dimensions first to last of x into one. first = 1, last = -1.
function Builder:flatten(x, first, last)
    first, last = dimension("flatten", x, first, 1), dimension("flatten", x, last, -1)
    if last < first then
        layer.wrong("flatten: dimension %d is not before dimension %d", first + 1, last + 1)
    end
    local shape = {}
    for i = 1, first do shape[i] = x.shape[i] end
    shape[first + 1] = -1
    for i = last + 2, #x.shape do shape[#shape + 1] = x.shape[i] end
    return layer.add(self, {kind = "reshape", sizes = shape}, x)
end

takes.permute = {"order"}
--- Permutes the dimensions: b:permute(x, {2, 3, 1}) makes [H,W,C] from [C,H,W].
function Builder:permute(x, order)
    return layer.add(self, {kind = "permute", sizes = dimensions("permute", x, order)}, x)
end

takes.transpose = {"a", "b"}
--- Exchanges two dimensions.
function Builder:transpose(x, a, b)
    local order = {}
    a, b = dimension("transpose", x, a), dimension("transpose", x, b)
    for i = 0, #x.shape - 1 do order[i + 1] = i == a and b or i == b and a or i end
    return layer.add(self, {kind = "permute", sizes = order}, x)
end

--- Takes every step-th element of dimension dim, from first to last (both count from 1). Returns nil
-- if last < first.
local function slice(self, x, dim, first, last, step)
    if last < first then return nil end
    return layer.add(self, {kind = "slice", sizes = {dim, first - 1, (last - first) // step + 1, step}}, x)
end

local function place(kind, what, v, size, default)
    if v == nil then v = default end
    if math.type(v) ~= "integer" or v == 0 or v > size or v < -size then
        layer.wrong("%s: %s must be 1 to %d, or -1 for the last, got %s", kind, what, size, arguments.text(v))
    end
    return v > 0 and v or v + size + 1
end

takes.slice = {"dim", "first", "last", "step"}
--- Elements first to last of dimension dim, counted as in string.sub. last = -1, step = 1.
function Builder:slice(x, dim, first, last, step)
    dim = dimension("slice", x, dim)
    local size = x.shape[dim + 1]
    first, last = place("slice", "first", first, size, 1), place("slice", "last", last, size, -1)
    step = layer.attribute("slice", {step = step}, "step", layer.COUNT, 1)
    return slice(self, x, dim, first, last, step)
        or layer.wrong("slice: there is nothing from %d to %d", first, last)
end

takes.narrow = {"dim", "first", "n"}
--- n elements of dimension dim from index `first`, counted from 1.
function Builder:narrow(x, dim, first, n)
    dim = dimension("narrow", x, dim)
    local size = x.shape[dim + 1]
    first = place("narrow", "first", first, size)
    n = layer.attribute("narrow", {n = n}, "n", layer.COUNT)
    if first + n - 1 > size then
        layer.wrong("narrow: dimension %d has %d elements, so there are no %d from %d on", dim + 1, size, n,
            first)
    end
    return slice(self, x, dim, first, first + n - 1, 1)
end

takes.split = {"sizes", "dim"}
--- Splits a dimension into parts of equal size (the last may be smaller) or of the sizes in a list;
-- returns all parts. dim = 1.
function Builder:split(x, sizes, dim)
    dim = dimension("split", x, dim, 1)
    local whole, parts, first = x.shape[dim + 1], {}, 1
    if layer.whole(sizes, 1) then
        local each = sizes
        sizes = {}
        for at = 1, whole, each do sizes[#sizes + 1] = math.min(each, whole - at + 1) end
    end
    for _, n in ipairs(list("split", "sizes, or one size", sizes)) do
        if n < 1 or first + n - 1 > whole then
            layer.wrong("split: sizes %s do not add up to the %d elements of dimension %d",
                arguments.text(sizes), whole, dim + 1)
        end
        parts[#parts + 1] = slice(self, x, dim, first, first + n - 1, 1)
        first = first + n
    end
    if first ~= whole + 1 then
        layer.wrong("split: sizes %s do not add up to the %d elements of dimension %d", arguments.text(sizes),
            whole, dim + 1)
    end
    return table.unpack(parts)
end

takes.chunk = {"n", "dim"}
--- n parts of a dimension, of equal size except the last, as in torch.chunk. dim = 1.
function Builder:chunk(x, n, dim)
    n = layer.attribute("chunk", {n = n}, "n", layer.COUNT)
    local size = x.shape[dimension("chunk", x, dim, 1) + 1]
    return self:split(x, (size + n - 1) // n, dim)
end

--- Padding above, left, below and right, from one number, two or four.
local function around(pad)
    local p = type(pad) == "table" and pad or {pad, pad}
    for i = 1, #p do
        if not layer.whole(p[i], 0) then p = {} end
    end
    if #p ~= 2 and #p ~= 4 then
        layer.wrong("pad: pad must be a whole number of at least 0, {height, width} or {top, left, bottom, "
            .. "right}, got %s", arguments.text(pad))
    end
    return p[1], p[2], p[3] or p[1], p[4] or p[2]
end

takes.pad = {"pad", "dim"}
--- Zeros around an image: pad is a number, {height, width} or {top, left, bottom, right}. With a dim,
-- pad is {before, behind} that dimension.
function Builder:pad(x, pad, dim)
    local sizes = {}
    for i = 1, 2 * #x.shape do sizes[i] = 0 end
    if dim ~= nil then
        dim = dimension("pad", x, dim)
        if type(pad) ~= "table" or #pad ~= 2 or not layer.whole(pad[1], 0) or not layer.whole(pad[2], 0) then
            layer.wrong("pad: the padding of a dimension is {before, behind}, got %s", arguments.text(pad))
        end
        sizes[2 * dim + 1], sizes[2 * dim + 2] = pad[1], pad[2]
    else
        local n = #x.shape
        if n ~= 3 then
            layer.wrong("pad takes an image [C,H,W] or a dim, got [%s]", table.concat(x.shape, ","))
        end
        local top, left, bottom, right = around(pad)
        sizes[3], sizes[4], sizes[5], sizes[6] = top, bottom, left, right
    end
    return layer.add(self, {kind = "pad", sizes = sizes}, x)
end

takes.flip = {"dims"}
--- Reverses the order of the elements along a dimension, or along several in a list.
function Builder:flip(x, dims)
    if math.type(dims) then dims = {dims} end
    return layer.add(self, {kind = "flip", sizes = dimensions("flip", x, dims)}, x)
end

takes.expand = {"shape"}
--- Repeats dimensions of size 1. shape: a list of sizes; -1 keeps a dimension.
function Builder:expand(x, shape)
    return layer.add(self, {kind = "expand", sizes = list("expand", "sizes", shape)}, x)
end

takes.channel_shuffle = {"groups"}
--- Interleaves g groups of C / g channels: first the first channel of each group, then the second,
-- and so on.
function Builder:channel_shuffle(x, groups)
    groups = layer.attribute("channel_shuffle", {groups = groups}, "groups", layer.COUNT)
    local C, rest = x.shape[1], table.move(x.shape, 2, #x.shape, 1, {})
    if C % groups ~= 0 then
        layer.wrong("channel_shuffle: groups must divide the %d channels, got %d", C, groups)
    end
    if #rest == 0 then rest = {1} end
    local cells = 1
    for _, n in ipairs(rest) do cells = cells * n end
    local y = self:reshape(x, {groups, C // groups, cells})
    return self:reshape(self:permute(y, {2, 1, 3}), x.shape)
end
