-- The simulation in the plane as a user runs it, and what it is made of: circles and contours.

local data = require "advrt.data"
local json = require "dkjson"
local plane = require "advrt.paper.plane"
local support = require "support"
local system = require "advrt.core.system"
local tensor = require "advrt.tensor"

local script = system.options.root .. "/experiments/simulation_2d.lua"

describe("circles", function()
    it("are make_circles's: outer first, evenly spaced, the odd point inside", function()
        local points, classes = data.circles(7, {factor = 0.25})
        assert.same({0, 0, 0, 1, 1, 1, 1}, classes:totable())
        for i = 1, 7 do
            local angle = i <= 3 and 2 * math.pi * (i - 1) / 3 or 2 * math.pi * (i - 4) / 4
            local radius = i <= 3 and 1 or 0.25
            assert.near(radius * math.cos(angle), points:get(i, 1), 1e-6)
            assert.near(radius * math.sin(angle), points:get(i, 2), 1e-6)
        end
    end)

    it("have noise of the standard deviation asked for, by the seed", function()
        local n = 20000
        local clean = data.circles(n, {factor = 0.5})
        local noisy = data.circles(n, {factor = 0.5, noise = 0.2, seed = 3})
        local difference = noisy - clean
        assert.near(0, difference:mean(), 0.005)
        assert.near(0.04, (difference * difference):mean(), 0.001)
        assert.is_true(noisy:equal((data.circles(n, {factor = 0.5, noise = 0.2, seed = 3}))))
        assert.is_false(noisy:equal((data.circles(n, {factor = 0.5, noise = 0.2, seed = 4}))))
    end)

    it("refuse what makes none", function()
        for _, case in ipairs {{1}, {2.5}, {10, {factor = 1}}, {10, {factor = -0.1}},
            {10, {noise = -1}}, {10, {noise = 0 / 0}}} do
            assert.has_error(function() data.circles(table.unpack(case)) end)
        end
    end)
end)

