-- Figures as they are drawn: their size in print, their letters, colours and dashes, and what they show.

local bands = require "advrt.results.bands"
local figures = require "advrt.results.figures"
local folder = require "advrt.run.folder"
local image = require "advrt.core.image"
local plot = require "advrt.plot"
local record = require "advrt.core.record"
local sheet = require "advrt.plot.sheet"
local stats = require "advrt.results.stats"
local support = require "support"
local tables = require "advrt.results.tables"
local tensor = require "advrt.tensor"

local T, IMAGES = 12, 5
local PAPER = {"ce", "ce_sign", "logit", "m_logit"}
local MANY = {"ce", "ce_sign", "logit", "m_logit", "dlr", "ce_temperature:temperature=10",
    "ce_temperature:temperature=20"}
local drawn_as = {fig1 = "fig1", fig2a = "softmax", fig2b = "logits", fig2c = "least", fig4 = "fig4",
    figflipped = "flipped"}

-- The k-th image's record under the l-th loss; the fifth image is never flipped.
local function one(k, l, name)
    local flip = k < IMAGES and k + l or -1
    local fields = {{"file", k .. ".png"}, {"label", 3}, {"target", 5}, {"loss", name},
        {"setting", "equal_multiplier"}, {"flip_iteration", flip},
        {"flip_l2", flip < 0 and 0 / 0 or 0.1 * k * l}, {"flip_linf", flip < 0 and 0 / 0 or 0.01 * k + l},
        {"survives_8bit", false}, {"zero_steps", 0}}
    for _, series in ipairs(tables.curves) do
        local values = {}
        for n = 0, T do
            values[n + 1] = (series:find "^p_" and 1 or k * 100) * (n + l) / (T + #MANY + k)
        end
        fields[#fields + 1] = {series, tensor.from(values, "f64")}
    end
    local subspace = {}
    for n = 0, T do subspace[n + 1] = n < 4 and 1 or n < 8 and 2 or k % 3 + 1 end
    fields[#fields + 1] = {"subspace", tensor.from(subspace, "u8")}
    return record.pack(fields)
end

-- gnuplot's SVG: its size, and each text and line, in points.
local function read_svg(path)
    local text = support.read(path)
    local svg = {texts = {}, lines = {}, text = text}
    svg.width, svg.height = text:match('viewBox="0 0 (%d+) (%d+)"')
    svg.width, svg.height = 0.75 * svg.width, 0.75 * svg.height
    for x, y, tail, attributes,
        content in text:gmatch('translate%(([%d.-]+),([%d.-]+)%)([^"]*)"([^>]*)>%s*<text>'
        .. "(.-)</text>") do
        local size = 0.75 * tonumber(attributes:match 'font%-size="([%d.]+)"')
        local letters = content:gsub("<.->", ""):gsub("^%s+", ""):gsub("%s+$", ""):gsub("&lt;", "<")
        svg.texts[#svg.texts + 1] = {x = 0.75 * x, y = 0.75 * y, turned = tail:find "rotate%(%-90" ~= nil,
            size = size, anchor = attributes:match 'text%-anchor="(%l+)"', text = letters}
    end
    for attributes in text:gmatch("<path([^>]*)>") do
        local r, g, b = attributes:match "stroke='rgb%(%s*(%d+),%s*(%d+),%s*(%d+)%s*%)'"
        if r then
            svg.lines[#svg.lines + 1] = {colour = ("#%02X%02X%02X"):format(r, g, b),
                dash = attributes:match "stroke%-dasharray='([^']*)'" or "solid"}
        end
    end
    return svg
end

-- What gnuplot's letters are at least as wide as.
local function extent(t)
    local wide = 0.45 * t.size * utf8.len(t.text)
    local from = t.anchor == "end" and -wide or t.anchor == "middle" and -wide / 2 or 0
    return from, from + wide
end

describe("a figure", function()
    local dir
    local summaries = {}

    local function summary_of(losses)
        local path = ("%s/records%d.msgpack"):format(dir, #losses)
        local parts = {}
        for k = 1, IMAGES do
            for l, name in ipairs(losses) do parts[#parts + 1] = one(k, l, name) end
        end
        support.write(path, table.concat(parts))
        local summary = tables.summarise(path, losses, T, 0)
        summary.options = {alpha = 0.0125}
        return summary
    end

    -- Draws what `which` names of drawn_as; returns the folder.
    local function draw(name, summary, form, which)
        local out <close> = folder.claim(dir .. "/" .. name)
        local names = {}
        for _, figure in ipairs(which) do
            names[#names + 1] = figure
            out:write(figure .. ".gp", figures[drawn_as[figure]](figure, summary, plot.form(form)))
        end
        plot.draw(out.path, names)
        return out.path
    end

    setup(function()
        dir = support.folder()
        summaries.few, summaries.many = summary_of(PAPER), summary_of(MANY)
    end)
    teardown(function() support.remove(dir) end)

    local all = {}
    for name in pairs(drawn_as) do all[#all + 1] = name end

    for _, case in ipairs {{"page", "few", 496.06}, {"column", "few", 240.94}, {"column", "many", 240.94}} do
        local size, which, wide = table.unpack(case)
        it(("of %s losses is as wide as a %s, its letters 7 points high or more and inside it"):format(which,
            size), function()
            local path = draw(size .. which, summaries[which], {figure_size = size}, all)
            for _, name in ipairs(all) do
                local pdf = support.read(("%s/%s.pdf"):format(path, name))
                local width, height = pdf:match "/MediaBox %[ 0 0 ([%d.]+) ([%d.]+) %]"
                assert.near(wide, tonumber(width), 1, name)
                assert.is_true(tonumber(height) < 24 / 2.54 * 72, name .. " is higher than a page's text")
                assert.matches("/FontFile", pdf)
                local svg = read_svg(("%s/%s.svg"):format(path, name))
                assert.near(wide, svg.width, 1)
                assert.near(tonumber(height), svg.height, 2)
                assert.is_true(#svg.texts > 8, name)
                for _, t in ipairs(svg.texts) do
                    local told = ("%s, %s: '%s' of %g at %g, %g"):format(name, size, t.text, t.size, t.x, t.y)
                    assert.is_true(t.size >= 6.99, told)
                    local from, to = extent(t)
                    local at, room = t.turned and svg.height - t.y or t.x, t.turned and svg.height
                        or svg.width
                    assert.is_true(at + from > -2 and at + to < room + 2, told)
                    assert.is_true(t.y > 4 and t.y < svg.height and t.x > 4, told)
                end
                local W, H = image.size(("%s/%s.png"):format(path, name))
                assert.near(wide / 72 * 300, W, 2)
                assert.near(tonumber(height) / 72 * 300, H, 6)
            end
        end)
    end

    it("has letters of that size, and lines of the same width, in the PDF, too", function()
        local path = draw("letters", summaries.few, {figure_size = "column"}, {"fig2a"})
        local sizes, widths, pdf = {}, {}, support.read(path .. "/fig2a.pdf")
        for stream in pdf:gmatch "stream\r?\n(.-)endstream" do
            -- A zlib stream behind gzip's heading: gzip unpacks it, and misses only the sum at its end.
            support.write(dir .. "/stream.gz", "\x1f\x8b\8\0\0\0\0\0\0\3" .. stream:sub(3))
            os.execute(("gzip -dc %s/stream.gz >%s/stream 2>/dev/null"):format(dir, dir))
            local drawing = support.read(dir .. "/stream")
            for width in drawing:gmatch "([%d.]+) w\n" do widths[tonumber(width)] = true end
            for scale in drawing:gmatch "([%d.]+) 0 0 %-?[%d.]+ [%d.-]+ [%d.-]+ Tm" do
                sizes[#sizes + 1] = tonumber(scale)
            end
        end
        table.sort(sizes)
        assert.is_true(#sizes > 10, "no letters found")
        assert.is_true(widths[1.5] and widths[0.5], "no lines of 1.5 and 0.5 points")
        assert.is_true(sizes[1] >= 6.99 and sizes[#sizes] <= 9.01, sizes[1] .. " " .. sizes[#sizes])
    end)

    it("becomes the same files in a folder of any name", function()
        local odd = "it's a \"run\" `date` $HOME"
        local a = draw("a", summaries.few, {}, {"fig2a", "fig2c"})
        local b = draw(odd, summaries.few, {}, {"fig2a", "fig2c"})
        assert.equal(8, #support.list(b))
        support.same_files(a, b, support.list(a))
        assert.matches("%%PDF", support.read(a .. "/fig2a.pdf"))
        assert.matches("^\137PNG", support.read(a .. "/fig2a.png"))
    end)

    it("keeps setting, step and bands where it has no title", function()
        for bands_of, words in pairs(bands.words) do
            local shown = figures.softmax("f", summaries.few, plot.form {bands = bands_of, no_titles = true})
            assert.truthy(shown:find("equal multiplier, α = 0.0125; 5 images, 12 steps; " .. words, 1, true))
            assert.is_nil(shown:find("'Softmax of the initial", 1, true))
        end
        assert.truthy(figures.softmax("f", summaries.few):find("'Softmax of the initial", 1, true))
        local perturbed = setmetatable({setting = "equal_perturbation", options = {magnitude = 0.25,
            norm = "inf"}},
            {__index = summaries.few})
        for name, draws in pairs(drawn_as) do
            assert.truthy(figures[draws](name, perturbed, plot.form {no_titles = true}):find(
                "equal perturbation, each step 0.25 in the L∞ norm", 1, true), name)
        end
    end)

    it("shows the labels of its axes, however wide the numbers beside these are", function()
        local wide = tables.summarise(dir .. "/records4.msgpack", PAPER, T, 0)
        for _, s in ipairs(wide.losses) do
            for n = 0, T do
                s.curves.z_initial.mean[n], s.curves.grad_l2.mean[n] = -12345 + n, 1e-130 * 10.0 ^ n
            end
        end
        local path = draw("wide", wide, {bands = "sd"}, {"fig2a", "fig2b", "fig4"})
        for _, name in ipairs {"fig2a", "fig2b", "fig4"} do
            local labels, numbers = 0, 0
            local svg = read_svg(("%s/%s.svg"):format(path, name))
            for _, number in ipairs(svg.texts) do
                numbers = numbers + (number.anchor == "end" and 1 or 0)
                for _, label in ipairs(number.anchor == "end" and svg.texts or {}) do
                    local start = number.x - 0.64 * number.size * utf8.len(number.text)
                    assert.is_true(not label.turned or math.abs(start - label.x) > 3,
                        ("%s: the number %s at %g is on the label '%s' at %g"):format(name, number.text,
                            start,
                            label.text, label.x))
                end
            end
            for _, label in ipairs(svg.texts) do labels = labels + (label.turned and 1 or 0) end
            assert.equal(2, labels, name)
            assert.is_true(numbers > 4, name)
        end
    end)

    it("has one panel for each of more than four losses, its whole name above it", function()
        for _, name in ipairs {"fig2a", "fig4", "figflipped"} do
            local script = figures[drawn_as[name]](name, summaries.many, plot.form {figure_size = "column"})
            local _, panels = script:gsub("\n  plot ", "")
            assert.equal(#MANY, panels, name)
            for _, loss in ipairs(MANY) do
                for part in tables.title(loss):gmatch "[^:=]+" do
                    assert.truthy(script:find(part, 1, true), name .. " lacks " .. part)
                end
            end
            _, panels = figures[drawn_as[name]](name, summaries.few):gsub("\n  plot ", "")
            assert.equal(name == "figflipped" and 1 or 2, panels)
        end
        assert.same({"ce_temperature:", "temperature=10"}, sheet.fold("ce_temperature:temperature=10", 80, 8))
        assert.same({"aéaéa", "éaéaé", "a"}, sheet.fold("aéaéaéaéaéa", 5 * 0.58 * 8, 8))
    end)
end)

-- Distances as readers see them ----------------------------------------------------

local function linear(byte)
    local c = byte / 255
    return c <= 0.04045 and c / 12.92 or ((c + 0.055) / 1.055) ^ 2.4
end

-- Machado, Oliveira and Fernandes (2009), severity 1; grey by luminance.
local seen = {
    all = {{1, 0, 0}, {0, 1, 0}, {0, 0, 1}},
    grey = {{0.2126, 0.7152, 0.0722}, {0.2126, 0.7152, 0.0722}, {0.2126, 0.7152, 0.0722}},
    deuteranopia = {{0.367322, 0.860646, -0.227968}, {0.280085, 0.672501, 0.047413},
        {-0.011820, 0.042940, 0.968881}},
    protanopia = {{0.152286, 1.052583, -0.204868}, {0.114503, 0.786281, 0.099216},
        {-0.003882, -0.048116, 1.051998}},
}

-- CIE L*a*b* of a colour as seen.
local function lab(colour, matrix)
    local rgb, out = {}, {}
    for k = 1, 3 do rgb[k] = linear(tonumber(colour:sub(2 * k, 2 * k + 1), 16)) end
    for k, row in ipairs(matrix) do
        out[k] = math.max(0, math.min(1, row[1] * rgb[1] + row[2] * rgb[2] + row[3] * rgb[3]))
    end
    local function f(t) return t > 216 / 24389 and t ^ (1 / 3) or (24389 / 27 * t + 16) / 116 end
    local x = f((0.4124564 * out[1] + 0.3575761 * out[2] + 0.1804375 * out[3]) / 0.95047)
    local y = f(0.2126729 * out[1] + 0.7151522 * out[2] + 0.0721750 * out[3])
    local z = f((0.0193339 * out[1] + 0.1191920 * out[2] + 0.9503041 * out[3]) / 1.08883)
    return {116 * y - 16, 500 * (x - y), 200 * (y - z)}
end

local function distance(a, b, matrix)
    local p, q = lab(a, matrix), lab(b, matrix)
    return math.sqrt((p[1] - q[1]) ^ 2 + (p[2] - q[2]) ^ 2 + (p[3] - q[3]) ^ 2)
end

describe("the colours of a figure", function()
    -- The lines of the losses as gnuplot has drawn them: the key's.
    local function lines_of(losses)
        local dir = support.folder()
        local styles, parts = plot.styles(losses), {}
        local out <close> = folder.claim(dir .. "/out")
        for i, name in ipairs(losses) do
            parts[i] = ("%d linewidth 1.5 dashtype %d linecolor rgb '%s'"):format(i, styles[name].dash,
                styles[name].colour)
        end
        out:write("f.gp", plot.script("f", "", 200, 200, "",
            "unset key\nset grid noytics\nset yrange [0:20]\nplot "
            .. table.concat(parts, ", ")))
        plot.draw(out.path, {"f"})
        local list, taken = {}, {}
        for _, style in pairs(styles) do taken[style.colour] = true end
        for _, line in ipairs(read_svg(out.path .. "/f.svg").lines) do
            if taken[line.colour] and line.colour ~= "#000000" or #list > 3 and line.colour == "#000000" then
                list[#list + 1] = line
            end
        end
        support.remove(dir)
        return list
    end

    it("stay apart for the paper's losses, in grey and for the colour-blind, without their dashes", function()
        local lines = lines_of(PAPER)
        assert.equal(4, #lines)
        for kind, matrix in pairs(seen) do
            for i, a in ipairs(lines) do
                assert.is_true(distance(a.colour, "#FFFFFF", matrix) > 30, kind .. " " .. a.colour)
                for k = 1, i - 1 do
                    local far = distance(a.colour, lines[k].colour, matrix)
                    assert.is_true(far > 10, ("%s: %s and %s are %.1f apart"):format(kind, a.colour,
                        lines[k].colour, far))
                    assert.not_equal(a.dash, lines[k].dash)
                end
            end
        end
    end)

    it("or their dashes differ, for twelve losses", function()
        local losses = {table.unpack(PAPER)}
        for i = 1, 8 do losses[#losses + 1] = "own" .. i end
        local lines = lines_of(losses)
        assert.equal(12, #lines)
        for kind, matrix in pairs(seen) do
            for i, a in ipairs(lines) do
                for k = 1, i - 1 do
                    assert.is_true(a.dash ~= lines[k].dash or distance(a.colour, lines[k].colour,
                        matrix) > 10,
                        ("%s: losses %d and %d, %s and %s"):format(kind, k, i, lines[k].colour, a.colour))
                end
            end
        end
    end)

    it("of the subspaces stay apart, too", function()
        local script, shades = figures.fig1("f", {losses = {{name = "ce", images = 1, curves = {
            p_initial = {mean = {[0] = 1, 0}, std = {[0] = 0, 0}}, p_target = {mean = {[0] = 0, 1},
                std = {[0] = 0, 0}}},
            subspaces = {[0] = {1, 0, 0}, {0, 0, 1}}}}, iterations = 1, setting = "s"},
                plot.form {bands = "sd"}), {}
        for shade in script:gmatch "$s1 using 1:%d:%d with filledcurves fillcolor rgb '(#%x+)'" do
            shades[#shades + 1] = shade
        end
        assert.equal(3, #shades)
        for kind, matrix in pairs(seen) do
            for i = 2, 3 do
                for k = 1, i - 1 do
                    assert.is_true(distance(shades[i], shades[k], matrix) > 10, kind .. shades[i]
                        .. shades[k])
                end
            end
        end
    end)

    it("are the same for a loss that is named twice", function()
        assert.same(plot.styles {"dlr", "own"}, plot.styles {"dlr", "own", "dlr"})
    end)
end)

describe("a box plot", function()
    it("reaches to the last point within 1.5 quartile distances, and never ends inside its box", function()
        for _, case in ipairs {
            {{1, 2, 3, 4, 5}, {1, 2, 3, 4, 5}, {}},
            {{1, 2, 3, 4, 100}, {1, 2, 3, 4, 4}, {100}},
            {{7}, {7, 7, 7, 7, 7}, {}},
            -- The quartile of four points lies between the third and the one beyond.
            {{0, 1, 1.5, 20}, {0, 0.75, 1.25, 6.125, 6.125}, {20}},
            {{-20, -1.5, -1, 0}, {-6.125, -6.125, -1.25, -0.75, 0}, {-20}},
        } do
            local box, beyond = figures.box(case[1])
            assert.same(case[2], box)
            for i, v in ipairs(beyond) do beyond[i] = v[1] end
            assert.same(case[3], beyond)
        end
        assert.is_nil((figures.box {}))
    end)
end)

describe("a figure of bars", function()
    local function bars(size, ...)
        local rows, groups = {}, {...}
        for g in ipairs(groups) do rows[g] = {0.5, 0.4, 0.6} end
        return plot.bars("f", "", "%", {{title = "a panel", groups = groups, series = {{title = "s",
            rows = rows}}}},
            0.5, plot.form {figure_size = size})
    end

    it("turns the titles of groups that are too wide, and no others", function()
        local two = bars("column", "CE (2)", "Logit (12345)")
        assert.truthy(two:find('norotate ("CE (2)" 1, "Logit (12345)" 3.5)', 1, true), two)
        local seven = bars("column", "one", "two", "three \u{e9} four", "x", "y", "z", "u")
        assert.truthy(seven:find('"three\\n\u{e9} four" 6', 1, true), seven)
        local long = bars("column", ("wide"):rep(20), "b c", "d", "e")
        assert.truthy(long:find(('rotate by 45 right ("%s" 1, "b c" 3.5'):format(("wide"):rep(20)), 1,
            true), long)
    end)

    it("runs nothing of a title", function()
        local script = bars("page", '`date` "\\n$x\27')
        assert.truthy(script:find('"?date? ??n$x?" 1', 1, true), script)
    end)
end)

describe("what a figure's bands show", function()
    local dir, summary
    setup(function()
        dir = support.folder()
        local parts = {}
        for k = 1, IMAGES do
            for l, name in ipairs(PAPER) do parts[#parts + 1] = one(k, l, name) end
        end
        support.write(dir .. "/records.msgpack", table.concat(parts))
    end)
    before_each(function() summary = tables.summarise(dir .. "/records.msgpack", PAPER, T, 0) end)
    teardown(function() support.remove(dir) end)

    it("is the records' quartiles, however few numbers are held at once", function()
        local held = bands.held
        finally(function() bands.held = held end)
        local series, first = {"p_target", "z_initial"}, nil
        for _, most in ipairs {held, 200, 1} do
            bands.held, summary.quartiles = most, nil
            local steps = bands.steps(T)
            local of = bands.of(summary, series, "quartiles", steps)
            first = first or of
            assert.same(first, of)
            for l, name in ipairs(PAPER) do
                for _, s in ipairs(series) do
                    for i, n in ipairs(steps) do
                        local values = {}
                        for k = 1, IMAGES do
                            values[k] = (s:find "^p_" and 1 or k * 100) * (n + l) / (T + #MANY + k)
                        end
                        table.sort(values)
                        for place, v in ipairs {values[3], values[2], values[4]} do
                            assert.near(v, of[name][s][i][place], 1e-9)
                        end
                    end
                end
            end
        end
    end)

    it("is the mean's 95 % interval, or one standard deviation", function()
        local steps = bands.steps(T)
        local narrow = bands.of(summary, {"l2"}, "interval", steps).logit.l2[5]
        local wide = bands.of(summary, {"l2"}, "sd", steps).logit.l2[5]
        local curve = summary.losses[3].curves.l2
        assert.near(curve.mean[4], wide[1], 1e-12)
        assert.near(curve.mean[4] + curve.std[4], wide[3], 1e-12)
        assert.near(1.96 * curve.std[4] / math.sqrt(IMAGES), narrow[3] - narrow[1], 1e-3 * curve.std[4])
    end)

    it("has the last step, and about 150 of many", function()
        assert.same({0, 1, 2, 3}, bands.steps(3))
        for _, iterations in ipairs {149, 250, 1000, 99999} do
            local steps = bands.steps(iterations)
            assert.equal(iterations, steps[#steps])
            assert.is_true(#steps > 100 and #steps < 320, #steps)
        end
    end)

    it("stays within 0 and 1 for a softmax, and on a log axis has zeros on a line of their own", function()
        for _, s in ipairs(summary.losses) do
            s.curves.p_target.mean[3], s.curves.p_target.std[3] = 0.9, 0.4
            for n = 0, T do s.curves.grad_l2.mean[n], s.curves.grad_l2.std[n] = n == 2 and 0 or 1e-3, 0 end
        end
        local script = figures.softmax("f", summary, plot.form {bands = "sd"})
        assert.truthy(script:find("\n3 0.9 0.5 1\n", 1, true))
        for _ = 1, 2 do -- drawing changes nothing in the summary
            script = figures.fig4("f", summary, plot.form {bands = "sd"})
            assert.matches("\n2 0.0001 ", script)
            assert.truthy(script:find("'0' 1e-4", 1, true))
        end
    end)

    it("is nothing around the mean of one image", function()
        for _, s in ipairs(summary.losses) do
            s.images = 1
            for n = 0, T do s.curves.p_target.std[n] = 0 / 0 end
        end
        for _, kind in ipairs {"sd", "interval"} do
            local script = figures.softmax("f", summary, plot.form {bands = kind})
            assert.matches("$b1_2 << EOD\n0 %S+ nan nan\n", script)
        end
    end)

    it("counts flips over all images, those never flipped too", function()
        local script = figures.flipped("f", summary)
        assert.truthy(script:find("$f1 << EOD\n0 0\n2 0\n2 0.2\n3 0.2\n3 0.4\n4 0.4\n4 0.6\n5 0.6\n5 0.8\n"
            .. "12 0.8\nEOD\n", 1, true), script)
        assert.truthy(script:find("'CE: 4 of 5'", 1, true))
        local half = stats.survival({3, 3, T, T}, {true, true, false, false})
        assert.same({{0, 0}, {3, 0}, {3, 0.5}, {T, 0.5}}, figures.stair(half, T))
        assert.same({{0, 0}, {T, 0}}, figures.stair(stats.survival({T, T}, {false, false}), T))
    end)

    it("is paired in box plots: the images that every loss flips, beside all of each loss", function()
        local short = summary.losses[1]
        short.flip_l2, short.common_l2 = {1, 2, 3, 4, 90}, {2, 3, 4}
        local script = figures.least("f", summary)
        assert.truthy(script:find("$common_l2_1 << EOD\n2 2.5 3 3.5 4\n", 1, true))
        assert.truthy(script:find("$flip_l2_1 << EOD\n1 2 3 4 4\n", 1, true))
        assert.truthy(script:find("$flip_l2_1beyond << EOD\n90\n", 1, true))
        assert.truthy(script:find("the 4 images that every loss flips, paired", 1, true))
        for _, s in ipairs(summary.losses) do
            for _, key in ipairs {"flip_l2", "flip_linf", "common_l2", "common_linf", "flips"}
                do s[key] = {} end
        end
        assert.truthy(figures.least("f", summary):find("no image became its target", 1, true))
    end)
end)

describe("Fig. 5", function()
    local function script_of(summary, form, factor)
        local shown = {}
        for i = 1, 4 do
            shown[i] = {label = 0, target = i, original = {path = i .. ".png", W = 8, H = 8}, losses = {}}
            for l, name in ipairs(PAPER) do
                shown[i].losses[l] = {name = name, iteration = l == 2 and -1 or 7, l2 = 0.5,
                    adversarial = ("%d-%d.png"):format(i, l), perturbation = ("%d-%d-x.png"):format(i, l),
                    factor = factor}
            end
        end
        return figures.fig5("fig5", summary, plot.form(form), shown)
    end
    local losses = {}
    for l, name in ipairs(PAPER) do losses[l] = {name = name, images = 4} end
    local summary = {losses = losses, iterations = 9, setting = "equal_multiplier", options = {alpha = 0.5},
        classes = {"T-shirt/top", "it's a trouser", "", string.rep("long name ", 9)}}

    it("names classes, and says what black and white of a perturbation stand for", function()
        local script = script_of(summary, {}, 20)
        for _, wanted in ipairs {"'T-shirt/top'", "'→ it''s a trouser'", "'→ class 2'", "'→ long name",
            "'→ class 4'",
            "'+0.025'", "'0'", "'−0.025'", "'× 20'", "'n = 7, L₂ 0.50'", "'no flip, L₂ 0.50'", "α = 0.5"} do
            assert.truthy(script:find(wanted, 1, true), wanted)
        end
        assert.truthy(script_of(setmetatable({classes = false}, {__index = summary}), {},
            2):find("'class 0'", 1, true))
    end)

    it("shows as many examples as its size has room for", function()
        for size, count in pairs {page = 4, column = 2} do
            local _, pictures = script_of(summary, {figure_size = size}, 2):gsub("with rgbimage", "")
            assert.equal(count * (1 + 2 * #PAPER), pictures)
        end
    end)
end)
