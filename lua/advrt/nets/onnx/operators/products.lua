--- ONNX's operators that multiply: convolutions, linear layers, matrix products.

local constant = require "advrt.nets.onnx.constant"
local fold = require "advrt.nets.onnx.fold"
local help = require "advrt.nets.onnx.help"

local operators = {}
local copy, image, value, weight = help.copy, help.image, help.value, help.weight

-- Convolutions and linear layers --------------------------------------------

--- A layer with weights and possibly a bias. It is added when it is first read; a bias that is
-- added before then becomes the layer's own. `add` draws it with its bias or nil; axis: of the
-- bias, from 1.
local function biased(d, shape, axis, bias, add)
    local x = d:later(shape, function() return add(bias) end)
    x.join = not bias and function(c) return biased(d, shape, axis, c, add) end or nil
    x.axis = axis
    return x
end

function operators.Conv(d, n, a)
    local x, w, bias = value(n, a, 1), weight(n, a, 2, "weight"), a[3] and weight(n, a, 3, "bias")
    local C, H, W = image(n, x)
    local groups = n:attr("group", 1)
    if #w.shape ~= #x.shape or groups < 1 or C ~= w.shape[2] * groups then
        n:wrong("has weights %s for an input %s", constant.text(w.shape), constant.text(x.shape))
    end
    local out, kernel = w.shape[1], {#w.shape == 4 and w.shape[3] or 1, w.shape[#w.shape]}
    local stride, dilation = help.pair(n, x, "strides", 1), help.pair(n, x, "dilations", 1)
    local pad = help.padding(n, x, kernel, stride, dilation)
    local size = {}
    for i, length in ipairs {H, W} do
        local reach = (kernel[i] - 1) * dilation[i] + 1
        size[i] = (length + pad[i] + pad[i + 2] - reach) // stride[i] + 1
    end
    local name = d:layer_name(n, 2)
    return biased(d, help.shape_of_image(x, out, size[1], size[2]), 2, bias, function(b)
        d:set(name .. ".weight", w, {out, w.shape[2], kernel[1], kernel[2]})
        if b then d:set(name .. ".bias", b, {out}) end
        return d.b:conv(d:as(x, {C, H, W}), name, {out = out, kernel = kernel, stride = stride, pad = pad,
            dilation = dilation, groups = groups, bias = b ~= nil})
    end)
end

--- The padding {top, left, bottom, right} of a transposed convolution; the size of its output may
-- define it.
local function padding_of_transposed(n, x, full)
    local wanted, auto = n:list("output_shape"), n:attr("auto_pad", "NOTSET")
    if auto == "SAME_UPPER" or auto == "SAME_LOWER" then
        local _, H, W = image(n, x)
        local stride = help.pair(n, x, "strides", 1)
        wanted = {H * stride[1], W * stride[2]}
    elseif wanted then
        wanted = #wanted == 1 and {1, wanted[1]} or {wanted[#wanted - 1], wanted[#wanted]}
    elseif auto == "VALID" then
        return {0, 0, 0, 0}
    else
        return help.padding(n, x)
    end
    local pad = {}
    for i = 1, 2 do
        local total = math.max(full[i] - wanted[i], 0)
        local before = auto == "SAME_UPPER" and total // 2 or total - total // 2
        pad[i], pad[i + 2] = before, total - before
    end
    return pad
end

function operators.ConvTranspose(d, n, a)
    local x, w, bias = value(n, a, 1), weight(n, a, 2, "weight"), a[3] and weight(n, a, 3, "bias")
    local C, H, W = image(n, x)
    local groups = n:attr("group", 1)
    if #w.shape ~= #x.shape or groups < 1 or C ~= w.shape[1] then
        n:wrong("has weights %s for an input %s", constant.text(w.shape), constant.text(x.shape))
    end
    local out, kernel = w.shape[2] * groups, {#w.shape == 4 and w.shape[3] or 1, w.shape[#w.shape]}
    local stride, dilation = help.pair(n, x, "strides", 1), help.pair(n, x, "dilations", 1)
    local more, full, size = help.pair(n, x, "output_padding", 0, 0), {}, {}
    for i, length in ipairs {H, W} do
        full[i] = (length - 1) * stride[i] + (kernel[i] - 1) * dilation[i] + 1 + more[i]
    end
    local pad = padding_of_transposed(n, x, full)
    for i = 1, 2 do size[i] = full[i] - pad[i] - pad[i + 2] end
    local name = d:layer_name(n, 2)
    return biased(d, help.shape_of_image(x, out, size[1], size[2]), 2, bias, function(b)
        d:set(name .. ".weight", w, {C, w.shape[2], kernel[1], kernel[2]})
        if b then d:set(name .. ".bias", b, {out}) end
        return d.b:conv_transpose(d:as(x, {C, H, W}), name, {out = out, kernel = kernel, stride = stride,
            pad = pad, output_padding = more, dilation = dilation, groups = groups, bias = b ~= nil})
    end)
end

--- Multiplies the last dimension of x by weights [M,K] (transposed: [K,M]).
local function linear(d, n, x, w, transposed, bias)
    local K, M = w.shape[transposed and 1 or 2], w.shape[transposed and 2 or 1]
    if x.shape[#x.shape] ~= K then
        n:wrong("has weights %s for an input %s", constant.text(w.shape), constant.text(x.shape))
    end
    local name, shape = d:layer_name(n, 2), copy(x.shape)
    shape[#shape] = M
    return biased(d, shape, #shape, bias, function(b)
        d:set(name .. ".weight", transposed and w:transpose {1, 0} or w)
        if b then d:set(name .. ".bias", b, {M}) end
        local one = constant.count(x.shape) == K
        return d.b:linear(one and d:v(x) or d:as(x, help.body(x.shape)), name, M, {bias = b ~= nil,
            flatten = one})
    end)
end

--- A constant times a number.
local function scaled(c, factor)
    if factor == 1 then return c end
    local out = {}
    for i, v in ipairs(c:values()) do out[i] = v * factor end
    return constant.new(c.type, c.shape, out)
end

--- The shapes to which two stacks of matrices are broadcast, with at most two dimensions before the
-- matrices'. x and y are shapes of two or more dimensions; nil if more dimensions are needed.
local function stacks(x, y)
    local a, b = table.move(x, 1, #x - 2, 1, {}), table.move(y, 1, #y - 2, 1, {})
    while a[1] == 1 do table.remove(a, 1) end
    while b[1] == 1 do table.remove(b, 1) end
    if help.same(a, b) or #b == 0 then a = {constant.count(a)} end
    if #b > 0 and #a == 1 and #b > 1 then b = {constant.count(b)} end
    if #a == 0 and #b > 2 then b = {constant.count(b)} end
    if #a > 2 or #b > 2 then return nil end
    if #a == 1 and a[1] == 1 then a = {} end
    if #b == 1 and b[1] == 1 then b = {} end
    return table.move(x, #x - 1, #x, #a + 1, a), table.move(y, #y - 1, #y, #b + 1, b)
end

--- The product of two values or constants, as defined by MatMul. o: transpose_x, transpose_y,
-- scale.
local function product(d, n, a, o)
    local x, y = a[1], a[2]
    for i = 1, 2 do
        if help.is_constant(a[i]) then
            local c = d:parameter(n, i, a[i])
            if i == 1 then x = c else y = c end
        end
    end
    o = {transpose_x = o.transpose_x, transpose_y = o.transpose_y, scale = o.scale}
    if x.swapped and not x.v then x, o.transpose_x = x.swapped, not o.transpose_x end
    if y.swapped and not y.v then y, o.transpose_y = y.swapped, not o.transpose_y end
    local left, right = copy(x.shape), copy(y.shape)
    if #left == 1 then table.insert(left, 1, 1) end
    if #right == 1 then right[2] = 1 end
    local K = left[o.transpose_x and #left - 1 or #left]
    if K ~= right[o.transpose_y and #right or #right - 1] then
        n:wrong("cannot multiply %s by %s", constant.text(x.shape), constant.text(y.shape))
    end
    local rows, columns = left[o.transpose_x and #left or #left - 1],
        right[o.transpose_y and #right - 1 or #right]
    local shape = fold.broadcast_shape(n, table.move(left, 1, #left - 2, 1, {}),
        table.move(right, 1, #right - 2, 1, {}))
    if #x.shape > 1 then shape[#shape + 1] = rows end
    if #y.shape > 1 then shape[#shape + 1] = columns end
    local of_x, of_y = stacks(left, right)
    if not of_x then n:unsupported("of %s and %s", constant.text(x.shape), constant.text(y.shape)) end
    return d:value(shape, d.b:matmul(d:as(x, of_x), d:as(y, of_y), o))
end

function operators.MatMul(d, n, a)
    if not a[1] or not a[2] then n:wrong("has one input") end
    local x, w = a[1], a[2]
    if help.is_constant(w) and #w.shape == 2 and #x.shape > 1 then return linear(d, n, x, w, true) end
    return product(d, n, a, {})
end

--- A bias as M numbers, from a constant that is broadcast over the rows; nil if the rows have
-- different ones.
local function row(n, c, M)
    if c:count() == M and c.shape[#c.shape] == M then return c:reshape {M} end
    return c:count() == 1 and fold.operators.Expand(n, {c:reshape {1}, constant.whole {M}}) or nil
end

function operators.Gemm(d, n, a)
    local x, w, c = a[1] or n:wrong("has no input"), a[2] or n:wrong("has no second input"), a[3]
    local alpha, beta = n:attr("alpha", 1.0), n:attr("beta", 1.0)
    local across, transposed = n:attr("transA", 0) ~= 0, n:attr("transB", 0) == 0
    if #x.shape ~= 2 or #w.shape ~= 2 then
        n:unsupported("of %s and %s", constant.text(x.shape), constant.text(w.shape))
    end
    local M = w.shape[transposed and 2 or 1]
    if x.shape[across and 1 or 2] ~= w.shape[transposed and 1 or 2] then
        n:wrong("has weights %s for an input %s", constant.text(w.shape), constant.text(x.shape))
    end
    local bias = help.is_constant(c) and row(n, c, M) or nil
    local plain = help.is_constant(w) and not help.is_constant(x) and not across
    if plain and (not c or bias) then
        return linear(d, n, x, scaled(w, alpha), transposed, bias and scaled(bias, beta))
    end
    local y = product(d, n, a, {transpose_x = across, transpose_y = not transposed, scale = alpha})
    if not c then return y end
    return d:formula(n, y.shape, ("($1 + (%.17g) * $2)"):format(beta), {y, c}, {nil, 3})
end

-- Einsum --------------------------------------------------------------------

--- The positions of a text's letters; nil if one occurs twice or is not a letter.
local function places(text)
    local at = {}
    for i = 1, #text do
        local letter = text:sub(i, i)
        if at[letter] or not letter:find("%a") then return nil end
        at[letter] = i
    end
    return at
end

--- A sum over products of two values. Letters in both inputs and the result count matrices; letters
-- only in both inputs are summed over.
function operators.Einsum(d, n, a)
    local equation = n:attr("equation", ""):gsub("%s", "")
    local left, right, out = equation:match("^(%a+),(%a+)%->(%a+)$")
    local x, y, z = places(left or "1"), places(right or "1"), places(out or "1")
    if not (x and y and z) or a.n ~= 2 then n:unsupported("'%s'", equation) end
    local u, v = a[1] or n:wrong("has no input"), a[2] or n:wrong("has no second input")
    if #u.shape ~= #left or #v.shape ~= #right then n:wrong("has '%s' for other inputs", equation) end
    local stack, rows, columns, sum, size = {}, {}, {}, {}, {}
    for letter, i in pairs(x) do size[letter] = u.shape[i] end
    for letter, i in pairs(y) do
        if size[letter] and size[letter] ~= v.shape[i] then
            n:unsupported("'%s' with broadcasting", equation)
        end
        size[letter] = v.shape[i]
    end
    for letter in out:gmatch("%a") do
        local list = x[letter] and y[letter] and stack or x[letter] and rows or columns
        list[#list + 1] = letter
        if not size[letter] then n:wrong("makes '%s' of nothing", letter) end
    end
    for letter in left:gmatch("%a") do
        if y[letter] and not z[letter] then sum[#sum + 1] = letter end
        if not y[letter] and not z[letter] then n:unsupported("'%s'", equation) end
    end
    for letter in right:gmatch("%a") do
        if not x[letter] and not z[letter] then n:unsupported("'%s'", equation) end
    end
    local function total(letters)
        local product_of = 1
        for _, letter in ipairs(letters) do product_of = product_of * size[letter] end
        return product_of
    end
    --- An input with its letters in order, as a stack of matrices.
    local function arranged(input, i, at, first, second)
        local perm = {}
        for _, letters in ipairs {stack, first, second} do
            for _, letter in ipairs(letters) do perm[#perm + 1] = at[letter] - 1 end
        end
        if help.is_constant(input) then input = d:parameter(n, i, input) end
        return d:view(d:transposed(input, perm), {total(stack), total(first), total(second)})
    end
    local w = product(d, n, {arranged(u, 1, x, rows, sum), arranged(v, 2, y, sum, columns)}, {})
    local shape, perm, at = {}, {}, {}
    for _, letters in ipairs {stack, rows, columns} do
        for _, letter in ipairs(letters) do
            shape[#shape + 1] = size[letter]
            at[letter] = #shape - 1
        end
    end
    for letter in out:gmatch("%a") do perm[#perm + 1] = at[letter] end
    return d:transposed(d:view(w, shape), perm)
end

return operators
