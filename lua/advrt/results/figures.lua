--- The paper's Figures 1 to 5, and the fraction of images flipped, as gnuplot scripts from a run's
-- summary (advrt.results.tables).
--
-- Each function takes the picture's name, a summary, a result of plot.form (optional) and, for
-- Fig. 5, the examples. It returns the text of a script; advrt.plot stores and runs it.
-- summary.options: the run's options, which give the step size for the notes; summary.classes:
-- names by class + 1.

local bands = require "advrt.results.bands"
local count_of = require "advrt.support.count"
local gallery = require "advrt.results.gallery"
local plot = require "advrt.plot"
local range = require "advrt.support.range"
local sheet = require "advrt.plot.sheet"
local tables = require "advrt.results.tables"

local figures = {}

--- The functions that draw a figure of a run, by their names in run.json.
figures.known = {fig1 = true, softmax = true, logits = true, least = true, fig4 = true, flipped = true,
    fig5 = true}

local MOST_TOGETHER = 4 -- losses in one panel; with more, each has its own panel
local FAINT = "#BBBBBB" -- for the lines of the other losses in a panel of one loss
local DARK = "#333333"

local setting_titles = {equal_multiplier = "equal multiplier",
    equal_perturbation = "equal perturbation"}

local function styles_of(summary)
    local names = {}
    for i, s in ipairs(summary.losses) do names[i] = s.name end
    return plot.styles(names)
end

--- The notes below a figure: setting, step size, images, steps, and further texts.
local function notes_of(summary, ...)
    local o, setting = summary.options or {}, setting_titles[summary.setting] or summary.setting
    local step = ""
    if summary.setting == "equal_multiplier" and o.alpha then step = (", α = %.4g"):format(o.alpha) end
    if summary.setting == "equal_perturbation" and o.magnitude then
        step = (", each step %.4g in the L%s norm"):format(o.magnitude, o.norm == "inf" and "∞" or "₂")
    end
    return {setting .. step, ("%s, %s"):format(count_of(summary.losses[1].images, "image"),
        count_of(summary.iterations, "step")), ...}
end

--- The keys of the losses' lines. more: optional, function(s) -> an addition to a loss's title.
local function keys_of(summary, more)
    local keys, styles = {}, styles_of(summary)
    for i, s in ipairs(summary.losses) do
        local style = styles[s.name]
        keys[i] = {title = tables.title(s.name) .. (more and more(s) or ""), colour = style.colour,
            dash = style.dash}
    end
    return keys
end

--- The number of small panels side by side.
local function small_columns(count) return {page = (count <= 6 or count == 9) and 3 or 4, column = 2} end

--- The label of the vertical axis if the i-th panel is the first of its row.
local function first_of_row(i, columns, label) return (i - 1) % columns == 0 and label or nil end

--- The steps with numbers at the axis: integers, and at most five in a small panel.
local function ticks(iterations, small)
    if iterations >= 5 and not small then return "" end
    if iterations < 5 then return "\nset xtics 1" end
    local decade = 10 ^ math.floor(math.log(iterations, 10) - 1)
    for _, step in ipairs {1, 2, 5, 10, 20, 50} do
        if iterations / (step * decade) <= 4 then
            return ("\nset xtics 0,%d"):format(math.max(1, math.ceil(step * decade)))
        end
    end
end

local function clipped(v, low, high)
    if not low or v ~= v then return v end
    return math.max(low, math.min(high, v))
end

