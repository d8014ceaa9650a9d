--- Training: optimisers, schedules, and the loop that fits a net to labelled images.
--
--     local g = net.load("nets/fashion.lua", {init = "he", seed = 0})
--     train.run {net = g, images = images, labels = labels, epochs = 20, batch = 128,
--                optimiser = train.sgd {rate = 0.1, momentum = 0.9, weight_decay = 5e-4}}
--
-- Everything random (order, augmentation, dropout, initial weights) comes from the project's
-- stream, as a function of the seed, the epoch and the image alone.

local batch = require "advrt.core.batch"
local fail = require "advrt.fail"
local system = require "advrt.core.system"
local tensor = require "advrt.core.tensor"

local train = {}

-- Optimisers ----------------------------------------------------------------

local Optimiser = {}
Optimiser.__index = Optimiser

local function optimiser(settings, states, update)
    return setmetatable({settings = settings, states = states, update = update, t = 0}, Optimiser)
end

local function with_defaults(given, defaults, what)
    local settings = {}
    for name, value in pairs(defaults) do settings[name] = value end
    for name, value in pairs(given or {}) do
        if defaults[name] == nil then
            error(("%s has no setting '%s'"):format(what, tostring(name)), 3)
        end
        settings[name] = value
    end
    return settings
end

--- Stochastic gradient descent with momentum: g' = g + weight_decay p; m = momentum m + g';
-- p -= rate m, or rate (g' + momentum m) with nesterov. Settings and their defaults: rate = 0.01,
-- momentum = 0, weight_decay = 0, nesterov = false.
function train.sgd(o)
    local defaults = {rate = 0.01, momentum = 0.0, weight_decay = 0.0, nesterov = false}
    return optimiser(with_defaults(o, defaults, "sgd"), 1, tensor.sgd)
end

--- Adam (arXiv:1412.6980). Settings and their defaults: rate = 1e-3, beta1 = 0.9, beta2 = 0.999,
-- eps = 1e-8, weight_decay = 0, added to the gradient, or with decoupled = true taken off the
-- parameter itself (AdamW, arXiv:1711.05101).
function train.adam(o)
    local defaults = {
        rate = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0.0, decoupled = false,
    }
    return optimiser(with_defaults(o, defaults, "adam"), 2, tensor.adam)
end

-- The trained parameters of a net, each with its state tensors: zeros at first.
function Optimiser:prepare(g)
    self.net, self.parameters = g, {}
    for _, p in ipairs(g:parameters()) do
        if not p.role:find("^running") then
            local state = {}
            for i = 1, self.states do state[i] = tensor.new(p.shape) end
            self.parameters[#self.parameters + 1] = {
                name = p.name, value = g.graph:get(p.name), gradient = tensor.new(p.shape),
                state = state,
            }
        end
    end
end

--- One update of every parameter of `g` from the gradients that the training plan has just
-- computed. Its state belongs to the net of the first call; another net starts afresh.
function Optimiser:step(g, plan)
    if self.net ~= g then
        self:prepare(g)
        self.t = 0
    end
    self.t = self.t + 1
    self.settings.t = self.states == 2 and self.t or nil
    for _, p in ipairs(self.parameters) do
        local gradient = plan:gradient(p.name, p.gradient)
        if self.states == 2 then
            self.update(p.value, gradient, p.state[1], p.state[2], self.settings)
        else
            self.update(p.value, gradient, p.state[1], self.settings)
        end
    end
end

-- Schedules: functions of the step (from 0) and their total number, giving the rate ------------

--- From `rate` to 0 along half a cosine, after a rise from 0 over the share `warmup` (default 0).
function train.cosine(rate, warmup)
    warmup = warmup or 0
    return function(step, total)
        local at = (step + 0.5) / total
        if at < warmup then return rate * at / warmup end
        return rate * 0.5 * (1 + math.cos(math.pi * (at - warmup) / (1 - warmup)))
    end
end

--- `rate`, multiplied by `factor` (default 0.1) at each of the shares of the run in `at`.
function train.steps(rate, at, factor)
    return function(step, total)
        local now = rate
        for _, share in ipairs(at) do
            if step >= share * total then now = now * (factor or 0.1) end
        end
        return now
    end
end

-- The loop ------------------------------------------------------------------

--- A permutation of 0 .. n-1 as an i64 tensor [n], a function of the stream's name.
function train.shuffle(name, n)
    local u, order = tensor.uniform(name, {n}):totable(), {}
    for i = 1, n do order[i] = i - 1 end
    for i = n, 2, -1 do -- Fisher and Yates
        local j = math.floor(u[i] * i) + 1
        order[i], order[j] = order[j], order[i]
    end
    return tensor.from(order, "i64")
end

local function check_data(g, images, labels)
    local shape, input = images:shape(), g.input
    local dtype = images:dtype()
    if dtype ~= "u8" and dtype ~= "f32" or #shape ~= 4 or shape[2] ~= input[1] or shape[3] ~= input[2]
        or shape[4] ~= input[3] then
        error(("net wants u8 or f32 images [M,%d,%d,%d], got %s [%s]"):format(
            input[1], input[2], input[3], dtype, table.concat(shape, ",")), 3)
    end
    if type(labels) == "table" then
        labels = tensor.from(labels, "i64")
    elseif labels:dtype() ~= "i64" then
        labels = labels:to("i64")
    end
    if #labels ~= #images then
        error(("got %d labels for %d images"):format(#labels, #images), 3)
    end
    for i = 1, #labels do
        local label = labels:get(i)
        if label < 0 or label >= g.classes then
            error(("label %d is not one of %d classes"):format(label, g.classes), 3)
        end
    end
    return labels
end

--- The share of `images` (u8 or f32 [M,C,H,W]) whose largest logit, in inference mode, is at their label
-- (table or tensor of M classes). `size` images at a time (default 100).
function train.accuracy(g, images, labels, size)
    labels = check_data(g, images, labels)
    local total = #images
    size = math.min(size or 100, total)
    local x, y = tensor.new({size, table.unpack(g.input)}), tensor.new({size}, "i64")
    local order, right = {}, 0
    -- The last batch is filled up with images from the start, which are not counted again.
    for i = 1, total + size - 1 do order[i] = (i - 1) % total end
    order = tensor.from(order, "i64")
    for first = 1, total, size do
        batch.gather(images, labels, order, first, x, y)
        local guess = g:forward(x):argmax()
        for i = 1, math.min(size, total - first + 1) do
            if guess:get(i) == y:get(i) then right = right + 1 end
        end
    end
    return right / total
end

local function check_settings(o)
    for _, name in ipairs {"epochs", "batch"} do
        if math.type(o[name]) ~= "integer" or o[name] < 1 then
            error(("train.run needs '%s', a positive whole number"):format(name), 3)
        end
    end
    if not o.optimiser then error("train.run needs an optimiser", 3) end
    if o.batch > #o.images then
        error(("a batch of %d needs as many images, got %d"):format(o.batch, #o.images), 3)
    end
end

-- One pass over the images; what is left after the last full batch sits this epoch out.
local function run_epoch(o, s, epoch)
    local total_steps, started, sum, right = s.steps * o.epochs, system.clock(), 0, 0
    local order = train.shuffle(("train:%d:order:%d"):format(s.seed, epoch), #o.images)
    local augment = o.augment and {
        flip = o.augment.flip, shift = o.augment.shift,
        stream = ("train:%d:augment:%d"):format(s.seed, epoch),
    }
    for i = 0, s.steps - 1 do
        batch.gather(o.images, s.labels, order, i * o.batch + 1, s.x, s.y, augment)
        s.plan:forward(s.x, s.z)
        local loss, correct = tensor.cross_entropy(s.z, s.y, s.dz)
        if loss ~= loss or loss == math.huge then
            fail("training: the loss is %s in epoch %d, step %d; a lower rate may help",
                loss, epoch, i + 1)
        end
        s.plan:train_backward(s.dz)
        if o.schedule then
            o.optimiser.settings.rate = o.schedule((epoch - 1) * s.steps + i, total_steps)
        end
        o.optimiser:step(o.net, s.plan)
        sum, right = sum + loss, right + correct
    end
    return {
        epoch = epoch, epochs = o.epochs, rate = o.optimiser.settings.rate, loss = sum / s.steps,
        accuracy = right / (s.steps * o.batch), seconds = system.clock() - started,
    }
end

--- Trains o.net in place, with mean cross-entropy, batch statistics and dropout.
--   images, labels  [M,C,H,W] of the net's input size, u8 or, in [0,1], f32; table or tensor of M
--                   classes
--   epochs, batch   passes over the images; images a step
--   optimiser       train.sgd or train.adam
--   schedule        function(step, steps) -> rate; default: the optimiser's own rate throughout
--   augment         {flip = true, shift = pixels}: mirror half of the images, move each at random
--   seed            of order, augmentation and dropout; default 0
--   log             function(entry), called after each epoch
-- Returns the array of entries {epoch, epochs, loss, accuracy (on the augmented images, while
-- training), rate, seconds}. A loss that is not finite is a failure. Afterwards the net's other
-- plans are gone, so they are made anew from the trained weights.
function train.run(o)
    check_settings(o)
    local g, seed = o.net, o.seed or 0
    local s = {seed = seed, steps = #o.images // o.batch}
    s.labels = check_data(g, o.images, o.labels)
    s.plan = g:training_plan(o.batch, seed)
    s.x, s.y = tensor.new({o.batch, table.unpack(g.input)}), tensor.new({o.batch}, "i64")
    s.z, s.dz = tensor.new({o.batch, g.classes}), tensor.new({o.batch, g.classes})
    local entries = {}
    for epoch = 1, o.epochs do
        entries[epoch] = run_epoch(o, s, epoch)
        g:forget_plans()
        if o.log then o.log(entries[epoch]) end
    end
    return entries
end

return train
