--- Functions for operators (advrt.nets.onnx.operators): checked inputs, windows, and values of the
-- net in the shapes that layers need.
--
-- A layer's value has no batch dimension. ONNX's shape of a value begins with the batch, here 1.
-- So a layer's shape is usually ONNX's without its first dimension. If windows or heads were
-- folded into the batch, as in Swin, the first dimension is not 1 and belongs to the layer's
-- shape.

local constant = require "advrt.nets.onnx.constant"

local help = {}

local MOST_DIMS = 6 -- dimensions of a layer's value

--- A copy of a list.
function help.copy(list) return table.move(list, 1, #list, 1, {}) end

function help.is_constant(x) return x ~= nil and constant.is(x) end

function help.same(a, b)
    if #a ~= #b then return false end
    for d, size in ipairs(a) do
        if b[d] ~= size then return false end
    end
    return true
end

--- Input i as a constant: weights that are computed from an image are not supported.
function help.weight(n, a, i, what)
    if a[i] == nil then n:wrong("has no %s", what) end
    if not constant.is(a[i]) then n:unsupported("with a computed %s", what) end
    return a[i]
end

--- Input i as a value of the net.
function help.value(n, a, i)
    if a[i] == nil then n:wrong("has no input %d", i) end
    if constant.is(a[i]) then n:unsupported("of a constant") end
    return a[i]
end

--- The sizes C, H, W of an image, [1,C,H,W], or of a row, [1,C,W], with H = 1.
function help.image(n, x)
    local dims = #x.shape
    if dims ~= 4 and dims ~= 3 or x.shape[1] ~= 1 then n:unsupported("on %s", constant.text(x.shape)) end
    return x.shape[2], dims == 4 and x.shape[3] or 1, x.shape[dims]
end

--- ONNX's shape of C channels of H x W, for an input that is an image or a row.
function help.shape_of_image(x, C, H, W)
    return #x.shape == 4 and {1, C, H, W} or {1, C, W}
end

--- A list of `count` integers, or `default` for each.
function help.sizes(n, name, count, default)
    local list = n:list(name)
    if not list then
        list = {}
        for i = 1, count do list[i] = default end
    end
    if #list ~= count then n:wrong("has %d '%s', its input wants %d", #list, name, count) end
    for _, size in ipairs(list) do
        if math.type(size) ~= "integer" then n:wrong("has '%s' that are no whole numbers", name) end
    end
    return list
end

--- {height, width} from a list with one size per dimension of x after the channels; for a row
-- {`one`, width}.
function help.pair(n, x, name, default, one)
    local list = help.sizes(n, name, #x.shape - 2, default)
    return #list == 1 and {one or 1, list[1]} or list
end

--- The padding {top, left, bottom, right} of a window on the image or row x.
function help.padding(n, x, kernel, stride, dilation)
    local _, H, W = help.image(n, x)
    local auto = n:attr("auto_pad", "NOTSET")
    if auto == "NOTSET" or auto == "" then
        local list = help.sizes(n, "pads", 2 * #x.shape - 4, 0)
        return #list == 2 and {0, list[1], 0, list[2]} or list
    end
    if auto == "VALID" then return {0, 0, 0, 0} end
    if auto ~= "SAME_UPPER" and auto ~= "SAME_LOWER" then n:wrong("has auto_pad '%s'", auto) end
    local pad = {}
    for i, size in ipairs {H, W} do
        local reach = (kernel[i] - 1) * dilation[i] + 1
        local total = math.max(((size + stride[i] - 1) // stride[i] - 1) * stride[i] + reach - size, 0)
        local before = auto == "SAME_UPPER" and total // 2 or total - total // 2
        pad[i], pad[i + 2] = before, total - before
    end
    return pad
end

--- A layer's shape of a value: ONNX's shape without the batch.
function help.body(shape)
    local first = 1
    if #shape > 1 and shape[1] == 1 then first = 2 end
    while #shape - first + 1 > MOST_DIMS and shape[first] == 1 do first = first + 1 end
    local body = table.move(shape, first, #shape, 1, {})
    if #body == 0 then body[1] = 1 end
    return body, first - 1
end

--- A shape without its dimensions of size 1, and the numbers of the remaining dimensions, from 1.
function help.squeezed(shape)
    local sizes, dims = {}, {}
    for d, size in ipairs(shape) do
        if size ~= 1 then sizes[#sizes + 1], dims[#dims + 1] = size, d end
    end
    if #sizes == 0 then sizes[1] = 1 end
    return sizes, dims
end

--- A constant that repeats one number.
function help.filled(value, shape)
    local list, n = {}, constant.count(shape)
    constant.spend(n)
    for i = 1, n do list[i] = value end
    return constant.new("f32", shape, list)
end

--- The single number that all elements of a constant equal; nil if they differ or there are too
-- many.
function help.uniform(c)
    if c:count() == 0 or c:count() > 4096 then return nil end
    local values = c:values()
    for i = 2, #values do
        if values[i] ~= values[1] then return nil end
    end
    return values[1]
end

return help
