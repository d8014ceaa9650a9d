-- Losses compared on the same images, from records whose comparison is known.

local comparison = require "advrt.results.comparison"
local stats = require "advrt.results.stats"
local tables = require "advrt.results.tables"

local T = 40

-- A record: the flip at `flip` (-1: never), the distance l2; series that grow by `speed`.
local function record(file, loss, flip, l2, speed)
    local r = {file = file, label = 1, target = 2, loss = loss,
        flip_iteration = flip, flip_l2 = flip < 0 and 0 / 0 or l2,
        flip_linf = flip < 0 and 0 / 0 or l2 / 10}
    for _, name in ipairs {"p_initial", "p_target", "z_initial", "z_target", "l2"} do
        r[name] = {}
        for n = 0, T do r[name][n + 1] = n * (speed or 1) end
    end
    return r
end

-- records: array over images of arrays over losses of {flip, l2, speed}.
local function compare(names, records)
    local c = comparison.new(names)
    for i, of_image in ipairs(records) do
        for k, one in ipairs(of_image) do c:add(record(i .. ".png", names[k], table.unpack(one))) end
    end
    return c:finish(0)
end

local function row_of(found, quantity, test, a, b)
    for _, row in ipairs(found.paired) do
        local is_it = row.quantity == quantity and row.test:find(test, 1, true)
        if is_it and row.loss_a == a and row.loss_b == b then return row end
    end
end

