--- The simulation in the plane (Section VIII, Fig. 6). A net with one hidden ReLU layer separates
-- two circles of points. Points move from the outer class (B) to the inner one (R), the target.
-- The figure shows the magnitude of each loss's gradient over the plane.
--
-- Images live in [0,1], to which attacks clip. The plane's window [-w,w]^2, with w at least 1.5
-- and large enough for every point, is mapped onto it by x = (point + w) / 2w. The net's first
-- layer maps back, so it is a net of the plane, and clipping happens at the window's edge.
-- The figures show gradients per unit of the plane. A gradient by x is divided by 2w, which keeps its
-- sign. fig6b to fig6e show CE, CE-sign, logit and M-logit. --losses selects other losses.

local arguments = require "advrt.support.check"
local count_of = require "advrt.support.count"
local attack = require "advrt.attack"
local data = require "advrt.data"
local experiment = require "advrt.run.experiment"
local fail = require "advrt.support.fail"
local folder = require "advrt.run.folder"
local latex = require "advrt.results.latex"
local network = require "advrt.net"
local options = require "advrt.support.options"
local plane = require "advrt.paper.plane"
local plot = require "advrt.plot"
local run_json = require "advrt.run.run_json"
local system = require "advrt.core.system"
local tables = require "advrt.results.tables"
local tensor = require "advrt.tensor"
local train = require "advrt.train"

local B, R = 0, 1 -- outer class, inner class: the target
local GRID = 400 -- points of the grid in each direction
local ROWS = 20 -- rows of the grid at a time
local SMALL = 1e-3 -- fraction of CE's median in B below which a gradient counts as vanished
local FIRST, MOST = ("b"):byte(), 25 -- first picture's letter; number of letters

--- Half the side of the window.
local function window_of(points)
    return math.max(1.5, 1.05 * points:maximum(), -1.05 * points:minimum())
end

