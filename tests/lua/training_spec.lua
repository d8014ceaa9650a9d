--- Training against float64 numbers made elsewhere: tests/golden/training.safetensors; and the
-- trainer on a problem of its own.
local net = require "advrt.net"
local tensor = require "advrt.tensor"
local core = require "advrt.core.tensor"
local system = require "advrt.core.system"
local train = require "advrt.train"
local weights = require "advrt.core.weights"

local function small_net()
    local function conv(b, x, i, out, stride)
        x = b:conv(x, "conv" .. i, {out = out, kernel = 3, stride = stride, pad = 1, bias = false})
        return b:batchnorm(x, "bn" .. i)
    end
    local definition = {
        name = "small", classes = 4, input = {3, 16, 16},
        build = function(b, x)
            x = b:relu(conv(b, x, 1, 8, 1))
            local y = conv(b, b:relu(conv(b, x, 2, 8, 1)), 3, 8, 1)
            x = b:maxpool(b:relu(b:add(x, y)), {kernel = 2})
            x = b:relu(conv(b, x, 4, 16, 2))
            return b:linear(b:adaptive_avgpool(x, {1, 1}), "fc", 4)
        end,
    }
    return assert(net.build(definition, {init = "golden", plan = "direct"}))
end

local function relative(a, b)
    a, b = a:reshape({-1}):totable(), b:reshape({-1}):totable()
    assert.are.equal(#b, #a)
    local d, bb = 0, 0
    for i = 1, #b do d, bb = d + (a[i] - b[i]) ^ 2, bb + b[i] ^ 2 end
    return math.sqrt(d / bb)
end

local function below(value, limit, what)
    assert.is_true(value <= limit, ("%s: %g, at most %g allowed"):format(what, value, limit))
end

-- How far a run may end from the golden one. Off the fence a run ends some 1e-6 from it, on every instruction
-- set. sgd's golden run has two ReLUs on the fence: in step 3 an input is 3.9e-8 of its layer's root mean
-- square from 0, in step 5 one is 1.7e-7, less than what float makes of the weights by then. Of 16 runs
-- whose weights were changed by 1.5e-7 at the start, ten ended 1e-6 away and six 4.7e-3, none between.
-- adam's nearest input is 1.9e-6 away, ten times what a run is off. A GPU's sums change from run to run.
local FOLLOWED = {sgd = 1e-2, adam = system.options.device == "cpu" and 1e-4 or 1e-2}
-- Losses up to sgd's step 3 are those of weights that no such ReLU has touched.
local BEFORE = 4

describe("ten training steps", function()
    local golden = assert(weights.load "tests/golden/training.safetensors")
    local function check_gradients(g, plan)
        for _, p in ipairs(g:parameters()) do
            if not p.role:find("^running") then
                local wanted = golden["grad0." .. p.name]
                below(relative(plan:gradient(p.name), wanted), 1e-5, "gradient of " .. p.name)
            end
        end
    end
    local optimisers = {
        sgd = function() return train.sgd {rate = 0.05, momentum = 0.9, weight_decay = 5e-4} end,
        adam = function() return train.adam {rate = 1e-3, weight_decay = 1e-4} end,
    }
    for kind, make in pairs(optimisers) do
        it("of " .. kind .. " follow the golden run", function()
            local g, optimiser = small_net(), make()
            local plan, dz, losses = g:training_plan(8), tensor.new {8, 4}, {}
            for step = 0, 9 do
                local labels = {}
                for i = 0, 7 do labels[i + 1] = (7 * i + 3 * step) % 4 end
                local z = plan:forward(tensor.uniform("batch" .. step, {8, 3, 16, 16}))
                losses[step + 1] = core.cross_entropy(z, labels, dz)
                plan:train_backward(dz)
                if step == 0 then check_gradients(g, plan) end
                optimiser:step(g, plan)
            end
            local wanted = golden[kind .. ".losses"]:totable()
            for i = 1, BEFORE do
                below(math.abs(losses[i] / wanted[i] - 1), 1e-5, "loss of step " .. i - 1)
            end
            below(relative(tensor.from(losses), golden[kind .. ".losses"]), FOLLOWED[kind], "losses")
            for name, value in pairs(g:state()) do
                below(relative(value, golden[kind .. "." .. name]), FOLLOWED[kind], name)
            end
            g:forget_plans()
            local z = g:forward(tensor.uniform("batch0", {8, 3, 16, 16}))
            below(relative(z, golden[kind .. ".logits"]), FOLLOWED[kind], "logits in inference mode")
        end)
    end
end)

local function refuses(pattern, f, ...)
    local args = table.pack(...)
    local ok, message = pcall(function() f(table.unpack(args)) end)
    assert.is_false(ok)
    assert.matches(pattern, message)
end

describe("optimisers", function()
    -- One parameter of a linear net without bias: z = w x, so that updates can be done by hand.
    local function one()
        local d = {classes = 1, input = {1, 1, 1}, build = function(b, x)
            return b:linear(x, "a", 1, {bias = false})
        end}
        local g = assert(net.build(d, {init = "golden"}))
        g:state()["a.weight"]:fill(2)
        local plan = g:training_plan(1)
        local function step(optimiser, slope)
            plan:forward(tensor.from {{{{1}}}})
            plan:train_backward(tensor.from {{slope}})
            optimiser:step(g, plan)
            return g:state()["a.weight"]:get(1, 1)
        end
        return step
    end

    it("look ahead with Nesterov momentum", function()
        local step, o = one(), train.sgd {rate = 0.1, momentum = 0.5, nesterov = true}
        assert.near(2 - 0.1 * 1.5, step(o, 1), 1e-6)
        assert.near(2 - 0.1 * 1.5 - 0.1 * (1 + 0.5 * 1.5), step(o, 1), 1e-6)
    end)

    it("decay weights apart from Adam's gradient on request", function()
        local step, o = one(), train.adam {rate = 0.1, weight_decay = 0.5, decoupled = true}
        assert.near(2 * (1 - 0.05) - 0.1, step(o, 3), 1e-5)
        step, o = one(), train.adam {rate = 0.1, weight_decay = 0.5}
        assert.near(2 - 0.1, step(o, 3), 1e-5)
    end)

    it("refuse settings they do not have", function()
        refuses("training_spec.lua:%d+: sgd has no setting 'rat'", train.sgd, {rat = 1})
        refuses("adam has no setting 'momentum'", train.adam, {momentum = 1})
    end)
end)

describe("schedules", function()
    it("fall along half a cosine after a rise", function()
        local rate = train.cosine(0.2, 0.1)
        assert.near(0.2 * 0.5, rate(4.5, 100), 1e-12)
        assert.near(0.2, rate(9.5, 100), 1e-12)
        assert.near(0.1, rate(54.5, 100), 1e-12)
        assert.is_true(rate(99, 100) < 0.001)
    end)
    it("fall where the accuracy stays", function()
        local rate = train.plateau(1, {patience = 2, least = 0.01})
        local seen = {}
        for i, accuracy in ipairs {0.5, 0.6, 0.6, 0.6, 0.7, 0.1, 0.2, 0.7, 0.7, 0.1} do
            rate:observe(accuracy)
            seen[i] = rate(i, 10)
        end
        for i, wanted in ipairs {1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01, 0.01} do
            assert.near(wanted, seen[i], 1e-12)
        end
    end)
    it("fall in steps", function()
        local rate = train.steps(1, {0.5, 0.75})
        assert.near(1, rate(49, 100), 1e-12)
        assert.near(0.1, rate(50, 100), 1e-12)
        assert.near(0.01, rate(75, 100), 1e-12)
    end)
end)

describe("clipping", function()
    it("scales all gradients alike, down to the norm and never up", function()
        local d = {classes = 2, input = {1, 1, 1}, build = function(b, x)
            return b:linear(x, "a", 2)
        end}
        local function moved(clip)
            local g = assert(net.build(d, {init = "golden"}))
            local before = {}
            for name, t in pairs(g:state()) do before[name] = t:clone() end
            local plan, o = g:training_plan(1), train.sgd {rate = 1}
            plan:forward(tensor.from {{{{1}}}})
            plan:train_backward(tensor.from {{3, -4}})
            o:step(g, plan, clip)
            local w = g:state()["a.weight"]:sub(before["a.weight"]):reshape({-1}):totable()
            local b = g:state()["a.bias"]:sub(before["a.bias"]):totable()
            return {w[1], w[2], b[1], b[2]}
        end
        local norm = math.sqrt(50)
        for i, wanted in ipairs {-3, 4, -3, 4} do
            assert.near(wanted, moved()[i], 1e-5)
            assert.near(wanted, moved(100)[i], 1e-5)
            assert.near(wanted * 0.5 / norm, moved(0.5)[i], 1e-6)
        end
    end)
end)

describe("the trainer", function()
    -- Bright left or bright right half, in noise.
    local function halves(n)
        local images, labels = {}, {}
        local u = tensor.uniform("noise", {n * 64}):totable()
        for i = 1, n do
            local image, label = {}, i % 2
            for y = 1, 8 do
                image[y] = {}
                for x = 1, 8 do
                    local bright = (x > 4) == (label == 1) and 60 or 0
                    image[y][x] = math.floor(u[(i - 1) * 64 + (y - 1) * 8 + x] * 120) + bright
                end
            end
            images[i], labels[i] = {image}, label
        end
        return tensor.from(images, "u8"), labels
    end
    local function fit(seed, options)
        local definition = {classes = 2, input = {1, 8, 8}, build = function(b, x)
            x = b:relu(b:batchnorm(b:conv(x, "c", {out = 4, kernel = 3, pad = 1}), "n"))
            return b:linear(b:dropout(b:adaptive_avgpool(x, {2, 2}), 0.2), "f", 2)
        end}
        local g = assert(net.build(definition, {init = "he", seed = seed}))
        local images, labels = halves(200)
        local o = {
            net = g, images = images, labels = labels, epochs = 5, batch = 16, seed = seed,
            optimiser = train.sgd {rate = 0.05, momentum = 0.9}, augment = {shift = 1},
        }
        for k, v in pairs(options or {}) do o[k] = v end
        local entries = train.run(o)
        return g, train.accuracy(g, images, labels, 64), entries
    end

    it("learns", function()
        local _, accuracy, entries = fit(1)
        assert.are.equal(5, #entries)
        assert.is_true(entries[5].loss < entries[1].loss)
        assert.is_true(accuracy > 0.95)
    end)

    it("counts every image once, in batches that do not divide their number", function()
        local images, labels = halves(50)
        for i = 1, 30 do labels[i] = 0 end -- so that some are wrong, whatever the net says
        local g = fit(1, {epochs = 1})
        local x, right = tensor.new {50, 1, 8, 8}, 0
        for i = 1, 50 do x:set_image(i, images[i]) end
        local guess = g:forward(x):argmax()
        for i = 1, 50 do right = right + (guess:get(i) == labels[i] and 1 or 0) end
        assert.is_true(right > 0 and right < 50)
        assert.are.equal(right / 50, train.accuracy(g, images, labels, 16))
        assert.are.equal(right / 50, train.accuracy(g, images, labels, 100))
    end)

    it("gives the same weights for the same seed, others for another", function()
        local function weight(seed) return fit(seed, {epochs = 1}):state()["c.weight"]:totable() end
        local first = weight(1)
        assert.are.same(first, weight(1))
        assert.are_not.same(first, weight(2))
    end)

    it("stops where the loss is not finite", function()
        local ok, failure = pcall(fit, 1, {schedule = function() return 1e30 end})
        assert.is_false(ok)
        assert.equal("diverged", require "advrt.support.fail".code(failure))
        assert.matches("training: the loss is .* in epoch %d+, step %d+; try a lower rate",
            tostring(failure))
    end)

    describe("gone on with", function()
        local path, log
        before_each(function()
            path, log = os.tmpname(), os.tmpname()
            os.remove(path)
            path = path .. ".safetensors"
        end)
        after_each(function()
            os.remove(path)
            os.remove(log)
        end)

        local function options(kind)
            local validation = {}
            for i = 0, 39 do validation[i + 1] = i end
            return {
                optimiser = kind == "adam" and train.adam {rate = 0.01, weight_decay = 1e-3}
                    or train.sgd {momentum = 0.9, nesterov = true},
                schedule = kind == "adam" and train.plateau(0.01, {patience = 1})
                    or train.cosine(0.05, 0.1),
                augment = {flip = true, shift = 1}, epochs = 3, clip = 1,
                validation = tensor.from(validation, "i64"),
            }
        end

        -- 200 images by 16 are 12 steps an epoch: stops inside one, at its last step, and behind it.
        for _, kind in ipairs {"sgd", "adam"} do
            for _, stop in ipairs {5, 12, 13, 30} do
                it(("from step %d it ends as if it had not stopped (%s)"):format(stop, kind), function()
                    local wanted, _, entries = fit(1, options(kind))
                    local o = options(kind)
                    o.checkpoint, o.every, o.csv = path, 0, log
                    o.progress = function(step) if step == stop then error("killed", 0) end end
                    assert.has_error(function() fit(1, o) end, "killed")
                    o = options(kind)
                    o.checkpoint, o.csv = path, log
                    local steps = 0
                    o.progress = function() steps = steps + 1 end
                    local got, _, again = fit(1, o)
                    assert.are.equal(36 - stop + 1, steps)
                    local a, b = wanted:state(), got:state()
                    for name, t in pairs(a) do assert.is_true(t:equal(b[name]), name) end
                    for i, entry in ipairs(entries) do
                        for _, name in ipairs {"loss", "accuracy", "validation_accuracy", "rate"} do
                            assert.are.equal(entry[name], again[i][name])
                        end
                    end
                    local lines = 0
                    for _ in io.lines(log) do lines = lines + 1 end
                    assert.are.equal(4, lines)
                end)
            end
        end

        it("refuses the checkpoint of another run and a damaged one", function()
            local o = options "sgd"
            o.checkpoint = path
            fit(1, o)
            o = options "sgd"
            o.checkpoint, o.batch = path, 20
            local ok, problem = pcall(fit, 1, o)
            assert.is_false(ok)
            assert.matches("the checkpoint belongs to another run", tostring(problem))
            local f = assert(io.open(path, "r+b"))
            f:write("\255\255\255\255\255\255\255\127")
            f:close()
            ok, problem = pcall(fit, 1, options "sgd", o)
            assert.is_true(ok, tostring(problem)) -- without a checkpoint it is not looked at
            ok, problem = pcall(fit, 1, o)
            assert.is_false(ok)
            assert.matches("^[^\n]+" , tostring(problem))
        end)
    end)

    it("says what is wrong with its data", function()
        local images, labels = halves(20)
        refuses("got 1 labels for 20 images", fit, 1, {images = images, labels = {1}})
        labels[3] = 2
        refuses("label 2 is not one of 2 classes", fit, 1, {images = images, labels = labels})
        refuses("a batch of 500 needs as many images, got 200", fit, 1, {batch = 500})
        refuses("needs 'epochs'", fit, 1, {epochs = 0})
        refuses("net wants u8 or f32 images %[M,1,8,8%]", fit, 1,
            {images = tensor.new({20, 1, 9, 9}, "u8")})
    end)

    it("shuffles every image in, differently for each name", function()
        local seen, order = {}, train.shuffle("a", 1000):totable()
        for _, i in ipairs(order) do seen[i] = true end
        for i = 0, 999 do assert.is_true(seen[i]) end
        assert.are.same(order, train.shuffle("a", 1000):totable())
        assert.are_not.same(order, train.shuffle("b", 1000):totable())
    end)
end)
