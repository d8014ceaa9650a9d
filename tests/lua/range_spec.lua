-- Nets of features, of any number of channels, and of values in another range than [0,1]: attacks keep to
-- it, and data outside is refused.

local attack = require "advrt.attack"
local attacks = require "advrt.attacks"
local autograd = require "advrt.autograd"
local data = require "advrt.data"
local loss = require "advrt.loss"
local net = require "advrt.net"
local range = require "advrt.support.range"
local support = require "support"
local tensor = require "advrt.tensor"
local train = require "advrt.train"

local D, N = 6, 8

--- A small net of D features whose range, and what it makes of it before the first layer, are given.
local function net_of(change)
    local d = {name = "small", classes = 4, input = {D}, build = function(b, x)
        return b:linear(b:relu(b:linear(x, "hidden", 16)), "out", b.classes)
    end}
    for key, value in pairs(change or {}) do d[key] = value end
    return assert(net.build(d, {init = "he", seed = 3}))
end

local function spread(x, low, high) return x:mul(high - low):add_(low) end

describe("a range of values", function()
    it("is a number or a list of one for each channel, low below high", function()
        local r = assert(range.new({-1, {1, 2, 3}}, {3, 1, 1}))
        assert.same({-1, -1, -1}, r.low)
        assert.same({1, 2, 3}, r.high)
        assert.is_false(r.unit)
        assert.near(math.sqrt((4 + 9 + 16) / 3), r:width(), 1e-12)
        assert.is_true(range.new(nil, {1, 2, 2}).unit)
        assert.is_true(range.new({0, {1}}, {3, 2, 2}).picture)
        assert.equal("3 features", range.new(nil, {3, 1, 1}):no_picture())
        assert.equal("4 channels", range.new(nil, {4, 2, 2}):no_picture())
        assert.equal("values in [-1,1]", range.new({-1, 1}, {3, 2, 2}):no_picture())
        for _, case in ipairs {{{0}, "is {low, high}"}, {"0,1", "is {low, high}"},
            {{0, 1, 2}, "is {low, high}"},
            {{{0, 0}, 1}, "is {low, high}, each one finite number or a list of 3"},
            {{0, 1 / 0}, "is {low, high}, each one finite number or a list of 3"},
            {{0, 1e39}, "is {low, high}, each one finite number or a list of 3"},
            {{{0, 0, 2}, 1}, "has low 2 above high 1 in channel or feature 3"},
            {{1, 1}, "leaves no value to change: low is high"}} do
            local none, message = range.new(case[1], {3, 1, 1})
            assert.is_nil(none)
            assert.equal(case[2], message)
        end
        local none, message = net.build({name = "n", classes = 2, input = {1, 2, 2}, range = {1, 0},
            build = function(b, x) return b:linear(x, "out", 2) end}, {init = "he"})
        assert.is_nil(none)
        assert.equal("n: range has low 1 above high 0", message)
    end)

    it("doubts a radius that holds all of it, and says what may be meant", function()
        local unit, wide = range.new(nil, {3, 4, 4}), range.new({{-1, 0}, {1, 5}}, {2, 3, 1})
        for _, case in ipairs {
            {unit, 1, "inf"}, {unit, 8 / 255, "inf"}, {unit, math.sqrt(48), 2}, {wide, 5, "inf"},
            {unit, 8, "inf", "[0,1] are at most 1 apart in the Linf norm; 8/255 is 0.03137"},
            {unit, 1.5, "inf", "[0,1] are at most 1 apart in the Linf norm"},
            {unit, 7, 2, "[0,1] are at most 6.928 apart in the L2 norm"},
            {wide, 8, "inf", "the net's range are at most 5 apart in the Linf norm"},
        } do
            local wanted = case[4] and ("warning: eps %.4g bounds nothing: values of %s"):format(case[2],
                case[4])
            assert.equal(wanted, (case[1]:doubt(case[2], case[3])))
        end
    end)

    it("names the first value outside, with its place", function()
        local r = assert(range.new({{-1, 0}, 1}, {2, 2, 3}))
        local x = tensor.new {2, 2, 3}
        assert.is_nil(r:problem(x))
        x:set(-0.5, 1, 1, 1)
        assert.is_nil(r:problem(x))
        x:set(-0.5, 2, 2, 1)
        assert.equal("channel 2, row 2, column 1 is -0.5, outside of [0,1]", r:problem(x))
        x:set(0 / 0, 1, 2, 3)
        assert.matches("^channel 1, row 2, column 3 is %-?nan, outside of %[%-1,1%]$", r:problem(x))
        local flat = assert(range.new({0, {1, 2}}, {2, 1, 1}))
        local many = tensor.new {5, 2, 1, 1}
        many:set(1.5, 4, 1, 1, 1)
        assert.same({4, "feature 1 is 1.5, outside of [0,1]"}, {flat:first_outside(many)})
    end)
end)

