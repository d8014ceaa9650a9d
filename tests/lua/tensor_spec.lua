--- Tensors as scripts see them: making, views, elements, arithmetic, errors; the losses' C half.
local tensor = require "advrt.tensor"
local losses = require "advrt.core.loss"

local nan = 0 / 0

-- Asserts that calling f raises a message that holds every one of the words.
local function refuses(f, ...)
    local ok, message = pcall(f)
    assert.is_false(ok)
    for _, words in ipairs {...} do
        assert(tostring(message):find(words, 1, true), ("'%s' lacks '%s'"):format(message, words))
    end
end

local function close(wanted, got, tolerance)
    assert(math.abs(wanted - got) <= (tolerance or 1e-6), ("%.9g, wanted %.9g"):format(got, wanted))
end

describe("making tensors", function()
    it("fills new ones with zeros", function()
        for _, dtype in ipairs {"f32", "f64", "f16", "bf16", "i64", "i32", "i16", "i8", "u8"} do
            local x = tensor.new({2, 3000}, dtype)
            assert.are.equal(dtype, x:dtype())
            assert.are.equal(0, x:maximum())
            assert.are.equal(0, x:minimum())
        end
        assert.is_false(tensor.new({}, "bool"):item())
    end)

    it("reads nested and flat tables", function()
        local x = tensor.from {{1, 2, 3}, {4, 5, 6.5}}
        assert.are.same({2, 3}, x:shape())
        assert.are.same({{1, 2, 3}, {4, 5, 6.5}}, x:totable())
        x = tensor.from({1, 2, 3, 4, 5, 6}, "i64", {3, -1})
        assert.are.same({{1, 2}, {3, 4}, {5, 6}}, x:totable())
        assert.are.equal("integer", math.type(x:get(1, 1)))
        assert.are.same({true, false}, tensor.from({true, false}, "bool"):totable())
        assert.are.same({0}, tensor.from({}):shape())
        local large = (1 << 53) + 1
        assert.are.equal(large, tensor.from({large}, "i64"):get(1))
    end)

    it("makes the project's random numbers", function()
        local x = tensor.uniform("input", {3, 5})
        assert.are.equal(x:get(2, 1), tensor.uniform("input", {6}):get(6))
        assert.is_true(x:minimum() >= 0 and x:maximum() < 1)
        assert.is_false(x:equal(tensor.uniform("other", {3, 5})))
    end)

    it("stacks and joins", function()
        local a, b = tensor.from {1, 2}, tensor.from {3, 4}
        assert.are.same({{1, 2}, {3, 4}}, tensor.stack {a, b}:totable())
        assert.are.same({1, 2, 3, 4}, tensor.concat {a, b}:totable())
        assert.are.same({3, 2}, tensor.concat {tensor.stack {a, b}, tensor.stack {a}}:shape())
        refuses(function() tensor.stack {a, tensor.new {3}} end, "item 2", "[3]", "[2]")
        refuses(function() tensor.stack {a, 7} end, "item 2", "not a tensor")
        refuses(function() tensor.concat {} end, "empty")
        refuses(function() tensor.concat {tensor.new {}} end, "dimensions")
    end)

    it("says what is wrong with a shape, a type or a table", function()
        refuses(function() tensor.new {2, -1} end, "bad argument #1", "negative")
        refuses(function() tensor.new {1.5} end, "whole number", "1.5")
        refuses(function() tensor.new {1, 1, 1, 1, 1, 1, 1, 1, 1} end, "at most 8 dimensions")
        refuses(function() tensor.new {1 << 40, 1 << 40} end, "too large")
        refuses(function() tensor.new({1}, "f8") end, "'f8'", "f32 f64 f16")
        refuses(function() tensor.from {{1}, {2, 3}} end, "differ in length")
        refuses(function() tensor.from {{1}, 2} end, "mixed")
        refuses(function() tensor.from {1, "x"} end, "must be a number, got x")
        refuses(function() tensor.from({256}, "u8") end, "in range", "256")
        refuses(function() tensor.from({1, 2, 3}, "f32", {2, 2}) end, "[2,2]")
    end)
end)