--- Points of the plane [n,2] as images [n,2,1,1], and back.
local function to_images(points, w) return ((points + w) / (2 * w)):reshape {#points, 2, 1, 1} end

local function circles_net(hidden, w, seed)
    return assert(network.build({
        name = "circles", classes = 2, input = {2, 1, 1},
        mean = {0.5, 0.5}, std = {0.5 / w, 0.5 / w},
        build = function(b, x) return b:linear(b:relu(b:linear(x, "hidden", hidden)), "out", 2) end,
    }, {init = "he", seed = seed}))
end

local function fit(net, x, classes, o)
    local last
    train.run {
        net = net, images = x, labels = classes, epochs = o.epochs, batch = math.min(50, #x),
        seed = o.seed, optimiser = train.adam {}, schedule = train.cosine(0.01, 0.05),
        log = function(entry)
            last = entry
            if system.interrupted() then fail.interrupted() end
        end,
    }
    return train.accuracy(net, x, classes, math.min(#x, 1000)), last.loss
end

--- Logits [n,2] and, for each loss, the magnitudes of q per unit of the plane, arrays of n.
local function magnitudes(net, x, losses, w)
    local targets = {}
    for i = 1, #x do targets[i] = R end
    local z, directions = net:gradients(x, losses, targets)
    local values = {}
    for l, one in ipairs(losses) do
        values[l] = directions[l]:norms():totable()
        if not one.signed then
            for i, v in ipairs(values[l]) do values[l][i] = v / (2 * w) end
        end
    end
    return z:totable(), values
end

--- The field over the plane: rows of GRID numbers from the bottom to the top; margin = z_R - z_B,
-- and the magnitude of each loss's q. `at`: the coordinates of the grid, in both directions.
local function field_of(net, losses, w)
    local field = {at = {}, margin = {}, q = {}}
    for i = 1, GRID do field.at[i] = w * (2 * (i - 0.5) / GRID - 1) end
    for l = 1, #losses do field.q[l] = {} end
    for first = 1, GRID, ROWS do
        local numbers = {}
        for row = first, first + ROWS - 1 do
            for column = 1, GRID do
                numbers[#numbers + 1] = field.at[column]
                numbers[#numbers + 1] = field.at[row]
            end
        end
        local points = tensor.from(numbers, "f32", {ROWS * GRID, 2})
        local z, q = magnitudes(net, to_images(points, w), losses, w)
        for row = first, first + ROWS - 1 do
            local from = (row - first) * GRID
            field.margin[row] = {}
            for i = 1, GRID do
                field.margin[row][i] = z[from + i][R + 1] - z[from + i][B + 1]
            end
            for l = 1, #losses do
                field.q[l][row] = table.move(q[l], from + 1, from + GRID, 1, {})
            end
        end
        if system.interrupted() then fail.interrupted() end
    end
    return field
end

-- The summary ---------------------------------------------------------------------

local columns = {"region", "loss", "points", "mean", "median", "least", "most", "zero"}

local function row_of(region, name, values)
    local sorted, sum, zero = table.move(values, 1, #values, 1, {}), 0, 0
    table.sort(sorted)
    for _, v in ipairs(values) do
        sum = sum + v
        if v == 0 then zero = zero + 1 end
    end
    local median = #sorted > 0 and tables.quantile(sorted, 0.5) or 0 / 0
    return {region = region, loss = name, points = #values, mean = sum / #values, median = median,
        least = sorted[1] or 0 / 0, most = sorted[#sorted] or 0 / 0, zero = zero, values = values}
end

--- The magnitudes of each loss in four regions: the points of B, the points of R, and two parts of
-- the grid: S1, where p_B >= 0.9, and S3, where p_R >= 0.9. rows[region][l], and also a list in
-- order.
local function summarise(point_values, classes, field, losses)
    local rows, sure = {}, math.log(9) -- the margin at which the softmax of two classes is 0.9
    local function add(region, pick)
        rows[region] = {}
        for l, one in ipairs(losses) do
            rows[region][l] = row_of(region, one.name, pick(l))
            rows[#rows + 1] = rows[region][l]
        end
    end
    local function of_class(class)
        return function(l)
            local values = {}
            for i, v in ipairs(point_values[l]) do
                if classes[i] == class then values[#values + 1] = v end
            end
            return values
        end
    end
    local function of_grid(sign)
        return function(l)
            local values = {}
            for row, margins in ipairs(field.margin) do
                for column, margin in ipairs(margins) do
                    if sign * margin >= sure then
                        values[#values + 1] = field.q[l][row][column]
                    end
                end
            end
            return values
        end
    end
    add("B", of_class(B))
    add("R", of_class(R))
    add("S1", of_grid(-1))
    add("S3", of_grid(1))
    return rows
end

--- Returns the percentage of pairs (a_i, b_i) for which holds(a_i, b_i) is true.
local function share(a, b, holds)
    local count = 0
    for i = 1, #a do
        if holds(a[i], b[i]) then count = count + 1 end
    end
    return 100 * count / #a
end

--- The paper's statements about Fig. 6, in numbers.
local function print_summary(rows)
    local titles = {B = "points of B (outer, source)", R = "points of R (inner, target)",
        S1 = "grid where p_B >= 0.9", S3 = "grid where p_R >= 0.9"}
    print(("%-28s %-8s %7s %10s %10s %10s %8s"):format("magnitude of q", "loss", "points", "median",
        "least", "most", "exact 0"))
    for _, row in ipairs(rows) do
        if row.points > 0 then print(("%-28s %-8s %7d %10.3g %10.3g %10.3g %8d"):format(titles[row.region],
            tables.title(row.loss), row.points, row.median, row.least, row.most, row.zero)) end
    end
    local at = {}
    for l, row in ipairs(rows.B) do at[row.loss] = l end
    if not (at.ce and at.logit) then return end
    local ce_b, ce_r, logit_b, logit_r = rows.B[at.ce], rows.R[at.ce], rows.B[at.logit], rows.R[at.logit]
    local small = SMALL * ce_b.median
    local function below(v) return v < small end
    print(("\nCE inside R: median %.3g times its median in B; below %g of that at %.1f %% of the points")
        :format(ce_r.median / ce_b.median, SMALL, share(ce_r.values, ce_r.values, below)))
    print(("Logit inside R: median %.3g times CE's median in B; below %g of that at %.1f %% of the points")
        :format(logit_r.median / ce_b.median, SMALL, share(logit_r.values, logit_r.values, below)))
    print(("CE over logit inside B: medians' ratio %.3g; CE is the larger at %.1f %% of the points")
        :format(ce_b.median / logit_b.median,
            share(ce_b.values, logit_b.values, function(a, b) return a > b end)))
end

-- Paths -------------------------------------------------------------------------------

--- The paths of `count` evenly chosen points of B that the net classifies correctly, under each
-- loss by equal perturbation: an array of {loss =, point =, {x, y}, ...}.
local function paths_of(net, x, classes, losses, o, w)
    local candidates, paths, z = {}, {}, net:forward(x)
    arguments.logits(z, function(i) return "point " .. i end)
    local seen = z:argmax()
    for i, class in ipairs(classes) do
        if class == B and seen:get(i) == B then candidates[#candidates + 1] = i end
    end
    local count = math.min(o.paths, #candidates)
    if count == 0 then return paths end
    local start, labels, targets, chosen = tensor.new {count, 2, 1, 1}, {}, {}, {}
    for k = 1, count do
        chosen[k] = candidates[(k - 1) * #candidates // count + 1]
        start[k]:copy(x[chosen[k]])
        labels[k], targets[k] = B, R
    end
    for _, one in ipairs(losses) do
        local own = {}
        for k = 1, count do own[k] = {loss = one.name, point = chosen[k]} end
        attack.run {
            net = net, images = start, labels = labels, targets = targets, loss = one,
            multiplier = attack.equal_perturbation(o.magnitude / (2 * w)), iterations = o.iterations,
            watch = function(_, at)
                for k = 1, count do
                    own[k][#own[k] + 1] = {2 * w * at:get(k, 1, 1, 1) - w,
                        2 * w * at:get(k, 2, 1, 1) - w}
                end
            end,
        }
        table.move(own, 1, count, #paths + 1, paths)
    end
    return paths
end

local function paths_csv(paths)
    local lines = {"loss,point,iteration,x,y"}
    for _, path in ipairs(paths) do
        for n, at in ipairs(path) do
            lines[#lines + 1] = ("%s,%d,%d,%.9g,%.9g"):format(path.loss, path.point, n - 1, at[1], at[2])
        end
    end
    return table.concat(lines, "\n") .. "\n"
end

-- From the command line to the pictures -------------------------------------------------

local takes = {"n", "factor", "noise", "hidden", "epochs", "paths", "iterations", "magnitude",
    "losses", "require", "kappa", "seed", "out"}
local o = options.parse(arg, {name = "simulation_2d.lua",
    description = "Draws Fig. 6: the gradients of the losses over the plane of two circles.",
    uses = {
        {"", "Fig. 6 with the losses of the paper"},
        {"--paths 12", "with the paths of 12 points under attack"},
        {"--losses ce,logit --hidden 32 --out runs/plane", "two losses on a smaller network"},
    },
    options = takes, figures = "always", defaults = {iterations = 40, magnitude = 0.05}})
if #o.losses > MOST then fail.option("--losses: at most %d, got %d", MOST, #o.losses) end
plot.check()
local began = os.time()
local points, classes = data.circles(o.n, o)
local labels, w = classes:totable(), window_of(points)
local net, x = circles_net(o.hidden, w, o.seed), to_images(points, w)
local losses = experiment.losses(o, net)
local out <close> = folder.claim(o.out, "simulation_2d")
o.out = out.path

local accuracy, final = fit(net, x, labels, o)
print(("%d points, %s: %.1f %% right after %s, mean cross-entropy %.3g\n"):format(o.n,
    count_of(o.hidden, "neuron"), 100 * accuracy, count_of(o.epochs, "epoch"), final))
local field = field_of(net, losses, w)
local _, point_values = magnitudes(net, x, losses, w)
local rows = summarise(point_values, labels, field, losses)
local paths = paths_of(net, x, labels, losses, o, w)
print_summary(rows)

latex.write(out, "fig6", tables.csv(columns, rows))
if #paths > 0 then out:write("paths.csv", paths_csv(paths)) end
local fields = {margin = tensor.from(field.margin)}
for l, one in ipairs(losses) do fields[one.name] = tensor.from(field.q[l]) end
local saved, message = tensor.save(out:file("fields.safetensors"), fields)
if not saved then fail("%s", message) end
saved, message = net:save(out:file("net.safetensors"))
if not saved then fail("%s", message) end

local picture = plane.new(field, losses, w, plot.form(o))
out:write("fig6a.gp", picture:points("fig6a", points:totable(), labels, paths))
local panels = {"a"}
for l in ipairs(losses) do
    panels[l + 1] = string.char(FIRST + l - 1)
    out:write(("fig6%s.gp"):format(panels[l + 1]), picture:heat("fig6" .. panels[l + 1], l, paths))
end
local names = {}
for i, letter in ipairs(panels) do names[i] = "fig6" .. letter end
plot.draw(out.path, names)
run_json.write(out, run_json.ended {setting = "simulation_2d", o = o, options = takes, net = net,
    began = began})
print(("\nPictures: %s/fig6{%s}.{svg,png,pdf}; numbers: fig6.csv, fields.safetensors"):format(out.path,
    table.concat(panels, ",")))
