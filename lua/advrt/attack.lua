--- The paper's attack loop (Eq. 11-16), one loss at a time:
--
--     x_{n+1} = P(x_n + a_n q_n),   P clips to the range of the net, [0,1] by default
--
-- q_n is the loss's direction at x_n and a_n the multiplier: one constant (equal multiplier), or
-- the value that makes the norm of a_n q_n equal for every loss, image and step (equal perturbation).

local arguments = require "advrt.support.check"
local ascent = require "advrt.core.ascent"
local count_of = require "advrt.support.count"
local fail = require "advrt.support.fail"
local logits = require "advrt.core.loss"
local losses = require "advrt.loss"
local ranges = require "advrt.support.range"
local schema = require "advrt.run.schema"
local system = require "advrt.core.system"
local tensor = require "advrt.tensor"

local attack = {}

local Multiplier = {}
Multiplier.__index = Multiplier
Multiplier.__name = "advrt.multiplier"

--- a_n from the norms of q_n. l2, linf and a are f64 [N]; overwrites and returns a. a_n is 0 where
-- q_n is exactly zero (linf is 0), for every rule.
function Multiplier:__call(l2, linf, a)
    for i = 1, #linf do
        a:set(linf:get(i) > 0 and self.rule(l2:get(i), linf:get(i)) or 0, i)
    end
    return a
end

local function check_positive(value, what, level)
    if not math.type(value) or not (value > 0 and value < math.huge) then
        error(("%s must be a number above 0, got %s"):format(what, tostring(value)), level + 1)
    end
end

--- Equal multiplier: a_n = alpha for all images and steps. Raises unless alpha > 0.
function attack.equal_multiplier(alpha)
    check_positive(alpha, "alpha", 2)
    return setmetatable({name = "equal_multiplier", alpha = alpha,
        rule = function() return alpha end}, Multiplier)
end

--- Equal perturbation (Eq. 16): a_n = magnitude / ||q_n|| for each image, in double.
-- options.norm: 2 (the default) or "inf". Raises for other norms and unless magnitude > 0.
function attack.equal_perturbation(magnitude, options)
    check_positive(magnitude, "magnitude", 2)
    if options ~= nil and type(options) ~= "table" then
        error(("the options are a table such as {norm = \"inf\"}, got %s"):format(
            arguments.text(options)), 2)
    end
    local norm = options and options.norm or 2
    if norm ~= 2 and norm ~= "inf" then
        error(("norm must be 2 or \"inf\", got %s"):format(tostring(norm)), 2)
    end
    local rules = {
        [2] = function(l2) return magnitude / l2 end,
        inf = function(_, linf) return magnitude / linf end,
    }
    return setmetatable({name = "equal_perturbation", magnitude = magnitude, norm = norm,
        rule = rules[norm]}, Multiplier)
end

