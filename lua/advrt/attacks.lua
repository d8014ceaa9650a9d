--- The attacks of the paper's Section III and attacks that measure robustness, and the functions that
-- run them. Each attack is a file of attacks/ that follows its paper.
--
--     attacks.fgs {eps = 8/255}                     one step along the sign
--     attacks.ifgs {eps = 8/255, steps = 20}        the same in small steps
--     attacks.pgd {norm = 2, eps = 1}               from random starts, in either norm
--     attacks.apgd {eps = 8/255}                    momentum and an adaptive step size
--     attacks.square {eps = 8/255}                  random search, without gradients
--     attacks.fab {norm = 2}                        minimum distortion, by linearised boundaries
--     attacks.autoattack {eps = 8/255}              four of these, each on the images that are still correct
--     attacks.lbfgs {}                              box-constrained L-BFGS, minimum distortion
--     attacks.cw {kappa = 0}                        Carlini & Wagner's L2
--     attacks.deepfool {norm = 2}                   repeated projection onto the nearest linearised boundary
--     attacks.ddn {steps = 100}                     decoupled direction and L2 norm
--     attacks.fmn {norm = 2}                        minimum distortion in few steps
--
--     local r = attacks.run {attack = attacks.cw {}, net = g, images = x, labels = c, targets = t}
--
-- This module measures the result of every attack from the returned images: that they lie in the net's
-- range ([0,1] by default) and in the ball, whether they succeed, and their distance. An image succeeds if
-- the class of its float32 pixels is the target (untargeted: not the label). The class is the first largest
-- logit, in a batch of the attack's own shape, so the attack saw the same logits. cw with kappa above 0 also
-- requires that margin. A lead in the last bits counts: another program, with another rounding order, may
-- see a tie or the previous class.

local arguments = require "advrt.support.check"
local fail = require "advrt.support.fail"
local lfs = require "lfs"
local method = require "advrt.attacks.method"
local nearest = require "advrt.support.nearest"
local range = require "advrt.support.range"
local system = require "advrt.core.system"
local tensor = require "advrt.tensor"

local attacks = {}

-- The order in which messages list the attacks; other files of attacks/ follow by name.
local order = {"fgs", "ifgs", "pgd", "apgd", "square", "fab", "autoattack", "lbfgs",
    "cw", "deepfool", "ddn", "fmn"}
