--- The results of experiments/theorem.lua besides its records: tables, figures, and whether a point
-- violates its bound. All are made from records.msgpack. It holds for each image, one after
-- another,
--
--   for each loss        file, label, target, loss, setting "theorem", and arrays over the points of its
--                        trajectory, named in theorem_report.series
--   for each of          the same with setting "margins", and arrays over the margins, named in
--   theorem_report.narrow  theorem_figures.margin_columns

local count_of = require "advrt.support.count"
local core = require "advrt.core.record"
local fail = require "advrt.support.fail"
local latex = require "advrt.results.latex"
local figures = require "advrt.paper.theorem_figures"
local loss = require "advrt.loss"
local lines_of = require "advrt.support.lines"
local plot = require "advrt.plot"
local record = require "advrt.record"
local results = require "advrt.results.finish"
local run_json = require "advrt.run.run_json"
local system = require "advrt.core.system"
local tables = require "advrt.results.tables"
local theorem = require "advrt.theorem"

local theorem_report = {}

local MOST_MARGIN = 110 -- greater than 104, where exp(-margin) is 0 in float32
local LISTED = 20 -- points that violate a bound

local subspaces = {"S1", "S2", "S3"}

--- The losses whose gradients underflow in float32.
theorem_report.narrow = {loss.ce, loss.ce_sign, (require "advrt.losses.ce_stable")}

--- The recorded numbers of each point of a trajectory, and whether each is an integer.
theorem_report.series = {{"iteration", true}, {"subspace", true}, {"confidence"}, {"gap"}, {"margin"},
    {"terms", true}, {"error"}, {"scale"}, {"bound"}, {"held", true}, {"grad_l2"}, {"zero_share"}}

--- The margins to try, `step` apart.
function theorem_report.margins(step)
    local margins = {}
    for i = 0, math.floor(MOST_MARGIN / step) do margins[i + 1] = i * step end
    return margins
end

