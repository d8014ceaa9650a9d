-- Autograd: what rules are put together to; ties, NaN, networks and mistakes.

local autograd = require "advrt.autograd"
local gradients = require "gradients"
local loss = require "advrt.loss"
local net = require "advrt.net"
local support = require "support"
local tensor = require "advrt.tensor"

local track, gradient = autograd.track, autograd.gradient
local sum, map, flat, near = gradients.sum, gradients.map, gradients.flat, gradients.near
local nan, inf = 0 / 0, math.huge

describe("autograd", function()
    local function same(wanted, t)
        for i, v in ipairs(flat(t)) do
            assert(wanted[i] == v or (wanted[i] ~= wanted[i] and v ~= v),
                ("element %d is %g, wanted %g"):format(i, v, wanted[i]))
        end
    end

    it("sums what comes back over every use of a tensor", function()
        local x = track(tensor.from {1, 2, 3})
        same({3, 5, 7}, gradient(x * x + x, x))
        local y = x:exp()
        near({2 * math.exp(1), 0, 0}, flat(gradient((y + y):narrow(1, 1), x)), 1e-6, "reused step")
        local a, b = track(tensor.from {2}), track(tensor.from {5})
        local da, db = gradient(a * b, a, b)
        same({5}, da)
        same({2}, db)
        da, db = gradient(a + b, a, b)
        da:mul_(3)
        same({1}, db)
        same({0}, gradient(a * 3, b))
        same({1}, gradient(a, a))
        assert.same({2}, a.value:totable())
    end)

    it("splits ties as it says", function()
        local x, y = track(tensor.from {1, 2, 0}), track(tensor.from {1, 1, 1})
        for _, name in ipairs {"max", "min"} do
            local dx, dy = gradient(x[name](x, y), x, y)
            same(name == "max" and {0.5, 1, 0} or {0.5, 0, 1}, dx)
            same(name == "max" and {0.5, 0, 1} or {0.5, 1, 0}, dy)
        end
        same({0.5, 1, 0}, gradient(x:max(1), x))
        same({1, 0, 1}, gradient(x:clamp(0, 1), x))
        local z = track(tensor.from {{3, 3, 1}, {0, 0, 0}})
        same({1, 0, 0, 1, 0, 0}, gradient(z:maximum(2), z))
        same({0, 0, 1, 1, 0, 0}, gradient(z:minimum(2), z))
        local values, index = z:topk(2, 2)
        assert.same({{0, 1}, {0, 1}}, index:totable())
        same({1, 1, 0, 1, 1, 0}, gradient(values, z))
        same({1, 0, 0, 0, 0, 0}, gradient(z:norm("inf", 2), z))
        local zero = track(tensor.new {1, 2})
        same({0, 0}, gradient(zero:norm(2), zero))
        same({0, 0}, gradient(zero:norm(1), zero))
        for _, two in ipairs {2.0, "2"} do -- the same norm, however it is written
            local v = track(tensor.from {3, 4})
            near({0.6, 0.8}, flat(gradient(v:norm(two, 1), v)), 1e-6, "norm")
        end
        same({0, 0}, gradient(zero:abs(), zero))
        same({0, 0}, gradient(zero ^ 2, zero))
        same({0, 0}, gradient(zero ^ 0, zero))
        same({inf, inf}, gradient(zero:sqrt(), zero))
        same({inf, inf}, gradient(zero:log(), zero))
        same({nan, nan}, gradient(zero:sqrt() * 0, zero))
    end)

    it("passes NaN on as it says", function()
        local x = track(tensor.from {nan, 1})
        for _, y in ipairs {x + 1, x * x, x:exp(), x:tanh(), x:abs(), x:sqrt(), x:max(0), x:min(2),
            x:clamp(-2, 2), x ^ 2} do
            assert.is_true(y:get(1) ~= y:get(1))
            assert.is_true(y:get(2) == y:get(2))
        end
        local y = track(tensor.from {0, nan})
        local dx, dy = gradient(x:max(y), x, y)
        same({nan, nan}, dx)
        same({nan, nan}, dy)
        same({1, 1}, gradient(x:clamp(-2, 2), x))
        local z = track(tensor.from {{1, nan, 3}, {3, 1, 2}})
        for _, one in ipairs {z:maximum(2), z:minimum(2), z:logsumexp(2), z:sum(2), z:norm(2, 2),
            z:norm("inf", 2), z:norm(1, 2)} do
            assert.is_true(one:get(1) ~= one:get(1))
            assert.is_true(one:get(2) == one:get(2))
        end
        same({0, 1, 0, 1, 0, 0}, gradient(z:maximum(2), z))
        same({nan, 3, 1}, z:topk(3, 2).value[1])
        for _, one in ipairs {z:softmax(2), z:log_softmax(2)} do
            same({nan, nan, nan}, one.value[1])
            assert.is_true(one:get(2, 1) == one:get(2, 1))
        end
        same({nan, 2}, autograd.where(tensor.from {nan, 0}, x, 2).value)
        same({0, 1}, autograd.where(tensor.from {0, 1}, x, 0).value)
    end)

    it("holds out against infinities in logsumexp", function()
        local z = tensor.from {{-inf, -inf}, {inf, 1}, {1000, -inf}, {-1000, -1000}}
        local y = z:logsumexp(2)
        same({-inf, inf, 1000}, y:narrow(1, 3))
        assert.near(-1000 + math.log(2), y:get(4), 4e-5)
    end)

    it("makes of log_softmax what the loss ce is, to the bit", function()
        local z = (tensor.uniform("logits", {5, 1000}) - 0.5) * 60
        z:set(90, 2, 8)
        z:set(140, 3, 1)
        local target = {3, 7, 999, 0, 5}
        local value, dz = loss.ce:evaluate(z, target)
        local x = track(z)
        local y = x:log_softmax(2):gather(2, target)
        assert.is_true(value:equal(y.value))
        assert.is_true(dz:equal(gradient(y, x)))
    end)

    it("takes sums and norms of tiny numbers in double", function()
        local x = track(tensor.from {{3e-23, 4e-23}})
        local size = x:norm(2)
        assert.near(1, size:item() / 5e-23, 1e-6)
        near({0.6, 0.8}, flat(gradient(size, x)), 1e-6, "norm")
    end)

    it("goes back through a network as through any step", function()
        local g = assert(net.load("nets/fashion.lua", {init = "golden"}))
        local images = tensor.uniform("images", {2, 1, 28, 28})
        local target = {3, 7}
        local x = track(images)
        local z = g(x)
        local wanted_z, wanted = g:gradient(images, loss.ce, target)
        assert.is_true(wanted_z:equal(z.value))
        -- the net has traced for another since: it must go forward again
        g:trace(images * 0.5)
        assert.is_true(wanted:equal(gradient(z:log_softmax(2):gather(2, target), x)))
        -- two uses of the net in one objective
        local other = track(images * 0.25)
        local J = g(x):sum(2) + g(other):sum(2)
        local dx, dother = gradient(J, x, other)
        g:trace(images)
        assert.is_true(dx:equal(g:backward(tensor.new {2, 10}:fill(1))))
        g:trace(other.value)
        assert.is_true(dother:equal(g:backward(tensor.new {2, 10}:fill(1))))
        assert.is_true(g:forward(images):equal(g(images)))
    end)

    it("differentiates what a script composes: ||x - x0||^2 + c f(g(x))", function()
        local rows, bias = {{1, -2, 0.5, 1}, {0.5, 1, -1, 2}, {-1, 0.25, 2, 0}}, {0.1, 0, -0.2}
        local g = support.linear(rows, bias, {1, 2, 2})
        local at = {0.2, 0.9, 0.4, 0.6}
        local x0 = tensor.from {{{{0.5, 0.5}, {0.25, 0.75}}}}
        local c, target = 0.7, {1}
        local function objective(v)
            local z = map(rows, function(row, k)
                return bias[k] + sum(map(row, function(w, i) return w * v[i] end))
            end)
            local f = math.max(z[1], z[3]) - z[2]
            return sum(map(flat(x0), function(p, i) return (v[i] - p) ^ 2 end)) + c * f
        end
        local x = track(tensor.from(at, "f32", {1, 1, 2, 2}))
        local d, z = x - x0, autograd.net(g, x)
        local J = (d * d):reshape {1, -1}:sum(2)
            + c * (z:others(2, target):maximum(2) - z:gather(2, target))
        near({objective(at)}, flat(J.value), 1e-6, "objective")
        local slopes, h = {}, 1e-6
        for i = 1, 4 do
            local v = at[i]
            at[i] = v + h
            local up = objective(at)
            at[i] = v - h
            slopes[i] = (up - objective(at)) / (2 * h)
            at[i] = v
        end
        near(slopes, flat(gradient(J, x)), 1e-5, "composition")
    end)

    it("works across threads' limits and on long rows alike", function()
        local x = track(tensor.uniform("long", {3, 40000}) - 0.5)
        local rows = x.value:totable()
        local y = x:sum(2)
        for i = 1, 3 do assert.near(sum(rows[i]), y:get(i), 1e-4 * math.abs(sum(rows[i]))) end
        local shifted = x - x:mean(2, true)
        for i = 1, 3 do assert.near(0, shifted.value[i]:sum(), 1e-2) end
        local columns = x:sum(1)
        assert.near(rows[1][39999] + rows[2][39999] + rows[3][39999], columns:get(39999), 1e-6)
    end)

    it("has the k-th largest of each row as the least of the k largest", function()
        local z = track(tensor.from {{1, 4, 3, 2}, {5, 5, 0, 7}})
        local third = z:topk(3, 2):minimum(2)
        assert.same({2, 5}, third.value:totable())
        same({0, 0, 0, 1, 1, 0, 0, 0}, gradient(third, z))
    end)

    it("blames the line that is wrong", function()
        local x = track(tensor.new {2, 3})
        local function refuses(f, ...)
            local ok, message = pcall(f)
            assert.is_false(ok)
            assert.matches("^[^\n]*autograd_spec%.lua:%d+: ", message)
            for _, text in ipairs {...} do
                assert.truthy(message:find(text, 1, true), message)
            end
        end
        refuses(function() local _ = x:gather(3, {0, 0}) end, "'gather'", "no dimension 3", "[2,3]")
        refuses(function() local _ = x:gather(2, {0, 3}) end, "'gather'", "0 .. 2, got 3")
        refuses(function() local _ = x:gather(2, {0}) end, "wanted 2 classes, got 1")
        refuses(function() local _ = x:others(2, {0, -1}) end, "got -1")
        refuses(function() local _ = x[1] end, "narrow", "gather", "topk")
        refuses(function() local _ = x:topk(2, 2)[2] end, ":minimum(2)")
        refuses(function() x[1] = 0 end, "cannot be changed")
        refuses(function() local _ = x + tensor.new {2} end, "'add'", "[2,3]", "[2]")
        refuses(function() local _ = x * "a" end, "'mul'", "string")
        refuses(function() local _ = x:matmul(x) end, "cannot multiply")
        refuses(function() local _ = x:topk(4, 2) end, "1 to 3", "got 4")
        refuses(function() local _ = x:clamp(1, 0) end, "below")
        refuses(function() local _ = x:norm(3, 1) end, "1, 2 or")
        refuses(function() local _ = x:reshape {5} end, "'reshape'")
        refuses(function() local _ = x:narrow(2, 2) end, "'narrow'")
        refuses(function() local _ = track(tensor.new({1}, "f64")) end, "f64")
        refuses(function() local _ = track {1} end, "got table")
        refuses(function() local _ = gradient(x, tensor.new {1}) end, "#2", "a plain one")
        refuses(function() local _ = gradient(1) end, "#1", "got number")
        refuses(function() local _ = autograd.net({}, x) end, "a net expected")
        refuses(function() local _ = autograd.where(x:gt(0), x) end, "#3 to 'where'", "got nil")
        refuses(function() local _ = autograd.where(true, x, 1) end, "#1 to 'where'", "got boolean")
    end)
end)
