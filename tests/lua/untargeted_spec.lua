-- Untargeted attacks: what each loss is turned into, and that logits of any size are attacked.

local attacks = require "advrt.attacks"
local data = require "advrt.data"
local image = require "advrt.core.image"
local loss = require "advrt.loss"
local net = require "advrt.net"
local tensor = require "advrt.tensor"

for _, name in ipairs {"dlr", "p_margin", "ce_stable", "ce_temperature"} do assert(loss.load(name)) end

-- Logits in which label 1 leads by `lead`, and the others differ.
local function row(lead) return {0, lead, -0.75, -2, -0.25} end

local function evaluate(one, lead)
    local value, dz = one:evaluate(tensor.from {row(lead)}, {1})
    return value:get(1), dz[1]:totable()
end

describe("a loss's untargeted form", function()
    it("is the negated loss where the loss is not cut off", function()
        for _, name in ipairs {"ce", "ce_sign", "logit", "p_margin", "ce_stable", "ce_temperature"} do
            local one = loss[name]
            local form = loss.untargeted(one)
            for _, lead in ipairs {-3, 0.5, 12} do
                local value, dz = evaluate(one, lead)
                local turned, away = evaluate(form, lead)
                assert.equal(-value, turned)
                for k = 1, 5 do assert.equal(-dz[k], away[k]) end
            end
            assert.same({one.name, one.min_classes, one.signed}, {form.name, form.min_classes, form.signed})
        end
        local q = tensor.from {{{{-3, 0.25}}}}
        assert.same({{{{-1, 1}}}}, loss.untargeted(loss.ce_sign):direction(q:clone()):totable())
        assert.same(q:totable(), loss.untargeted(loss.ce):direction(q:clone()):totable())
    end)

    it("is cut off where another class leads by kappa, for m_logit", function()
        local form = loss.untargeted(loss.m_logit {kappa = 5})
        for _, lead in ipairs {1e5, 20, 5.5, 0, -4.75} do
            local value, dz = evaluate(form, lead)
            assert.equal(-lead, value)
            assert.same({1, -1, 0, 0, 0}, dz)
        end
        local value, dz = evaluate(form, -5.25)
        assert.equal(5, value)
        for k = 1, 5 do assert.equal(0, dz[k]) end
        value, dz = evaluate(form, 0 / 0)
        assert.is_true(value ~= value and dz[1] ~= dz[1])
        assert.equal("m_logit", form.name)
    end)

    it("is the authors' other ratio for dlr", function()
        local value = evaluate(loss.untargeted(loss.dlr), 4)
        assert.near(-(4 - 0) / (4 + 0.25), value, 1e-6)
        assert.near((4 - 0) / (4 + 0.5), evaluate(loss.dlr, 4), 1e-6)
    end)

    it("is steep however far the label leads, for the losses without a softmax", function()
        for _, name in ipairs {"logit", "m_logit"} do
            for _, lead in ipairs {1, 30, 1e5, 1e30} do
                local _, dz = evaluate(loss.untargeted(loss[name]), lead)
                assert.equal(-1, dz[2])
            end
        end
        for _, lead in ipairs {1, 30, 1e5} do
            local _, dz = evaluate(loss.untargeted(loss.dlr), lead)
            assert.is_true(dz[1] > 0 and dz[2] < 0)
        end
    end)
end)

describe("a defined loss's untargeted form", function()
    local function margin(z, t) return z:gather(2, t) - z:others(2, t):maximum(2) end

    it("is the function of that name, variants' parameters and all", function()
        local one = loss.define("test_cut", function(z, t, p) return margin(z, t):min(p.most) end,
            {parameters = {most = 3}, untargeted = function(z, y, p) return (-margin(z, y)):min(p.most) end})
        local form = loss.untargeted(one)
        local value, dz = evaluate(form, 50)
        assert.equal(-50, value)
        assert.same({1, -1, 0, 0, 0}, dz)
        assert.equal(3, (evaluate(form, -50)))
        assert.equal(7, (evaluate(loss.untargeted(one {most = 7}), -50)))
        -- negated alone it would be flat there
        local plain = loss.define("test_cut_plain", function(z, t) return margin(z, t):min(3) end)
        local _, flat = evaluate(loss.untargeted(plain), 50)
        for k = 1, 5 do assert.equal(0, flat[k]) end
    end)

    it("is tried as the loss itself is", function()
        for wanted, f in pairs {
            ["its untargeted form: .*its gradient is 0 on every sample"] = function(z, y)
                return z:gather(2, y) * 0
            end,
            ["its untargeted form: .*it returns nothing"] = function() end,
        } do
            local ok, message = pcall(loss.define, "test_turned", margin, {untargeted = f})
            assert.is_false(ok)
            assert.matches("loss 'test_turned' is rejected: " .. wanted, message)
            assert.is_nil(loss.test_turned)
        end
        assert.error_matches(function() loss.define("test_turned", margin, {untargeted = true}) end,
            "untargeted must be a function")
        assert.error_matches(function()
            loss.define("test_turned", margin, {parameters = {turned = 1}})
        end, "a parameter cannot be named 'turned'")
    end)
end)

