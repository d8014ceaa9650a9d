--- Autograd: reverse-mode gradients of any computation on tensors in a script.
--
--     local x = autograd.track(images)                         -- f32, of any shape
--     local d = x - x0                                         -- tensors and numbers are constants
--     local J = (d * d):reshape{N, -1}:sum(2) + c * f(g(x))    -- g a net: one operation of many
--     local dx = autograd.gradient(J, x)                       -- of J's sum; J.value is the tensor
--
-- A tracked tensor has a `value` and the methods below. Each method makes a new tracked tensor and
-- records its backward step. Only f32 is tracked. The same methods of plain tensors compute the
-- same values.
--
--   x + y  x - y  x * y  x / y  x ^ y  -x, x:add(y) sub mul div pow, x:min(y) x:max(y): elementwise,
--       y is a number or a tensor that broadcasts: shapes are aligned at their last dimensions and
--       sizes of 1 are repeated
--   x:exp() x:log() x:log1p() x:tanh() x:sqrt() x:abs() x:clamp(low, high)
--   x:sum([dim[, keep]]) mean minimum maximum: along a dimension (keep leaves a size of 1); without
--       dim over all elements, giving a tensor without dimensions
--   x:logsumexp(dim[, keep]) x:softmax(dim) x:log_softmax(dim)
--   x:norm(p[, dim[, keep]]): p is 1, 2 or "inf"; without dim for each image of [N,...]
--   x:topk(k, dim) -> tracked values in falling order, and their indices. Of z [N,K] the k-th largest
--       are z:topk(k, 2):minimum(2) [N], any sum of the k largest is z:topk(k, 2):matmul(weights [k,1])
--   x:gather(dim, t): the elements at the indices t, counted from 0 like classes: z:gather(2, t) [N]
--       of z [N,K]; x:others(dim, t): all elements but those, z:others(2, t) [N,K-1]
--   x:matmul(y), of matrices; x:reshape{...} x:narrow(first, n)
--   autograd.where(mask, x, y): x where mask is not 0, else y; masks are x:gt(y) ge lt le eq
--   autograd.net(g, x), or g(x): logits [N,K] of images [N,C,H,W]
--
-- Gradients at ties and singularities:
--   ties       min and max of two split it equally; minimum, maximum, norm "inf" and topk give it to
--              the first of equal elements; clamp passes it at its bounds; abs and the 2-norm have 0 at 0
--   no limit   sqrt, log and powers below 1 have an infinite gradient at 0; an incoming gradient of 0
--              then gives NaN
--   NaN        an operand NaN makes the value NaN; minimum, maximum and topk treat NaN as the extreme.
--              A comparison with NaN is 0. min and max of two pass a gradient of NaN to both; clamp
--              passes the gradient; a NaN in a mask counts as set
--
-- x[i] raises: take rows of a tracked tensor with narrow, elements of rows with gather. Gradients of
-- gradients are not supported.

local arguments = require "advrt.support.check"
local tensor = require "advrt.tensor"

local autograd = {}

-- A missing method is nil, but indexing a row or an element must not silently give nil.
local Tracked = setmetatable({}, {__index = function(_, key)
    if type(key) ~= "string" then
        error("a tracked tensor has no []: use x:narrow(i, n) for rows i .. i+n-1, z:gather(2, t) for one "
            .. "element of each row, z:topk(k, 2):minimum(2) for the k-th largest of each row", 2)
    end
end})
Tracked.__index = Tracked
Tracked.__name = "advrt.tracked"

function Tracked.__newindex() error("a tracked tensor cannot be changed; compute a new one, for example by "
    .. "autograd.where", 2) end

local plain = tensor.new {1}
local plain_type = debug.getmetatable(plain)
local steps = 0

--- Whether a value is a tracked tensor.
function autograd.is_tracked(x) return getmetatable(x) == Tracked end
local is_tracked = autograd.is_tracked

--- The plain tensor of x, or x itself.
local function value_of(x)
    if is_tracked(x) then return x.value end
    return x
end

-- Records a step. value: its result; back: maps its gradient to the gradients of a and b; a, b: its tracked
-- operands (nil: none).
local function step(value, back, a, b)
    steps = steps + 1
    return setmetatable({value = value, back = back, a = a, b = b, order = steps}, Tracked)
end

