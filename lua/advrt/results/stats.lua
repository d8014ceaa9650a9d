--- The statistics of a comparison: paired tests and their adjustment, a paired difference with its
-- interval, and the time to the flip when some images never flip.
--
-- Everything is computed from lists of numbers. Only the bootstrap is random; it depends on a
-- seed.
--
-- @module advrt.results.stats

local tensor = require "advrt.tensor"

local stats = {}

local RESAMPLES = 1000   -- of the bootstrap
local EXACT_MOST = 50    -- nonzero differences of different sizes: SciPy's limit for the exact test
local EXACT_TIED = 13    -- differences with ties or zeros: SciPy's limit for the exact test
local HAIR = 1e-12       -- rounding error of a product of fractions
local Z = 1.959963984540054 -- the 97.5 % point of the normal distribution

--- The p-quantile of a sorted list, with linear interpolation; nan for an empty list.
function stats.quantile(sorted, p)
    if #sorted == 0 then return 0 / 0 end
    local at = 1 + p * (#sorted - 1)
    local low = math.floor(at)
    local high = math.min(low + 1, #sorted)
    if sorted[low] == sorted[high] then return sorted[low] end -- infinities too
    return sorted[low] + (at - low) * (sorted[high] - sorted[low])
end

local function sorted_copy(list)
    local sorted = table.move(list, 1, #list, 1, {})
    table.sort(sorted)
    return sorted
end

--- The median of a list; nan for an empty list.
function stats.median(list) return stats.quantile(sorted_copy(list), 0.5) end

--- 1 - erf(x) for x >= 0, with relative error 1e-12.
local function erfc(x)
    if x < 2.5 then
        local term, sum, k = x, x, 0
        repeat
            k = k + 1
            term = -term * x * x / k
            sum = sum + term / (2 * k + 1)
        until math.abs(term) < 1e-18
        return 1 - 2 / math.sqrt(math.pi) * sum
    end
    local fraction = 0 -- the continued fraction, from its tail
    for k = 120, 1, -1 do fraction = k / 2 / (x + fraction) end
    return math.exp(-x * x) / math.sqrt(math.pi) / (x + fraction)
end

--- The probability of both tails of the standard normal distribution beyond z.
function stats.normal_tails(z) return erfc(math.abs(z) / math.sqrt(2)) end

--- The ranks of |differences| without zeros; equal ones get their mean rank. Returns the rank sum
-- of the positive ones; the ranks times two, which makes them integers; and the sum of t^3 - t
-- over groups of t equal ones.
local function signed_ranks(differences)
    local sorted = {}
    for _, d in ipairs(differences) do
        if d ~= 0 then sorted[#sorted + 1] = d end
    end
    table.sort(sorted, function(a, b) return math.abs(a) < math.abs(b) end)
    local plus, doubled, ties, first = 0, {}, 0, 1
    while first <= #sorted do
        local last = first
        while last < #sorted and math.abs(sorted[last + 1]) == math.abs(sorted[first]) do last = last + 1 end
        for i = first, last do
            doubled[i] = first + last
            if sorted[i] > 0 then plus = plus + (first + last) / 2 end
        end
        local t = last - first + 1
        ties, first = ties + (t * t * t - t), last + 1
    end
    return plus, doubled, ties
end

--- Twice the smaller tail of the rank sum's distribution when both signs are equally likely.
-- doubled: the ranks times two; plus: the rank sum.
local function exact_tails(doubled, plus)
    local total = 0
    for _, r in ipairs(doubled) do total = total + r end
    local ways = {[0] = 1.0} -- indexed by the doubled rank sum
    for s = 1, total do ways[s] = 0.0 end
    local reached = 0
    for _, r in ipairs(doubled) do
        reached = reached + r
        for s = reached, r, -1 do ways[s] = ways[s] + ways[s - r] end
    end
    local at, below, above = math.floor(2 * plus + 0.5), 0, 0
    for s = 0, total do
        if s <= at then below = below + ways[s] end
        if s >= at then above = above + ways[s] end
    end
    return math.min(1, 2 * math.min(below, above) / 2.0 ^ #doubled)
end

--- Wilcoxon's two-sided signed-rank test of paired differences, as scipy.stats.wilcoxon with its
-- defaults (zero_method "wilcox", correction false, method "auto"). Zeros are dropped, and equal
-- sizes get their mean rank. The test is exact for up to 50 nonzero differences of different
-- sizes, and for up to 13 of any kind. Otherwise it uses the normal approximation, with its
-- variance corrected for ties and without continuity correction.
--
-- Returns {n (all differences), zeros, statistic (the smaller rank sum), p, test =
-- "wilcoxon_exact" or "wilcoxon_normal"}. p is 1 if all differences are 0, and nan if there are
-- none.
function stats.wilcoxon(differences)
    local n = #differences
    local plus, doubled, ties = signed_ranks(differences)
    local m = #doubled
    local exact = n <= EXACT_TIED or n <= EXACT_MOST and m == n and ties == 0
    local result = {n = n, zeros = n - m, statistic = math.min(plus, m * (m + 1) / 2 - plus),
        test = exact and "wilcoxon_exact" or "wilcoxon_normal"}
    if n == 0 then
        result.p = 0 / 0
    elseif m == 0 then
        result.p = 1.0
    elseif exact then
        result.p = exact_tails(doubled, plus)
    else
        local variance = (m * (m + 1) * (2 * m + 1) - ties / 2) / 24
        result.p = stats.normal_tails((plus - m * (m + 1) / 4) / math.sqrt(variance))
    end
    return result
end

--- The exact two-sided sign test: of `a` + `b` pairs that differ, `a` went one way and `b` the
-- other. Returns p, as scipy.stats.binomtest(a, a + b); 1 if no pair differs.
function stats.sign_test(a, b)
    local n, k = a + b, math.min(a, b)
    if 2 * k == n then return 1.0 end
    local log = -n * math.log(2)
    for i = 1, k do log = log + math.log((n - k + i) / i) end
    local term, sum = 1.0, 1.0 -- relative to the probability of k
    for i = k, 1, -1 do
        term = term * i / (n - i + 1)
        sum = sum + term
    end
    return math.min(1, 2 * sum * math.exp(log))
end

--- Holm's adjustment of the p values of one family of tests; nan stays nan and does not count as a
-- test.
function stats.holm(list)
    local order, adjusted, most = {}, {}, 0
    for i, p in ipairs(list) do
        adjusted[i] = p
        if p == p then order[#order + 1] = i end
    end
    table.sort(order, function(i, k) return list[i] < list[k] or list[i] == list[k] and i < k end)
    for place, i in ipairs(order) do
        most = math.max(most, math.min(1, (#order - place + 1) * list[i]))
        adjusted[i] = most
    end
    return adjusted
end

--- The two middle ranks of each resample of n. The drawn ranks depend only on the seed and n, so
-- one pass serves every list of n.
local function middle_ranks(n, seed)
    local low, high = {}, {}
    for k = 1, RESAMPLES do
        local u = tensor.uniform(("%d:median:%d"):format(seed, k), {n}):totable()
        local count = {}
        for i = 1, n do count[i] = 0 end
        for i = 1, n do
            local rank = math.floor(u[i] * n) + 1
            count[rank] = count[rank] + 1
        end
        local sum, rank = 0, 0
        while sum < (n + 1) // 2 do
            rank = rank + 1
            sum = sum + count[rank]
        end
        low[k] = rank
        while sum < n // 2 + 1 do
            rank = rank + 1
            sum = sum + count[rank]
        end
        high[k] = rank
    end
    return low, high
end

-- Results of middle_ranks by seed and n: a run's tables and its report use the same ones.
local known = {}

--- Medians of several lists with one seed: a function(list) -> median, low, high, with the 95 %
-- percentile bootstrap interval of 1000 resamples. nan for an empty list.
function stats.medians(seed)
    return function(list)
        local sorted, n, medians = sorted_copy(list), #list, {}
        if n == 0 then return 0 / 0, 0 / 0, 0 / 0 end
        local key = ("%d:%d"):format(seed, n)
        known[key] = known[key] or {middle_ranks(n, seed)}
        local low, high = table.unpack(known[key])
        for k = 1, RESAMPLES do medians[k] = (sorted[low[k]] + sorted[high[k]]) / 2 end
        table.sort(medians)
        return stats.quantile(sorted, 0.5), stats.quantile(medians, 0.025),
            stats.quantile(medians, 0.975)
    end
end

local Survival = {}
Survival.__index = Survival

--- The first time at which the fraction, or an end of its interval (key), reaches p; nil if none
-- does.
local function first_time(steps, key, p)
    for _, step in ipairs(steps) do
        if step[key] >= p - HAIR then return step.time end
    end
    return nil
end

--- survival:quantile(p) -> time, low, high The time by which a fraction p has flipped, and the 95 %
-- interval of that time (Brookmeyer and Crowley: the times at which the ends of the fraction's
-- interval reach p). nil means "not reached".
function Survival:quantile(p)
    return first_time(self.steps, "share", p), first_time(self.steps, "high", p),
        first_time(self.steps, "low", p)
end

--- The 95 % interval of a fraction `kept` that has not flipped, by Greenwood's variance on the
-- scale log(-log(kept)), which keeps it within 0 and 1. nan if all or none flipped.
local function greenwood(kept, sum)
    if kept <= HAIR or kept >= 1 then return 0 / 0, 0 / 0 end
    local half = Z * math.sqrt(sum) / math.log(kept)
    return kept ^ math.exp(-half), kept ^ math.exp(half)
end

--- The Kaplan-Meier estimate of the time to the flip. times: for each image the time of its flip,
-- or the last time at which it had not flipped; flipped: for each image whether it flipped.
--
-- Returns {n, flipped, steps, quantile}. steps is an array, over the times with a flip, of {time,
-- at_risk, flips, share (fraction flipped by then), low, high (Greenwood's 95 % interval of the
-- fraction, by log(-log))}.
function stats.survival(times, flipped)
    local order, steps, kept, sum, events = {}, {}, 1.0, 0.0, 0
    for i = 1, #times do order[i] = i end
    table.sort(order, function(i, k) return times[i] < times[k] end)
    local first = 1
    while first <= #order do
        local time, last, flips = times[order[first]], first, 0
        while last < #order and times[order[last + 1]] == time do last = last + 1 end
        for i = first, last do flips = flips + (flipped[order[i]] and 1 or 0) end
        local at_risk = #order - first + 1
        if flips > 0 then
            kept = kept * (1 - flips / at_risk)
            sum = sum + flips / (at_risk * (at_risk - flips))
            local high, low = greenwood(kept, sum)
            steps[#steps + 1] = {time = time, at_risk = at_risk, flips = flips, share = 1 - kept,
                low = 1 - low, high = 1 - high}
        end
        events, first = events + flips, last + 1
    end
    return setmetatable({n = #times, flipped = events, steps = steps}, Survival)
end

return stats
