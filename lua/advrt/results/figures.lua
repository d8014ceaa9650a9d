--- The paper's Figures 1 to 5 as gnuplot scripts, from a run's summary (advrt.results.tables).
--
-- Each function takes the picture's name and a summary, and returns the text of a script; see
-- advrt.plot for how it is kept and run.

local count_of = require "advrt.support.count"
local plot = require "advrt.plot"
local tables = require "advrt.results.tables"

local figures = {}

local setting_titles = {equal_multiplier = "equal multiplier",
    equal_perturbation = "equal perturbation"}

local function names_of(summary)
    local names = {}
    for i, s in ipairs(summary.losses) do names[i] = s.name end
    return names
end

local function block_name(i) return "loss" .. i end

--- Blocks of one loss each: iteration, then mean and standard deviation of each series.
local function curve_blocks(summary, series)
    local blocks = {}
    for i, s in ipairs(summary.losses) do
        local rows = {}
        for n = 0, summary.iterations do
            local row = {n}
            for _, name in ipairs(series) do
                row[#row + 1] = s.curves[name].mean[n]
                row[#row + 1] = s.curves[name].std[n]
            end
            rows[n + 1] = row
        end
        blocks[i] = plot.block(block_name(i), rows)
    end
    return table.concat(blocks)
end

local function caption(summary, what)
    local s = summary.losses[1]
    return ("%s, %s: %s, %s"):format(what, setting_titles[summary.setting] or summary.setting,
        count_of(s.images, "image"), count_of(summary.iterations, "step"))
end

local WIDTH, CHARACTER = 980, 8.7 -- of two panels, and about one of its letters', in points
local SAMPLE = 48 -- of a line in the key, which holds each dash pattern once, in points

local RIGHT = 0.975 -- end of the right one of two panels, as a share of the width

--- Where two panels stand in a picture of that width, as gnuplot's margins without those at the bottom
-- and the top; and the width of each, in points.
local function two_wide(width)
    local room = plot.room / width
    return room, RIGHT, room, (RIGHT - 2 * room) / 2 * width
end

--- What two panels share: the caption, and below it the names of the losses beside their lines, in as
-- many rows as they need. gnuplot's own key would keep to the width of one panel. Returns the
-- commands and the height of the figure.
local function shared_key(summary, text)
    local rows, room, styles = {}, 0, plot.styles(names_of(summary))
    for _, s in ipairs(summary.losses) do
        local title = tables.title(s.name)
        local width = utf8.len(title) * CHARACTER + SAMPLE + 26
        if width > room then
            rows[#rows + 1] = {width = 0}
            room = WIDTH - 80
        end
        local row = rows[#rows]
        row[#row + 1] = {title = title, at = row.width, style = styles[s.name]}
        row.width, room = row.width + width, room - width
    end
    local height = 450 + 18 * (#rows - 1)
    local function below(points) return 1 - points / height end
    local left, right, between = two_wide(WIDTH)
    local commands = {
        ("set multiplot layout 1,2 margins screen %.4f,%.4f,%.4f,%.4f spacing screen %.4f,0"):format(left,
            right, 67.5 / height, below(height - 355.5), between),
        ("set label 100 %s at screen 0.5,%.4f center font 'sans,13'"):format(plot.quote(caption(summary,
            text)), below(13.5)),
        "unset key",
    }
    for i, row in ipairs(rows) do
        for _, one in ipairs(row) do
            local x, y = (WIDTH - row.width) / 2 + one.at, below(29 + 18 * i)
            commands[#commands + 1] = ("set arrow from screen %.4f,%.4f to screen %.4f,%.4f nohead "
                .. "linewidth 2 dashtype %d linecolor rgb '%s'"):format(x / WIDTH, y, (x + SAMPLE) / WIDTH, y,
                    one.style.dash, one.style.colour)
            commands[#commands + 1] = ("set label %s at screen %.4f,%.4f left noenhanced"):format(
                plot.quote(one.title), (x + SAMPLE + 6) / WIDTH, y)
        end
    end
    return table.concat(commands, "\n"), height
end

--- The subspace in which most images are at each step, as runs {subspace, first, last}.
local function majority_runs(s, iterations)
    local runs = {}
    for n = 0, iterations do
        local count, best = s.subspaces[n], 1
        for k = 2, 3 do
            if count[k] > count[best] then best = k end
        end
        local last = runs[#runs]
        if last and last[1] == best then
            last[3] = n
        else
            runs[#runs + 1] = {best, n, n}
        end
    end
    return runs
end

local shades = {"#DCE6F2", "#FFF2CC", "#DDEEDD"}

--- Fig. 1: mean softmax of the initial and the target class under one loss (ce_sign, or else the
-- first), shaded by the subspace of most images.
function figures.fig1(name, summary)
    local index, s = 1, summary.losses[1]
    for i, one in ipairs(summary.losses) do
        if one.name == "ce_sign" then index, s = i, one end
    end
    local T, style = summary.iterations, plot.styles(names_of(summary))[s.name]
    local commands = {}
    for k, run in ipairs(majority_runs(s, T)) do
        local from, to = math.max(run[2] - 0.5, 0), math.min(run[3] + 0.5, T)
        commands[#commands + 1] = ("set object %d rectangle from %g, graph 0 to %g, graph 1 behind "
            .. "fillcolor rgb '%s' fillstyle solid 1 noborder"):format(k, from, to, shades[run[1]])
        if to - from >= 0.04 * T then
            commands[#commands + 1] = ("set label %d 'S_%d' at %g, graph 0.965 center front")
                :format(k, run[1], (from + to) / 2)
        end
    end
    commands[#commands + 1] = ([[
set title %s noenhanced
set xlabel 'Iteration n'
set ylabel 'Softmax output (mean over images)'
set xrange [0:%d]
set yrange [0:1.1]
set ytics 0,0.2,1
unset grid
set bmargin 6.2
set key at graph 0.5,-0.25 center center horizontal samplen 3
plot $%s using 1:2 with lines linewidth 2 dashtype 2 linecolor rgb '#333333' title 'initial class c', \
     $%s using 1:4 with lines linewidth 2 linecolor rgb '%s' title 'target class t']])
        :format(plot.quote(caption(summary, "Prediction under " .. tables.title(s.name))), T,
            block_name(index), block_name(index), style.colour)
    return plot.script(name, "Fig. 1: softmax of the initial and the target class", 720, 460,
        curve_blocks(summary, {"p_initial", "p_target"}), table.concat(commands, "\n"))
end

local MOST_FILLED = 4

--- Commands of one panel of curves: a line of means for each loss, and a faint band of one standard
-- deviation between thin lines of its own, since the bands of several losses lie on each other. Of more
-- than MOST_FILLED the faint ones make one grey, and the lines alone are drawn.
-- `column` is where the mean stands in the blocks; low, high: limits of the band or nil.
local function band_panel(summary, column, low, high)
    local styles, parts = plot.styles(names_of(summary)), {}
    for i, s in ipairs(summary.losses) do
        local below, above = ("$%d-$%d"):format(column, column + 1),
            ("$%d+$%d"):format(column, column + 1)
        if low then
            below = ("(%s)<%g?%g:(%s)"):format(below, low, low, below)
            above = ("(%s)>%g?%g:(%s)"):format(above, high, high, above)
        end
        if #summary.losses <= MOST_FILLED then
            parts[#parts + 1] = ("$%s using 1:(%s):(%s) with filledcurves fillcolor rgb '%s' "
                .. "fillstyle transparent solid 0.04 noborder notitle"):format(block_name(i), below,
                    above, styles[s.name].colour)
        end
        for _, edge in ipairs {below, above} do
            parts[#parts + 1] = ("$%s using 1:(%s) with lines linewidth 0.8 dashtype %d "
                .. "linecolor rgb '%s' notitle"):format(block_name(i), edge, styles[s.name].dash,
                    styles[s.name].colour)
        end
    end
    for i, s in ipairs(summary.losses) do
        parts[#parts + 1] = ("$%s using 1:%d with lines linewidth 2 dashtype %d linecolor rgb '%s'")
            :format(block_name(i), column, styles[s.name].dash, styles[s.name].colour)
    end
    return "plot " .. table.concat(parts, ", \\\n     ")
end

local function two_panels(name, title, summary, series, label, low, high)
    local range = low and ("set yrange [%g:%g]"):format(low, high) or "set yrange [*:*]"
    local key, height = shared_key(summary, label .. ", mean and one standard deviation")
    local beside = plot.beside(label, select(4, two_wide(WIDTH)))
    local commands = {
        key,
        ("set xlabel 'Iteration n'\nset xrange [0:%d]\n%s"):format(summary.iterations, range),
        "set title 'initial class c' offset 0,-0.7\n" .. beside,
        band_panel(summary, 2, low, high),
        "unset label\nunset arrow\nset title 'target class t' offset 0,-0.7\n" .. beside,
        band_panel(summary, 4, low, high),
        "unset multiplot",
    }
    return plot.script(name, title, WIDTH, height, curve_blocks(summary, series),
        table.concat(commands, "\n"))
end

--- Fig. 2a, 3a: softmax of the initial and the target class for each loss.
function figures.softmax(name, summary)
    return two_panels(name, "Softmax of the initial and the target class", summary,
        {"p_initial", "p_target"}, "Softmax output", 0, 1)
end

--- Fig. 2b, 3b: their logits.
function figures.logits(name, summary)
    return two_panels(name, "Logits of the initial and the target class", summary,
        {"z_initial", "z_target"}, "Logit")
end

--- Five numbers of a box plot and the points beyond its whiskers, which reach to the last point
-- within 1.5 times the quartiles' distance (Tukey), and end at the box where that point lies inside it: of
-- few points the quartiles lie between two. nil of an empty list.
function figures.box(list)
    if #list == 0 then return nil end
    local sorted = table.move(list, 1, #list, 1, {})
    table.sort(sorted)
    local q1, median, q3 = tables.quantile(sorted, 0.25), tables.quantile(sorted, 0.5),
        tables.quantile(sorted, 0.75)
    local reach, low, high, beyond = 1.5 * (q3 - q1), nil, nil, {}
    for _, v in ipairs(sorted) do
        if v < q1 - reach or v > q3 + reach then
            beyond[#beyond + 1] = {v}
        else
            low, high = low or v, v
        end
    end
    return {math.min(low, q1), q1, median, q3, math.max(high, q3)}, beyond
end

--- A log axis that holds least .. most, with labels at 1, 2, 5 where it spans few decades.
local function log_axis(least, most)
    local ticks, steps = {}, most > 1000 * least and {1} or {1, 2, 5}
    for e = math.floor(math.log(least, 10)) - 1, math.ceil(math.log(most, 10)) do
        for _, step in ipairs(steps) do ticks[#ticks + 1] = ("%g"):format(step * 10.0 ^ e) end
    end
    return ("set logscale y\nset ytics (%s)\nset yrange [%g:%g]"):format(table.concat(ticks, ", "),
        least / 1.4, most * 1.4)
end

--- Blocks and commands of one panel of box plots; `key` is the list in each loss's summary.
local function box_panel(summary, key, prefix, blocks)
    local styles, parts, least, most = plot.styles(names_of(summary)), {}, math.huge, 0
    for i, s in ipairs(summary.losses) do
        local box, beyond = figures.box(s[key])
        if box then
            local colour, name = styles[s.name].colour, prefix .. i
            for _, v in ipairs(s[key]) do least, most = math.min(least, v), math.max(most, v) end
            blocks[#blocks + 1] = plot.block(name, {{i, table.unpack(box)}})
            parts[#parts + 1] = ("$%s using 1:3:2:6:5 with candlesticks whiskerbars 0.5 linewidth 1.5 "
                .. "linecolor rgb '%s' fillstyle transparent solid 0.3 border, \\\n     "
                .. "$%s using ($1-0.25):4:(0.5):(0) with vectors nohead linewidth 2.5 linecolor rgb '%s'")
                :format(name, colour, name, colour)
            if #beyond > 0 then
                blocks[#blocks + 1] = plot.block(name .. "beyond", beyond)
                parts[#parts + 1] = ("$%sbeyond using (%d):1 with points pointtype 6 pointsize 0.5 "
                    .. "linecolor rgb '%s'"):format(name, i, colour)
            end
        end
    end
    local scale = "unset logscale y\nset ytics autofreq\nset yrange [0:*]"
    if least > 0 and most > 20 * least then scale = log_axis(least, most) end
    if #parts == 0 then
        return "set label 1 'no image became its target' at graph 0.5,0.5 center\n"
            .. "unset logscale y\nset yrange [0:1]\nplot 1/0 notitle\nunset label 1"
    end
    return scale .. "\nplot " .. table.concat(parts, ", \\\n     ")
end

--- Fig. 2c, 3c: box plots of the least perturbation, L2 and Linf, for each loss.
function figures.least(name, summary)
    local blocks, ticks, longest = {}, {}, 9
    for i, s in ipairs(summary.losses) do
        longest = math.max(longest, utf8.len(tables.title(s.name)))
        ticks[i] = ('"%s\\n%d of %d" %d'):format(tables.title(s.name):gsub("[^%w_ .:=+-]", "?"),
            #s.flips, s.images, i)
    end
    local width = math.max(WIDTH, math.ceil(2.4 * #summary.losses * (longest + 2) * CHARACTER))
    local left, right, between, panel = two_wide(width)
    local commands = table.concat({
        ("set multiplot layout 1,2 margins screen %.4f,%.4f,0.15,0.87 spacing screen %.4f,0"):format(left,
            right, between),
        ("set label 100 %s at screen 0.5,0.955 center font 'sans,13'"):format(plot.quote(
            caption(summary, "Least perturbation that makes the target"))),
        "unset key\nset boxwidth 0.5 absolute",
        ("set xrange [0.4:%g]\nset xtics (%s) noenhanced scale 0"):format(#summary.losses + 0.6,
            table.concat(ticks, ", ")),
        plot.beside("L_2 distance at the flip (pixels in [0,1])", panel),
        box_panel(summary, "flip_l2", "l2_", blocks),
        "unset label 100\n" .. plot.beside("L_∞ distance at the flip (pixels in [0,1])", panel),
        box_panel(summary, "flip_linf", "linf_", blocks),
        "unset multiplot",
    }, "\n")
    return plot.script(name, "Least perturbation for each loss: median, quartiles, whiskers to 1.5 "
        .. "times their distance; below: flipped of all", width, 450,
        table.concat(blocks), commands)
end

--- The least positive mean of a series over losses and steps, and whether any mean is exactly 0.
local function positive_floor(summary, series)
    local least, zeros = math.huge, false
    for _, s in ipairs(summary.losses) do
        for n = 0, summary.iterations do
            local v = s.curves[series].mean[n]
            if v > 0 then least = math.min(least, v) else zeros = zeros or v == 0 end
        end
    end
    return least < math.huge and least or 1, zeros
end

--- One panel of Fig. 4 on a log scale; exact zeros are dots on a line of their own at the bottom.
local function magnitude_panel(summary, series, column)
    local styles, parts = plot.styles(names_of(summary)), {}
    local floor, zeros = positive_floor(summary, series)
    local bottom = 10.0 ^ (math.floor(math.log(floor, 10)) - 1)
    for i, s in ipairs(summary.losses) do
        local style = styles[s.name]
        parts[#parts + 1] = ("$%s using 1:($%d>0?$%d:1/0) with lines linewidth 2 dashtype %d "
            .. "linecolor rgb '%s'"):format(block_name(i), column, column, style.dash, style.colour)
        if zeros then
            parts[#parts + 1] = ("$%s using 1:($%d==0?%g:1/0) with points pointtype 7 pointsize 0.3 "
                .. "linecolor rgb '%s' notitle"):format(block_name(i), column, bottom, style.colour)
        end
    end
    local range = zeros and ("set yrange [%g:*]\nset ytics add ('0' %g)"):format(bottom / 2, bottom)
        or "set yrange [*:*]"
    return range .. "\nplot " .. table.concat(parts, ", \\\n     ")
end

--- Fig. 4: magnitude of the gradient before any sign, and of the perturbation added in a step,
-- which is where the sign shows; means over images, log scale.
function figures.fig4(name, summary)
    local key, height = shared_key(summary, "Gradient magnitude (mean)")
    local panel = select(4, two_wide(WIDTH))
    local commands = table.concat({
        key,
        ("set xlabel 'Iteration n'\nset xrange [0:%d]\nset logscale y\nset format y '10^{%%T}'")
            :format(summary.iterations),
        "set title 'gradient, before any sign' offset 0,-0.7\n" .. plot.beside("‖gradient‖_2", panel),
        magnitude_panel(summary, "grad_l2", 2),
        "unset label\nunset arrow\nset ytics autofreq",
        "set title 'perturbation added in a step' offset 0,-0.7\n" .. plot.beside("‖a_n q_n‖_2", panel),
        magnitude_panel(summary, "step_l2", 4),
        "unset multiplot",
    }, "\n")
    return plot.script(name, "Fig. 4: gradient magnitude", WIDTH, height,
        curve_blocks(summary, {"grad_l2", "step_l2"}), commands)
end

--- Fig. 5: for each example the image and, for each loss, the adversarial image and the amplified
-- perturbation. examples: array of {file, label, target, original = {path, W, H}, losses = array of
-- {name, iteration, l2, adversarial = path, perturbation = path, factor}}, paths relative to the
-- run's folder.
function figures.fig5(name, summary, examples)
    local columns, parts, labels = 1 + 2 * #summary.losses, {}, {}
    local function tile(path, column, row, W, H)
        local scale = math.max(W, H) / 0.94
        parts[#parts + 1] = ("%s binary filetype=png origin=(%.6g,%.6g) dx=%.8g dy=%.8g with rgbimage")
            :format(plot.quote(path), column + (1 - (W - 1) / scale) / 2,
                -row + (1 - (H - 1) / scale) / 2, 1 / scale, 1 / scale)
    end
    local function label(text, x, y, size)
        labels[#labels + 1] = ("set label %d %s at %g,%g center noenhanced font 'sans,%g'"):format(
            #labels + 1, plot.quote(text), x, y, size)
    end
    local pitch = 1.26 -- of rows: a tile and the line below it
    label("image", 0.5, 1.12, 11)
    for k, s in ipairs(summary.losses) do label(tables.title(s.name), 2 * k, 1.12, 11) end
    for r, example in ipairs(examples) do
        local row = (r - 1) * pitch
        local W, H = example.original.W, example.original.H
        tile(example.original.path, 0, row, W, H)
        label(("%d to %d"):format(example.label, example.target), 0.5, -row - 0.1, 8.5)
        for k, one in ipairs(example.losses) do
            tile(one.adversarial, 2 * k - 1, row, W, H)
            tile(one.perturbation, 2 * k, row, W, H)
            local at = one.iteration >= 0 and ("n = %d"):format(one.iteration) or "no flip"
            label(("%s, L2 %.3g"):format(at, one.l2), 2 * k - 0.5, -row - 0.1, 8.5)
            label(("x %g"):format(one.factor), 2 * k + 0.5, -row - 0.1, 8.5)
        end
    end
    local bottom = -(#examples - 1) * pitch - 0.22
    local commands = table.concat(labels, "\n") .. ([[

unset border
unset tics
unset key
set margins 0,0,0,0
set xrange [-0.05:%g]
set yrange [%g:1.25]
plot ]]):format(columns + 0.05, bottom) .. table.concat(parts, ", \\\n     ")
    local width = 108 * columns
    return plot.script(name, "Fig. 5: image; adversarial image at the first flip and perturbation, "
        .. "amplified around grey, alike in a row, for each loss", width,
        math.floor(width / (columns + 0.1) * (1.25 - bottom)), "", commands)
end

return figures