--- One block per loss and series, named b<loss>_<series>: step, middle, and limits clamped to low
-- .. high.
local function blocks_of(summary, series, of, steps, low, high)
    local blocks = {}
    for i, s in ipairs(summary.losses) do
        for j, name in ipairs(series) do
            local rows = {}
            for k, n in ipairs(steps) do
                local v = of[s.name][name][k]
                rows[k] = {n, v[1], clipped(v[2], low, high), clipped(v[3], low, high)}
            end
            blocks[#blocks + 1] = plot.block(("b%d_%d"):format(i, j), rows)
        end
    end
    return table.concat(blocks)
end

local function block(i, j) return ("$b%d_%d"):format(i, j) end

local function line(name, style, width)
    return ("%s using 1:2 with lines linewidth %g dashtype %d linecolor rgb '%s'"):format(name, width,
        style.dash, style.colour)
end

--- A faint filled band; with `edges`, also its limits as thin lines.
local function band(name, style, edges)
    local parts = {("%s using 1:3:4 with filledcurves fillcolor rgb '%s' fillstyle transparent solid %g "
        .. "noborder"):format(name, style.colour, edges and 0.1 or 0.25)}
    for column = 3, edges and 4 or 2 do
        parts[#parts + 1] = ("%s using 1:%d with lines linewidth 0.5 dashtype %d linecolor rgb '%s'")
            :format(name, column, style.dash, style.colour)
    end
    return table.concat(parts, ", \\\n     ")
end

local function plot_of(parts) return "plot " .. table.concat(parts, ", \\\n     ") end

--- One panel for each of two series, with all losses.
local function together(summary, spec)
    local styles, panels = styles_of(summary), {}
    for j, title in ipairs(spec.titles) do
        local parts = {}
        for i, s in ipairs(summary.losses) do
            parts[#parts + 1] = band(block(i, j), styles[s.name], true)
        end
        for i, s in ipairs(summary.losses) do parts[#parts + 1] = line(block(i, j), styles[s.name], 1.5) end
        panels[j] = {title = title, ylabel = spec.labels[j], xlabel = "Iteration n",
            commands = spec.axes[j] .. "\n" .. plot_of(parts)}
    end
    return panels, {page = 2, column = 1}, keys_of(summary)
end

--- One panel per loss: both its series, and behind them the second series of the other losses.
local function apart(summary, spec, size)
    local styles, panels, columns = styles_of(summary), {}, small_columns(#summary.losses)
    for i, s in ipairs(summary.losses) do
        local style, parts = styles[s.name], {}
        local own = {{colour = DARK, dash = 2}, {colour = style.colour, dash = 1}}
        for k in ipairs(summary.losses) do
            if k ~= i then parts[#parts + 1] = line(block(k, 2), {colour = FAINT, dash = 1}, 0.5) end
        end
        for j = 1, 2 do parts[#parts + 1] = band(block(i, j), own[j], false) end
        for j = 1, 2 do parts[#parts + 1] = line(block(i, j), own[j], 1.5) end
        panels[i] = {title = tables.title(s.name), xlabel = "n", ylabel = first_of_row(i, columns[size],
            spec.label),
            commands = spec.common .. "\n" .. plot_of(parts)}
    end
    return panels, columns, {{title = spec.titles[1], colour = DARK, dash = 2},
        {title = spec.titles[2] .. " (colour)", colour = styles[summary.losses[1].name].colour},
        {title = spec.titles[2] .. ", other losses", colour = FAINT, width = 0.5}}
end

--- A figure of two series over the steps.
local function curves(name, summary, form, spec)
    local steps = bands.steps(summary.iterations)
    local of = bands.of(summary, spec.series, form.bands, steps)
    spec.of = of
    if spec.prepare then spec.prepare(spec, of) end
    local few = #summary.losses <= MOST_TOGETHER
    local panels, columns, keys = (few and together or apart)(summary, spec, form.size)
    return sheet.script(form, {name = name, title = spec.title, panels = panels, columns = columns,
        keys = keys, height = few and (form.size == "page" and 150 or 105) or 70,
        notes = notes_of(summary, bands.words[form.bands]),
        blocks = blocks_of(summary, spec.series, of, steps, spec.low, spec.high),
        commands = ("set xrange [0:%d]"):format(summary.iterations)
            .. ticks(summary.iterations, not few)})
end

--- Fig. 2a, 3a: softmax of the initial and the target class for each loss.
function figures.softmax(name, summary, form)
    local axis = "set yrange [0:1]\nset ytics 0,0.2,1"
    return curves(name, summary, form or plot.form(), {title = "Softmax of the initial and the target class",
        series = {"p_initial", "p_target"}, titles = {"initial class c", "target class t"},
        labels = {"Softmax output", "Softmax output"}, label = "Softmax output", low = 0, high = 1,
        axes = {axis, axis}, common = "set yrange [0:1]\nset ytics 0,0.5,1"})
end

--- The minimum and maximum of all limits and middles of two series.
local function range_of(of, series)
    local least, most = math.huge, -math.huge
    for _, lists in pairs(of) do
        for _, name in ipairs(series) do
            for _, v in ipairs(lists[name]) do
                for k = 1, 3 do
                    if v[k] == v[k] then least, most = math.min(least, v[k]), math.max(most, v[k]) end
                end
            end
        end
    end
    return least, most
end

--- Fig. 2b, 3b: their logits.
function figures.logits(name, summary, form)
    local axis = "set yrange [*:*]\nset ytics autofreq"
    return curves(name, summary, form or plot.form(), {title = "Logits of the initial and the target class",
        series = {"z_initial", "z_target"}, titles = {"initial class c", "target class t"},
        labels = {"Logit", "Logit"}, label = "Logit", axes = {axis, axis}, common = axis,
        prepare = function(spec, of)
            local least, most = range_of(of, spec.series)
            if least < most then spec.common = ("set yrange [%g:%g]\nset ytics autofreq"):format(least,
                most) end
        end})
end

--- Adapts series to a log axis: exact zeros go to a separate line at the bottom, and a limit of a
-- band that is not above 0 is set to the bottom. Returns the axis.
local function log_scale(of, series)
    local least, most, zeros = math.huge, 0, false
    for _, lists in pairs(of) do
        for _, name in ipairs(series) do
            for _, v in ipairs(lists[name]) do
                zeros = zeros or v[1] == 0
                for k = 1, 3 do
                    if v[k] > 0 then least, most = math.min(least, v[k]), math.max(most, v[k]) end
                end
            end
        end
    end
    if most == 0 then least, most = 1, 1 end
    local low, high = math.floor(math.log(least, 10)), math.ceil(math.log(most, 10))
    local axis, line_of_zeros = plot.decades("y", low, math.max(high, low + 1), zeros)
    local floor = 10.0 ^ (zeros and line_of_zeros or low)
    for _, lists in pairs(of) do
        for _, name in ipairs(series) do
            for k, v in ipairs(lists[name]) do
                local shown = {}
                for i = 1, 3 do shown[i] = v[i] == v[i] and math.max(v[i], floor) or v[i] end
                lists[name][k] = shown
            end
        end
    end
    return axis
end

--- Fig. 4: the gradient norm (before taking the sign) and the size of the perturbation added in a
-- step (after the sign); log scale.
function figures.fig4(name, summary, form)
    return curves(name, summary, form or plot.form(), {title = "Gradient magnitude",
        series = {"grad_l2", "step_l2"}, titles = {"gradient norm (CE-sign: before taking the sign)",
            "norm of the step's perturbation"},
        labels = {"‖gradient‖₂", "‖aₙ qₙ‖₂"}, label = "L₂ norm", axes = {"", ""},
        prepare = function(spec, of)
            if #summary.losses > MOST_TOGETHER then
                spec.common = log_scale(of, spec.series)
            else
                for j, one in ipairs(spec.series) do spec.axes[j] = log_scale(of, {one}) end
            end
        end})
end

-- Fig. 1 ---------------------------------------------------------------------------

--- The subspace of most images at each step, as ranges {subspace, first, last}.
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

-- For S1, S2, S3: light enough for lines on them, and distinct in grey.
local shades = {"#8FAFD6", "#FAEFC8", "#B2D3AD"}
local subspaces = {"S₁: the initial class leads", "S₂: another class leads", "S₃: the target leads"}

--- The upper panel of Fig. 1: both classes' softmax under one loss, over the subspace of most
-- images.
local function prediction(summary, i, style)
    local s, T, commands = summary.losses[i], summary.iterations, {}
    for k, run in ipairs(majority_runs(s, T)) do
        local from, to = math.max(run[2] - 0.5, 0), math.min(run[3] + 0.5, T)
        commands[#commands + 1] = ("set object %d rectangle from %g, graph 0 to %g, graph 1 behind "
            .. "fillcolor rgb '%s' fillstyle solid 0.6 noborder"):format(k, from, to, shades[run[1]])
    end
    local initial = {colour = DARK, dash = 2}
    commands[#commands + 1] = "set yrange [0:1]\nset ytics 0,0.2,1\n" .. plot_of {band("$b1_1", initial,
        true),
        band("$b1_2", style, true), line("$b1_1", initial, 1.5), line("$b1_2", style, 1.5)}
    return table.concat(commands, "\n")
end

--- A strip with the fractions of images in each subspace, one above the other.
local function strip(i)
    local parts = {}
    for k = 1, 3 do
        parts[k] = ("$s%d using 1:%d:%d with filledcurves fillcolor rgb '%s' fillstyle solid 1 noborder")
            :format(i, k + 1, k + 2, shades[k])
    end
    return "set yrange [0:1]\nset ytics ('0' 0, '1' 1)\n" .. plot_of(parts)
end

--- Fig. 1: softmax of the initial and the target class under one loss (ce_sign, or else the first).
-- For every loss it shows the fractions of images in the subspaces.
function figures.fig1(name, summary, form)
    form = form or plot.form()
    local index = 1
    for i, one in ipairs(summary.losses) do
        if one.name == "ce_sign" then index = i end
    end
    local s, T, style = summary.losses[index], summary.iterations,
        styles_of(summary)[summary.losses[index].name]
    local series, steps = {"p_initial", "p_target"}, bands.steps(summary.iterations)
    local blocks = {blocks_of({losses = {s}}, series, bands.of(summary, series, form.bands, steps),
        steps, 0, 1)}
    local title = tables.title(s.name)
    local panels = {{title = ("%s; shades: the subspace of most images"):format(title),
        ylabel = "Softmax output", height = form.size == "page" and 130 or 100,
        commands = prediction(summary, index, style)}}
    for i, one in ipairs(summary.losses) do
        local rows = {}
        for n = 0, T do
            local count, all = one.subspaces[n], math.max(1, one.images)
            rows[n + 1] = {n, 0, count[1] / all, (count[1] + count[2]) / all, 1}
        end
        blocks[#blocks + 1] = plot.block("s" .. i, rows)
        panels[i + 1] = {title = tables.title(one.name) .. ", fraction of the images", room = 56,
            xlabel = i == #summary.losses and "Iteration n" or nil, commands = strip(i)}
    end
    local keys = {{title = title .. ": initial class c", colour = DARK, dash = 2},
        {title = title .. ": target class t", colour = style.colour, dash = style.dash}}
    for k = 1, 3 do
        keys[#keys + 1] = {title = subspaces[k], mark = "box", colour = shades[k]}
    end
    return sheet.script(form, {name = name, title = "Prediction under " .. title .. ", and subspaces",
        panels = panels, columns = {page = 1, column = 1}, height = 20, keys = keys,
        notes = notes_of(summary, bands.words[form.bands]), blocks = table.concat(blocks),
        commands = ("set xrange [0:%d]%s"):format(T, ticks(T, false))})
end

-- Images flipped ---------------------------------------------------------------------

--- The fraction flipped by each step (stats.survival), as the corners {n, fraction} of a stair.
function figures.stair(survival, iterations)
    local rows = {{0, 0}}
    for _, step in ipairs(survival.steps) do
        rows[#rows + 1] = {step.time, rows[#rows][2]}
        rows[#rows + 1] = {step.time, step.share}
    end
    rows[#rows + 1] = {iterations, rows[#rows][2]}
    return rows
end

--- The fraction of all images that each loss has flipped by iteration n.
function figures.flipped(name, summary, form)
    form = form or plot.form()
    local styles, blocks, panels, times = styles_of(summary), {}, {}, summary.comparison:survival()
    local function stair(i, style, width)
        return line("$f" .. i, style, width)
    end
    local few = #summary.losses <= MOST_TOGETHER
    local function counted(s)
        return (few and ": %d of %d" or ": %d/%d"):format(times[s.name].flipped, times[s.name].n)
    end
    for i, s in ipairs(summary.losses) do
        blocks[i] = plot.block("f" .. i, figures.stair(times[s.name], summary.iterations))
    end
    local keys, columns = few and keys_of(summary, counted) or {}, {page = 1, column = 1}
    if few then
        local parts = {}
        for i, s in ipairs(summary.losses) do parts[i] = stair(i, styles[s.name], 1.5) end
        panels[1] = {ylabel = "Fraction of images flipped", xlabel = "Iteration n", commands = plot_of(parts)}
    else
        columns = small_columns(#summary.losses)
        for i, s in ipairs(summary.losses) do
            local parts = {}
            for k in ipairs(summary.losses) do
                if k ~= i then parts[#parts + 1] = stair(k, {colour = FAINT, dash = 1}, 0.5) end
            end
            parts[#parts + 1] = stair(i, {colour = styles[s.name].colour, dash = 1}, 1.5)
            panels[i] = {title = tables.title(s.name) .. counted(s), xlabel = "n", commands = plot_of(parts),
                ylabel = first_of_row(i, columns[form.size], "Share flipped")}
        end
    end
    return sheet.script(form, {name = name, title = "Fraction of images flipped by iteration n",
        panels = panels,
        columns = columns, keys = keys, height = few and (form.size == "page" and 170 or 120) or 70,
        notes = notes_of(summary, "fraction of all images, including those that never flip",
            not few and "grey: the other losses" or nil),
        blocks = table.concat(blocks), commands =
            ("set xrange [0:%d]\nset yrange [0:1.02]\nset ytics 0,%g,1%s")
            :format(summary.iterations, few and 0.2 or 0.5, ticks(summary.iterations, not few))})
end

-- Fig. 2c, 3c -----------------------------------------------------------------------

--- The five numbers of a box plot and the points beyond its whiskers. A whisker extends to the last
-- point within 1.5 interquartile ranges (Tukey). It ends at the box if that point lies inside the
-- box, as for few points whose quartiles are interpolated. nil for an empty list.
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

--- A log axis over least .. most, with labels at 1, 2, 5 if it spans few decades.
local function log_axis(least, most)
    local labels, steps = {}, most > 1000 * least and {1} or most > 40 * least and {1, 3} or {1, 2, 5}
    for e = math.floor(math.log(least, 10)) - 1, math.ceil(math.log(most, 10)) do
        for _, step in ipairs(steps) do labels[#labels + 1] = ("%g"):format(step * 10.0 ^ e) end
    end
    return ("set logscale x\nset xtics (%s)\nset xrange [%g:%g]"):format(table.concat(labels, ", "),
        least / 1.2, most * 1.2)
end

--- The parts of a plot that draw one horizontal box at height y. The block's columns: whisker,
-- quartile, median, quartile, whisker.
local function box_parts(name, y, half, colour, filled)
    local stroke = ("linewidth %g linecolor rgb '%s'"):format(filled and 1 or 0.7, filled and colour
        or "#666666")
    return {
        ("$%s using 2:(%g):($1-$2):(0) with vectors nohead %s"):format(name, y, stroke),
        ("$%s using 4:(%g):($5-$4):(0) with vectors nohead %s"):format(name, y, stroke),
        ("$%s using 3:(%g):2:4:(%g):(%g) with boxxyerror fillstyle %s %s"):format(name, y, y - half, y + half,
            filled and "transparent solid 0.35 border" or "empty border", stroke),
        ("$%s using 3:(%g):(0):(%g) with vectors nohead linewidth %g linecolor rgb '%s'"):format(name,
            y - half,
            2 * half, filled and 2.2 or 1.2, filled and colour or "#666666"),
    }
end

--- One panel of box plots. Each loss has two boxes. The filled one is for the images that every
-- loss flipped; the empty one below it is for all images that this loss flipped.
local function box_panel(summary, key, label, title, blocks)
    local styles, parts, least, most = styles_of(summary), {}, math.huge, 0
    local headers = {}
    for i, s in ipairs(summary.losses) do
        local lists = {{"common_" .. key, 0, 0.2, true}, {"flip_" .. key, 0.36, 0.09, false}}
        headers[i] = ("set label %d %s at graph 0.01, first %g left font 'sans,7' front"):format(i,
            plot.quote(("%s, flips %d of %d"):format(tables.title(s.name), #s.flips, s.images)), i - 0.4)
        for _, one in ipairs(lists) do
            local list, below, half, filled = s[one[1]], table.unpack(one, 2)
            local box, beyond = figures.box(list)
            if box then
                local name = ("%s_%d"):format(one[1], i)
                for _, v in ipairs(list) do least, most = math.min(least, v), math.max(most, v) end
                blocks[#blocks + 1] = plot.block(name, {box})
                for _, part in ipairs(box_parts(name, i + below, half, styles[s.name].colour, filled)) do
                    parts[#parts + 1] = part
                end
                if #beyond > 0 then
                    blocks[#blocks + 1] = plot.block(name .. "beyond", beyond)
                    parts[#parts + 1] = ("$%sbeyond using 1:(%g) with points pointtype 6 pointsize 0.25 "
                        .. "linewidth 0.6 linecolor rgb '%s'"):format(name, i + below,
                        filled and styles[s.name].colour or "#666666")
                end
            end
        end
    end
    local scale = "unset logscale x\nset xtics autofreq\nset xrange [0:*]"
    if least > 0 and most > 20 * least then scale = log_axis(least, most) end
    if #parts == 0 then
        scale, parts[1] = "unset logscale x\nset xrange [0:1]", "-1 notitle"
        headers[#headers + 1] = ("set label 97 'no image became its target' at graph 0.5, first %g "
            .. "center"):format(#summary.losses + 0.15)
    end
    return {title = title, xlabel = label, room = 14, commands = ("unset ytics\nset yrange [%g:0.45]\n"
        .. "set grid noytics xtics linecolor rgb '#DDDDDD' linetype 1 linewidth 0.6\n%s\n%s\n%s"):format(
            #summary.losses + 0.55, scale, table.concat(headers, "\n"), plot_of(parts))}
end

--- Fig. 2c, 3c: box plots of the perturbation at the first flip, L2 and Linf, for each loss.
function figures.least(name, summary, form)
    form = form or plot.form()
    local blocks, common = {}, #summary.losses[1].common
    local units = (" (%s)"):format(range.unit(not summary.no_picture))
    local panels = {box_panel(summary, "l2", "L₂ distance at the flip" .. units, nil, blocks),
        box_panel(summary, "linf", "L∞ distance at the flip" .. units, nil, blocks)}
    return sheet.script(form, {name = name, title = "Perturbation at the first flip", panels =
        panels,
        columns = {page = 2, column = 1}, height = 38 * #summary.losses + 6, blocks = table.concat(blocks),
        keys = {{title = ("the %s that every loss flips, paired"):format(count_of(common, "image")),
            mark = "box",
            colour = "#BBBBBB", border = DARK}, {title = "all that the loss flips", mark = "box",
                colour = "#FFFFFF",
                border = "#666666"}},
        notes = notes_of(summary, "median, quartiles, whiskers to 1.5 times their distance")})
end

--- Fig. 5: examples of images and perturbations; see advrt.results.gallery.
function figures.fig5(name, summary, form, examples)
    return gallery(name, summary, form or plot.form(), examples, notes_of(summary))
end

return figures