local MAGNITUDE = 0.05 -- in the L2 norm, for a net without its own
-- How far a step's largest change may exceed a uniform change of all values. The ratio is 1 for sign
-- steps, and 5 (the bundled net) to 24 (EfficientNet-Lite0's first step) for gradient steps.
local PEAK = 4
-- Of a step on features: its norm as a part of the diagonal of their range. Of 28 x 28 pixels 0.05 is as
-- much.
local SHARE = 0.002

--- By how much the net's default steps are larger than those for images in [0,1], and why, as text.
local function scale_of(g)
    local of_range, D = ranges.of(g), g.input[1]
    if g.input[2] * g.input[3] == 1 then
        return SHARE * math.sqrt(D) * of_range:width() / MAGNITUDE,
            "the default for " .. count_of(D, "feature")
    end
    return of_range:width(), of_range.unit and "the default" or "the default for this range"
end

--- The magnitude of attack.equal_perturbation that suits a net, and its source as text.
-- norm 2 (the default): the definition's `defaults.magnitude`, else 0.05 times the width of the range for
-- images, 0.2 % of their range's diagonal for features. "inf": `defaults.magnitude_inf`, else
-- 4 m / sqrt(C H W), where m is the magnitude in the L2 norm: four times the change of each value if all
-- change equally.
function attack.magnitude_of(g, norm)
    if norm == "inf" then
        local own = g.defaults.magnitude_inf
        if own then return own, "the net's own for this norm" end
        local two = g.defaults.magnitude or MAGNITUDE * scale_of(g)
        return PEAK * two / math.sqrt(g.input[1] * g.input[2] * g.input[3]),
            "the default for images of this size"
    elseif norm ~= nil and norm ~= 2 then
        error(("norm must be 2 or \"inf\", got %s"):format(tostring(norm)), 2)
    end
    if g.defaults.magnitude then return g.defaults.magnitude, "the net's own" end
    local scale, why = scale_of(g)
    return MAGNITUDE * scale, why
end

--- The multiplier of attack.equal_multiplier that suits a net, and where it is from, as text: what the
-- definition's `defaults.alpha` states, else `default` made larger as the default magnitude is, and once
-- more by the width of the range: a gradient shrinks as its inputs grow.
function attack.alpha_of(g, default)
    if g.defaults.alpha then return g.defaults.alpha, "the net's own" end
    local scale, why = scale_of(g)
    return default * scale * ranges.of(g):width(), why
end

--- The series of a run and their element types, in the order in which records hold them.
attack.series = {}
for _, buffer in ipairs(ascent.buffers) do
    local name, dtype, extent = table.unpack(buffer)
    if extent == "steps" then attack.series[#attack.series + 1] = {name, dtype} end
end

--- Everything a run writes to, allocated once: image-sized buffers, numbers per image, and the
-- series. rows[n] holds the views [N] of step n, so that the core writes into them directly.
local function new_workspace(shape, K, iterations)
    local N = shape[1]
    local w = {
        prediction = tensor.new({N}, "i64"),
        q_l2 = tensor.new({N}, "f64"), q_linf = tensor.new({N}, "f64"),
        q_zero = tensor.new({N}, "f64"), a = tensor.new({N}, "f64"),
        survives_8bit = tensor.new({N}, "i8"),
        series = {}, rows = {}, buffers = {},
    }
    local shapes = {images = shape, logits = {N, K}, each = {N}, steps = {iterations + 1, N}}
    for _, buffer in ipairs(ascent.buffers) do
        local name, dtype, extent = table.unpack(buffer)
        local made = tensor.new(shapes[extent], dtype)
        w.buffers[name] = made
        if extent == "steps" then w.series[name] = made else w[name] = made end
    end
    for n = 0, iterations do
        local row = {prediction = w.prediction}
        for name, all in pairs(w.series) do row[name] = all[n + 1] end
        w.rows[n] = row
    end
    -- The state that a step needs from earlier steps, and the results so far.
    w.lasting = {x = w.x, first = w.first, flip_iteration = w.flip_iteration,
        zero_steps = w.zero_steps, flip_l2 = w.flip_l2, flip_linf = w.flip_linf}
    for name, all in pairs(w.series) do w.lasting["series." .. name] = all end
    return w
end

local function workspace_of(spec, shape, K)
    local key = ("%s/%d/%d"):format(table.concat(shape, ","), K, spec.iterations)
    local kept = spec.workspace or {}
    if kept.key ~= key then
        kept.key, kept.buffers = key, new_workspace(shape, K, spec.iterations)
    end
    return kept.buffers
end

--- The classes of images as an i64 tensor; errors are raised at the line that called attack.run.
local function check_classes(...)
    local classes, problem = arguments.classes(...)
    if not classes then error(problem, 4) end
    return classes
end

--- The name of image i in error messages.
local function name_of(spec, i)
    return spec.names and ("image %d (%s)"):format(i, spec.names[i]) or "image " .. i
end

--- Checks the arguments of attack.run; returns the images [N,C,H,W], labels and targets (i64 [N]).
local function check(spec)
    local g, x, loss, iterations = spec.net, spec.images, spec.loss, spec.iterations
    if type(g) ~= "table" or not g.trace then
        error(("attack.run: net is missing (net.load gives one), got %s"):format(arguments.text(g)), 3)
    end
    local problem = arguments.loss(loss, g.classes)
    if problem then error("attack.run: " .. problem, 3) end
    local multiplier = spec.multiplier
    if type(multiplier) ~= "function" and not (debug.getmetatable(multiplier) or {}).__call then
        error(("attack.run: multiplier is missing (attack.equal_perturbation(0.05) is one), got %s")
            :format(type(multiplier)), 3)
    end
    if math.type(iterations) ~= "integer" or iterations < 1 then
        error(("attack.run: iterations must be an integer of at least 1, got %s"):format(
            tostring(iterations)), 3)
    end
    x = arguments.images(x, g.input)
    if not arguments.is_tensor(x) or x:dtype() ~= "f32" or x:dim() ~= 4 or x:size(1) < 1 then
        error(("attack.run: images must be an f32 tensor [N,C,H,W], got %s"):format(
            tostring(spec.images)), 3)
    end
    local shape, input, within = x:shape(), g.input, ranges.of(g)
    if shape[2] ~= input[1] or shape[3] ~= input[2] or shape[4] ~= input[3] then
        error(("attack.run: net wants [N,%s], got [%s]"):format(table.concat(input, ","),
            table.concat(shape, ",")), 3)
    end
    for i = 1, shape[1] do
        local outside = within:problem(x[i])
        if outside then
            error(("attack.run: %s must lie in %s, but its values range from %g to %g: %s"):format(
                name_of(spec, i), within:text(), x[i]:minimum(), x[i]:maximum(), outside), 3)
        end
    end
    local labels = check_classes(spec.labels, "labels", shape[1], g.classes)
    local targets = check_classes(spec.targets, "targets", shape[1], g.classes)
    for i = 1, shape[1] do
        if labels:get(i) == targets:get(i) then
            fail("%s: the target %d equals the label; a targeted attack wants another class",
                name_of(spec, i), targets:get(i))
        end
    end
    return x, labels, targets
end

--- Fails if step n produced a number that is not finite. value, dz: the loss's value and gradient. With
-- finite logits only a user-defined loss can cause this. Both are nil if the device ran the step.
local function check_finite(spec, n, row, value, dz)
    local at = ("not finite at step %d of loss %s"):format(n, spec.loss.name)
    for i = 1, #row.p_target do
        local p, norm = row.p_target:get(i), row.grad_l2:get(i)
        if p ~= p then
            fail("%s: the logits are %s; check the weights and the preprocessing", name_of(spec, i), at)
        elseif value and value:get(i) ~= value:get(i) then
            losses.fail_not_finite(spec.loss, value, ("%s: the value is %s"):format(name_of(spec, i), at))
        elseif norm ~= norm or norm == math.huge then
            losses.fail_not_finite(spec.loss, dz, ("%s: the gradient is %s"):format(name_of(spec, i), at))
        end
    end
end

--- Notes the images that are first classified as their target at step n, and saves them. Only this
-- function makes views of single images, at most N times per run.
local function note_flips(w, n, row, targets)
    for i = 1, #targets do
        if w.flip_iteration:get(i) < 0 and w.prediction:get(i) == targets:get(i) then
            w.flip_iteration:set(n, i)
            w.flip_l2:set(row.l2:get(i), i)
            w.flip_linf:set(row.linf:get(i), i)
            w.first[i]:copy(w.x[i])
        end
    end
end

--- The problem with a state of attack.run's checkpoint that was read from a file; nil if valid. g: the net;
-- N: number of images; iterations: of the run.
function attack.problem_of_state(state, g, N, iterations)
    local problem = schema.problem(state, {{"step", schema.whole(1, iterations)},
        {"seconds", schema.amount}})
    if problem then return problem end
    local shape = {N, table.unpack(g.input)}
    local wanted = {x = {"f32", shape}, first = {"f32", shape}, flip_iteration = {"i64", {N}},
        zero_steps = {"i64", {N}}, flip_l2 = {"f64", {N}}, flip_linf = {"f64", {N}}}
    for _, s in ipairs(attack.series) do wanted["series." .. s[1]] = {s[2], {iterations + 1, N}} end
    for name, like in pairs(wanted) do
        local t = state.tensors[name]
        if not t or t:dtype() ~= like[1] or table.concat(t:shape(), ",") ~= table.concat(like[2], ",") then
            return ("its '%s' is not %s [%s]"):format(name, like[1], table.concat(like[2], ","))
        end
    end
    for _, name in ipairs {"x", "first"} do
        if ranges.of(g):first_outside(state.tensors[name]) then
            return ("its '%s' has values outside of %s"):format(name, ranges.of(g):text())
        end
    end
    local flips, zeros = state.tensors.flip_iteration, state.tensors.zero_steps
    if flips:minimum() < -1 or flips:maximum() >= state.step or zeros:minimum() < 0
        or zeros:maximum() > state.step then
        return ("its flips lie outside of %d steps"):format(state.step)
    end
end

--- Restores a state of attack.run's checkpoint; returns the next step.
local function restore(w, from)
    for name, kept in pairs(w.lasting) do kept:copy(from.tensors[name]) end
    return from.step
end

--- Whether each image at its flip survives rounding to 8 bits: one forward pass. -1 for features, which
-- have no 8-bit form.
local function try_8bit(w, g, targets)
    if not ranges.of(g).picture then
        for i = 1, #targets do w.survives_8bit:set(-1, i) end
        return
    end
    w.q:copy(w.first)
    g:forward(w.q:quantize_(255), w.z)
    local predictions = w.z:argmax()
    for i = 1, #targets do
        local flipped = w.flip_iteration:get(i) >= 0
        w.survives_8bit:set(flipped and predictions:get(i) == targets:get(i) and 1 or 0, i)
    end
end

-- The number of steps that a device runs before its results are checked.
local STEPS_AT_ONCE = 10

--- The attack's job for the core's plan:ascend; nil if a part of it is a Lua function.
local function device_job(spec, w, labels, targets)
    local loss, m = spec.loss, spec.multiplier
    if spec.watch or not spec.net.ascend or debug.getmetatable(m) ~= Multiplier
        or debug.getmetatable(loss) ~= debug.getmetatable(losses.ce) then
        return nil
    end
    local low, high = ranges.of(spec.net):sides()
    return {low = low, high = high, loss = loss.kind, parameters = loss, sign = loss.signed,
        rule = m.alpha and "constant" or m.norm == 2 and "l2" or "linf",
        size = m.alpha or m.magnitude, iterations = spec.iterations,
        labels = labels, targets = targets, buffers = w.buffers}
end

--- Runs one attack to its full number of iterations.
--
-- spec.net         a network (advrt.net)
-- spec.images      f32 [N,C,H,W], or [N,D] of D features, in the range of the net, [0,1] by default; not
--                  changed
-- spec.labels      initial classes, spec.targets: target classes; tables or tensors of N classes
--                  counted from 0, each target other than its label
-- spec.loss        a loss (advrt.loss)
-- spec.multiplier  attack.equal_multiplier, attack.equal_perturbation, or any function
--                  (l2, linf, a) that fills a [N] from the norms of q, all f64 [N]
-- spec.iterations  number of steps, at least 1
-- spec.names       optional: N names of the images for error messages
-- spec.progress    optional: called with (n, iterations) after each n = 0 .. iterations
-- spec.checkpoint  optional: called with a state after each step but the last (if the device runs several
--                  steps at once: after some). The state is {step = the next n, seconds, tensors = by name};
--                  the next step changes the tensors. The function may raise; it is then the only check for
--                  interrupts
-- spec.from        optional: a state of checkpoint from a run of the same spec, to resume; the results are
--                  the same as without the interruption
-- spec.watch       optional: called with (n, x_n, z, trace) before the loss is evaluated, n = 0 ..
--                  iterations. It may ask net:backward for gradients of the trace, but must change nothing
-- spec.workspace   optional table that keeps the buffers for the next run of the same shapes; the next run
--                  overwrites the results of this one
--
-- Returns a table: adversarial, of the shape of images, those after the last step; first, the images at
-- their first flip, i.e. the first n with argmax z = target (the original if none);
-- flip_iteration i64 [N] (-1: never); flip_l2, flip_linf f64 [N], the distances from the original
-- at the flip (nan: never); survives_8bit i8 [N], 1 if the image at the flip is still the target
-- after rounding to 8 bits, -1 for features; zero_steps i64 [N], the steps skipped because q was
-- all zero; series, tensors [iterations+1,N] named in attack.series, n = 0 .. iterations (norms in double;
-- grad_l2 before taking the sign, step_l2 = a_n ||q_n||_2 before clipping); seconds, the total time in
-- forward, backward and step; and time, a table of the three (since spec.from; all of it under forward if
-- the device runs several steps at once).
--
-- At n = iterations everything is computed and no step is taken. Arguments of a wrong type raise. A
-- target equal to its label, or a logit or gradient that is not finite, is a failure that names the
-- image.
function attack.run(spec)
    arguments.want("run", 1, "table", spec)
    local images, labels, targets = check(spec)
    local shape, low, high = images:shape(), ranges.of(spec.net):sides()
    local g, loss, multiplier, iterations = spec.net, spec.loss, spec.multiplier, spec.iterations
    local w = workspace_of(spec, shape, g.classes)
    local x, x0, q, z, dz = w.x, w.x0, w.q, w.z, w.dz
    x0:copy(images)
    x:copy(x0)
    w.first:copy(x0)
    for i = 1, shape[1] do
        w.flip_iteration:set(-1, i)
        w.zero_steps:set(0, i)
    end
    w.flip_l2:fill(0 / 0)
    w.flip_linf:fill(0 / 0)
    w.rows[0].l2:fill(0)
    w.rows[0].linf:fill(0)

    local clock = system.clock
    local forward, backward, step = 0, 0, 0
    local before = spec.from and spec.from.seconds or 0
    local n, job = spec.from and restore(w, spec.from) or 0, device_job(spec, w, labels, targets)

    local who = "loss " .. loss.name

    local function run_step()
        local row, after = w.rows[n], w.rows[n + 1]
        local t0 = clock()
        local _, trace = g:trace(x, z)                        -- z = g(x_n)
        local t1 = clock()
        arguments.logits(z, function(i) return name_of(spec, i) end,
            ("at step %d of loss %s"):format(n, loss.name))
        if spec.watch then spec.watch(n, x, z, trace) end
        local t2 = clock()
        loss:evaluate(z, targets, w.value, dz)
        g:backward(dz, q, trace, who)                         -- the loss's gradient at x_n
        local t3 = clock()
        q:norms(row.grad_l2, w.q_linf, row.zero_share)
        local q_l2, q_linf = row.grad_l2, w.q_linf
        loss:direction(q)                                     -- q_n, Eq. 12-15
        if loss.signed then
            q_l2, q_linf = w.q_l2, w.q_linf
            q:norms(q_l2, q_linf, w.q_zero)
        end
        multiplier(q_l2, q_linf, w.a)                         -- a_n, Eq. 16
        local t4 = clock()

        logits.stats(z, labels, targets, row)
        check_finite(spec, n, row, loss.f and w.value, dz)
        note_flips(w, n, row, targets)
        for i = 1, shape[1] do row.step_l2:set(w.a:get(i) * q_l2:get(i), i) end

        local t5 = clock()
        if n < iterations then
            for i = 1, shape[1] do
                if q_linf:get(i) == 0 then w.zero_steps:set(w.zero_steps:get(i) + 1, i) end
            end
            x:step_(q, w.a, x0, after.l2, after.linf, low, high) -- x_{n+1} = P(x_n + a_n q_n)
        end
        local t6 = clock()
        forward, backward = forward + t1 - t0, backward + t3 - t2
        step = step + (t4 - t3) + (t6 - t5)
        if spec.progress then spec.progress(n, iterations) end
    end

    -- The same on the device alone, for several steps from n; false if the device does not support
    -- it.
    local function run_on_device()
        local last, t0 = math.min(n + STEPS_AT_ONCE - 1, iterations), clock()
        if not g:ascend(job, n, last) then return false end
        forward = forward + clock() - t0
        for k = n, last do
            check_finite(spec, k, w.rows[k])
            if spec.progress then spec.progress(k, iterations) end
        end
        n = last
        return true
    end

    while n <= iterations do
        if not (job and run_on_device()) then
            job = nil
            run_step()
        end
        if not spec.checkpoint then
            if system.interrupted() then fail.interrupted() end
        elseif n < iterations then
            spec.checkpoint {step = n + 1, seconds = before + forward + backward + step,
                tensors = w.lasting}
        end
        n = n + 1
    end
    try_8bit(w, g, targets)
    return {
        adversarial = x:reshape(spec.images:shape()), first = w.first:reshape(spec.images:shape()),
        flip_iteration = w.flip_iteration, flip_l2 = w.flip_l2,
        flip_linf = w.flip_linf, survives_8bit = w.survives_8bit, zero_steps = w.zero_steps,
        series = w.series, seconds = before + forward + backward + step,
        time = {forward = forward, backward = backward, step = step},
    }
end

return attack