-- Calls a method of plain tensors. Errors are raised at the caller's caller.
local function call(name, ...) return arguments.call(name, 1, plain[name], ...) end

--- Makes a tracked tensor. x: f32; the storage is shared, so do not change x before taking the
-- gradient.
function autograd.track(x)
    if debug.getmetatable(x) ~= plain_type or x:dtype() ~= "f32" then
        error(("bad argument #1 to 'track' (a tensor of f32 expected, got %s)"):format(
            debug.getmetatable(x) == plain_type and x:dtype() or type(x)), 2)
    end
    return step(x)
end

-- Two operands ------------------------------------------------------------------------------

-- Sums a gradient over the dimensions along which `like` was broadcast.
local function fit(d, like)
    local from, to = d:shape(), like:shape()
    for _ = 1, #from - #to do d = d:sum(1) end
    local ahead = #from - #to
    for i = 1, #to do
        if to[i] == 1 and from[i + ahead] ~= 1 then d = d:sum(i, true) end
    end
    return d
end

-- rule(dy, p, q, y, a, b) returns the gradients of the operands p and q of y; a and b say which are
-- needed.
local function binary(name, rule)
    return function(x1, x2)
        local a, b = is_tracked(x1) and x1 or nil, is_tracked(x2) and x2 or nil
        local p, q = value_of(x1), value_of(x2)
        local y = call(name, p, q)
        return step(y, function(dy)
            local da, db = rule(dy, p, q, y, a, b)
            return a and fit(da, p), b and fit(db, q)
        end, a, b)
    end
end

local share = plain.share

local function power_rule(dy, p, q, y, a, b)
    local da, db
    if a and q == 0 then
        da = tensor.new(dy:shape())
    elseif a then
        da = dy * (p ^ (q - 1) * q)
        if type(q) ~= "number" then da = da:keep(q) end
    end
    if b then db = (dy * y * (type(p) == "number" and math.log(p) or p:log())):keep(y) end
    return da, db
end

Tracked.add = binary("add", function(dy) return dy, dy end)
Tracked.sub = binary("sub", function(dy, _, _, _, _, b) return dy, b and -dy end)
Tracked.mul = binary("mul", function(dy, p, q, _, a, b) return a and dy * q, b and dy * p end)
Tracked.div = binary("div", function(dy, _, q, y, a, b)
    return a and dy / q, b and -(dy * y / q)
end)
Tracked.pow = binary("pow", power_rule)
Tracked.max = binary("max", function(dy, p, q, _, a, b)
    return a and dy * share(p, q), b and dy * share(q, p)
end)
Tracked.min = binary("min", function(dy, p, q, _, a, b)
    return a and dy * share(q, p), b and dy * share(p, q)
end)
Tracked.keep = binary("keep", function(dy, _, q, _, a, b)
    return a and dy:keep(q), b and tensor.new(dy:shape())
end)
Tracked.__add, Tracked.__sub, Tracked.__mul = Tracked.add, Tracked.sub, Tracked.mul
Tracked.__div, Tracked.__pow = Tracked.div, Tracked.pow

-- Comparisons make masks: plain tensors.
for _, name in ipairs {"gt", "ge", "lt", "le", "eq"} do
    Tracked[name] = function(x, y) return (call(name, value_of(x), value_of(y))) end
end

--- x where mask is not 0, else y; a mask is a tensor, x and y are tensors, tracked ones or numbers.
function autograd.where(mask, x, y)
    for i, v in ipairs {mask or false, x or false, y or false} do
        local good = debug.getmetatable(v) == plain_type or is_tracked(v)
        if not good and (i == 1 or type(v) ~= "number") then
            error(("bad argument #%d to 'where' (a tensor expected, got %s)"):format(i,
                select(i, type(mask), type(x), type(y))), 2)
        end
    end
    mask = value_of(mask)
    local open, shut = mask, mask:eq(0)
    if type(x) == "number" then x = tensor.new(mask:shape()):fill(x) end
    if type(y) == "number" then y = tensor.new(mask:shape()):fill(y) end
    return x:keep(open) + y:keep(shut)
end

-- One operand -------------------------------------------------------------------------------

-- rule(dy, x, y) returns the gradient of x.
local function unary(name, rule)
    Tracked[name] = function(x)
        local v = x.value
        local y = call(name, v)
        return step(y, function(dy) return rule(dy, v, y) end, x)
    end
