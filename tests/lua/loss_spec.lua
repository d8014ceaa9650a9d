-- The losses as objects: values, gradients, variants and names.

local loss = require "advrt.loss"
local tensor = require "advrt.tensor"

describe("losses", function()
    local z = tensor.from {{1, 3, 0.5}, {-2, 0, 4}}
    local target = {0, 2}

    local function softmax(row)
        local sum, p = 0, {}
        for k, v in ipairs(row) do
            p[k] = math.exp(v)
            sum = sum + p[k]
        end
        for k = 1, #p do p[k] = p[k] / sum end
        return p
    end

    it("ascend what the paper's equations say", function()
        local rows = z:totable()
        for name, check in pairs {
            ce = function(row, t, value, dz)
                local p = softmax(row)
                assert.near(math.log(p[t]), value, 1e-6)
                for k = 1, 3 do assert.near((k == t and 1 or 0) - p[k], dz[k], 1e-6) end
            end,
            logit = function(row, t, value, dz)
                assert.near(row[t], value, 1e-6)
                for k = 1, 3 do assert.equal(k == t and 1 or 0, dz[k]) end
            end,
            m_logit = function(row, t, value, dz)
                local other
                for k = 1, 3 do
                    if k ~= t and (not other or row[k] > row[other]) then other = k end
                end
                assert.near(row[t] - row[other], value, 1e-6)
                for k = 1, 3 do
                    assert.equal(k == t and 1 or k == other and -1 or 0, dz[k])
                end
            end,
        } do
            local value, dz = loss[name]:evaluate(z, target)
            for i = 1, 2 do
                check(rows[i], target[i] + 1, value:get(i), dz[i]:totable())
            end
        end
    end)

    it("share ce's gradient between ce and ce_sign, and take the sign on the image", function()
        local _, dz = loss.ce:evaluate(z, target)
        local _, same = loss.ce_sign:evaluate(z, target)
        assert.is_true(dz:equal(same))
        local gradient = tensor.from {{{{-0.25, 0}, {1e-30, 7}}}}
        assert.equal(gradient, loss.ce:direction(gradient))
        assert.near(-0.25, gradient:get(1, 1, 1, 1), 0)
        assert.same({{{{-1, 0}, {1, 1}}}}, loss.ce_sign:direction(gradient):totable())
        assert.is_false(loss.ce.signed)
        assert.is_true(loss.ce_sign.signed)
    end)

    it("write into the tensors they are given", function()
        local value, dz = tensor.new {2}, tensor.new {2, 3}
        local v, d = loss.logit:evaluate(z, target, value, dz)
        assert.equal(value, v)
        assert.equal(dz, d)
        assert.equal(4, value:get(2))
    end)

    it("rest above kappa, and variants have their own", function()
        local _, resting = loss.m_logit {kappa = 3}:evaluate(z, target)
        assert.same({0, 0, 0}, resting[2]:totable())
        assert.same({1, -1, 0}, resting[1]:totable())
        local _, pushing = loss.m_logit:evaluate(z, target)
        assert.same({0, -1, 1}, pushing[2]:totable())
        assert.equal(20, loss.m_logit.kappa)
        assert.equal("m_logit", loss.m_logit {kappa = 3}.name)
    end)

    it("refuse parameters they do not have, with what they have", function()
        assert.error_matches(function() loss.m_logit {kapa = 5} end, "no parameter 'kapa' %(it has kappa%)")
        assert.error_matches(function() loss.ce {kappa = 5} end, "it has none")
        assert.error_matches(function() loss.m_logit {kappa = -1} end, "at least 0, got %-1")
        assert.error_matches(function() loss.m_logit {kappa = 0 / 0} end, "at least 0, got")
        assert.error_matches(function() loss.m_logit(5) end, "table of parameters")
    end)

    it("are found by name, and a wrong name tells the nearest", function()
        assert.equal(loss.ce_sign, loss.get("ce_sign"))
        local none, message = loss.get("mlogit")
        assert.is_nil(none)
        assert.matches("'mlogit'; did you mean 'm_logit'", message, 1, true)
        assert.same({"ce", "ce_sign", "logit", "m_logit"}, loss.names())
        assert.error_matches(function() loss.add {name = "ce"} end, "taken")
    end)

    it("are those of the core's records, with their names, defaults and ranges", function()
        local records = (require "advrt.core.loss").records()
        assert.is_true(#records >= 3)
        for _, record in ipairs(records) do
            local one = loss[record.name]
            assert.equal(record.min_classes, one.min_classes)
            for _, p in ipairs(record.parameters) do
                assert.equal(p.usual, one[p.name])
                for _, edge in ipairs {p.least, p.most} do
                    assert.equal(edge, one {[p.name] = edge}[p.name])
                end
                assert.error_matches(function() one {[p.name] = p.least - 1} end, p.name .. " must be")
            end
        end
    end)

    it("take the run's options that are parameters of theirs", function()
        local o = {kappa = 7, seed = 3}
        assert.equal(7, loss.with_options("m_logit", o).kappa)
        assert.equal("m_logit", loss.with_options("m_logit", o).name)
        assert.equal(5, loss.with_options("m_logit:kappa=5", o).kappa)
        assert.equal(loss.ce, loss.with_options("ce", o))
        assert.equal(loss.m_logit, loss.with_options("m_logit", {}))
        assert.matches("unknown loss 'm_logi'", select(2, loss.with_options("m_logi", o)))
        local none, message = loss.with_options("m_logit", {kappa = -1})
        assert.is_nil(none)
        assert.matches("kappa must be a number of at least 0, got %-1", message)
    end)

    it("are not cut off by an infinite parameter, in either direction", function()
        local far = tensor.from {{1e30, -1e30, 0}}
        local free = loss.m_logit {kappa = math.huge}
        assert.equal(far:get(1, 1), free:evaluate(far, {0}):get(1))
        local value, dz = free:untargeted():evaluate(far, {1})
        assert.equal((far * 2):get(1, 1), value:get(1))
        assert.same({{1, -1, 0}}, dz:totable())
        assert.equal(free.kappa, free:untargeted().kappa)
    end)
end)