describe("a net of features", function()
    local g, x

    before_each(function()
        g = net_of {range = {-5, 5}}
        x = spread(tensor.uniform("x", {N, D}), -5, 5)
    end)

    it("takes [N,D] and gives gradients of that shape", function()
        local q4 = select(2, g:gradient(x:reshape {N, D, 1, 1}, loss.ce, {0, 1, 2, 3, 0, 1, 2, 3}))
        local z, q = g:gradient(x, loss.ce, {0, 1, 2, 3, 0, 1, 2, 3})
        assert.same({N, D}, q:shape())
        assert.same({N, D, 1, 1}, q4:shape())
        assert.is_true(q:equal(q4:reshape {N, D}))
        assert.is_true(z:equal(g:trace(x)))
        local into = tensor.new {N, D}
        assert.is_true(g:backward(z, into):equal(g:backward(z)))
        assert.has_error(function() g:forward(tensor.new {N, D + 1}) end,
            "bad argument #1 to 'forward' (net wants [N,6,1,1], got [8,7,1,1])")
        local v = autograd.track(x)
        assert.same({N, D}, autograd.gradient(g(v):sum(), v):shape())
    end)

    it("is attacked as the same net on [0,1] is, in its own units", function()
        local unit = net_of {mean = 0.5, std = 0.1} -- 10 u - 5
        local u = tensor.uniform("x", {N, D})
        local labels = g:forward(x):argmax():totable()
        local targets = {}
        for i, label in ipairs(labels) do targets[i] = (label + 1) % 4 end
        local function run(of, images, multiplier)
            return attack.run {net = of, images = images, labels = labels, targets = targets,
                loss = loss.logit, multiplier = multiplier, iterations = 40}
        end
        local a = run(unit, u, attack.equal_perturbation(0.2))
        local b = run(g, x, attack.equal_perturbation(2))
        assert.same({N, D}, b.adversarial:shape())
        assert.same({N, D}, b.first:shape())
        assert.is_true((spread(a.adversarial, -5, 5) - b.adversarial):abs():maximum() < 1e-3)
        assert.is_true(a.flip_iteration:equal(b.flip_iteration))
        assert.near(-5, b.adversarial:minimum(), 0) -- the box is met
        for i = 1, N do
            assert.near(10 * a.series.l2:get(41, i), b.series.l2:get(41, i), 1e-3)
            assert.equal(-1, b.survives_8bit:get(i))
        end
        a, b = run(unit, u, attack.equal_multiplier(0.05)), run(g, x, attack.equal_multiplier(5))
        assert.is_true((spread(a.adversarial, -5, 5) - b.adversarial):abs():maximum() < 1e-3)
    end)

    it("keeps each feature in a range of its own in every attack, and one of no width as it is", function()
        local low, high = {-5, -1, 0, 2, -0.5, 3}, {-4, 1, 10, 2.5, 0.5, 3}
        g = net_of {range = {low, high}}
        x = tensor.new {N, D}
        local u = tensor.uniform("x", {N, D})
        for i = 1, N do
            for k = 1, D do x:set(low[k] + (high[k] - low[k]) * u:get(i, k), i, k) end
            x:set(high[1 + i % D], i, 1 + i % D) -- on a side
        end
        local labels = g:forward(x):argmax()
        local kinds = {attacks.fgs {eps = 2}, attacks.ifgs {eps = 2}, attacks.pgd {eps = 2, restarts = 2},
            attacks.pgd {norm = 2, eps = 3}, attacks.apgd {eps = 2}, attacks.apgd {norm = 2, eps = 3},
            attacks.lbfgs {iterations = 20, searches = 3}, attacks.cw {iterations = 50, searches = 3},
            attacks.deepfool {}, attacks.deepfool {norm = "inf"}, attacks.ddn {}, attacks.fmn {},
            attacks.fmn {norm = "inf"}, attacks.fab {eps = 2, steps = 20}, attacks.fab {norm = 2, steps = 20},
            attacks.square {eps = 2, queries = 50}, attacks.square {norm = 2, eps = 3, queries = 50}}
        for _, kind in ipairs(kinds) do
            local r = attacks.run {attack = kind, net = g, images = x, labels = labels}
            assert.same({N, D}, r.adversarial:shape())
            local moved = false
            for i = 1, N do
                for k = 1, D do
                    local v = r.adversarial:get(i, k)
                    assert.is_true(v >= low[k] and v <= high[k], kind.name .. " " .. v)
                    moved = moved or v ~= x:get(i, k)
                end
                assert.equal(3, r.adversarial:get(i, 6), kind.name)
            end
            assert.is_true(moved, kind.name)
        end
    end)

    it("is not attacked outside of its range", function()
        x:set(5.5, 3, 2)
        assert.error_matches(function()
            attacks.run {attack = attacks.fgs {}, net = g, images = x, labels = g:forward(x):argmax()}
        end, "attacks.run: image 3 must lie in %[%-5,5%], but its values range .*: "
            .. "feature 2 is 5.5, outside of "
            .. "%[%-5,5%]")
        local labels = g:forward(x):argmax():totable()
        local targets = {}
        for i, label in ipairs(labels) do targets[i] = (label + 1) % 4 end
        assert.error_matches(function()
            attack.run {net = g, images = x, labels = labels, targets = targets, loss = loss.ce,
                multiplier = attack.equal_multiplier(1), iterations = 2}
        end, "attack.run: image 3 must lie in .* feature 2 is 5.5")
    end)

    it("has steps that suit its range", function()
        local features = 0.002 * math.sqrt(D)
        assert.near(10 * features, attack.magnitude_of(g), 1e-12)
        assert.near(0.01 * 100 * features / 0.05, attack.alpha_of(g, 0.01), 1e-12)
        local picture = {input = {3, 4, 4}, defaults = {}, range = range.new({-1, 1}, {3, 4, 4})}
        assert.near(0.1, attack.magnitude_of(picture), 1e-12)
        assert.near(0.04, attack.alpha_of(picture, 0.01), 1e-12)
        picture.range = nil
        assert.equal(0.05, attack.magnitude_of(picture))
        assert.equal(0.01, (attack.alpha_of(picture, 0.01)))
        picture.defaults = {alpha = 7}
        assert.equal(7, (attack.alpha_of(picture, 0.01)))
    end)

    it("learns from values of its range", function()
        local y = {}
        for i = 1, N do y[i] = i % 4 end
        train.run {net = g, images = x, labels = y, epochs = 2, batch = 4, optimiser = train.sgd(),
            schedule = train.cosine(0.01)}
        x:set(6, 1, 1)
        local ok, message = pcall(train.run, {net = g, images = x, labels = y, epochs = 1, batch = 4,
            optimiser = train.sgd(), schedule = train.cosine(0.01)})
        assert.is_false(ok)
        assert.matches("an image has the value 6, outside %[%-5,5%]", tostring(message))
    end)
end)