end

unary("exp", function(dy, _, y) return dy * y end)
unary("log", function(dy, x) return dy / x end)
unary("log1p", function(dy, x) return dy / (x + 1) end)
unary("tanh", function(dy, _, y) return dy * ((1 - y) * (1 + y)) end)
unary("sqrt", function(dy, _, y) return dy / (2 * y) end)
unary("abs", function(dy, x) return dy * x:clone():sign_() end)

function Tracked.__unm(x)
    return step(-x.value, function(dy) return -dy end, x)
end

function Tracked.clamp(x, low, high)
    local v = x.value
    local y = call("clamp", v, low, high)
    return step(y, function(dy) return dy:keep((v:lt(low) + v:gt(high)):eq(0)) end, x)
end

function Tracked.reshape(x, shape)
    local v = x.value
    local y = call("reshape", v, shape)
    return step(y, function(dy) return dy:reshape(v:shape()) end, x)
end

function Tracked.narrow(x, first, n)
    local v = x.value
    local y = call("narrow", v, first, n)
    return step(y, function(dy)
        local dx = tensor.new(v:shape())
        dx:narrow(first, n):copy(dy)
        return dx
    end, x)
end

-- Rows --------------------------------------------------------------------------------------

-- Restores size 1 in the reduced dimension of a gradient.
local function standing(dy, like, dim)
    local shape = like:shape()
    shape[dim] = 1
    return dy:reshape(shape)
end

local function spread(dy, like, dim) return tensor.new(like:shape()) + standing(dy, like, dim) end

-- All elements as one row, for reductions without a dimension.
local function whole(x) return x:reshape {-1} end

function Tracked.sum(x, dim, keep)
    if not dim then return whole(x):sum(1) end
    local v = x.value
    local y = call("sum", v, dim, keep)
    return step(y, function(dy) return spread(dy, v, dim) end, x)
end

function Tracked.mean(x, dim, keep)
    if not dim then return whole(x):mean(1) end
    local v = x.value
    local y = call("mean", v, dim, keep)
    return step(y, function(dy) return spread(dy / v:size(dim), v, dim) end, x)
end

function Tracked.topk(x, k, dim)
    local v = x.value
    local y, index = call("topk", v, k, dim)
    return step(y, function(dy) return dy:scatter(dim, index, v:size(dim)) end, x), index
end

function Tracked.maximum(x, dim, keep)
    if not dim then return whole(x):maximum(1) end
    local v = x.value
    local y = call("maximum", v, dim, keep)
    return step(y, function(dy)
        local _, index = v:topk(1, dim)
        return standing(dy, v, dim):scatter(dim, index, v:size(dim))
    end, x)
end

function Tracked.minimum(x, dim, keep)
    if not dim then return whole(x):minimum(1) end
    local v = x.value
    local y = call("minimum", v, dim, keep)
    return step(y, function(dy)
        local _, index = (-v):topk(1, dim)
        return standing(dy, v, dim):scatter(dim, index, v:size(dim))
    end, x)
end

function Tracked.logsumexp(x, dim, keep)
    local v = x.value
    local y = call("logsumexp", v, dim, keep)
    return step(y, function(dy) return v:softmax(dim) * standing(dy, v, dim) end, x)
end

function Tracked.softmax(x, dim)
    local y = call("softmax", x.value, dim)
    return step(y, function(dy) return y * (dy - (dy * y):sum(dim, true)) end, x)
end

-- log_softmax(z)_t has the value and the gradient of loss.ce, bit for bit.
function Tracked.log_softmax(x, dim)
    local v = x.value
    return step(call("log_softmax", v, dim), function(dy)
        return dy - v:softmax(dim, true) * dy:sum(dim, true)
    end, x)
end