do
    local others = {}
    for file in lfs.dir(system.options.root .. "/lua/advrt/attacks") do
        local name = file:match("^([%w_]+)%.lua$")
        local module = name and require("advrt.attacks." .. name)
        if type(module) == "table" and module.parameters then attacks[name] = module end
    end
    local listed = {}
    for _, name in ipairs(order) do listed[name] = true end
    for name in pairs(attacks) do
        if not listed[name] then others[#others + 1] = name end
    end
    table.sort(others)
    table.move(others, 1, #others, #order + 1, order)
end

--- The names of the attacks.
function attacks.names() return table.move(order, 1, #order, 1, {}) end

--- Parses a number such as 0.03, 1e-3 or 8/255; nil if it is not a finite number.
function attacks.number(text)
    local top, bottom = text:match("^([^/]+)/([^/]+)$")
    local v
    if top then
        top, bottom = attacks.number(top), attacks.number(bottom)
        v = top and bottom and top / bottom
    else
        v = text:find("^[%deE.+-]+$") and tonumber(text)
    end
    return v and v == v and math.abs(v) < math.huge and v or nil
end

--- Parses a parameter's value: a number, true, false, or a word.
local function value_of(text)
    if text == "true" or text == "false" then return text == "true" end
    return attacks.number(text) or text
end

--- The attack NAME or NAME:PARAMETER=VALUE:..., with the text as its name; or nil and one line.
function attacks.parse(text)
    local name, rest = text:match("^([^:]*)(.*)$")
    local kind = attacks[name]
    if type(kind) ~= "table" then
        return nil, ("unknown attack '%s'%s (attacks: %s)"):format(name, nearest.hint(name, order),
            table.concat(order, ", "))
    end
    local given = {name = text}
    for part in rest:gmatch(":([^:]*)") do
        local key, value = part:match("^([%w_]+)=(.+)$")
        if not key then return nil, ("'%s': want PARAMETER=VALUE, got '%s'"):format(text, part) end
        if not kind.parameters[key] then
            local known = {}
            for parameter in pairs(kind.parameters) do known[#known + 1] = parameter end
            table.sort(known)
            return nil, ("'%s' has no parameter '%s'%s (it has %s)"):format(name, key,
                nearest.hint(key, known), table.concat(known, ", "))
        end
        given[key] = value_of(value)
        if kind.parameters[key].read(given[key]) == nil then
            return nil, ("'%s': %s must be %s, got %s"):format(name, key,
                kind.parameters[key].wanted, value)
        end
    end
    return kind(given)
end

--- Raises if a finished image violates its attack's constraints: a bug in the attack.
local function check_promise(attack, item, x, within, l2, linf)
    local problem = within:problem(x)
    if problem then
        error(("attack %s: %s ended outside of %s: %.9g .. %.9g (%s)"):format(attack.name, item.name,
            within:text(), x:minimum(), x:maximum(), problem), 0)
    end
    local distance = attack.norm == 2 and l2 or linf
    -- The pixels respect the bound exactly; 1e-12 allows for the rounding of an L2 norm in double.
    if attack.eps and (distance ~= distance or distance > attack.eps * (1 + 1e-12)) then
        error(("attack %s: %s ended at %.17g, beyond eps = %.17g"):format(attack.name, item.name,
            distance, attack.eps), 0)
    end
end

--- Measures finished images a batch at a time, with the network passes that attacked them.
local Finished = {}
Finished.__index = Finished

local function new_finished(spec, attack, B, targeted)
    local g = spec.net
    local shape = {B, table.unpack(g.input)}
    return setmetatable({net = g, range = range.of(g), attack = attack, targeted = targeted, done = spec.done,
        x = tensor.new(shape), x0 = tensor.new(shape), z = tensor.new {B, g.classes}, items = {},
        goals = tensor.new({B}, "i64"), margin = tensor.new {B}, dz = tensor.new {B, g.classes},
        still = tensor.new({B}, "f64"), size = B}, Finished)
end

function Finished:add(item, x, image)
    local k = #self.items + 1
    self.items[k] = {item = item, forward = image.forward, backward = image.backward,
        zero_gradients = image.flat, not_finite = image.not_finite, kept = image.kept}
    self.x[k]:copy(x)
    self.x0[k]:copy(item.image)
    self.goals:set(item.target or item.label, k)
    if k == self.size then self:measure() end
end

function Finished:measure()
    local attack = self.attack
    self.net:trace(self.x, self.z)
    local predictions, _, success = method.judge(attack, self.targeted, self.z, self.goals, self.margin,
        self.dz)
    local l2, linf = self.x:step_(self.x, self.still, self.x0) -- a zero step: measures the distances only
    for k, one in ipairs(self.items) do
        check_promise(attack, one.item, self.x[k], self.range, l2:get(k), linf:get(k))
        one.x, one.prediction, one.success = self.x[k], predictions[k], success[k]
        one.l2, one.linf = l2:get(k), linf:get(k)
        if one.not_finite and not one.kept then one.success = false end -- it is the original image
        if one.prediction < 0 then one.not_finite = one.not_finite or "logits" end
        one.unmoved = not one.success and not one.not_finite
            and (one.linf == 0 or one.zero_gradients > 0 and one.zero_gradients == one.backward)
        self.done(one.item, one)
    end
    self.items = {}
    if self.measured then self.measured(self.batch) end
end

local ROOM, ROOM_BYTES = 16, 1 << 28 -- limits, in batches and bytes, on the images that a staged attack holds

--- The next items of a queue with copies of their images, up to the limits of a staged attack.
local function take(spec)
    local bytes, items = 4, {}
    for _, n in ipairs(spec.net.input) do bytes = bytes * n end
    local B = spec.batch or 32
    local room = B * math.max(1, math.min(ROOM, ROOM_BYTES // (bytes * B)))
    while #items < room do
        local item = spec.next()
        if not item then return items, true end
        items[#items + 1] = setmetatable({item = item, image = item.image:clone(), forward = 0,
            backward = 0, zero_gradients = 0}, {__index = item})
    end
    return items, false
end

--- attacks.stream for a staged attack: each stage attacks the images that earlier stages did not break.
-- An image's costs are summed over its stages; its result is the last stage's.
local function stream_stages(spec)
    local sum = {passes = 0, evaluations = 0, seconds = {forward = 0, backward = 0, step = 0}}

    -- The costs of the earlier stages plus `now`.
    local function with(now)
        local all = {passes = sum.passes + now.passes, seconds = {},
            evaluations = sum.evaluations + (now.evaluations or 0)}
        for name, v in pairs(sum.seconds) do all.seconds[name] = v + now.seconds[name] end
        return all
    end

    local function run_stage(stage, items, last)
        local left, at, reported = {}, 0, false
        local now = attacks.stream {
            attack = stage, net = spec.net, targeted = spec.targeted, batch = spec.batch,
            seed = spec.seed,
            next = function()
                at = at + 1
                return items[at]
            end,
            done = function(item, one)
                for _, name in ipairs {"forward", "backward", "zero_gradients"} do
                    item[name] = item[name] + one[name]
                    one[name] = item[name]
                end
                item.not_finite = item.not_finite or one.not_finite
                if not (one.success or last) then
                    left[#left + 1] = item
                    return
                end
                one.not_finite, reported = not one.success and item.not_finite or nil, true
                spec.done(item.item, one)
            end,
            tick = spec.tick and function(batch) spec.tick(with(batch)) end,
            measured = spec.measured and function(batch)
                if reported then spec.measured(with(batch)) end
                reported = false
            end,
        }
        return left, with(now)
    end

    local empty
    repeat
        local items
        items, empty = take(spec)
        for s, stage in ipairs(spec.attack.stages) do
            if #items == 0 then break end
            items, sum = run_stage(stage, items, s == #spec.attack.stages)
        end
    until empty
    return sum
end

--- Attacks the images of a queue; for folders that do not fit in memory.
--
-- spec.attack    an attack, such as attacks.cw {}
-- spec.net       a network
-- spec.next      function() -> {image = f32 [C,H,W] in the net's range, label =, target =, name =}, nil at
--                the end; either all images have a target or none has (untargeted)
-- spec.targeted  whether they have targets
-- spec.done      function(item, result), in the order of completion. result has: x [C,H,W] (copy
--                it to keep it), success, prediction, l2, linf; forward, backward (evaluations and
--                gradients of the image); zero_gradients, the number of gradients that were exactly 0;
--                unmoved, whether an unsuccessful image ended at its start or had only zero gradients;
--                not_finite, nil or the cause that stopped its attack: "logits", "value" or "gradient".
--                A stopped image is the last result of its attack, else the original
-- spec.batch     images at a time, default 32: the batch of every network pass
-- spec.seed      of random starts, default 0: they depend only on it and the image's name
-- spec.tick      optional: called with the batch's totals after each pass: passes; seconds {forward,
--                backward, step}; evaluations, of all images so far
-- spec.measured  optional: called with the same totals after the last `done` of each group of finished
--                images, at most a batch. After an interrupt it is also called for the images that had
--                finished
--
-- Returns {passes, evaluations, seconds = {forward, backward, step}}. A number that is not finite stops
-- the attack of its image only. An image outside the range or the attack's ball raises.
function attacks.stream(spec)
    arguments.want("stream", 1, "table", spec)
    for name, wanted in pairs {net = "table", attack = "table", next = "function", done = "function"} do
        if type(spec[name]) ~= wanted then
            error(("attacks.stream: %s must be a %s, got %s"):format(name, wanted,
                arguments.text(spec[name])), 2)
        end
    end
    if spec.attack.stages then return stream_stages(spec) end
    local attack, B = spec.attack, spec.batch or 32
    local finished = new_finished(spec, attack, B, spec.targeted)
    local batch = method.batch(spec.net, attack, B, spec.targeted, spec.seed or 0)
    finished.measured, finished.batch = spec.measured, batch
    batch:run(spec.next, function(...) finished:add(...) end, function()
        if spec.tick then spec.tick(batch) end
        if system.interrupted() and #finished.items > 0 then finished:measure() end
    end)
    if #finished.items > 0 then finished:measure() end
    return {passes = batch.passes, seconds = batch.seconds, evaluations = batch.evaluations}
end

local function check(spec)
    local g, x, attack = spec.net, spec.images, spec.attack
    local function wrong(...) error("attacks.run: " .. string.format(...), 4) end
    if type(g) ~= "table" or not g.trace then
        wrong("net is missing (net.load gives one), got %s", arguments.text(g))
    end
    if type(attack) == "table" and getmetatable(attack) and getmetatable(attack).__call then
        wrong("attack wants parameters: give attacks.%s {}", attack.kind)
    elseif type(attack) ~= "table" or not (attack.stages or (attack.attack and attack.advance)) then
        wrong("attack is missing (attacks.cw {} is one), got %s", type(attack))
    end
    if g.classes < 2 then wrong("the net has 1 class; an attack needs another class") end
    local problem = arguments.loss(attack:ascends(spec.targets ~= nil), g.classes)
    if problem then wrong("%s", problem) end
    x = arguments.images(x, g.input)
    if not arguments.is_tensor(x) or x:dtype() ~= "f32" or x:dim() ~= 4 or x:size(1) < 1 then
        wrong("images must be an f32 tensor [N,C,H,W], got %s", tostring(spec.images))
    end
    local shape, input = x:shape(), g.input
    if shape[2] ~= input[1] or shape[3] ~= input[2] or shape[4] ~= input[3] then
        wrong("net wants [N,%s], got [%s]", table.concat(input, ","), table.concat(shape, ","))
    end
    local batch = spec.batch
    if batch ~= nil and (math.type(batch) ~= "integer" or batch < 1) then
        wrong("batch must be an integer of at least 1, got %s", tostring(batch))
    end
    if spec.seed ~= nil and math.type(spec.seed) ~= "integer" then
        wrong("seed must be an integer, got %s", tostring(spec.seed))
    end
    local labels, targets
    labels, problem = arguments.classes(spec.labels, "labels", shape[1], g.classes)
    if labels and spec.targets then
        targets, problem = arguments.classes(spec.targets, "targets", shape[1], g.classes)
    end
    if problem then wrong("%s", problem) end
    local within = range.of(g)
    for i = 1, shape[1] do
        local outside = within:problem(x[i])
        if outside then
            wrong("image %d must lie in %s, but its values range from %g to %g: %s", i, within:text(),
                x[i]:minimum(), x[i]:maximum(), outside)
        end
        if targets and targets:get(i) == labels:get(i) then
            wrong("image %d: the target %d equals the label; a targeted attack wants another class",
                i, targets:get(i))
        end
    end
    return x, labels, targets
end

--- Attacks a tensor of images.
--
-- spec.attack   an attack, such as attacks.pgd {norm = 2, eps = 0.5}
-- spec.net      a network (advrt.net)
-- spec.images   f32 [N,C,H,W], or [N,D] of D features, in the range of the net, [0,1] by default, not
--               changed; spec.labels: their classes, N of them
-- spec.targets  target classes; without them the attack is untargeted: away from the label
-- spec.names    optional: N names for random starts and messages (default: 1 .. N) spec.batch, spec.seed,
--               spec.tick: see attacks.stream
--
-- Returns a table: adversarial, of the shape of images; success and unmoved, arrays of N booleans;
-- prediction i64 [N]; l2, linf f64 [N]; forward, backward, zero_gradients i64 [N]; not_finite, by image
-- number the cause that stopped its attack; passes; seconds. An unsuccessful image is the attack's last
-- result. If not_finite stops all images before any success, that is a failure. Arguments of a wrong type
-- raise.
function attacks.run(spec)
    arguments.want("run", 1, "table", spec)
    local images, labels, targets = check(spec)
    local N = #images
    local adversarial = tensor.new(images:shape())
    local r = {adversarial = adversarial:reshape(spec.images:shape()), success = {},
        prediction = tensor.new({N}, "i64"), l2 = tensor.new({N}, "f64"), linf = tensor.new({N}, "f64"),
        forward = tensor.new({N}, "i64"), backward = tensor.new({N}, "i64"),
        zero_gradients = tensor.new({N}, "i64"), unmoved = {}, not_finite = {}}
    local at, broken, example = 0, 0, nil
    local about = attacks.stream {
        attack = spec.attack, net = spec.net, targeted = targets ~= nil, batch = spec.batch,
        seed = spec.seed, tick = spec.tick,
        next = function()
            at = at + 1
            if at > N then return nil end
            return {index = at, image = images[at], label = labels:get(at),
                target = targets and targets:get(at), name = spec.names and spec.names[at]
                    or "image " .. at}
        end,
        done = function(item, one)
            local i = item.index
            adversarial[i]:copy(one.x)
            r.success[i], r.unmoved[i], r.not_finite[i] = one.success, one.unmoved, one.not_finite
            for _, name in ipairs {"prediction", "l2", "linf", "forward", "backward", "zero_gradients"} do
                r[name]:set(one[name], i)
            end
            if one.not_finite and not one.success then
                broken = broken + 1
                if not example or i < example.index then example = item end
            end
        end,
    }
    if broken == N then
        local what = r.not_finite[example.index]
        fail("%s: the %s %s not finite in attack %s%s; check the weights and the preprocessing",
            example.name, what, what == "logits" and "are" or "is", spec.attack.name,
            N > 1 and (" (all %d images have such numbers)"):format(N) or "")
    end
    r.passes, r.seconds = about.passes, about.seconds
    return r
end

return attacks