describe("a tensor", function()
    it("tells its facts", function()
        local x = tensor.new {4, 3}
        assert.are.equal(4, #x)
        assert.are.equal(3, x:size(2))
        assert.are.equal(2, x:dim())
        assert.are.equal(12, x:numel())
        x:set(nan, 1, 1):set(-2, 2, 2)
        assert.are.equal("tensor f32 [4,3] in -2 .. 0, 1 NaN", tostring(x))
        assert.are.equal("tensor f32 [0], 0 NaN", tostring(tensor.new {0}))
        refuses(function() x:size(3) end, "dimensions 1 .. 2, got 3")
    end)

    it("gives and takes elements", function()
        local x = tensor.new {2, 2}
        x:set(0.5, 2, 1)
        assert.are.equal(0.5, x:get(2, 1))
        assert.are.equal(0.5, x:narrow(2, 1):reshape {-1}:narrow(1, 1):item())
        refuses(function() x:get(3, 1) end, "1 .. 2, got 3")
        refuses(function() x:get(0, 1) end, "got 0")
        refuses(function() x:get(1) end, "2 dimensions, got 1 indices")
        refuses(function() x:item() end, "exactly one")
        refuses(function() x:set("a", 1, 1) end, "must be a number")
    end)

    it("shares its numbers with views", function()
        local x = tensor.from {{1, 2}, {3, 4}, {5, 6}}
        local row, rows, flat = x[2], x:narrow(2, 2), x:reshape {6}
        x:set(9, 2, 1)
        assert.are.equal(9, row:get(1))
        assert.are.equal(9, rows:get(1, 1))
        assert.are.equal(9, flat:get(3))
        local copy = x:clone()
        rows:fill(0)
        assert.are.same({{1, 2}, {0, 0}, {0, 0}}, x:totable())
        assert.are.equal(9, copy:get(2, 1))
        assert.are.equal(6, x:copy(copy)[3]:get(2))
        assert.are.equal(6, x[3][2]:item())
        refuses(function() return x[4] end, "no row 4")
        refuses(function() x:narrow(3, 2) end, "2 rows from row 3")
        refuses(function() x:narrow(math.mininteger, 2) end, "rows")
        refuses(function() x:reshape {4} end, "[4]")
        refuses(function() x:reshape {-1, -1} end, "only one")
        refuses(function() x:reshape {-1, 0} end, "-1")
        refuses(function() x:copy(tensor.new {2, 3}) end, "[3,2]", "[2,3]")
    end)

    it("outlives what it was made from", function()
        local row
        do
            local x = tensor.new {2, 1000}
            x:fill(3)
            row = x[2]
        end
        collectgarbage()
        collectgarbage()
        assert.are.equal(3000, row:sum())
    end)

    it("changes its element type", function()
        local x = tensor.from {1.5, -2.5, 300, nan}
        assert.are.same({1, 0, 255, 0}, x:to("u8"):totable())
        assert.are.same({1, -2, 300, 0}, x:to("i64"):totable())
        assert.are.equal(65504, tensor.from({65519}):to("f16"):get(1))
        assert.are.equal(math.huge, tensor.from({65520}):to("f16"):get(1))
        refuses(function() x:to() end, "string expected")
    end)

    it("holds images", function()
        local x = tensor.new {2, 1, 2, 2}
        x:set_image(2, tensor.from({{{0, 51}, {255, 128}}}, "u8"))
        assert.are.equal(51 / 255, tensor.from({51 / 255}, "f64"):get(1))
        close(0.2, x:get(2, 1, 1, 2), 1e-7)
        assert.are.equal(1, x:get(2, 1, 2, 1))
        assert.are.same({{{0, 51}, {255, 128}}}, x:image_u8(2):totable())
        x:set_image(1, tensor.from {{{-1, 2}, {nan, 2.5 / 255}}})
        assert.are.same({{{0, 255}, {0, 2}}}, x:image_u8(1):totable())
        refuses(function() x:set_image(1, tensor.new {1, 2, 3}) end, "[1,2,2]", "[1,2,3]")
        refuses(function() x:set_image(3, tensor.new {1, 2, 2}) end, "no row 3")
    end)
end)

describe("arithmetic", function()
    it("works with tensors and numbers on either side", function()
        local x, y = tensor.from {1, 2, 4}, tensor.from {4, 2, 1}
        assert.are.same({5, 4, 5}, (x + y):totable())
        assert.are.same({-3, 0, 3}, (x - y):totable())
        assert.are.same({4, 4, 4}, (x * y):totable())
        assert.are.same({0.25, 1, 4}, (x / y):totable())
        assert.are.same({1, 2, 1}, x:min(y):totable())
        assert.are.same({4, 2, 4}, x:max(y):totable())
        assert.are.same({2, 3, 5}, (x + 1):totable())
        assert.are.same({0, -1, -3}, (1 - x):totable())
        assert.are.same({8, 4, 2}, (8 / x):totable())
        assert.are.same({-1, -2, -4}, (-x):totable())
        assert.are.same({2, 4, 8}, (2 * x):totable())
        assert.are.same({1, 2, 4}, x:totable())
        assert.are.equal(x, x:add_(1):mul_(y):sub_(y):div_(2))
        assert.are.same({2, 2, 2}, x:totable())
    end)

    it("reads an operand that is part of what it changes as it was", function()
        local x = tensor.from {{1, 2}, {3, 4}, {6, 8}}
        assert.are.same({{0, 0}, {2, 2}, {5, 6}}, x:clone():sub_(x[1]):totable())
        local y = x:clone()
        assert.are.same({{0, 0}, {2, 2}, {5, 6}}, y:sub_(y[1]):totable())
        assert.are.same({{0, 0}, {4, 4}, {10, 12}}, y:add_(y):totable())
        for _, dtype in ipairs {"f32", "f64"} do
            local z = tensor.from({1, 2, 3, 4}, dtype)
            z:narrow(2, 3):add_(z:narrow(1, 3))
            assert.are.same({1, 3, 5, 7}, z:totable())
        end
    end)

    it("changes no number in place", function()
        for _, dtype in ipairs {"f32", "f64"} do
            local x = tensor.new({2}, dtype)
            refuses(function() x.add_(2, x) end, "expected, got number")
        end
    end)

    it("takes the sign away, of zeros too", function()
        local x = tensor.from({0, -0.0, -2, 3}):abs()
        assert.are.same({0, 0, 2, 3}, x:totable())
        for i = 1, 2 do assert.are.equal(math.huge, 1 / x:get(i)) end
    end)

    it("tells integers apart that doubles cannot", function()
        local x = tensor.from({1 << 53, (1 << 53) + 1}, "i64")
        assert.is_true(x:equal(x:clone()))
        assert.is_false(x[1]:equal(x[2]))
    end)

    it("is double for f64", function()
        local x = tensor.from({2.0 ^ -200, 3}, "f64")
        assert.are.same({2.0 ^ -400, 9}, (x * x):totable())
        assert.are.same({2.0 ^ 200, 1 / 3}, (1 / x):totable())
        assert.are.same({1, -2}, (1 - x):totable())
        assert.are.same({0.1, 0.1}, x:fill(0.1):totable())
        refuses(function() return x + tensor.new {2} end, "f64 [2]", "f32 [2]")
    end)

    it("refuses other shapes and things", function()
        local x = tensor.new {2}
        refuses(function() return x + tensor.new {3} end, "[2]", "[3]")
        refuses(function() return x + "a" end, "advrt.tensor")
        refuses(function() return {} + x end, "advrt.tensor")
        refuses(function() return x + tensor.new({2}, "i64") end, "i64")
        refuses(function() return tensor.new({2}, "u8") + 1 end, "f32 or f64, got u8")
    end)

    it("limits, rounds and takes signs", function()
        local x = tensor.from {-2, -0.25, 0, 0.5, 3}
        assert.are.same({0, 0, 0, 0.5, 1}, x:clamp(0, 1):totable())
        assert.are.same({2, 0.25, 0, 0.5, 3}, x:abs():totable())
        assert.are.same({-1, -1, 0, 1, 1}, x:clone():sign_():totable())
        assert.are.same({0, 1, 1}, tensor.from({0.25, 0.75, 1}):quantize_(2):totable())
        refuses(function() x:clamp(1, 0) end, "below the lower")
        refuses(function() x:quantize_(0) end, "above 0")
        assert.are.same({-1, -0.25, 0, 0.5, 1}, x:clamp_(-1, 1):totable())
    end)

    it("sums up to plain numbers", function()
        local x = tensor.from {{1, 2}, {3, 6}}
        assert.are.equal(12, x:sum())
        assert.are.equal(3, x:mean())
        assert.are.equal(1, x:minimum())
        assert.are.equal(6, x:maximum())
        x:set(nan, 1, 1)
        assert.is_true(x:maximum() ~= x:maximum())
        assert.is_true(x:equal(x) == false)
        assert.is_true(tensor.from({1, 2}):equal(tensor.from {1, 2}))
        assert.is_false(tensor.from({1, 2}):equal(tensor.from({1, 2}, "f64")))
    end)
end)

describe("logits", function()
    local z = tensor.from {{1, 3, 3, 0}, {5, 4, 3, 2}, {1, nan, 0, 0}}

    it("have a greatest and a rank", function()
        assert.are.same({1, 0, -1}, z:argmax():totable())
        assert.are.equal("i64", z:argmax():dtype())
        assert.are.equal(2, tensor.from({0, 1, 2}):argmax():item())
        assert.are.same({1, 3, 1}, z:rank({2, 3, 0}):totable())
        assert.are.same({0, 0, 3}, z:rank(tensor.from({1, 0, 1}, "i64")):totable())
        refuses(function() z:rank {0, 1} end, "wanted 3 classes, got 2")
        refuses(function() z:rank {0, 1, 4} end, "row 3", "0 .. 3, got 4")
        refuses(function() z:rank {0, 1, "x"} end, "row 3", "got x")
        refuses(function() z:rank(tensor.from({0, -1, 0}, "i64")) end, "row 2", "got -1")
        refuses(function() z:rank(tensor.new {3}) end, "whole numbers", "f32")
    end)

    it("are judged by the losses", function()
        local two = z:narrow(1, 2)
        local value, dz = losses.evaluate("m_logit", {kappa = 20}, two, {1, 3})
        assert.are.same({0, -3}, value:totable())
        assert.are.same({{0, 1, -1, 0}, {-1, 0, 0, 1}}, dz:totable())
        local v, d = losses.evaluate("logit", nil, two, {0, 0}, value, dz)
        assert.are.equal(value, v)
        assert.are.equal(dz, d)
        assert.are.same({1, 5}, value:totable())
        value, dz = losses.evaluate("ce", nil, two, tensor.from({1, 0}, "i32"))
        close(-math.log(2 + math.exp(-2) + math.exp(-3)), value:get(1))
        close(0, dz[1]:sum())
        refuses(function() losses.evaluate("mse", nil, two, {0, 0}) end, "there is no loss 'mse'")
        refuses(function() losses.evaluate("ce", 20, two, {0, 0}) end, "table expected, got number")
        refuses(function() losses.evaluate("m_logit", {kappa = 0 / 0}, two, {0, 0}) end,
            "'kappa' must be a number of at least 0, got")
        refuses(function() losses.evaluate("m_logit", {kappa = "many"}, two, {0, 0}) end, "got 'many'")
        refuses(function() losses.evaluate("ce", nil, two, {0}) end, "wanted 2 classes, got 1")
        refuses(function() losses.evaluate("ce", nil, two, {0, 0}, tensor.new {3}) end, "[2]", "[3]")
        refuses(function() losses.evaluate("m_logit", nil, tensor.new {1, 1}, {0}) end, "2 classes")
        refuses(function() losses.evaluate("ce", nil, two:to "f64", {0, 0}) end, "f32", "f64")
    end)

    it("leave their line in the record", function()
        local two = z:narrow(1, 2)
        local prediction = tensor.new({2}, "i64")
        local row = losses.stats(two, {0, 0}, {3, 1}, {prediction = prediction})
        assert.are.equal(prediction, row.prediction)
        assert.are.same({1, 0}, prediction:totable())
        assert.are.same({1, 5}, row.z_initial:totable())
        assert.are.same({0, 4}, row.z_target:totable())
        assert.are.same({2, 2}, row.subspace:totable())
        close(1 / (1 + math.exp(-1) + math.exp(-2) + math.exp(-3)), row.p_initial:get(2))
        refuses(function() losses.stats(two, {0, 0}, {3, 1}, {subspace = prediction}) end,
            "bad argument #4", "field subspace: wanted a tensor of u8 [2], got tensor i64 [2]")
        refuses(function() losses.stats(two, {0, 0}, {3, 1}, {p_target = 1}) end, "got 1")
    end)

    it("write into tensors that a table makes as they are asked for", function()
        local types = {prediction = "i64", subspace = "u8"}
        local made = setmetatable({}, {__index = function(_, name)
            collectgarbage()
            return tensor.new({2}, types[name])
        end})
        assert.are.equal(made, losses.stats(z:narrow(1, 2), {0, 0}, {3, 1}, made))
    end)

    it("train nets", function()
        local dz = tensor.new {2, 4}
        local loss, correct = tensor.cross_entropy(z:narrow(1, 2), {1, 1}, dz)
        assert.are.equal(1, correct)
        local first = math.log(2 + math.exp(-2) + math.exp(-3))
        local second = math.log(math.exp(1) + 1 + math.exp(-1) + math.exp(-2))
        close((first + second) / 2, loss)
        close(0, dz:sum())
        refuses(function() tensor.cross_entropy(z:narrow(1, 0), {}, dz:narrow(1, 0)) end, "over no rows")
    end)
end)

describe("norms and steps", function()
    it("are told per image, in double", function()
        local q = tensor.from {{3e-23, 0, -4e-23, 0}, {0, 0, 0, 0}}
        local l2, linf, zero = q:norms()
        close(1, l2:get(1) / 5e-23)
        close(1, linf:get(1) / 4e-23)
        assert.are.same({0.5, 1}, zero:totable())
        assert.are.equal(0, l2:get(2))
        local again = tensor.norms(q, l2, linf, zero)
        assert.are.equal(l2, again)
        refuses(function() q:norms(tensor.new {2}) end, "f64", "f32")
        refuses(function() q:norms(tensor.new({3}, "f64")) end, "[2]", "[3]")
    end)

    it("follow Eq. 11-16", function()
        local x0 = tensor.from {{0.5, 0.9}, {0.25, 0.75}}
        local x, q = x0:clone(), tensor.from {{-1, 1}, {nan, nan}}
        local l2, linf = x:step_(q, tensor.from({0.25, 0}, "f64"), x0)
        assert.are.same({{0.25, 1}, {0.25, 0.75}}, x:totable())
        close(math.sqrt(0.25 ^ 2 + 0.1 ^ 2), l2:get(1))
        assert.are.equal(0.25, linf:get(1))
        assert.are.equal(0, l2:get(2))
        refuses(function() x:step_(q, tensor.new {2}, x0) end, "f64")
        refuses(function() x:step_(tensor.new {2, 3}, l2, x0) end, "q must be of shape [2,2]")
    end)
end)

describe("the space of tanh", function()
    it("is entered within the sides by a hair, and NaN stays NaN", function()
        local x, w = tensor.from {0, 0.5, 1, 0 / 0}, tensor.new {4}
        x:tanh_enter_(w, 0.25)
        local entered, at = x:totable(), w:totable()
        for i, v in ipairs {0.25, 0.5, 0.75} do
            assert.near(v, entered[i], 1e-6)
            assert.near(0.5 * math.log(v / (1 - v)), at[i], 1e-6)
        end
        assert.is_true(entered[4] ~= entered[4] and at[4] ~= at[4])
    end)
end)

describe("optimisers", function()
    it("take a step", function()
        local p, g, m, v = tensor.from {1}, tensor.from {0.5}, tensor.new {1}, tensor.new {1}
        tensor.sgd(p, g, m, {rate = 0.1, momentum = 0.9})
        tensor.sgd(p, g, m, {rate = 0.1, momentum = 0.9})
        close(1 - 0.05 - 0.095, p:item())
        p:fill(1)
        tensor.adam(p, g, m:fill(0), v, {rate = 0.1, t = 1})
        close(0.9, p:item())
    end)

    it("want their rate", function()
        local p = tensor.new {1}
        refuses(function() tensor.sgd(p, p, p, {}) end, "'rate' must be a number")
        refuses(function() tensor.adam(p, p, p, p, {rate = 1, t = 0}) end, "'t' must be", "at least 1, got 0")
        refuses(function() tensor.adam(p, p, p, p, {rate = 1}) end, "'t' must be an integer", "got nil")
        refuses(function() tensor.sgd(p, p, p, {rate = 1, momentun = 0.9}) end,
            "there is no field 'momentun'; did you mean 'momentum'?")
        refuses(function() tensor.adam(p, p, p, p, {rate = 1, t = 1, schedule = 2}) end,
            "there is no field 'schedule'; there are rate, beta1, beta2,")
        refuses(function() tensor.sgd(p, p, p, {rate = 1, [1] = 2}) end, "there is no field '1'")
        refuses(function() tensor.sgd(p, p, p, {rate = p}) end, "'rate' must be a number, got tensor")
    end)
end)

describe("memory", function()
    it("is given back by the collector before it piles up", function()
        local system = require "advrt.core.system"
        local before = system.memory and system.memory().in_use
        if not before then return pending "the system module tells no memory" end
        -- What was in use once allows no more of it later.
        do
            local _ <close> = tensor.new {100 << 20}
            local _ = tensor.new {1}
        end
        local peak = 0
        for _ = 1, 200 do
            tensor.new({1 << 20}) -- 4 MB each, none kept
            peak = math.max(peak, system.memory().in_use)
        end
        assert.is_true(peak - before < 200e6, ("%d bytes piled up"):format(peak - before))
    end)

    it("goes at once where a variable is closed", function()
        local x <close> = tensor.new {4}
        local mt = debug.getmetatable(x)
        mt.__gc(x)
        mt.__gc(x)
        assert.are.equal("tensor (emptied)", tostring(x))
        refuses(function() x:sum() end, "emptied")
    end)
end)