describe("a comparison of losses", function()
    local found, records
    setup(function()
        records = {}
        for i = 1, 20 do -- b needs 2 more than a, and more; b misses the last four, both the last
            records[i] = {{i == 20 and -1 or i, 0.1 * i, 1},
                {i > 16 and -1 or i + 2 + i % 3, 0.1 * i - 0.05, 2}, {i == 20 and -1 or i, 0.1 * i, 1.00001}}
        end
        found = compare({"a", "b", "c"}, records)
    end)

    it("tests the images that both flip, and counts the others in the sign test alone", function()
        local differences = {}
        for i = 1, 16 do differences[i] = -(2 + i % 3) end
        local wanted = stats.wilcoxon(differences)
        local row = row_of(found, "iterations", "wilcoxon", "a", "b")
        assert.same({16, wanted.p, wanted.test, -3, 16, 0, 0}, {row.n, row.p, row.test, row.median_difference,
            row.a_less, row.b_less, row.equal})
        assert.is_true(row.low <= -3 and row.high >= -3 and row.high < 0)
        local sign = row_of(found, "iterations", "sign", "a", "b")
        assert.same({19, stats.sign_test(19, 0), -3}, {sign.n, sign.p, sign.median_difference})
        -- A distance there is only where an image flips.
        sign = row_of(found, "l2", "sign", "a", "b")
        assert.same({16, stats.sign_test(0, 16)}, {sign.n, sign.p})
    end)

    it("adjusts over the pairs of a quantity and test", function()
        local ps, adjusted = {}, {}
        for _, pair in ipairs {{"a", "b"}, {"a", "c"}, {"b", "c"}} do
            local row = row_of(found, "l2", "wilcoxon", table.unpack(pair))
            ps[#ps + 1], adjusted[#adjusted + 1] = row.p, row.p_holm
        end
        assert.same(stats.holm(ps), adjusted)
        assert.equal(1, row_of(found, "l2", "wilcoxon", "a", "c").p)
        assert.equal(3 * 3 * 2, #found.paired)
    end)

    it("knows the time to the flip, with those that never flip", function()
        assert.same({"a", 20, 19, 5, 10, 15}, {found.survival[1].loss, found.survival[1].images,
            found.survival[1].flipped, found.survival[1].quartile1, found.survival[1].median,
            found.survival[1].quartile3})
        local few = compare({"a", "b"}, {{{3, 1}, {-1, 1}}, {{4, 1}, {-1, 1}}, {{-1, 1}, {5, 1}}})
        local b = few.survival[2]
        assert.same({3, 1, 5}, {b.images, b.flipped, b.quartile1})
        assert.is_true(b.median ~= b.median)
        assert.equal(T, few.curves.b.steps[1].time + 35)
        assert.matches("\nb,3,1,5,5,nan,nan,5,nan,nan,5,nan\n$",
            tables.csv(comparison.survival_header, few.survival))
    end)

    it("says which losses take one path", function()
        assert.equal(1, #found.same)
        assert.same({"a", "c", 20, 20}, {found.same[1][1], found.same[1][2], found.same[1].flips,
            found.same[1].images})
        assert.truthy(comparison.same_lines(found, tables.title)[1]:find("a and c take the same path: "
            .. "the same flip on 20 of 20 images, and series within 0.001 %.", 1, true))
        -- Not those that flip alike and go on otherwise, nor those whose flips differ on one of twenty.
        records[3][3][1] = 4
        assert.same({}, compare({"a", "b", "c"}, records).same)
        records[3][3][1] = 3
        for i = 1, 20 do records[i][3][3] = 1.02 end
        assert.same({}, compare({"a", "b", "c"}, records).same)
        -- Nor those of which no image flips, as CE and M-Logit at the start.
        local early = {}
        for i = 1, 20 do early[i] = {{-1, 1, 1}, {-1, 1, 1}} end
        assert.same({}, compare({"a", "b"}, early).same)
    end)

    it("names one that has least only where it is below every other", function()
        local function leaders(quantity, mean) return comparison.leaders(found, quantity, mean) end
        assert.same({"b"}, leaders("l2", {a = 0.9, b = 0.8, c = 0.9}))
        assert.same({"a", "c"}, leaders("iterations", {a = 8, b = 11, c = 8.5}))
        assert.same({"c", "a"}, leaders("iterations", {a = 8, b = 11, c = 7}))
        -- A mean that is least by a few far images is not enough.
        assert.same({"b"}, leaders("l2", {a = 0.1, b = 0.8, c = 0.9}))
        local same = compare({"a", "b"}, {{{3, 1}, {3, 1}}, {{4, 1}, {5, 1}}})
        assert.same({"b", "a"}, comparison.leaders(same, "iterations", {a = 3.5, b = 3}))
        local none = compare({"a", "b"}, {{{-1, 1}, {-1, 1}}})
        assert.same({}, comparison.leaders(none, "iterations", {a = 0 / 0, b = 0 / 0}))
    end)

    it("of two runs pairs what both attack towards the same target", function()
        local function run(images, speed)
            local c = comparison.new {"a", "b"}
            for _, one in ipairs(images) do
                for k, loss in ipairs {"a", "b"} do
                    local r = record(one[1] .. ".png", loss, one[1] * speed + k, one[1])
                    r.target = one[2]
                    c:add(r)
                end
            end
            return c:finish(0)
        end
        local images = {}
        for i = 1, 12 do images[i] = {i, 2} end
        local first = run(images, 1)
        images[3][2], images[7] = 5, {7, 6} -- other targets
        table.remove(images, 11)
        local second = run(images, 3)
        local rows = comparison.between({first, second}, {"1", "2"}, 0)
        assert.equal(2 * 3 * 2, #rows)
        assert.same({"1", "2", "a", "iterations", 9, 9, 0}, {rows[1].run_a, rows[1].run_b, rows[1].loss,
            rows[1].quantity, rows[1].n, rows[1].a_less, rows[1].b_less})
        local differences = {}
        for _, i in ipairs {1, 2, 4, 5, 6, 8, 9, 10, 12} do differences[#differences + 1] = -2 * i end
        assert.equal(stats.wilcoxon(differences).p, rows[1].p)
        assert.equal(2 * rows[1].p, rows[1].p_holm) -- over the losses
        assert.same({}, comparison.between({first, run({{1, 9}}, 1)}, {"1", "2"}, 0))
    end)

    local function text_of(names, of_images, setting)
        return comparison.losses_text(compare(names, of_images), setting, tables.title)
    end

    it("is printed within 100 columns, however long the names are", function()
        local long = ("m_logit:kappa=%s"):format(("1"):rep(40))
        local wide = {}
        for i = 1, 30 do wide[i] = {{1000 + i, 100.5}, {i, 0.5}} end
        local text = text_of({"ce_sign", long}, wide, "equal_multiplier")
        for line in text:gmatch("[^\n]+") do
            assert.is_true(utf8.len(line) <= 100, line)
        end
        assert.truthy(text:find("\nCE-Sign - " .. long .. "\n", 1, true))
        assert.truthy(text:find("  1000 [1000, 1000]  ", 1, true))
        assert.truthy(text:gsub("\n", " "):find(comparison.warning, 1, true))
        assert.is_nil(text_of({"ce_sign", long}, wide, "equal_perturbation"):find("Under an equal", 1, true))
        assert.equal("", text_of({"ce"}, {{{1, 1}}}, "equal_perturbation"))
        local names, one = {}, {}
        for i = 1, 6 do names[i], one[i] = "l" .. i, {1, 0.5} end
        text = text_of(names, {one, one}, "equal_perturbation")
        assert.truthy(text:find("\nThe other 5 pairs are in paired.csv.\n", 1, true))
        assert.is_nil(text:find("-0", 1, true))
    end)
end)