describe("contours", function()
    local function grid(f, n, w)
        local at, rows = {}, {}
        for i = 1, n do at[i] = w * (2 * (i - 0.5) / n - 1) end
        for i = 1, n do
            rows[i] = {}
            for j = 1, n do rows[i][j] = f(at[j], at[i]) end
        end
        return rows, at
    end

    it("follow a circle all round, as one closed line", function()
        local rows, at = grid(function(x, y) return x * x + y * y end, 80, 1.5)
        local lines = plane.contour(rows, at, 1)
        assert.equal(1, #lines)
        local line, turn = lines[1], 0
        for i, point in ipairs(line) do
            assert.near(1, math.sqrt(point[1] ^ 2 + point[2] ^ 2), 1e-3)
            local before = line[i - 1]
            if before then
                local a = math.atan(before[1] * point[2] - before[2] * point[1],
                    before[1] * point[1] + before[2] * point[2])
                assert.is_true(math.abs(a) < 0.1)
                turn = turn + a
            end
        end
        assert.near(2 * math.pi, math.abs(turn), 1e-9)
    end)

    it("end at the grid's edge, come in several, or are not there", function()
        local rows, at = grid(function(x) return x end, 30, 1)
        local lines = plane.contour(rows, at, 0.11)
        assert.equal(1, #lines)
        assert.equal(30, #lines[1])
        for _, point in ipairs(lines[1]) do assert.near(0.11, point[1], 1e-9) end
        rows, at = grid(function(x) return x * x end, 30, 1)
        assert.equal(2, #plane.contour(rows, at, 0.3))
        assert.equal(0, #plane.contour(rows, at, 2))
    end)
end)

describe("simulation_2d.lua", function()
    local base
    setup(function() base = support.folder() end)
    teardown(function() support.remove(base) end)

    local function run(name, ...)
        local out = base .. "/" .. name
        local status, text, err = support.advrt({script, "--out", out, ...})
        assert.equal("", err)
        assert.equal(0, status)
        return out, text
    end

    -- region -> loss -> {column -> number}
    local function summary(out)
        local rows, names = {}, nil
        for line in support.read(out .. "/fig6.csv"):gmatch("[^\n]+") do
            local fields = {}
            for field in line:gmatch("[^,]+") do fields[#fields + 1] = field end
            if names then
                local row = {}
                for i = 3, #fields do row[names[i]] = tonumber(fields[i]) end
                rows[fields[1]] = rows[fields[1]] or {}
                rows[fields[1]][fields[2]] = row
            end
            names = names or fields
        end
        return rows
    end

    it("draws a user's losses, as many as there are", function()
        local file = support.write(base .. "/own.lua",
            "loss.define('own', function(z, t) return z:gather(2, t) end)")
        local out, text = run("own", "--n", "100", "--epochs", "5", "--losses", "logit,own", "--require",
            file)
        assert.truthy(text:find("fig6{a,b,c}.", 1, true))
        assert.is_false(support.exists(out .. "/fig6d.svg"))
        local rows = summary(out)
        assert.equal(50, rows.B.own.points)
        assert.same(rows.B.logit, rows.B.own)
        local status, _, err = support.advrt {script, "--losses", "dlr", "--require", "dlr", "--out",
            base .. "/few"}
        assert.equal(2, status)
        assert.matches("dlr needs 4 classes, the net has 2", err)
        assert.is_false(support.exists(base .. "/few"))
    end)

    it("shows what the paper's does, and leaves its files", function()
        local out, text = run("default", "--paths", "3", "--iterations", "5")
        for _, panel in ipairs {"a", "b", "c", "d", "e"} do
            for _, kind in ipairs {"svg", "png", "pdf", "gp"} do
                assert.is_true(#support.read(("%s/fig6%s.%s"):format(out, panel, kind)) > 1000)
            end
        end
        local rows = summary(out)
        assert.equal(500, rows.B.ce.points)
        assert.equal(500, rows.R.ce.points)
        assert.is_true(rows.R.ce.median < 1e-2 * rows.B.ce.median) -- CE vanishes inside the target
        assert.is_true(rows.R.logit.median > 0.1 * rows.B.logit.median) -- logit does not
        assert.is_true(rows.B.ce.median > 1.2 * rows.B.logit.median) -- in the source class CE is larger
        assert.near(math.sqrt(2), rows.B.ce_sign.median, 1e-6)
        assert.is_true(rows.S3.m_logit.zero > 0) -- at rest beyond kappa
        assert.equal(0, rows.S3.logit.zero)
        assert.truthy(text:find("CE over logit inside B", 1, true))
        -- grad CE = p_B (grad z_R - grad z_B), so p_B of M-logit's where that does not rest.
        local fields = assert(tensor.load(out .. "/fields.safetensors"))
        for row = 1, 400, 23 do
            for column = 1, 400, 29 do
                local margin = fields.margin:get(row, column)
                if margin < 12 then
                    local wanted = fields.m_logit:get(row, column) / (1 + math.exp(margin))
                    assert.near(wanted, fields.ce:get(row, column), 1e-3 * wanted + 1e-6)
                end
            end
        end
        -- Paths: every step but those that rest or meet the window's edge has the length asked for.
        local steps, path, last = 0, nil, nil
        for loss, point, x, y in support.read(out .. "/paths.csv")
            :gmatch("([%w_]+),(%d+),%d+,([%d.e+-]+),([%d.e+-]+)\n") do
            if path == loss .. point and math.abs(x) < 1.49 and math.abs(y) < 1.49 then
                assert.near(0.05, math.sqrt((x - last[1]) ^ 2 + (y - last[2]) ^ 2), 1e-5)
                steps = steps + 1
            end
            path, last = loss .. point, {tonumber(x), tonumber(y)}
        end
        assert.equal(4 * 3 * 5, steps)
        local about = json.decode(support.read(out .. "/run.json"))
        assert.equal("simulation_2d", about.setting)
        assert.equal(64, about.options.hidden)
        assert.is_nil(about.images_found)
    end)

    it("takes its options, and makes the same numbers again", function()
        local words = {"--n", "61", "--factor", "0.3", "--noise", "0.5", "--hidden", "5", "--epochs",
            "2", "--seed", "7", "--kappa", "1"}
        local first, second = run("first", table.unpack(words)), run("second", table.unpack(words))
        assert.equal(support.read(first .. "/fields.safetensors"),
            support.read(second .. "/fields.safetensors"))
        local rows = summary(first)
        assert.equal(30, rows.B.ce.points)
        assert.equal(31, rows.R.ce.points)
        assert.is_false(support.exists(first .. "/paths.csv"))
        assert.equal(20, assert(tensor.load(first .. "/net.safetensors"))["hidden.weight"]:numel()
            + #assert(tensor.load(first .. "/net.safetensors"))["hidden.bias"] * 2)
    end)

    it("refuses values that make no sense in one line", function()
        for _, words in ipairs {{"--n", "3"}, {"--factor", "1"}, {"--noise", "-1"}, {"--hidden", "0"},
            {"--paths", "x"}, {"--net", "fashion"}} do
            local status, out, err = support.advrt({script, "--out", base .. "/bad", table.unpack(words)})
            assert.equal(2, status)
            assert.matches("^advrt: [^\n]+\n$", err)
            assert.equal("", out)
            assert.is_false(support.exists(base .. "/bad"))
        end
    end)
end)
