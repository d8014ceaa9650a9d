--- Theorem IV.2 along real trajectories, and where float32 underflows (Section IV-A and IV-B).
--
-- Each loss attacks images by equal perturbation. At every N-th step the gradient of J is compared
-- with the theorem's approximation for the point's subspace, with the exact bounds of
-- advrt.theorem. All bounds must hold, or the exit status is 1. At the end of the first loss's
-- trajectories, the target's margin is then raised step by step. This shows at which margin the
-- gradients of ce, ce_sign and ce_stable lose elements and become zero.

local attack = require "advrt.attack"
local experiment = require "advrt.run.experiment"
local fail = require "advrt.support.fail"
local figures = require "advrt.paper.theorem_figures"
local range = require "advrt.support.range"
local report = require "advrt.paper.theorem_report"
local schema = require "advrt.run.schema"
local tensor = require "advrt.tensor"
local theorem = require "advrt.theorem"

local EACH_ON_ITS_OWN = 20 -- up to this many classes, each class has its own gradient

local Theorem = {}

function Theorem:check()
    self.margins = report.margins(self.o.margin_step)
    self.tester = theorem.tester(self.net, self.o.batch, self.o.cut)
end

function Theorem:was_finished() report.check(self.out, self.o) end

--- After the first loss's trajectories, the margins are raised.
function Theorem:unit_work(l) return self.o.iterations + 1 + (l == 1 and #self.margins or 0) end

-- A unit's state stores numbers as tensors. In memory they are flat tables of numbers.

local function kept(numbers) return #numbers > 0 and tensor.from(numbers, "f64") or nil end

local function again(tensors, name) return tensors and tensors[name] and tensors[name]:totable() or {} end

--- Adds the tester's results for a batch's points at step n.
local function add_points(numbers, n, points)
    for _, point in ipairs(points) do
        local values = {iteration = n, confidence = point.p[point.best + 1], terms = #point.terms,
            held = point.held and 1 or 0}
        for _, s in ipairs(report.series) do
            numbers[#numbers + 1] = values[s[1]] or point[s[1]]
        end
    end
end

--- The arrays over the points of image k of a batch of B.
local function points_of(numbers, k, B)
    local arrays, width = {}, #report.series
    for i, s in ipairs(report.series) do
        local list = {}
        for at = (k - 1) * width + i, #numbers, B * width do
            local v = numbers[at]
            list[#list + 1] = s[2] and math.tointeger(v) or not s[2] and v + 0.0 or nil
        end
        arrays[s[1]] = list
    end
    return arrays
end

--- The results of raise_margin for the margins so far, as numbers: by margin, loss, column and
-- image.
local function flat(results)
    local numbers = {}
    for m = 1, #results[1] do
        for _, of_loss in ipairs(results) do
            for _, column in ipairs(figures.margin_columns) do
                table.move(of_loss[m][column], 1, #of_loss[m][column], #numbers + 1, numbers)
            end
        end
    end
    return numbers
end

local function unflat(numbers, losses, B)
    local results, at = {}, 0
    for l = 1, losses do results[l] = {} end
    while at < #numbers do
        for l = 1, losses do
            local row = {}
            for _, column in ipairs(figures.margin_columns) do
                row[column] = table.move(numbers, at + 1, at + B, 1, {})
                at = at + B
            end
            table.insert(results[l], row)
        end
    end
    return results
end

--- Raises the margins of a batch's images x, starting where an earlier process stopped.
function Theorem:raise(queue, real, x, state, what)
    local done = unflat(again(state.tensors, "margins"), #report.narrow, #x)
    self:spare(real * #done[1])
    return theorem.raise_margin(self.net, x, queue.targets, report.narrow, self.margins,
        function(_, results)
            self:advance(real, what .. ", margins")
            self:checkpoint({step = self.o.iterations + 1, seconds = state.seconds,
                tensors = {x = x, points = state.tensors.points}},
                function() return {margins = kept(flat(results))} end)
        end, done)
end

--- Returns what is wrong with a state from a file, or nil. A state is an attack's with the points
-- so far; or, at the end of the first loss, the points of all, and the margins so far.
function Theorem:problem_of_state(state)
    local steps, B, tensors = self.o.iterations, self.o.batch, state.tensors
    local raising = state.step == steps + 1
    local problem = not raising and attack.problem_of_state(state, self.net, self:room(), steps)
    if problem then return problem end
    local x = tensors.x
    if not x or table.concat(x:shape(), ",") ~= table.concat(self:shape(), ",") or x:dtype() ~= "f32"
        or range.of(self.net):first_outside(x) then
        return "its images are missing or malformed"
    end
    local points, l = (state.step - 1) // self.o.every, self.units % #self.losses
    if l == 1 % #self.losses then points = points + 1 end -- the start, which all losses share
    local function holds(t, count)
        return not t and count == 0 or t and t:dtype() == "f64" and t:dim() == 1 and #t == count
    end
    if raising and l ~= 1 % #self.losses then return "it tests margins under another loss" end
    if not holds(tensors.points, points * B * #report.series) then
        return ("it does not hold the points of %d steps"):format(state.step)
    end
    local of_margin = #report.narrow * #figures.margin_columns * B
    local margins = tensors.margins and #tensors.margins or 0
    if margins % of_margin ~= 0 or margins > #self.margins * of_margin
        or not holds(tensors.margins, margins) or margins > 0 and not raising
        or not schema.amount.is(state.seconds) then
        return "its margins are missing or malformed"
    end
end

--- The trajectories of a batch under the l-th loss; after the first loss's, the margins.
function Theorem:compute(queue, real, l, what)
    local one, from, steps = self.losses[l], self:saved(), self.o.iterations
    local numbers = again(from and from.tensors, "points")
    self:spare(real * (from and from.step or 0))
    local state = from
    if not from or from.step <= steps then
        local r = attack.run {
            net = self.net, images = queue.x, labels = queue.labels, targets = queue.targets,
            names = queue.files, loss = one, multiplier = self.multiplier, iterations = steps,
            workspace = self.workspace, from = from,
            watch = function(n, _, z, trace)
                -- All losses start from the same point, which is tested once.
                if n % self.o.every == 0 and (n > 0 or l == 1) then
                    add_points(numbers, n, self.tester:test(z, queue.targets, trace))
                end
            end,
            checkpoint = function(of_attack)
                self:checkpoint(of_attack, function() return {points = kept(numbers)} end)
            end,
            progress = function() self:advance(real, what) end,
        }
        state = {seconds = r.seconds, tensors = {x = r.adversarial, points = kept(numbers)}}
    end
    local swept = l == 1 and self:raise(queue, real, state.tensors.x, state, what)
    for k = 1, real do self:keep_image(queue, k, one.name, points_of(numbers, k, #queue.x), swept) end
    return state.seconds
end

--- Adds the records of image k: its points, and its margins if they were raised.
function Theorem:keep_image(queue, k, name, arrays, swept)
    local about = {file = queue.files[k], label = queue.labels[k], target = queue.targets[k], loss = name}
    local names = {}
    for i, s in ipairs(report.series) do names[i] = s[1] end
    local records = {report.pack(about, "theorem", names, arrays)}
    for l, results in ipairs(swept or {}) do
        local list = {target_element = {}, zero_share = {}, l2 = {}}
        for m, row in ipairs(results) do
            list.target_element[m], list.zero_share[m], list.l2[m] = row.target[k] + 0.0,
                row.zero_share[k] + 0.0, row.l2[k] + 0.0
        end
        about.loss = report.narrow[l].name
        records[#records + 1] = report.pack(about, "margins", {"target_element", "zero_share", "l2"},
            list)
    end
    self.journal:add("records", table.concat(records))
end

experiment.run({
    setting = "theorem",
    description = "Tests Theorem IV.2 along attacks, and the margin at which float32 gradients underflow.",
    uses = {
        {"", "the bundled network and images"},
        {"--net model.onnx --images photos --limit 20", "your own network and 20 of your images"},
        {"--losses ce --every 1 --margin-step 0.25", "every point of the trajectories, smaller margin steps"},
    },
    takes = {"targets", "losses", "require", "iterations", "magnitude", "kappa", "every", "cut",
        "margin-step", "seed"},
    step = "magnitude", methods = Theorem,
    prepare = function(o, net)
        if net.classes < 2 then
            fail("the theorem needs at least 2 classes, net %s has %d", net.name, net.classes)
        end
        o.cut = o.cut or (net.classes <= EACH_ON_ITS_OWN and 0 or 0.01)
    end,
    multiplier = function(o) return attack.equal_perturbation(o.magnitude) end,
}, arg)
