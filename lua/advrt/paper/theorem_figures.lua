--- The figures of experiments/theorem.lua as gnuplot scripts (see advrt.plot): the error of the
-- theorem's approximations of the gradient, and where float32 gradients underflow.

local plot = require "advrt.plot"
local sheet = require "advrt.plot.sheet"
local tables = require "advrt.results.tables"

local figures = {}

local MOST_POINTS = 2500 -- of one colour in one panel

--- The numbers that raise_margin of advrt.theorem measures at each margin.
figures.margin_columns = {"target", "zero_share", "l2"}

--- At most MOST_POINTS of a list, evenly spaced.
local function thinned(list)
    if #list <= MOST_POINTS then return list end
    local kept = {}
    for i = 1, MOST_POINTS do kept[i] = list[(i - 1) * #list // MOST_POINTS + 1] end
    return kept
end

--- The decade below the smallest positive value, and the decade above the largest.
local function decades(values)
    local least, most = math.huge, 0
    for _, v in ipairs(values) do
        if v > 0 then least, most = math.min(least, v), math.max(most, v) end
    end
    if most == 0 then return -1, 0 end
    return math.floor(math.log(least, 10)), math.ceil(math.log(most, 10))
end

local panel_of = {
    {title = "S₁: ∇zₖ − ∇zₜ", x = "1 − pₖ", bound = "2*x + 1e-5", key = "gap"},
    {title = "S₂: Σ pᵢ (∇zᵢ − ∇zₜ)", x = "pₖ, the largest softmax", bound = "1e-5",
        key = "confidence"},
    {title = "S₃: 0", x = "1 − pₜ", bound = "2*x + 1e-5", key = "gap"},
}

--- The data blocks and commands of one subspace's panel.
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
    if #xs == 0 then
        return {title = panel.title, xlabel = panel.x, commands =
            "set label 1 'no point here' at graph 0.5,0.5 "
            .. "center\nunset logscale\nset xtics autofreq\nset ytics autofreq\n"
            .. "set xrange [0:1]\nset yrange [0:1]\nplot 1/0 notitle"}
    end
    ys[#ys + 1] = s == 2 and 2e-5 or 2e-1
    local low, high = decades(ys)
    local y_axis, floor = plot.decades("y", low, high, zeros)
    local x_axis
    if panel.key == "confidence" then
        -- Multiples of 0.1, so that the labels of the axis do not overlap.
        local least, most = math.huge, 0
        for _, x in ipairs(xs) do
            least, most = math.min(least, math.floor(10 * x)), math.max(most, math.ceil(10 * x))
        end
        x_axis = ("unset logscale x\nset xtics %g\nset xrange [%g:%g]"):format(
            most - least > 5 and 0.2 or 0.1, least / 10, math.max(most, least + 1) / 10)
    else
        local from, to = decades(xs)
        -- Confidence grows to the right. A small margin keeps the first label and points complete.
        x_axis = plot.decades("x", from, to, false) .. ("\nset xrange [1.3e%d:1e%d]"):format(to, from)
    end
    local parts, styles = {}, plot.styles(losses)
    for i, name in ipairs(losses) do
        local block = ("s%d_%d"):format(s, i)
        blocks[#blocks + 1] = plot.block(block, thinned(lists[name]))
        if #lists[name] > 0 then
            parts[#parts + 1] = ("$%s using 1:($2>0?$2:1e%d) with points pointtype 7 pointsize 0.12 "
                .. "linecolor rgb '#60%s' notitle"):format(block, floor,
                styles[name].colour:sub(2))
        end
    end
    parts[#parts + 1] = panel.bound .. " with lines linewidth 1.5 linecolor rgb '#222222' notitle"
    return {title = panel.title, xlabel = panel.x, commands = table.concat({x_axis, y_axis,
        "plot " .. table.concat(parts, ", \\\n     ")}, "\n")}
end

--- The error of the theorem's approximation divided by M = max ||grad z_i||, against the
-- confidence. There is one panel per subspace; the line is the bound. points: as recorded by
-- experiments/theorem.lua; losses: the names of the trajectories' losses; form: a result of
-- plot.form.
function figures.error(name, points, losses, form)
    form = form or plot.form()
    local blocks, keys, styles, panels = {}, {}, plot.styles(losses), {}
    for i, one in ipairs(losses) do
        keys[i] = {title = tables.title(one), mark = "box", colour = styles[one].colour}
    end
    keys[#keys + 1] = {title = "bound", colour = "#222222"}
    for s = 1, 3 do
        panels[s] = error_panel(points, losses, s, blocks)
        panels[s].ylabel = (s == 1 or form.size == "column") and "‖error‖₂ / maxᵢ ‖∇zᵢ‖₂" or nil
    end
    return sheet.script(form, {name = name, title =
        "Error of Theorem IV.2's approximations against confidence",
        panels = panels, columns = {page = 3, column = 1}, height = form.size == "page" and 140 or 105,
        keys = keys, blocks = table.concat(blocks), commands = "set samples 300",
        notes = {("error of ∇J: %d points of attacks; confidence grows to the right"):format(#points)}})
end

local precision_panels = {
    target = "the target's element of the gradient with respect to the logits",
    zero_share = "fraction of exact zeros in the image's gradient",
    l2 = "‖q‖₂ of the image",
}

--- One panel of medians with their range; `column` is the index of the median in the blocks.
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
        axis, at = plot.decades("y", low, high, zeros)
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
        parts[#parts + 1] = ("$loss%d using 1:%s with lines linewidth 1.5 dashtype %d linecolor rgb "
            .. "'%s' notitle"):format(i, shown(column), style.dash, style.colour)
    end
    return {title = precision_panels[key], xlabel = "margin zₜ − max zᵢ, i ≠ t",
        commands = axis .. "\nplot " .. table.concat(parts, ", \\\n     ")}
end

--- The gradients of `losses` as the margin grows: medians over the images and their range, from the
-- rows of margins.csv. form: a result of plot.form.
function figures.precision(name, rows, losses, form)
    form = form or plot.form()
    local names, blocks, keys, most = {}, {}, {}, 0
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
        keys[i] = {title = tables.title(one.name), colour = styles[one.name].colour, dash =
            styles[one.name].dash}
    end
    local panels = {}
    for i, key in ipairs(figures.margin_columns) do
        panels[i] = precision_panel(key, 3 * i - 1, losses, styles, rows)
    end
    return sheet.script(form, {name = name, title = "Margins at which float32 gradients underflow",
        panels = panels,
        columns = {page = 3, column = 1}, height = form.size == "page" and 140 or 105, keys = keys,
        notes = {"median over the images, and range"}, blocks = table.concat(blocks),
        commands = ("set xrange [0:%g]"):format(most)})
end

return figures
