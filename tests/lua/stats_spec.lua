-- The statistics of a comparison, held against SciPy's (tests/golden/stats/make_stats.py).

local json = require "advrt.support.json"
local stats = require "advrt.results.stats"
local support = require "support"
local system = require "advrt.core.system"
local tensor = require "advrt.tensor"

local golden = assert(json.decode(support.read(system.options.root .. "/tests/golden/stats/stats.json")))

-- Near in absolute and in relative size: a p of 1e-30 has to be one of 1e-30.
local function near(wanted, got, what)
    local off = math.abs(got - wanted)
    assert.is_true(off <= 1e-9 and off <= 1e-6 * math.abs(wanted), ("%s: %.12g, not %.12g"):format(what, got,
        wanted))
end

describe("Wilcoxon's signed-rank test", function()
    it("is SciPy's, with ties and zeros, exact and approximate", function()
        local seen = {}
        for _, one in ipairs(golden.wilcoxon) do
            local r = stats.wilcoxon(one.differences)
            near(one.p, r.p, one.name)
            near(one.statistic, r.statistic, one.name)
            seen[r.test] = (seen[r.test] or 0) + 1
            local turned = {}
            for i, d in ipairs(one.differences) do turned[i] = -d end
            near(one.p, stats.wilcoxon(turned).p, one.name .. ", turned")
        end
        assert.is_true(seen.wilcoxon_exact > 5 and seen.wilcoxon_normal > 4)
    end)

    it("finds nothing in zeros, and has no p of nothing", function()
        for _, n in ipairs {1, 5, 60} do
            local zeros = {}
            for i = 1, n do zeros[i] = 0 end
            local r = stats.wilcoxon(zeros)
            assert.same({1, n, n}, {r.p, r.n, r.zeros})
        end
        local none = stats.wilcoxon {}
        assert.is_true(none.p ~= none.p)
    end)
end)

describe("the sign test", function()
    it("is SciPy's exact binomial test", function()
        for _, one in ipairs(golden.wilcoxon) do near(one.sign_p, stats.sign_test(one.a, one.b), one.name) end
        for _, one in ipairs(golden.sign) do
            near(one[3], stats.sign_test(one[1], one[2]), one[1] .. " of " .. one[1] + one[2])
            near(one[3], stats.sign_test(one[2], one[1]), one[2] .. " of " .. one[1] + one[2])
        end
        assert.equal(1, stats.sign_test(0, 0))
    end)
end)

describe("both tails of the normal distribution", function()
    it("are SciPy's, far out too", function()
        for _, one in ipairs(golden.tails) do
            near(one[2], stats.normal_tails(one[1]), one[1])
            near(one[2], stats.normal_tails(-one[1]), one[1])
        end
    end)
end)

describe("Holm's adjustment", function()
    it("multiplies the smallest most, in order, and passes over nan", function()
        for i, p in ipairs(stats.holm(golden.holm[1])) do near(golden.holm[2][i], p, "p " .. i) end
        local some = stats.holm {0.02, 0 / 0, 0.04}
        assert.same({0.04, 0.04}, {some[1], some[3]})
        assert.is_true(some[2] ~= some[2])
        assert.same({}, stats.holm {})
    end)
end)

describe("the median and its interval", function()
    it("are NumPy's median, within the interval", function()
        local of = stats.medians(0)
        for _, one in ipairs(golden.wilcoxon) do
            local median, low, high = of(one.differences)
            near(one.median, median, one.name)
            near(one.median, stats.median(one.differences), one.name)
            assert.is_true(low <= median and median <= high, one.name)
        end
        for _, v in ipairs {of {}} do assert.is_true(v ~= v) end
        assert.same({3, 3, 3}, {of {3}})
    end)

    -- A median of an odd number of draws is at most the i-th of n sorted values where more than half of the
    -- draws are, which is a binomial tail: the interval without any draws.
    it("have the ends of the bootstrap's exact distribution", function()
        local n, list = 101, {}
        for i = 1, n do list[i] = i end
        local function at_most(i)
            local p, sum = i / n, 0.0
            local log = n * math.log(1 - p)
            for k = 0, n do
                if k > n // 2 then sum = sum + math.exp(log) end
                log = log + math.log((n - k) / (k + 1) * p / (1 - p))
            end
            return sum
        end
        local low, high = 1, 1
        while at_most(low) < 0.025 do low = low + 1 end
        while at_most(high) < 0.975 do high = high + 1 end
        local _, from, to = stats.medians(3)(list)
        assert.near(low, from, 2)
        assert.near(high, to, 2)
        assert.is_true(low < 45 and high > 56)
    end)

    it("depend on the seed alone", function()
        local list = tensor.uniform("stats", {80}):totable()
        local a, b, c = {stats.medians(1)(list)}, {stats.medians(1)(list)}, {stats.medians(2)(list)}
        assert.same(a, b)
        assert.not_same(a, c)
        local shifted, of = {}, stats.medians(1)
        for i, v in ipairs(list) do shifted[#list + 1 - i] = v + 5 end
        of(list)
        for i, v in ipairs {of(shifted)} do assert.near(a[i] + 5, v, 1e-12) end
    end)
end)

describe("the time to the flip", function()
    it("is SciPy's Kaplan-Meier estimate, with Greenwood's intervals", function()
        for _, one in ipairs(golden.survival) do
            local s = stats.survival(one.times, one.flipped)
            assert.equal(#one.steps, #s.steps, one.name)
            for i, step in ipairs(s.steps) do
                local wanted = one.steps[i]
                local what = ("%s at %d"):format(one.name, wanted.time)
                assert.equal(wanted.time, step.time, what)
                near(wanted.share, step.share, what)
                for _, key in ipairs {"low", "high"} do
                    if wanted[key] == json.null or wanted[key] == nil then
                        assert.is_true(step[key] ~= step[key], what)
                    else
                        near(wanted[key], step[key], what)
                    end
                end
            end
        end
    end)

    it("has quartiles, which are not reached where too few flip", function()
        local times, flipped = {}, {}
        for i = 1, 8 do times[i], flipped[i] = math.min(10 * i, 50), i <= 4 end
        local s = stats.survival(times, flipped)
        assert.equal(8, s.n)
        assert.equal(4, s.flipped)
        assert.equal(20, (s:quantile(0.25)))
        assert.equal(40, (s:quantile(0.5))) -- exactly a half
        assert.is_nil((s:quantile(0.75)))
        local median, low, high = s:quantile(0.5)
        assert.is_true(low < median)
        assert.is_nil(high)
        local none = stats.survival({5, 5}, {false, false})
        assert.same({2, 0, 0}, {none.n, none.flipped, #none.steps})
        assert.is_nil((none:quantile(0.25)))
        assert.is_nil((stats.survival({}, {}):quantile(0.5)))
    end)
end)