describe("untargeted attacks", function()
    local COUNT = 30
    local function load(scale)
        local g = assert(net.load("nets/fashion.lua"))
        local state = g:state()
        state["fc.weight"]:mul_(scale)
        state["fc.bias"]:mul_(scale)
        return g
    end
    local nets = {load(1), load(1e3), load(1e5)}
    local x, labels = tensor.new {COUNT, 1, 28, 28}, nil
    setup(function()
        local folder = data.folder("nets/fashion-images", {classes = 10, input = {1, 28, 28}})
        for batch in folder:batches(1, COUNT, COUNT) do x:copy(batch) end
        labels = nets[1]:forward(x):argmax():totable() -- each image begins right
    end)

    local function run(g, attack)
        return attacks.run {attack = attack, net = g, images = x, labels = labels, batch = COUNT}
    end

    local function flips(r)
        local count = 0
        for _, success in ipairs(r.success) do count = count + (success and 1 or 0) end
        return count
    end

    it("flip the same images at logits x1, x1e3 and x1e5, by a sign and a loss without scale", function()
        for _, name in ipairs {"logit", "m_logit", "dlr"} do
            for _, attack in ipairs {attacks.fgs {eps = 0.03, loss = name},
                attacks.ifgs {eps = 0.02, steps = 5, loss = name},
                attacks.pgd {eps = 0.02, steps = 5, loss = name}} do
                local r = run(nets[1], attack)
                assert.is_true(flips(r) > 0 and flips(r) < COUNT)
                for i = 2, 3 do assert.same(r.success, run(nets[i], attack).success) end
            end
        end
    end)

    it("flip what the label leads by more than kappa, each with m_logit", function()
        for _, attack in ipairs {attacks.pgd {norm = 2, eps = 3, steps = 10, loss = "m_logit"},
            attacks.lbfgs {loss = "m_logit", searches = 1, iterations = 12},
            attacks.cw {loss = "m_logit", searches = 2, iterations = 20, rate = 0.1}} do
            assert.is_true(flips(run(nets[3], attack)) >= COUNT - 1, attack.kind)
        end
    end)

    it("flip the images that the net is surest of by L-BFGS, whose line search sees ce fall", function()
        assert.same({"ce", "m_logit", "logit"}, {attacks.lbfgs {}:ascends(true).name,
            attacks.lbfgs {}:ascends(false).name, attacks.lbfgs {loss = "logit"}:ascends(false).name})
        local sure, few = tensor.new {2, 1, 28, 28}, {searches = 1, iterations = 20}
        for i, name in ipairs {"00031", "00069"} do
            sure:set_image(i, assert(image.load("nets/fashion-images/" .. name .. ".png", {channels = 1})))
        end
        local function flip(given)
            for key, value in pairs(few) do given[key] = value end
            return attacks.run {attack = attacks.lbfgs(given), net = nets[1], images = sure, labels = {8, 8},
                batch = 2}
        end
        local r = flip {}
        assert.same({true, true}, r.success)
        assert.is_true(r.l2:get(1) < 1 and r.l2:get(2) < 1)
        assert.same({true, true}, flip {loss = "ce", tolerance = 1e-10}.success)
    end)

    it("take a loss of the script's own that has no untargeted form, negated", function()
        local own = {name = "own", min_classes = 2}
        function own.direction(_, q) return q end
        function own.evaluate(_, ...) return loss.logit:evaluate(...) end
        local attack = attacks.ifgs {eps = 0.02, steps = 3, loss = own}
        local wanted = attacks.ifgs {eps = 0.02, steps = 3, loss = "logit"}
        assert.is_true(run(nets[1], attack).adversarial:equal(run(nets[1], wanted).adversarial))
    end)
end)
