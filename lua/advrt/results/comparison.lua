--- Compares losses, or attacks, on the same images: paired tests of each pair, and the time to the
-- flip.
--
--     local c = comparison.new(losses)
--     for r in record.each(path) do c:add(r) end
--     local found = c:finish(seed)       -- {paired, survival, same}: rows of paired.csv and survival.csv
--
-- @module advrt.results.comparison

local count_of = require "advrt.support.count"
local lines_of = require "advrt.support.lines"
local stats = require "advrt.results.stats"

local comparison = {}

--- An adjusted p below this level shows a difference.
comparison.level = 0.05

local OTHER_FLIPS = 0.02   -- fraction of the images whose flip rounding may move
local ROUNDING = 0.01      -- fraction of a series' range: the median effect of rounding on one path
local MOST_LINES = 10      -- lines of the printed table

-- The series that distinguish paths. The gradient's norm is not among them: a constant factor
-- changes only it.
local path_series = {"p_initial", "p_target", "z_initial", "z_target", "l2"}

--- The columns of paired.csv for two things of the kind `what` ("loss", "attack").
function comparison.paired_header(what)
    return {what .. "_a", what .. "_b", "quantity", "n", "median_difference", "low", "high", "p", "p_holm",
        "test", "a_less", "b_less", "equal"}
end

--- The columns of survival.csv.
comparison.survival_header = {"loss", "images", "flipped", "quartile1", "quartile1_low", "quartile1_high",
    "median", "median_low", "median_high", "quartile3", "quartile3_low", "quartile3_high"}