--- One record, packed. about: file, label, target and loss; arrays: by the names in `names`.
function theorem_report.pack(about, setting, names, arrays)
    local fields = {{"file", about.file}, {"label", about.label}, {"target", about.target},
        {"loss", about.loss}, {"setting", setting}}
    for _, name in ipairs(names) do fields[#fields + 1] = {name, arrays[name]} end
    return core.pack(fields)
end

local point_columns = {"loss", "file", "label", "target", "iteration", "subspace", "confidence",
    "gap", "margin", "terms", "error", "scale", "bound", "held", "grad_l2", "zero_share"}
local theorem_columns = {"subspace", "loss", "points", "held", "error_over_bound",
    "error_over_scale", "gap_least", "gap_most"}
local lost_columns = {"margin_target", "margin_first", "margin_half", "margin_zero"}
local precision_columns = {"loss", "file", "label", "target", table.unpack(lost_columns)}

--- Reads a run's records. Returns the points, one table each; the margins at which images
-- underflow; for each loss and margin the values of all images, swept[name][m][column]; and the
-- number of records.
local function read(path, margins)
    local points, lost, swept, held = {}, {}, {}, 0
    for _, one in ipairs(theorem_report.narrow) do
        swept[one.name] = {}
        for m in ipairs(margins) do
            swept[one.name][m] = {}
            for _, column in ipairs(figures.margin_columns) do swept[one.name][m][column] = {} end
        end
    end
    for r in record.each(path) do
        local about = {loss = r.loss, file = r.file, label = r.label}
        held = held + 1
        if r.setting == "margins" then
            local list = {}
            for m in ipairs(margins) do
                list[m] = {target = {r.target_element[m]}, zero_share = {r.zero_share[m]}}
                for _, column in ipairs(figures.margin_columns) do
                    table.insert(swept[r.loss][m][column],
                        r[column == "target" and "target_element" or column][m])
                end
            end
            local found = theorem.first_lost(list, margins, 1)
            about.target = r.target
            about.margin_target, about.margin_first = found.target, found.first
            about.margin_half, about.margin_zero = found.half, found.zero
            lost[#lost + 1] = about
        else
            for i in ipairs(r.iteration) do
                local point = {loss = r.loss, file = r.file, label = r.label, target = r.target}
                for _, s in ipairs(theorem_report.series) do point[s[1]] = r[s[1]][i] end
                point.held = point.held == 1
                points[#points + 1] = point
            end
        end
    end
    return points, lost, swept, held
end

--- One row per subspace and loss whose trajectories reached it: points, bounds held, the largest
-- error divided by its bound and by M, and the range of 1 - p.
local function summarise(points, losses)
    local rows = {}
    for s, name in ipairs(subspaces) do
        for l = 0, #losses do
            local row = {subspace = name, loss = losses[l] or "all", points = 0, held = 0,
                error_over_bound = 0, error_over_scale = 0, gap_least = math.huge, gap_most = 0}
            for _, p in ipairs(points) do
                if p.subspace == s and (l == 0 or p.loss == losses[l]) then
                    row.points = row.points + 1
                    row.held = row.held + (p.held and 1 or 0)
                    row.gap_least = math.min(row.gap_least, p.gap)
                    row.gap_most = math.max(row.gap_most, p.gap)
                    if p.scale > 0 then
                        row.error_over_bound = math.max(row.error_over_bound, p.error / p.bound)
                        row.error_over_scale = math.max(row.error_over_scale, p.error / p.scale)
                    end
                end
            end
            if row.points == 0 then row.gap_least, row.gap_most = 0 / 0, 0 / 0 end
            rows[#rows + 1] = row
        end
    end
    return rows
end

local function print_theorem(rows)
    print(("%-9s %8s %8s %14s %14s   %s"):format("subspace", "points", "held", "error/bound",
        "error/M", "1 - p"))
    local points, held = 0, 0
    for _, row in ipairs(rows) do
        if row.loss == "all" and row.points == 0 then
            print(("%-9s %8d %8d"):format(row.subspace, 0, 0))
        elseif row.loss == "all" then
            print(("%-9s %8d %8d %14.3g %14.3g   %.2g to %.2g"):format(row.subspace, row.points,
                row.held, row.error_over_bound, row.error_over_scale, row.gap_least, row.gap_most))
            points, held = points + row.points, held + row.held
        end
    end
    print(("%-9s %8d %8d\n"):format("all", points, held))
end

--- Median and range of the margins at which a part of the gradient becomes 0; the number of images
-- where it never does.
local function range_of(list, name, what)
    local values, never = {}, 0
    for _, lost in ipairs(list) do
        if lost.loss == name then
            if lost[what] == lost[what] then
                values[#values + 1] = lost[what]
            else
                never = never + 1
            end
        end
    end
    if #values == 0 then return "never" end
    table.sort(values)
    return ("%.4g (%g to %g)%s"):format(tables.quantile(values, 0.5), values[1], values[#values],
        never > 0 and (", %d never"):format(never) or "")
end

local function print_precision(list, losses)
    print("Margin z_t - max of the others at which float32 gradients underflow: median (minimum to maximum)")
    local rows = {{"loss", "target's own term", "a first element", "half of the elements", "all"}}
    for _, one in ipairs(losses) do
        local columns = {}
        for i, what in ipairs(lost_columns) do
            columns[i] = range_of(list, one.name, what)
        end
        rows[#rows + 1] = {one.name, table.unpack(columns)}
    end
    for _, line in ipairs(lines_of.columns(rows, 24)) do print(line) end
    print()
end

--- Medians over the images at each margin, with minimum and maximum.
local function margin_rows(swept, margins)
    local rows = {}
    for _, one in ipairs(theorem_report.narrow) do
        for m, margin in ipairs(margins) do
            local row = {loss = one.name, margin = margin}
            for _, column in ipairs(figures.margin_columns) do
                local values = swept[one.name][m][column]
                table.sort(values)
                row[column], row[column .. "_least"], row[column .. "_most"] =
                    tables.quantile(values, 0.5), values[1] or 0 / 0, values[#values] or 0 / 0
            end
            rows[#rows + 1] = row
        end
    end
    return rows
end

--- Fails if a point violates the bound, after a list of such points.
local function check(points)
    local broken = {}
    for _, p in ipairs(points) do
        if not p.held then broken[#broken + 1] = p end
    end
    if #broken == 0 then return end
    print(("Points that violate the bound: %d"):format(#broken))
    for i = 1, math.min(LISTED, #broken) do
        local p = broken[i]
        print(("  %s to %d, %s, n = %d, S%d, 1 - p = %.3g: error %.6g > bound %.6g"):format(
            system.printable(p.file), p.target, p.loss, p.iteration, p.subspace, p.gap, p.error,
            p.bound))
    end
    if #broken > LISTED then print("  ... the others are in points.csv (held = 0)") end
    fail("%d of %s violate the bound", #broken, count_of(#points, "point"))
end

local function print_all(about, counts, rows, lost)
    local o = about.options
    print(results.images_text(counts))
    print(("Theorem IV.2, %s: %s, every %s point of %s under %s\n"):format(about.net,
        count_of(counts.attacked, "image"), o.every == 1 and "" or o.every .. "-th",
        count_of(o.iterations, "step"),
        table.concat(o.losses, ", ")))
    print_theorem(rows)
    print_precision(lost, theorem_report.narrow)
end

--- Writes the results into the run's folder `out` from its records.msgpack. run: the argument of
-- results.write. Returns a function that prints the result, and fails if a point violates its
-- bound.
function theorem_report.write(out, run)
    local o, margin_columns = run.about.options, {"loss", "margin"}
    local margins = theorem_report.margins(o.margin_step)
    local points, lost, swept, held = read(out:file("records.msgpack"), margins)
    results.check_count(out, held, #o.losses + #theorem_report.narrow, run.counts)
    local rows, of_margins = summarise(points, o.losses), margin_rows(swept, margins)
    for _, column in ipairs(figures.margin_columns) do
        for _, kind in ipairs {"", "_least", "_most"} do
            margin_columns[#margin_columns + 1] = column .. kind
        end
    end
    latex.write(out, "theorem", tables.csv(theorem_columns, rows))
    out:write("points.csv", tables.csv(point_columns, points))
    out:write("precision.csv", tables.csv(precision_columns, lost))
    out:write("margins.csv", tables.csv(margin_columns, of_margins))
    out:write("left_out.csv", results.left_out_csv(run.left))
    run_json.finish(run.about, run.counts, run.seconds)
    local drawn = not run.no_figures and run.counts.attacked > 0
    if drawn then
        out:write("fig_error.gp", figures.error("fig_error", points, o.losses, run.form))
        out:write("fig_precision.gp", figures.precision("fig_precision", of_margins,
            theorem_report.narrow, run.form))
        plot.draw(out.path, {"fig_error", "fig_precision"})
    end
    run_json.write(out, run.about)
    return function()
        print_all(run.about, run.counts, rows, lost)
        print(("Tables%s: %s/"):format(drawn and " and pictures" or "", out.path))
        check(points)
    end
end

--- Fails if a point of the finished run in `out` violates its bound. o: its options.
function theorem_report.check(out, o)
    check((read(out:file("records.msgpack"), theorem_report.margins(o.margin_step))))
end

return theorem_report
