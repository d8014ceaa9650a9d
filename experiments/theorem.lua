--- Theorem IV.2 along real trajectories, and where float32 ends (Section IV-A and IV-B).
--
-- Images are attacked with each loss by equal perturbation, and at every N-th point of the way the
-- gradient of J is held against the theorem's approximation for the point's subspace, with the exact
-- bounds of advrt.theorem: all must hold, or the exit status is 1. Where the first loss's
-- trajectories end, the target's margin is then raised step by step, to see at which margin the
-- gradients of ce, ce_sign and ce_stable lose elements and become zero.

local attack = require "advrt.attack"
local ce_stable = require "advrt.losses.ce_stable"
local data = require "advrt.data"
local experiment = require "advrt.experiment"
local fail = require "advrt.fail"
local figures = require "advrt.theorem_figures"
local folder = require "advrt.folder"
local loss = require "advrt.loss"
local options = require "advrt.options"
local plot = require "advrt.plot"
local progress = require "advrt.progress"
local run_json = require "advrt.run_json"
local system = require "advrt.core.system"
local tables = require "advrt.tables"
local theorem = require "advrt.theorem"

local MOST_MARGIN = 110 -- past 104, where exp(-margin) is 0 in float32
local EACH_ON_ITS_OWN = 20 -- classes up to which each has a gradient of its own
local LISTED = 20 -- points that break a bound

local subspaces = {"S1", "S2", "S3"}

local Run = {}
Run.__index = Run

--- Keeps what the tester says of the points at step n of a batch's trajectories under a loss.
function Run:keep_points(queue, real, name, n, points)
    for k = 1, real do
        local point = points[k]
        self.points[#self.points + 1] = {
            loss = name, file = queue.files[k], label = queue.labels[k], target = queue.targets[k],
            iteration = n, subspace = point.subspace, confidence = point.p[point.best + 1],
            gap = point.gap, margin = point.margin, terms = #point.terms, error = point.error,
            scale = point.scale, bound = point.bound, held = point.held, grad_l2 = point.grad_l2,
            zero_share = point.zero_share,
        }
    end
end

--- The trajectories of a batch under each loss; returns where the first loss's end.
function Run:walk(queue, real, what)
    local last
    for l, one in ipairs(self.losses) do
        local r = attack.run {
            net = self.net, images = queue.x, labels = queue.labels, targets = queue.targets,
            names = queue.files, loss = one, multiplier = self.multiplier,
            iterations = self.o.iterations, workspace = self.workspace,
            watch = function(n, _, z)
                -- All losses start from the same point, which is tested once.
                if n % self.o.every == 0 and (n > 0 or l == 1) then
                    self:keep_points(queue, real, one.name, n, self.tester:test(z, queue.targets))
                end
            end,
            progress = function() self:advance(real, what .. ", " .. tables.title(one.name)) end,
        }
        self.seconds[one.name] = self.seconds[one.name] + r.seconds
        if l == 1 then last = r.adversarial:clone() end
    end
    return last
end

function Run:advance(images, what)
    self.work = self.work + images
    self.progress:update(self.work, what)
    if system.interrupted() then fail.interrupted() end
end

