--- The pictures of experiments/theorem.lua as gnuplot scripts (see advrt.plot): how far the
-- theorem's approximations are from the gradient, and where float32's gradients end.

local plot = require "advrt.plot"
local tables = require "advrt.results.tables"

local figures = {}

local MOST_POINTS = 2500 -- of one colour in one panel

--- What advrt.theorem's raise_margin measures at each margin.
figures.margin_columns = {"target", "zero_share", "l2"}

--- At most MOST_POINTS of a list, evenly spread.
local function thinned(list)
    if #list <= MOST_POINTS then return list end
    local kept = {}
    for i = 1, MOST_POINTS do kept[i] = list[(i - 1) * #list // MOST_POINTS + 1] end
    return kept
end

--- The decade below the least positive of the values, and the one above the largest.
local function decades(values)
    local least, most = math.huge, 0
    for _, v in ipairs(values) do
        if v > 0 then least, most = math.min(least, v), math.max(most, v) end
    end
    if most == 0 then return -1, 0 end
    return math.floor(math.log(least, 10)), math.ceil(math.log(most, 10))
end

--- Limits and labels of a log axis over the decades low .. high, '0' on a line of its own at the
-- bottom where `zeros`.
local function log_axis(axis, low, high, zeros)
    local step, ticks = math.max(1, math.ceil((high - low) / 7)), {}
    for e = high, low, -step do ticks[#ticks + 1] = ("'10^{%d}' 1e%d"):format(e, e) end
    if zeros then ticks[#ticks + 1] = ("'0' 1e%d"):format(low - step) end
    return ("set logscale %s\nset %stics (%s)\nset %srange [%s:%s]"):format(axis, axis,
        table.concat(ticks, ", "), axis, ("1e%d"):format(zeros and low - step or low),
        ("1e%d"):format(high)), low - step
end

local WIDTH = 1180 -- of three panels, in points

local panel_of = {
    {title = "S_1: ∇z_k - ∇z_t", x = "1 - p_k", bound = "2*x + 1e-5", key = "gap"},
    {title = "S_2: Σ p_i (∇z_i - ∇z_t)", x = "p_k, the largest softmax", bound = "1e-5",
        key = "confidence"},
    {title = "S_3: 0", x = "1 - p_t", bound = "2*x + 1e-5", key = "gap"},
}

--- The blocks and the commands of one subspace's panel.
local function error_panel(points, losses, s, blocks)
    local panel, lists, xs, ys, zeros = panel_of[s], {}, {}, {}, false
    for _, name in ipairs(losses) do lists[name] = {} end
    for _, p in ipairs(points) do
        if p.subspace == s then
            local x, y = p[panel.key], p.scale > 0 and p.error / p.scale or 0
            lists[p.loss][#lists[p.loss] + 1] = {x, y}
            xs[#xs + 1], ys[#ys + 1], zeros = x, y, zeros or y == 0
        end
    end
    local title = ("set title %s offset 0,-0.5\nset xlabel %s"):format(plot.quote(panel.title),
        plot.quote(panel.x))
    if #xs == 0 then
        return title .. "\nset label 1 'no point here' at graph 0.5,0.5 center\nunset logscale\n"
            .. "set xtics autofreq\nset ytics autofreq\n"
            .. "set xrange [0:1]\nset yrange [0:1]\nplot 1/0 notitle\nunset label 1"
    end
    ys[#ys + 1] = s == 2 and 2e-5 or 2e-1
    local low, high = decades(ys)
    local y_axis, floor = log_axis("y", low, high, zeros)
    local x_axis
    if panel.key == "confidence" then
        -- Whole tenths, so that the numbers at the axis stay apart.
        local least, most = math.huge, 0
        for _, x in ipairs(xs) do
            least, most = math.min(least, math.floor(10 * x)), math.max(most, math.ceil(10 * x))
        end
        x_axis = ("unset logscale x\nset xtics %g\nset xrange [%g:%g]"):format(
            most - least > 5 and 0.2 or 0.1, least / 10, math.max(most, least + 1) / 10)
    else
        local from, to = decades(xs)
        -- Confidence grows to the right; a little room keeps the first label and points whole.
        x_axis = log_axis("x", from, to, false) .. ("\nset xrange [1.3e%d:1e%d]"):format(to, from)
    end
    local parts, styles = {}, plot.styles(losses)
    for i, name in ipairs(losses) do
        local block = ("s%d_%d"):format(s, i)
        blocks[#blocks + 1] = plot.block(block, thinned(lists[name]))
        if #lists[name] > 0 then
            parts[#parts + 1] = ("$%s using 1:($2>0?$2:1e%d) with points pointtype 7 pointsize 0.22 "
                .. "linecolor rgb '#60%s' notitle"):format(block, floor,
                styles[name].colour:sub(2))
        end
    end
    parts[#parts + 1] = panel.bound .. " with lines linewidth 1.5 linecolor rgb '#222222' notitle"
    return table.concat({title, x_axis, y_axis, "plot " .. table.concat(parts, ", \\\n     ")}, "\n")
end

--- Keys of their own above the panels: a sample and a name for each entry {style, name}.
local function legend(entries)
    local commands, at = {}, 0.5 - 0.065 * #entries
    for i, entry in ipairs(entries) do
        local x = at + 0.13 * (i - 1)
        commands[i] = ("set label %d %s at screen %g,0.885 left noenhanced\n"
            .. "set arrow %d from screen %g,0.885 to screen %g,0.885 nohead linewidth 3 "
            .. "linecolor rgb '%s' dashtype %d"):format(200 + i, plot.quote(entry[2]), x + 0.04,
            200 + i, x, x + 0.032, entry[1].colour, entry[1].dash)
    end
    return table.concat(commands, "\n")
end

local clear_legend = "unset label\nunset arrow"

--- The error of the theorem's approximation over M = max ||grad z_i||, against the confidence, a
-- panel for each subspace; the line is the bound.
-- points: what experiments/theorem.lua keeps; losses: the names of the trajectories' losses.
function figures.error(name, points, losses)
    local blocks, entries, styles = {}, {}, plot.styles(losses)
    for i, one in ipairs(losses) do
        entries[i] = {{colour = styles[one].colour, dash = 1}, tables.title(one)}
    end
    entries[#entries + 1] = {{colour = "#222222", dash = 1}, "bound"}
    local panels = {}
    for s = 1, 3 do panels[s] = error_panel(points, losses, s, blocks) end
    local left, between = plot.room / WIDTH, 0.065
    local commands = table.concat({
        ("set multiplot layout 1,3 margins screen %.4f,0.985,0.15,0.77 spacing screen %g,0"):format(left,
            between),
        ("set label 100 %s at screen 0.5,0.955 center font 'sans,13'"):format(plot.quote(
            ("How far ∇J is from Theorem IV.2's approximation: %d points of attacks"):format(#points))),
        legend(entries), "unset key\nset samples 300",
        plot.beside("‖error‖_2 / max_i ‖∇z_i‖_2", (0.985 - left - 2 * between) / 3 * WIDTH), panels[1],
        clear_legend, panels[2], panels[3], "unset multiplot",
    }, "\n")
    return plot.script(name, "Error of Theorem IV.2's approximations against confidence", WIDTH, 430,
        table.concat(blocks), commands)
end

local precision_panels = {
    target = "target's element of the loss's gradient\\nwith respect to the logits",
    zero_share = "share of the image gradient's elements\\nthat are exactly 0",
    l2 = "‖q‖_2 of the image",
}

--- One panel of medians with their range; `column` is the place of the median in the blocks.
local function precision_panel(key, column, losses, styles, rows)
    local values, zeros, parts = {}, false, {}
    for _, row in ipairs(rows) do
        values[#values + 1] = math.abs(row[key])
        zeros = zeros or row[key] == 0
    end
    local axis, floor = "unset logscale y\nset ytics autofreq\nset yrange [0:1.02]", 0
    if key ~= "zero_share" then
        local low, high = decades(values)
        local at
        axis, at = log_axis("y", low, high, zeros)
        floor = 10.0 ^ at
    end
    local function shown(c) return ("(abs($%d)>0?abs($%d):%g)"):format(c, c, floor) end
    for i, one in ipairs(losses) do
        parts[#parts + 1] = ("$loss%d using 1:%s:%s with filledcurves fillcolor rgb '%s' fillstyle "
            .. "transparent solid 0.15 noborder notitle"):format(i, shown(column + 1),
            shown(column + 2), styles[one.name].colour)
    end
    for i, one in ipairs(losses) do
        local style = styles[one.name]
        parts[#parts + 1] = ("$loss%d using 1:%s with lines linewidth 2.5 dashtype %d linecolor rgb "
            .. "'%s' notitle"):format(i, shown(column), style.dash, style.colour)
    end
    return ("%s\nset ylabel \"%s\"\nplot %s"):format(axis, precision_panels[key],
        table.concat(parts, ", \\\n     "))
end

--- What is left of the gradients of `losses` as the margin grows: medians over the images and their
-- range, from the rows of margins.csv.
function figures.precision(name, rows, losses)
    local names, blocks, entries, most = {}, {}, {}, 0
    for i, one in ipairs(losses) do names[i] = one.name end
    local styles = plot.styles(names)
    for i, one in ipairs(losses) do
        local lines = {}
        for _, row in ipairs(rows) do
            if row.loss == one.name then
                local line = {row.margin}
                for _, key in ipairs(figures.margin_columns) do
                    for _, kind in ipairs {"", "_least", "_most"} do
                        line[#line + 1] = row[key .. kind]
                    end
                end
                lines[#lines + 1] = line
                most = math.max(most, row.margin)
            end
        end
        blocks[i] = plot.block("loss" .. i, lines)
        entries[i] = {styles[one.name], tables.title(one.name)}
    end
    local commands = table.concat({
        "set multiplot layout 1,3 margins screen 0.092,0.985,0.15,0.77 spacing screen 0.088,0",
        "set label 100 'Where the gradients end in float32: median over the images, and range' "
            .. "at screen 0.5,0.955 center font 'sans,13'",
        legend(entries), "unset key",
        ("set xlabel 'margin z_t - max_{i≠t} z_i'\nset xrange [0:%g]"):format(most),
        precision_panel("target", 2, losses, styles, rows), clear_legend,
        precision_panel("zero_share", 5, losses, styles, rows),
        precision_panel("l2", 8, losses, styles, rows), "unset multiplot",
    }, "\n")
    return plot.script(name, "The gradients of the cross-entropy's forms as the margin grows", WIDTH,
        430, table.concat(blocks), commands)
end

return figures