function Tracked.norm(x, p, dim, keep)
    local v = x.value
    if not dim then
        local N = call("size", v, 1)
        return x:reshape {N, v:numel() // math.max(1, N)}:norm(p, 2)
    end
    local y = call("norm", v, p, dim, keep)
    p = tonumber(p) or p
    return step(y, function(dy)
        dy = standing(dy, v, dim)
        if p == 1 then return v:clone():sign_() * dy end
        if p == 2 then
            local size = standing(y, v, dim)
            return (v / size):keep(size) * dy
        end
        local _, index = v:abs():topk(1, dim)
        return v:clone():sign_() * dy:scatter(dim, index, v:size(dim))
    end, x)
end

-- Converts indices to a tensor, as for gather, so that the backward step has them too.
local function indices(t)
    if type(t) == "table" and not is_tracked(t) then return tensor.from(t, "i64") end
    if debug.getmetatable(t) == plain_type and t:dtype():find "^[iu]%d" then return t:to("i64") end
    return t
end

function Tracked.gather(x, dim, t)
    local v, index = x.value, indices(t)
    local y = call("gather", v, dim, index)
    local single = index:dim() < v:dim()
    return step(y, function(dy) return dy:scatter(dim, index, v:size(dim), single) end, x)
end

function Tracked.others(x, dim, t)
    local v, index = x.value, indices(t)
    local y = call("others", v, dim, index)
    return step(y, function(dy) return dy:scatter_others(dim, index) end, x)
end

function Tracked.matmul(x1, x2)
    local a, b = is_tracked(x1) and x1 or nil, is_tracked(x2) and x2 or nil
    local p, q = value_of(x1), value_of(x2)
    local y = call("matmul", p, q)
    return step(y, function(dy) return a and dy:matmul(q, "nt"), b and p:matmul(dy, "tn") end, a, b)
end

-- Networks ----------------------------------------------------------------------------------

--- Logits [N,K] of images x [N,C,H,W] as one step whose backward is the net's plan; plain logits
-- for a plain x. If the net has seen other images since, backward first repeats the forward pass.
function autograd.net(g, x)
    if type(g) ~= "table" or not g.trace or not g.backward then
        error(("bad argument #1 to 'net' (a net expected, got %s)"):format(type(g)), 2)
    end
    if not is_tracked(x) then return g:forward(x) end
    local v = x.value
    local z, trace = g:trace(v)
    return step(z, function(dz)
        if not (g.holds and g:holds(trace)) then trace = select(2, g:trace(v)) end
        return g:backward(dz, nil, trace)
    end, x)
end

-- Back --------------------------------------------------------------------------------------

local function add_to(gradients, x, dx)
    local before = gradients[x]
    gradients[x] = before and before + dx or dx
end

-- All steps that y depends on, the last one first.
local function history(y)
    local seen, list = {[y] = true}, {y}
    local i = 1
    while list[i] do
        local one = list[i]
        if one.a and not seen[one.a] then seen[one.a], list[#list + 1] = true, one.a end
        if one.b and not seen[one.b] then seen[one.b], list[#list + 1] = true, one.b end
        i = i + 1
    end
    table.sort(list, function(p, q) return p.order > q.order end)
    return list
end

--- The gradients of the sum of y's elements with respect to tracked tensors, as plain tensors of
-- the same shapes; zeros if y does not depend on one.
function autograd.gradient(y, ...)
    local wanted = {...}
    for i = 0, #wanted do
        local x = i == 0 and y or wanted[i]
        if not is_tracked(x) then
            error(("bad argument #%d to 'gradient' (a tracked tensor expected, got %s)"):format(i + 1,
                debug.getmetatable(x) == plain_type and "a plain one" or type(x)), 2)
        end
    end
    local gradients = {[y] = tensor.new(y.value:shape()):fill(1)}
    for _, one in ipairs(history(y)) do
        local dy = gradients[one]
        if dy and one.back then
            local da, db = one.back(dy)
            if one.a then add_to(gradients, one.a, da) end
            if one.b then add_to(gradients, one.b, db) end
        end
    end
    for i, x in ipairs(wanted) do
        local dx = gradients[x]
        wanted[i] = not dx and tensor.new(x.value:shape())
            or #wanted > 1 and dx:clone() -- of two gradients, one may be a view of the other
            or dx
    end
    return table.unpack(wanted)
end

-- Methods of tracked tensors that answer from their values.
for _, name in ipairs {"shape", "size", "dim", "numel", "dtype", "totable", "item", "get", "argmax"} do
    Tracked[name] = function(x, ...) return (call(name, x.value, ...)) end
end
function Tracked.__len(x) return #x.value end
function Tracked.__tostring(x) return "tracked " .. tostring(x.value) end

return autograd