function Run:attack(queue)
    local real = experiment.pad(queue)
    local what = ("images %d to %d"):format(self.counts.attacked + 1, self.counts.attacked + real)
    local x = self:walk(queue, real, what)
    local results = theorem.raise_margin(self.net, x, queue.targets, self.narrow, self.margins,
        function() self:advance(real, what .. ", margins") end)
    for l, one in ipairs(self.narrow) do
        for k = 1, real do
            local lost = theorem.first_lost(results[l], self.margins, k)
            self.lost[#self.lost + 1] = {
                loss = one.name, file = queue.files[k], label = queue.labels[k],
                target = queue.targets[k], margin_target = lost.target, margin_first = lost.first,
                margin_half = lost.half, margin_zero = lost.zero,
            }
        end
        for m in ipairs(self.margins) do
            for _, column in ipairs(figures.margin_columns) do
                local values = self.swept[l][m][column]
                for k = 1, real do values[#values + 1] = results[l][m][column][k] end
            end
        end
    end
    self.counts.attacked = self.counts.attacked + real
    experiment.clear(queue)
end

function Run:image_work() return #self.losses * (self.o.iterations + 1) + #self.margins end

--- Passes over an image.
function Run:leave(_, _, _, reason)
    local name = reason == "wrong" and "wrong" or "left_out"
    self.counts[name] = self.counts[name] + 1
    self.progress.total = self.progress.total - self:image_work()
end

-- What is left of it ------------------------------------------------------------

local point_columns = {"loss", "file", "label", "target", "iteration", "subspace", "confidence",
    "gap", "margin", "terms", "error", "scale", "bound", "held", "grad_l2", "zero_share"}
local theorem_columns = {"subspace", "loss", "points", "held", "error_over_bound",
    "error_over_scale", "gap_least", "gap_most"}
local lost_columns = {"margin_target", "margin_first", "margin_half", "margin_zero"}
local precision_columns = {"loss", "file", "label", "target", table.unpack(lost_columns)}

--- A row for each subspace, and in it for each loss whose trajectories led there: points, bounds
-- held, the largest error over its bound and over M, and the range of 1 - p.
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

--- Median and range of the margins at which images lose something; how many never do.
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
    print("Margin z_t - max of the others at which float32 loses: median (least to most) of the images")
    print(("%-10s %-24s %-24s %-24s %s"):format("loss", "target's own term", "a first element",
        "half of the elements", "all"))
    for _, one in ipairs(losses) do
        local columns = {}
        for i, what in ipairs(lost_columns) do
            columns[i] = range_of(list, one.name, what)
        end
        print(("%-10s %-24s %-24s %-24s %s"):format(one.name, table.unpack(columns)))
    end
    print()
end

--- Medians over the images at each margin, with the least and the most.
function Run:margin_rows()
    local rows = {}
    for l, one in ipairs(self.narrow) do
        for m, margin in ipairs(self.margins) do
            local row = {loss = one.name, margin = margin}
            for _, column in ipairs(figures.margin_columns) do
                local values = self.swept[l][m][column]
                table.sort(values)
                row[column], row[column .. "_least"], row[column .. "_most"] =
                    tables.quantile(values, 0.5), values[1], values[#values]
            end
            rows[#rows + 1] = row
        end
    end
    return rows
end

function Run:finish(out)
    local rows, margins = summarise(self.points, self.o.losses), self:margin_rows()
    local margin_columns = {"loss", "margin"}
    for _, column in ipairs(figures.margin_columns) do
        for _, kind in ipairs {"", "_least", "_most"} do
            margin_columns[#margin_columns + 1] = column .. kind
        end
    end
    out:write("theorem.csv", tables.csv(theorem_columns, rows))
    out:write("points.csv", tables.csv(point_columns, self.points))
    out:write("precision.csv", tables.csv(precision_columns, self.lost))
    out:write("margins.csv", tables.csv(margin_columns, margins))
    run_json.finish(self.about, self.counts, self.seconds)
    out:write("run.json", run_json.encode(self.about))
    if not self.o.no_figures then
        out:write("fig_error.gp", figures.error("fig_error", self.points, self.o.losses))
        out:write("fig_precision.gp", figures.precision("fig_precision", margins, self.narrow))
        plot.draw(out.path, {"fig_error", "fig_precision"})
    end
    return rows
end

--- Lists the points that break a bound and fails; nothing where there are none.
local function check(points)
    local broken = {}
    for _, p in ipairs(points) do
        if not p.held then broken[#broken + 1] = p end
    end
    if #broken == 0 then return end
    print(("Points that break their bound: %d"):format(#broken))
    for i = 1, math.min(LISTED, #broken) do
        local p = broken[i]
        print(("  %s to %d, %s, n = %d, S%d, 1 - p = %.3g: error %.6g > bound %.6g"):format(
            (p.file:gsub("%c", "?")), p.target, p.loss, p.iteration, p.subspace, p.gap, p.error,
            p.bound))
    end
    if #broken > LISTED then print("  ... the others are in points.csv, held = 0") end
    fail("%d of %d points break their bound", #broken, #points)
end

local takes = table.move(options.of_images, 1, #options.of_images, 1, {})
for _, name in ipairs {"targets", "losses", "require", "iterations", "magnitude", "kappa", "every",
    "cut", "margin-step", "seed", "out"} do
    takes[#takes + 1] = name
end
local o = options.parse(arg, {name = "theorem.lua",
    description = "Tests Theorem IV.2 along attacks, and at which margin float32's gradients end.",
    options = takes, flags = {{"no-figures", "leave the pictures out"}}})
if not o.no_figures then plot.check() end
local net = experiment.load_net(o)
if net.classes < 2 then fail("the theorem needs 2 classes, net %s has %d", net.name, net.classes) end
o.magnitude = o.magnitude or net.defaults.magnitude or 0.05
o.cut = o.cut or (net.classes <= EACH_ON_ITS_OWN and 0 or 0.01)
local target_of, message = data.targets(o.targets, net.classes, o.seed)
if not target_of then fail.option("--targets: %s", message) end
local losses = experiment.losses(o, net)
local narrow = {loss.ce, loss.ce_sign, ce_stable} -- whose gradients end in float32
local images, last = experiment.open_images(o, net)
local out <close> = folder.claim(o.out, "theorem")
o.out = out.path
print(images:about(last))

local run = setmetatable({images = images, listed = last, o = o,
    setting = "theorem", options = takes, net = net, losses = losses,
    narrow = narrow, multiplier = attack.equal_perturbation(o.magnitude), workspace = {},
    tester = theorem.tester(net, o.batch, o.cut), points = {}, lost = {}, swept = {}, margins = {},
    seconds = {}, work = 0,
    counts = {found = 0, wrong = 0, left_out = 0, attacked = 0}}, Run)
run.about = run_json.start(run)
for _, name in ipairs(o.losses) do run.seconds[name] = 0 end
for i = 0, math.floor(MOST_MARGIN / o.margin_step) do run.margins[i + 1] = i * o.margin_step end
for l = 1, #narrow do
    run.swept[l] = {}
    for m in ipairs(run.margins) do
        run.swept[l][m] = {}
        for _, column in ipairs(figures.margin_columns) do run.swept[l][m][column] = {} end
    end
end
local shown <close> = progress.start("image steps", last * run:image_work())
run.progress = shown
experiment.go(run, images, 1, last, target_of)
shown:finish(("%d images, %d points"):format(run.counts.attacked, #run.points))
if run.counts.attacked == 0 then
    fail("nothing to test: of %d images in %s the net gets %d wrong and %d are left out by --targets",
        run.counts.found, o.images, run.counts.wrong, run.counts.left_out)
end
local rows = run:finish(out)
print(("Theorem IV.2, %s: %d images, every %s point of %d steps under %s\n"):format(net.name,
    run.counts.attacked, o.every == 1 and "" or o.every .. "-th", o.iterations,
    table.concat(o.losses, ", ")))
print_theorem(rows)
print_precision(run.lost, narrow)
print(("Tables%s: %s/"):format(o.no_figures and "" or " and pictures", out.path))
check(run.points)