describe("data for a range", function()
    local path
    before_each(function() path = os.tmpname() .. ".safetensors" end)
    after_each(function() os.remove(path) end)

    local function refused(wanted, g)
        local ok, problem = pcall(data.folder, path, {net = g})
        assert.is_false(ok)
        assert.equal(path .. ": " .. wanted, problem.message)
    end

    it("is refused with its feature and value where it is outside", function()
        local g = net_of {range = {-5, {5, 5, 5, 1, 5, 5}}}
        local x = tensor.new {3, D}
        x:set(1.5, 2, 4)
        assert(tensor.save(path, {x = x, y = tensor.from({0, 1, 2}, "i64")}))
        refused("image 1: feature 4 is 1.5, outside of [-5,1], the range of the net", g)
        refused("image 1: feature 4 is 1.5, outside of [0,1], the range of the net; a net definition states "
            .. "another by range = {low, high}", net_of())
        assert.equal(3, #data.folder(path)) -- without a net any values are taken
        x:set(0 / 0, 1, 1)
        assert(tensor.save(path, {x = x, y = tensor.from({0, 1, 2}, "i64")}))
        local ok, problem = pcall(data.folder, path, {net = g})
        assert.is_false(ok)
        assert.matches("image 0: feature 1 is %-?nan, outside of %[%-5,5%]", problem.message)
    end)

    it("may be bytes where their [0,1] fits", function()
        local x = tensor.new({2, D}, "u8")
        x:set(255, 2, 3)
        assert(tensor.save(path, {x = x, y = tensor.from({0, 1}, "i64")}))
        assert.equal(1, data.folder(path, {net = net_of {range = {-5, 5}}}):load(2):get(3, 1, 1))
        refused("image 1: feature 3 is 1, outside of [0,0.5], the range of the net",
            net_of {range = {0, 0.5}})
        local g = assert(net.build({name = "p", classes = 2, input = {1, 2, 2}, range = {0.5, 1},
            build = function(b, v) return b:linear(v, "out", 2) end}, {init = "he"}))
        local dir = support.folder()
        assert(require("advrt.core.image").save(dir .. "/a.png", tensor.new {1, 2, 2}))
        support.write(dir .. "/labels.csv", "a.png,0\n")
        local ok, problem = pcall(data.folder, dir, {net = g})
        support.remove(dir)
        assert.is_false(ok)
        assert.matches("the pixels of image files are in %[0,1%], and the net's values in %[0.5,1%]",
            problem.message)
    end)
end)
