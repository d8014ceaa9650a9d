-- Losses that scripts define: what they ascend against double precision, how they are tried before
-- they are taken, and that they are losses like the others.

local attack = require "advrt.attack"
local autograd = require "advrt.autograd"
local loss = require "advrt.loss"
local net = require "advrt.net"
local support = require "support"
local system = require "advrt.core.system"
local tensor = require "advrt.tensor"

local shipped = {"dlr", "p_margin", "ce_temperature", "ce_stable"}

local function page_text()
    local page = support.read(system.options.root .. "/docs/own-loss.md")
    local text = page:match("\n(loss%.define%(.-\nend%)\n)")
    assert(text, "docs/own-loss.md has no loss")
    return text
end

describe("a defined loss", function()
    setup(function()
        for _, name in ipairs(shipped) do assert(loss.load(name)) end
    end)

    it("of three lines, as docs/own-loss.md has it, runs as its text stands there", function()
        local text = page_text()
        local _, lines = text:gsub("\n", "\n")
        assert.equal(3, lines)
        local name = text:match('define%("([%w_]+)"')
        assert(load(text, "own-loss.md", "t", {loss = loss}))()
        local g = assert(net.load("nets/fashion.lua", {init = "golden"}))
        local x = tensor.uniform("readme", {2, 1, 28, 28})
        local labels = g:forward(x):argmax():totable()
        local targets = {(labels[1] + 1) % 10, (labels[2] + 3) % 10}
        local z, q = g:gradient(x, loss[name], targets)
        local same_z, same = g:gradient(x, loss.m_logit {kappa = 1e6}, targets)
        assert.is_true(z:equal(same_z))
        assert.is_true(q:equal(same))
        local r = attack.run {net = g, images = x, labels = labels, targets = targets,
            loss = loss[name], multiplier = attack.equal_perturbation(0.05), iterations = 3}
        assert.near(0.05, r.series.step_l2:get(1, 1), 1e-9)
    end)

    -- What each loss ascends, of a row of logits and a target counted from 1, in double.
    local function sum(row, f)
        local s = 0
        for k, v in ipairs(row) do s = s + f(v, k) end
        return s
    end
    local function largest_other(row, t)
        local m = -math.huge
        for k, v in ipairs(row) do if k ~= t then m = math.max(m, v) end end
        return m
    end
    local function cross_entropy(row, t, T)
        return -math.log(sum(row, function(v) return math.exp((v - row[t]) / T) end))
    end
    local references = {
        dlr = function(row, t)
            local sorted = table.move(row, 1, #row, 1, {})
            table.sort(sorted, function(a, b) return a > b end)
            return (row[t] - largest_other(row, t)) / (sorted[1] - (sorted[3] + sorted[4]) / 2)
        end,
        p_margin = function(row, t)
            local all = sum(row, math.exp)
            return (math.exp(row[t]) - math.exp(largest_other(row, t))) / all
        end,
        ce_temperature = function(row, t) return cross_entropy(row, t, 4) end,
        ce_stable = function(row, t) return cross_entropy(row, t, 1) end,
    }

    it("ascends what its source says, with the gradient of double precision", function()
        for name, reference in pairs(references) do
            for _, K in ipairs {4, 10, 60} do
                local z = (tensor.uniform("reference" .. K, {6, K}) - 0.5) * 9
                local target = {}
                for n = 1, 6 do target[n] = (n * 5) % K end
                local value, dz = loss[name]:evaluate(z, target)
                for n, row in ipairs(z:totable()) do
                    local t, h = target[n] + 1, 1e-6
                    local wanted = reference(row, t)
                    assert.near(wanted, value:get(n), 4e-6 * math.max(1, math.abs(wanted)), name)
                    for k, v in ipairs(row) do
                        row[k] = v + h
                        local up = reference(row, t)
                        row[k] = v - h
                        local slope = (up - reference(row, t)) / (2 * h)
                        row[k] = v
                        assert.near(slope, dz:get(n, k), 2e-5 * math.max(1, math.abs(slope)),
                            ("%s, %d classes, row %d"):format(name, K, n))
                    end
                end
            end
        end
    end)

    it("dlr is neither moved nor scaled with the logits, and needs four classes", function()
        local z = (tensor.uniform("dlr", {3, 10}) - 0.5) * 8
        local value, dz = loss.dlr:evaluate(z, {1, 2, 3})
        local moved = loss.dlr:evaluate(z * 4 + 2, {1, 2, 3})
        for n = 1, 3 do
            assert.near(value:get(n), moved:get(n), 1e-5)
            assert.near(0, dz[n]:sum(), 1e-5)
        end
        assert.equal(4, loss.dlr.min_classes)
    end)

    it("ce_stable keeps the target's part where loss.ce has lost it", function()
        for _, case in ipairs {{10, true}, {20, false}, {60, false}, {90, false}, {100, false}} do
            local margin, both = case[1], case[2]
            local z = tensor.new {1, 10}
            z:set(margin, 1, 4)
            local _, frameworks = loss.ce:evaluate(z, {3})
            local _, stable = loss.ce_stable:evaluate(z, {3})
            assert.equal(both, frameworks:get(1, 4) ~= 0)
            local rest = 9 * math.exp(-margin)
            assert.near(1, stable:get(1, 4) / (rest / (1 + rest)), margin > 87 and 0.2 or 1e-4)
            assert.is_true(stable:get(1, 1) < 0)
        end
        local z = tensor.new {1, 10}
        z:set(110, 1, 4)
        local _, gone = loss.ce_stable:evaluate(z, {3})
        assert.equal(0, gone:norm(2):item())
    end)

    it("has all that a loss has", function()
        local own = loss.define("test_ce", function(z, t) return z:log_softmax(2):gather(2, t) end)
        assert.equal(own, loss.test_ce)
        assert.equal(own, loss.get("test_ce"))
        assert.equal("loss test_ce", tostring(own))
        assert.same({"test_ce", 2, false}, {own.name, own.min_classes, own.signed})
        local z, target = tensor.uniform("z", {2, 5}), {1, 4}
        local value, dz = tensor.new {2}, tensor.new {2, 5}
        for _, t in ipairs {target, tensor.from(target, "i64"), tensor.from(target, "i32")} do
            local v, d = own:evaluate(z, t, value:fill(0), dz:fill(0))
            assert.equal(value, v)
            assert.equal(dz, d)
            local wanted_value, wanted = loss.ce:evaluate(z, target)
            assert.is_true(wanted_value:equal(v))
            assert.is_true(wanted:equal(d))
        end
        local gradient = tensor.from {{{{-3, 0.5}}}}
        assert.equal(gradient, own:direction(gradient))
        assert.equal(-3, gradient:get(1, 1, 1, 1))
        local sign = loss.define("test_sign", own.f, {signed = true})
        assert.is_true(sign.signed)
        assert.same({{{{-1, 1}}}}, sign:direction(gradient):totable())
        -- an attack under it is the one under loss.ce, bit for bit
        local g = assert(net.load("nets/fashion.lua", {init = "golden"}))
        local x = tensor.uniform("same", {2, 1, 28, 28})
        local labels = g:forward(x):argmax():totable()
        local runs = {}
        for i, one in ipairs {loss.ce, own} do
            runs[i] = attack.run {net = g, images = x, labels = labels,
                targets = {(labels[1] + 1) % 10, (labels[2] + 1) % 10}, loss = one,
                multiplier = attack.equal_multiplier(0.1), iterations = 4}
        end
        assert.is_true(runs[1].adversarial:equal(runs[2].adversarial))
    end)

    it("has variants with other parameters, which are tried too", function()
        local warm = loss.ce_temperature
        assert.equal("loss ce_temperature (temperature = 4)", tostring(warm))
        local hot = warm {temperature = 8}
        assert.same({4, 8}, {warm.temperature, hot.temperature})
        local z = tensor.uniform("variants", {2, 5}) * 9
        local _, dz = hot:evaluate(z, {0, 1})
        local _, wanted = loss.ce:evaluate(z / 8, {0, 1})
        for k = 1, 5 do assert.near(wanted:get(1, k) / 8, dz:get(1, k), 1e-7) end
        assert.error_matches(function() warm {temperature = 0} end,
            "temperature = 0%) is rejected: .*value is")
        assert.error_matches(function() warm {temperature = "1"} end, "a finite number, got 1")
        assert.error_matches(function() warm {T = 1} end, "no parameter 'T' %(it has temperature%)")
    end)

    it("has them by text too, called by it", function()
        local warm = assert(loss.get "ce_temperature:temperature=8")
        assert.same({8, "ce_temperature:temperature=8"}, {warm.temperature, warm.name})
        assert.equal(4, loss.get("ce_temperature").temperature)
        assert.equal(0.5, loss.get("m_logit:kappa=5e-1").kappa)
        for text, wanted in pairs {
            ["ce:T=1"] = "has no parameter 'T' (it has none)", ["m_logit:kappa=-1"] = "at least 0, got -1",
            ["ce_temperature:temperature=0"] = "is rejected", ["m_logit:"] = "want PARAMETER=NUMBER, got ''",
            ["m_logit:kappa"] = "got 'kappa'", ["m_logit:kappa=x"] = "got 'kappa=x'",
            ["m_logitt:kappa=1"] = "did you mean 'm_logit'",
        } do
            local none, message = loss.get(text)
            assert.is_nil(none)
            assert.truthy(message:find(wanted, 1, true), message)
        end
    end)

    it("may be defined again, but not over one of advrt's own", function()
        loss.define("test_again", function(z, t) return z:gather(2, t) end)
        local second = loss.define("test_again", function(z, t) return 2 * z:gather(2, t) end)
        assert.equal(second, loss.test_again)
        local value = loss.get("test_again"):evaluate(tensor.from {{1, 5}}, {1})
        assert.equal(10, value:item())
        local seen = 0
        for _, name in ipairs(loss.names()) do seen = seen + (name == "test_again" and 1 or 0) end
        assert.equal(1, seen)
        for _, name in ipairs {"ce", "test_again", "test_new"} do
            assert.error_matches(function() loss[name] = 3 end, "loss." .. name .. " cannot be set")
        end
        assert.equal(second, loss.test_again)
        for _, name in ipairs {"ce", "define", "names"} do
            assert.error_matches(function() loss.define(name, function() end) end, "taken")
        end
    end)

    local margin = function(z, t) return z:gather(2, t) - z:others(2, t):maximum(2) end

    -- The line that called it.
    local function here()
        local at = debug.getinfo(2, "Sl")
        return ("%s:%d"):format(at.short_src, at.currentline)
    end

    it("is refused with the reason", function()
        local zero = tensor.new {1}
        for _, case in ipairs {
            {function() return nil end, "with 2 classes it returns nothing"},
            {function() return 3 end, "it returns a number, which was not computed from the logits"},
            {function(z, t) return z.value:gather(2, t) end, "returns a plain tensor"},
            {function(z, t) return z:gather(2, t):sum() end, "of shape [], not one number for each"},
            {function(z) return z end, "of shape [8,2], not one number for each image, [8]"},
            {function(z, t) return z:gather(2, t) - z:mean() end, "depends on the other images"},
            {function(z, t) return z:gather(2, t) - z.value:others(2, t):maximum(2) end,
                "with 2 classes its gradient with respect to the logit of class 0 is 0, finite "
                .. "differences say -1"},
            {function(z, t) return z:gather(2, t) * 0 end, "its gradient is 0 on every sample"},
            {function(z, t) return z:softmax(2):gather(2, t):log() end,
                "with large margins of another class its value is -inf"},
            {function(z, t) return (z:exp():gather(2, t) + 1):log() end,
                "with large margins of another class its value is inf", "first"},
            {function(z, t) return z:gather(2, t):sqrt() end, "its value is nan"},
            {function(z, t) return margin(z, t) / (z:maximum(2) + z:minimum(2) * -1) end,
                "with ties among 2 classes its value is nan"},
            {function(z, t) return (z:gather(2, t) - z:others(2, t):maximum(2)):abs():sqrt() end,
                "with ties among 2 classes its gradient holds numbers that are not finite"},
            {function(z, t) return z:topk(4, 2):sum(2) - z:gather(2, t) end,
                "4); does it need min_classes = 4?"},
            {function(z, t) return z:gather(2, t) + zero:nothing() end, "define_spec.lua"},
            {function(z) return z:gather(2, {1}) end, here() .. ": bad argument #2 to 'gather' (wanted 8"},
            {function(z) return z[1] - z[2] end, here() .. ": a tracked tensor has no []"},
            {function() error("no", 0) end, here() .. ": no"},
            {function() error {} end, here() .. ": it raises a table"},
        } do
            local ok, message = pcall(loss.define, "test_refused", case[1])
            assert.is_false(ok)
            assert.is_nil(message:find("\n", 1, true), message)
            assert.truthy(message:find("loss 'test_refused' is rejected: ", 1, true), message)
            if not case[3] then assert.truthy(message:find(case[2], 1, true), message) end
            assert.is_nil(loss.test_refused)
        end
    end)

    it("names itself where it fails, or gives no number, in the midst of an attack", function()
        local how
        loss.define("test_late", function(z, t)
            local m = margin(z, t)
            if how == "hungry" then tensor.new {1 << 44} end
            if how == "hungry in Lua" then error("not enough memory", 0) end -- as Lua itself does
            if how == "raises" then error "no such luck" end
            if how == "forgets" then return end
            if how == "gradient" then return m:max(m - m) + (m - m):sqrt() * 0 end
            return how == "nan" and (m * 0 - 1):log() or m
        end)
        local g = net.load("mlp", {init = "golden"})
        local ends = "; fix [^\n]* or remove it, then start a new run$"
        for way, wanted in pairs {raises = "^loss test_late: [^ ]*define_spec%.lua:%d+: no such luck",
            forgets = "^loss test_late: [^ ]*define_spec%.lua:%d+: it returns nothing, [^;]*",
            gradient = "^image 1 %(a%.png%): the gradient is not finite at step 0 of loss test_late",
            nan = "^image 1 %(a%.png%): the value is not finite at step 0 of loss test_late"} do
            how = way
            local ok, problem = pcall(attack.run, {net = g,
                images = tensor.uniform("late", {1, 1, 28, 28}),
                labels = {0}, targets = {1}, loss = loss.test_late, names = {"a.png"}, iterations = 1,
                multiplier = attack.equal_multiplier(1)})
            assert.is_false(ok)
            assert.matches(wanted .. ends, problem.message)
            -- Its run would meet it again, but for a want of memory.
            require "advrt.support.fail".append(problem, "; go on with --resume")
            assert.matches(ends, problem.message)
        end
        local fail = require "advrt.support.fail"
        for way, wanted in pairs {hungry = "out of memory %(.* in use%)",
            ["hungry in Lua"] = "^loss test_late: not enough memory"} do
            how = way
            local ok, problem = pcall(loss.test_late.evaluate, loss.test_late, tensor.new {1, 3}, {0})
            assert.is_false(ok)
            assert.equal("memory", fail.code(problem))
            fail.append(problem, "; go on with --resume")
            assert.matches(wanted .. "; go on with %-%-resume$", problem.message)
        end
    end)

    it("is refused where its gradient alone is wrong, at any scale and only slightly", function()
        -- a tenth of the gradient comes from nowhere
        for _, scale in ipairs {1e-3, 1, 1e3} do
            local function wrong(z, t)
                return scale * (z:gather(2, t) + 0.1 * (z.value:gather(2, t) - z:gather(2, t)))
            end
            local ok, message = pcall(loss.define, "test_refused", wrong)
            assert.is_false(ok)
            assert.matches("finite differences say", message)
        end
        -- wrong for the target that is first alone
        local function late(z, t)
            local m = margin(z, t)
            return autograd.where(m:gt(3), m + 0.5 * (m.value - m), m)
        end
        local ok, message = pcall(loss.define, "test_refused", late)
        assert.is_false(ok)
        assert.matches("finite differences say", message)
    end)

    it("may have kinks, rest, and be steep", function()
        for _, f in ipairs {
            function(z, t) return margin(z, t):min(5) end,
            function(z, t) return margin(z, t):clamp(-30, 30):tanh() end,
            function(z, t) return -margin(z, t):max(0) - (z:gather(2, t) - 1):abs() end,
            function(z, t) return (z / 0.05):log_softmax(2):gather(2, t) end,
            function(z, t) return -(z - 3):norm(2, 2) + z:gather(2, t) end,
            function(z, t) return 1e-4 * margin(z, t) end,
            function(z, t) return 1e4 * margin(z, t) end,
        } do
            assert.is_table(loss.define("test_kinks", f))
        end
    end)

    it("blames the line that defines it", function()
        local function refuses(wanted, ...)
            local arguments = table.pack(...)
            local ok, message = pcall(function()
                local made = loss.define(table.unpack(arguments, 1, arguments.n))
                return made
            end)
            assert.is_false(ok)
            assert.matches("^[^\n]*define_spec%.lua:%d+: ", message)
            assert.truthy(message:find(wanted, 1, true), message)
        end
        refuses("letters, digits and _, got 'my loss'", "my loss", margin)
        refuses("got '1st'", "1st", margin)
        refuses("wants a function", "test_bad", 5)
        refuses("the options are a table", "test_bad", margin, 5)
        refuses("no option 'classes'", "test_bad", margin, {classes = 4})
        refuses("min_classes must be an integer", "test_bad", margin, {min_classes = 2.5})
        refuses("min_classes must be in 1 .. 1000", "test_bad", margin, {min_classes = 0})
        refuses("cannot be named 'evaluate'", "test_bad", margin, {parameters = {evaluate = 1}})
        refuses("parameter T must be a finite number", "test_bad", margin, {parameters = {T = true}})
        refuses("is rejected", "test_bad", function() end)
        for number, f in pairs {
            [1] = function() return (loss.ce:evaluate(3, {1})) end,
            [2] = function() return (loss.ce:evaluate(tensor.new {2, 3}, 1)) end,
            [3] = function() return (loss.ce:evaluate(tensor.new {2, 3}, {1, 2}, 1)) end,
        } do
            local ok, message = pcall(f)
            assert.is_false(ok)
            assert.matches(("define_spec%%.lua:%%d+: bad argument #%d to 'evaluate'"):format(number), message)
        end
        local ok, message = pcall(function() return (loss.dlr:evaluate(tensor.new {2}, {0})) end)
        assert.is_false(ok)
        assert.matches("define_spec%.lua:%d+: loss dlr: logits must be f32 %[N,K%]", message)
        ok, message = pcall(function() return (loss.dlr:evaluate(tensor.new {1, 4}, {4})) end)
        assert.is_false(ok)
        assert.matches("target%[1%]: want a class in 0 .. 3, got 4", message)
    end)
end)

describe("files of losses", function()
    local folder
    setup(function() folder = support.folder() end)
    teardown(function() support.remove(folder) end)

    it("define what the session's text defines, with loss at hand", function()
        local path = support.write(folder .. "/mine.lua", page_text())
        assert.is_true(loss.load(path))
        assert.is_nil(rawget(_G, "loss"))
        support.write(folder .. "/local.lua", "leaked = 1\nlocal tensor = require 'advrt.tensor'\n"
            .. "loss.define('test_file', function(z, t) return z:gather(2, t) end)")
        assert.is_true(loss.load(folder .. "/local.lua"))
        assert.is_table(loss.test_file)
        assert.is_nil(rawget(_G, "leaked"))
    end)

    it("that come with advrt are found by name, and define what they are called", function()
        for _, name in ipairs(shipped) do
            assert.is_true(loss.load(name))
            assert.is_true(loss.load(name .. ".lua"))
            assert.equal(name, loss[name].name)
            assert.equal(name, require("advrt.losses." .. name).name)
        end
    end)

    it("that fail say why in one line", function()
        for text, wanted in pairs {
            ["x = = 1"] = "bad.lua:1: unexpected symbol",
            ["\nerror 'no'"] = "bad.lua:2: no",
            ["error({})"] = "bad.lua: table",
            ["loss.define('test_bad', function(z) return z:sum() end)"] = "bad.lua:1: loss 'test_bad' is "
                .. "rejected: with 2 classes it returns a tensor of shape []",
            ["require 'no.such'"] = "module 'no.such' not found",
            ["\27Lua"] = "attempt to load a binary chunk",
        } do
            local path = support.write(folder .. "/bad.lua", text)
            local done, message = loss.load(path)
            assert.is_nil(done)
            assert.truthy(message:find(wanted, 1, true), message)
            assert.is_nil(message:find("\n", 1, true))
        end
        support.write(folder .. "/plain.lua", "")
        assert.equal(folder .. "/plain.lua", loss.find(folder .. "/plain"))
        for _, path in ipairs {folder .. "/none.lua", folder} do
            local done, message = loss.load(path)
            assert.is_nil(done)
            assert.truthy(message:find("no file of losses '" .. path .. "'", 1, true), message)
        end
    end)
end)