--- Compares one pair in a quantity. a, b: values by image, nan if missing. one_sided: the sign test
-- counts an image with only one value as smaller for the side that has it.
local function compare_pair(a, b, quantity, of_median)
    local differences, a_less, b_less, equal, only_a, only_b = {}, 0, 0, 0, 0, 0
    for i, v in ipairs(a) do
        local w = b[i]
        if v == v and w == w then
            differences[#differences + 1] = v - w
            if v < w then a_less = a_less + 1 elseif w < v then b_less = b_less + 1
            else equal = equal + 1 end
        elseif v == v then
            only_a = only_a + 1
        elseif w == w then
            only_b = only_b + 1
        end
    end
    local median, low, high = of_median(differences)
    local both = {n = #differences, median_difference = median, low = low, high = high, a_less = a_less,
        b_less = b_less, equal = equal}
    local signs = setmetatable({test = "sign_exact"}, {__index = both})
    if quantity.censored then
        signs.a_less, signs.b_less = a_less + only_a, b_less + only_b
        signs.n = signs.a_less + signs.b_less + equal
    end
    signs.p = signs.n > 0 and stats.sign_test(signs.a_less, signs.b_less) or 0 / 0
    if quantity.signs_only then return {signs} end
    local found = stats.wilcoxon(differences)
    both.p, both.test = found.p, found.test
    return {both, signs}
end

--- Adjusts p over the rows with the same quantity and test.
local function adjust(rows)
    local families, order = {}, {}
    for _, row in ipairs(rows) do
        local key = row.quantity .. row.test:match("^%a+")
        if not families[key] then
            families[key] = {}
            order[#order + 1] = families[key]
        end
        table.insert(families[key], row)
    end
    for _, family in ipairs(order) do
        local ps = {}
        for i, row in ipairs(family) do ps[i] = row.p end
        for i, p in ipairs(stats.holm(ps)) do family[i].p_holm = p end
    end
    return rows
end

--- Appends the unadjusted rows of all pairs of `names`; see comparison.pairs.
local function add_pairs(rows, names, what, quantities, of_median)
    for _, quantity in ipairs(quantities) do
        for i = 1, #names do
            for k = i + 1, #names do
                for _, row in ipairs(compare_pair(quantity.values[names[i]], quantity.values[names[k]],
                    quantity, of_median)) do
                    row[what .. "_a"], row[what .. "_b"] = names[i], names[k]
                    row.quantity = quantity.name
                    rows[#rows + 1] = row
                end
            end
        end
    end
end

--- The rows of paired.csv: for each quantity and pair, one row of Wilcoxon's test and one of the
-- sign test. p is adjusted over the pairs of a quantity and test.
--
-- names: the things to compare; what: the word for one of them. quantities: array of {name,
-- values, censored, signs_only}. values[name] is an array over the images, nan if missing.
-- censored: a missing value counts as later than any value. signs_only: without Wilcoxon's test,
-- for quantities that are not distances.
function comparison.pairs(names, what, quantities, seed)
    local rows = {}
    add_pairs(rows, names, what, quantities, stats.medians(seed))
    return adjust(rows)
end

-- The records of a run ------------------------------------------------------------

local Comparison = {}
Comparison.__index = Comparison

--- A comparison of the losses with these names. Add a run's records in their order.
function comparison.new(names)
    local self = setmetatable({names = names, images = 0, keys = {}, place = {}, group = {},
        iteration = {}, l2 = {}, linf = {}, same = {}, last = 0}, Comparison)
    for i, name in ipairs(names) do
        self.place[name], self.iteration[name], self.l2[name], self.linf[name] = i, {}, {}, {}
        self.same[i] = {}
        -- For each pair: the distances of their series, by image; other, flips: numbers of images with
        -- different and with equal flips. nil: the paths are too far apart.
        for k = i + 1, #names do self.same[i][k] = {other = 0, flips = 0} end
    end
    return self
end

--- The largest distance between two records' paths: the largest difference of a series, divided by
-- the series' range.
local function apart(a, b)
    local far = 0
    for _, name in ipairs(path_series) do
        local least, most, off = math.huge, -math.huge, 0
        for n, v in ipairs(a[name]) do
            local w = b[name][n] or 0 / 0
            least, most = math.min(least, v), math.max(most, v)
            off = v == w and off or math.max(off, math.abs(v - w))
            if v ~= v and w == w or v == v and w ~= w then return math.huge end
        end
        if off > 0 then far = math.max(far, off / (most - least)) end
    end
    return far
end

--- Updates `same` with the records of two losses that may take one path; returns nil if they are
-- too far apart.
local function follow(same, a, b, images)
    if a.flip_iteration ~= b.flip_iteration then
        same.other = same.other + 1
    elseif a.flip_iteration >= 0 then
        same.flips = same.flips + 1
    end
    if same.other > 1 + OTHER_FLIPS * images then return nil end
    same[#same + 1] = apart(a, b)
    return same
end

--- Adds a record from advrt.record.
function Comparison:add(r)
    if r.file ~= self.file or self.images == 0 then
        self.images, self.file, self.group = self.images + 1, r.file, {}
        self.keys[self.images] = ("%s\0%d\0%d"):format(r.file, r.label, r.target)
        for _, name in ipairs(self.names) do
            for _, list in ipairs {self.iteration, self.l2, self.linf} do list[name][self.images] = 0 / 0 end
        end
    end
    local k = self.place[r.loss]
    self.last = #r.l2 - 1
    if r.flip_iteration >= 0 then
        self.iteration[r.loss][self.images] = r.flip_iteration
        self.l2[r.loss][self.images], self.linf[r.loss][self.images] = r.flip_l2, r.flip_linf
    end
    for i = 1, k - 1 do
        if self.same[i][k] and self.group[i] then
            self.same[i][k] = follow(self.same[i][k], self.group[i], r, self.images)
        end
    end
    self.group[k] = r
end

--- The time to the flip of each loss (stats.survival), by name. Images that do not flip are
-- censored at the last iteration.
function Comparison:survival()
    local found = {}
    for _, name in ipairs(self.names) do
        local times, flipped = {}, {}
        for i, n in ipairs(self.iteration[name]) do
            flipped[i] = n == n
            times[i] = flipped[i] and n or self.last
        end
        found[name] = stats.survival(times, flipped)
    end
    return found
end

local quantiles = {{"quartile1", 0.25}, {"median", 0.5}, {"quartile3", 0.75}}

local function survival_row(name, survival)
    local row = {loss = name, images = survival.n, flipped = survival.flipped}
    for _, q in ipairs(quantiles) do
        local at, low, high = survival:quantile(q[2])
        row[q[1]], row[q[1] .. "_low"], row[q[1] .. "_high"] = at or 0 / 0, low or 0 / 0, high or 0 / 0
    end
    return row
end

--- The results of all records. seed: of the bootstrap.
--
-- Returns {names, paired, survival, curves, same, of}. paired, survival: rows of paired.csv and
-- survival.csv. curves: by loss, the result of stats.survival. same: an array of {a, b, flips,
-- images, apart} about losses that take one path: on how many of the images they flip alike, and
-- how far apart their series are (a fraction of their range, median over the images). of: for
-- comparison.between.
function Comparison:finish(seed)
    local found = {names = self.names, survival = {}, curves = self:survival(), same = {}, of = self}
    found.paired = comparison.pairs(self.names, "loss", {
        {name = "iterations", values = self.iteration, censored = true},
        {name = "l2", values = self.l2}, {name = "linf", values = self.linf}}, seed)
    for i, name in ipairs(self.names) do
        found.survival[i] = survival_row(name, found.curves[name])
        for k = i + 1, #self.names do
            local same = self.same[i][k]
            local far = same and stats.median(same) or math.huge
            -- Before any flip CE and M-Logit also take one path (Theorem IV.2's S1).
            if same and same.flips > 0 and #same == self.images and same.other <= OTHER_FLIPS * self.images
                and far <= ROUNDING then
                found.same[#found.same + 1] = {name, self.names[k], flips = self.images - same.other,
                    images = self.images, apart = far}
            end
        end
    end
    return found
end

--- The data of two runs for a loss on the images that both attack towards the same target:
-- quantities for comparison.pairs, by the names of the runs.
local function shared(a, b, loss, names)
    local place, quantities = {}, {}
    for i, key in ipairs(b.keys) do place[key] = i end
    for q, name in ipairs {"iteration", "l2", "linf"} do
        local of_a, of_b = {}, {}
        for i, key in ipairs(a.keys) do
            local k = place[key]
            if k then of_a[#of_a + 1], of_b[#of_b + 1] = a[name][loss][i], b[name][loss][k] end
        end
        quantities[q] = {name = q == 1 and "iterations" or name, censored = q == 1,
            values = {[names[1]] = of_a, [names[2]] = of_b}}
    end
    return quantities
end

--- Compares the same losses in each pair of runs, on the images that both attack towards the same
-- target. list: the result of finish for each run; names: the runs' names. Returns rows like those
-- of comparison.pairs, with run_a, run_b and loss; none if two runs share no image or loss.
function comparison.between(list, names, seed)
    local rows, of_median = {}, stats.medians(seed)
    for i = 1, #list do
        for k = i + 1, #list do
            for _, loss in ipairs(list[i].names) do
                local first = #rows + 1
                if list[k].of.place[loss] then
                    local pair = {names[i], names[k]}
                    local quantities = shared(list[i].of, list[k].of, loss, pair)
                    if #quantities[1].values[names[i]] > 0 then
                        add_pairs(rows, pair, "run", quantities, of_median)
                    end
                end
                for r = first, #rows do rows[r].loss = loss end
            end
        end
    end
    return adjust(rows)
end

-- Reading what was found -------------------------------------------------------------

--- Whether a row of Wilcoxon's test shows a difference: -1 if a is smaller, 1 if b is smaller, 0 if
-- the test does not decide. The interval must also lie on one side of 0.
function comparison.verdict(row)
    local shown = row.p_holm < comparison.level -- false if nan
    return shown and row.high < 0 and -1 or shown and row.low > 0 and 1 or 0
end

--- The rows of Wilcoxon's test for a quantity.
function comparison.rows_of(paired, quantity)
    local rows = {}
    for _, row in ipairs(paired) do
        if row.quantity == quantity and row.test:find("^wilcoxon") then rows[#rows + 1] = row end
    end
    return rows
end

--- The names with the smallest values of a quantity: all names that no other is shown to be below;
-- the one with the smallest mean comes first. A single name is below every other. mean: by name,
-- nan if missing.
function comparison.leaders(found, quantity, mean)
    local beats, beaten = {}, {}
    for _, row in ipairs(comparison.rows_of(found.paired, quantity)) do
        local verdict = comparison.verdict(row)
        local winner, loser = row.loss_a, row.loss_b
        if verdict > 0 then winner, loser = loser, winner end
        if verdict ~= 0 then
            beats[winner] = beats[winner] or {}
            beats[winner][loser], beaten[loser] = true, true
        end
    end
    local best
    for _, name in ipairs(found.names) do
        if not beaten[name] and mean[name] == mean[name] and (not best or mean[name] < mean[best]) then
            best = name
        end
    end
    local list = {best}
    for _, name in ipairs(best and found.names or {}) do
        if name ~= best and mean[name] == mean[name] and not (beats[best] and beats[best][name]) then
            list[#list + 1] = name
        end
    end
    return list
end

--- The paper's warning (Section V-B) about the speed of losses under an equal multiplier.
comparison.warning = "Under an equal multiplier the losses take steps of different size, so the iterations "
    .. "do not tell which loss is faster (the paper's Section V-B)."

--- Sentences about losses that take one path. title: function(name) -> text.
function comparison.same_lines(found, title)
    local lines = {}
    for k, pair in ipairs(found.same) do
        lines[k] = ("%s and %s take the same path: the same flip on %d of %s, and series within "
            .. "%.2g %%."):format(title(pair[1]), title(pair[2]), pair.flips, count_of(pair.images, "image"),
            100 * pair.apart)
    end
    return lines
end

--- A p value as text.
function comparison.p_text(p)
    return p ~= p and "-" or p < 0.0001 and "<0.0001" or ("%.4f"):format(p)
end

--- "-8.0 [-10.0, -6.0]"; form: the format of one number.
function comparison.difference_text(row, form)
    if row.n == 0 then return "-" end
    local function short(v) return (form:format(v):gsub("^%-(0%.?0*)$", "%1")) end
    return ("%s [%s, %s]"):format(short(row.median_difference), short(row.low), short(row.high))
end

--- The pairs as printed: a table, and notes below it.
--
-- paired: rows of paired.csv; columns: array of {quantity, title, format of a number}; label:
-- function(row) -> text; notes: array of sentences
function comparison.text(paired, columns, label, notes)
    local lists, rows = {}, {{"Pairs", "images"}}
    for c, column in ipairs(columns) do
        lists[c] = comparison.rows_of(paired, column[1])
        table.move({column[2], "p"}, 1, 2, #rows[1] + 1, rows[1])
    end
    if #lists[1] == 0 then return "" end
    for i = 1, math.min(#lists[1], MOST_LINES) do
        local first = lists[1][i]
        local row = {label(first), tostring(first.n)}
        for c, column in ipairs(columns) do
            row[#row + 1] = comparison.difference_text(lists[c][i], column[3])
            row[#row + 1] = comparison.p_text(lists[c][i].p_holm)
        end
        rows[i + 1] = row
    end
    local lines = lines_of.columns(rows, 24)
    if #lists[1] > MOST_LINES then
        lines[#lines + 1] = ("The other %d pairs are in paired.csv."):format(#lists[1] - MOST_LINES)
    end
    for _, note in ipairs(notes) do
        for _, line in ipairs(lines_of.wrap(note)) do lines[#lines + 1] = line end
    end
    return table.concat(lines, "\n") .. "\n"
end

--- The columns for losses.
comparison.columns = {{"iterations", "iterations", "%.6g"}, {"l2", "L2 at the flip", "%.3g"}}

--- The same for a run's losses.
function comparison.losses_text(found, setting, title)
    local notes = {"Median difference on images that both flip, 95 % interval; p: Wilcoxon, Holm-adjusted."}
    if setting == "equal_multiplier" then notes[2] = comparison.warning end
    table.move(comparison.same_lines(found, title), 1, #found.same, #notes + 1, notes)
    return comparison.text(found.paired, comparison.columns, function(row)
        return ("%s - %s"):format(title(row.loss_a), title(row.loss_b))
    end, notes)
end

return comparison
