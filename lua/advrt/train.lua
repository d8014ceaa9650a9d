--- Training: optimisers, schedules, and the loop that fits a net to labelled images.
--
--     local g = net.load("nets/fashion.lua", {init = "he", seed = 0})
--     train.run {net = g, images = images, labels = labels, epochs = 20, batch = 128,
--                optimiser = train.sgd {rate = 0.1, momentum = 0.9, weight_decay = 5e-4}}
--
-- Everything random (order, augmentation, dropout, initial weights) comes from the project's random
-- stream: it depends only on the seed, the epoch and the image.

local check = require "advrt.support.check"
local checkpoint = require "advrt.paper.checkpoint"
local dist = require "advrt.dist"
local fail = require "advrt.support.fail"
local feed = require "advrt.core.feed"
local range = require "advrt.support.range"
local schema = require "advrt.run.schema"
local system = require "advrt.core.system"
local tables = require "advrt.results.tables"
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

local ALIGNED = 16 -- elements: alignment of each gradient

local function room(shape)
    local n = 1
    for _, size in ipairs(shape) do n = n * size end
    return n, (n + ALIGNED - 1) // ALIGNED * ALIGNED
end

-- The trained parameters of a net, each with its state tensors (initially zeros). One tensor holds
-- their gradients.
function Optimiser:prepare(g)
    local trained, total, at = {}, 0, 0
    for _, p in ipairs(g:parameters()) do
        if not p.role:find("^running") then
            trained[#trained + 1] = p
            total = total + select(2, room(p.shape))
        end
    end
    self.net, self.parameters, self.t, self.gradients = g, {}, 0, tensor.new {total}
    for _, p in ipairs(trained) do
        local n, taken = room(p.shape)
        local state, gradient = {}, self.gradients:narrow(at + 1, n):reshape(p.shape)
        at = at + taken
        for i = 1, self.states do state[i] = tensor.new(p.shape) end
        self.parameters[#self.parameters + 1] = {
            name = p.name, value = g.graph:get(p.name), gradient = gradient,
            row = gradient:reshape {1, -1}, state = state,
        }
    end
end

-- Scales all gradients by one factor, so that their joint norm is at most `clip`.
function Optimiser:clip(clip)
    local sum = 0
    for _, p in ipairs(self.parameters) do sum = sum + p.row:norms():get(1) ^ 2 end
    local norm = math.sqrt(sum)
    if norm <= clip or norm ~= norm then return end
    for _, p in ipairs(self.parameters) do p.gradient:mul_(clip / norm) end
end

--- One update of every parameter of `g` from the gradients of the training plan, scaled down if
-- their joint norm exceeds `clip`. The optimiser's state belongs to the first net; another net
-- resets it. With `shared` the gradients are first summed over the ranks (advrt.dist).
function Optimiser:step(g, plan, clip, shared)
    if self.net ~= g then self:prepare(g) end
    self.t = self.t + 1
    self.settings.t = self.states == 2 and self.t or nil
    for _, p in ipairs(self.parameters) do plan:gradient(p.name, p.gradient) end
    if shared then dist.sum(self.gradients) end
    if clip then self:clip(clip) end
    for _, p in ipairs(self.parameters) do
        if self.states == 2 then
            self.update(p.value, p.gradient, p.state[1], p.state[2], self.settings)
        else
            self.update(p.value, p.gradient, p.state[1], self.settings)
        end
    end
end

-- Schedules: functions of the step (from 0) and the number of steps that return the rate. A
-- schedule that uses the validation has `observe`, and keeps numbers by name in `memory` ------

--- From `rate` to 0 along half a cosine, after a linear warm-up from 0 over the fraction `warmup`
-- (default 0).
function train.cosine(rate, warmup)
    warmup = warmup or 0
    return function(step, total)
        local at = (step + 0.5) / total
        if at < warmup then return rate * at / warmup end
        return rate * 0.5 * (1 + math.cos(math.pi * (at - warmup) / (1 - warmup)))
    end
end

--- `rate`, multiplied by `factor` (default 0.1) at each fraction of the run in `at`.
function train.steps(rate, at, factor)
    return function(step, total)
        local now = rate
        for _, share in ipairs(at) do
            if step >= share * total then now = now * (factor or 0.1) end
        end
        return now
    end
end

local Plateau = {}
Plateau.__index = Plateau
Plateau.__call = function(self) return self.memory.rate end

--- After an epoch with accuracy `value`: lowers the rate if none of the last `patience` epochs beat
-- the best accuracy before them.
function Plateau:observe(value)
    local m = self.memory
    if value > m.best then
        m.best, m.waited = value, 0
    else
        m.waited = m.waited + 1
    end
    if m.waited >= self.patience and m.rate * self.factor >= self.least then
        m.rate, m.waited = m.rate * self.factor, 0
    end
end

--- `rate`, multiplied by `factor` whenever the accuracy (validation if there is one, else training)
-- has not risen for `patience` epochs. o: factor = 0.1, patience = 3, least = rate / 1000.
function train.plateau(rate, o)
    o = with_defaults(o, {factor = 0.1, patience = 3, least = rate / 1000}, "plateau")
    return setmetatable({factor = o.factor, patience = o.patience, least = o.least * (1 - 1e-9),
        memory = {rate = rate, best = -1, waited = 0}}, Plateau)
end

-- Data ----------------------------------------------------------------------

--- A permutation of 0 .. n-1 as an i64 tensor [n], a function of the stream's name.
function train.shuffle(name, n)
    local u, order = tensor.uniform(name, {n}):totable(), {}
    for i = 1, n do order[i] = i - 1 end
    for i = n, 2, -1 do -- Fisher-Yates shuffle
        local j = math.floor(u[i] * i) + 1
        order[i], order[j] = order[j], order[i]
    end
    return tensor.from(order, "i64")
end

--- An empty feed (advrt.core.feed) with the net's input shape and range, and its resizing and cropping of
-- image files.
function train.feed(g)
    local low, high = range.of(g):ends()
    return feed.new {shape = g.input, resize = g.preprocess.resize, crop = g.preprocess.crop, low = low,
        high = high}
end

local function feed_of(g, images, labels)
    images = check.images(images, g.input)
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
    local data = train.feed(g)
    data:pixels(images, labels)
    return data
end

local function all_of(data)
    local numbers = {}
    for i = 1, #data do numbers[i] = i - 1 end
    return tensor.from(numbers, "i64")
end

--- The predicted classes, i64 [n], of the images `numbers` (i64 [n], counted from 0) of the feed
-- `data`, in inference mode; and the number of correct ones. `size` images at a time (default
-- 100).
function train.predict(g, data, numbers, size)
    local total = #numbers
    size = math.min(size or 100, total)
    local x, y = tensor.new {size, table.unpack(g.input)}, tensor.new({size}, "i64")
    local z, classes, right = tensor.new {size, g.classes}, tensor.new({total}, "i64"), 0
    -- The first images fill the last batch; they are not counted again.
    local order = tensor.new({(total + size - 1) // size * size}, "i64")
    order:narrow(1, total):copy(numbers)
    for i = total + 1, #order do order:set(numbers:get(i - total), i) end
    data:start {order = order, batch = size}
    local done = 0
    while data:next(x, y) do
        local guess = g:forward(x, z):argmax() -- -1, so never correct, if a logit is NaN
        for k = 1, math.min(size, total - done) do
            classes:set(guess:get(k), done + k)
            if guess:get(k) == y:get(k) then right = right + 1 end
        end
        done = done + size
    end
    return classes, right
end

--- This rank's part of n images shared by the ranks (advrt.dist): the index of the first, and the count.
function train.share(n)
    local first = dist.rank * n // dist.size
    return first, (dist.rank + 1) * n // dist.size - first
end

--- The number of correct predictions, counted by all ranks (advrt.dist): each evaluates its part.
function train.right(g, data, numbers, size)
    local first, count = train.share(#numbers)
    local right = 0
    if count > 0 then
        right = select(2, train.predict(g, data, numbers:narrow(first + 1, count), size))
    end
    return math.tointeger(dist.sum(tensor.from {right + 0.0}):get(1))
end

--- The accuracy on `images` (u8 or f32 [M,C,H,W]) in inference mode, with labels as a table or
-- tensor of M classes. `size` images at a time (default 100).
function train.accuracy(g, images, labels, size)
    local data <close> = feed_of(g, images, labels)
    local _, right = train.predict(g, data, all_of(data), size)
    return right / #data
end

-- The loop ------------------------------------------------------------------

--- Maximum number of reading threads.
train.readers = 64

local function check_settings(o, count)
    for _, name in ipairs {"epochs", "batch"} do
        if math.type(o[name]) ~= "integer" or o[name] < 1 then
            error(("train.run needs '%s', a positive whole number"):format(name), 3)
        end
    end
    local readers = o.readers or 1
    if math.type(readers) ~= "integer" or readers < 1 or readers > train.readers then
        error(("train.run: readers must be a whole number from 1 to %d, got %s"):format(train.readers,
            tostring(readers)), 3)
    end
    if not o.optimiser then error("train.run needs an optimiser", 3) end
    if o.batch > count then
        error(("a batch of %d needs as many images, got %d"):format(o.batch, count), 3)
    elseif o.shared and o.batch < dist.size then
        fail("%d processes cannot share a batch of %d images; start at most %d", dist.size, o.batch,
            o.batch)
    end
end

--- The columns of the CSV log, in the order of a checkpoint's rows. validation_accuracy is nan
-- without validation; waited: seconds in which the device waited for images.
train.columns = {"epoch", "rate", "loss", "accuracy", "validation_accuracy", "seconds",
    "images_per_second", "waited"}

local function write_log(path, entries)
    local lines = {table.concat(train.columns, ",")}
    for _, entry in ipairs(entries) do
        local fields = {}
        for i, name in ipairs(train.columns) do fields[i] = tables.number(entry[name]) end
        lines[#lines + 1] = table.concat(fields, ",")
    end
    local done, message = system.write(path, table.concat(lines, "\n") .. "\n")
    if not done then fail("%s", message) end
end

local Run = {}
Run.__index = Run

-- The run's position, kept beside the tensors in doubles.
local places = {"epoch", "step", "sum", "right", "seconds", "waited"}

-- Ranks of a shared run must have equal positions and parameters. A difference means that a rank does
-- not see the others' checkpoint, or has other weights.
function Run:agree()
    local sums = {}
    for _, p in ipairs(self.o.net:parameters()) do
        sums[#sums + 1] = system.digest(self.o.net.graph:get(p.name):bytes())
    end
    dist.agree(("%d %d %s"):format(self.at.epoch, self.at.step, system.digest(table.concat(sums))),
        "is at another step than rank 0, or has other weights; all ranks need the same checkpoint and net")
end

-- The same for their settings: if one rank makes more steps, the others would wait forever.
function Run:agree_settings()
    local o = self.o
    local text = {self.about, system.options.isa, system.options.plan,
        tostring(o.schedule and o.schedule(0, self.steps * o.epochs)), tostring(o.clip),
        o.augment and ("%s %s"):format(o.augment.flip, o.augment.shift) or "as they are",
        o.validation and #o.validation or 0}
    local names = {}
    for name in pairs(o.optimiser.settings) do names[#names + 1] = name end
    table.sort(names)
    for _, name in ipairs(names) do
        text[#text + 1] = ("%s %s"):format(name, o.optimiser.settings[name])
    end
    dist.agree(table.concat(text, ", "), "trains with different settings, images or another kind of "
        .. "processor than rank 0")
end

-- The remaining images of an epoch in order; this process's part of each batch.
function Run:open_epoch()
    local o, at = self.o, self.at
    if o.shared then self:agree() end
    local shuffled = train.shuffle(("train:%d:order:%d"):format(self.seed, at.epoch), #self.part)
    local count = (self.steps - at.step) * self.batch
    local order, numbers, n = tensor.new({count}, "i64"), tensor.new({count}, "i64"), 0
    for step = at.step, self.steps - 1 do
        local first = step * o.batch + self.first
        for i = first + 1, first + self.batch do
            n = n + 1
            numbers:set(shuffled:get(i), n)
            order:set(self.part:get(shuffled:get(i) + 1), n)
        end
    end
    local augment = o.augment or {}
    self.data:start {
        order = order, batch = self.batch, numbers = numbers,
        threads = o.readers, flip = augment.flip, shift = augment.shift,
        stream = o.augment and ("train:%d:augment:%d"):format(self.seed, at.epoch),
    }
end

function Run:step()
    local o, at = self.o, self.at
    self.plan:forward(self.x, self.z)
    local loss, correct = tensor.cross_entropy(self.z, self.y, self.dz)
    if o.shared then
        self.dz:mul_(self.batch / o.batch) -- scales to the mean over the whole batch
        local sums = dist.sum(tensor.from {loss * self.batch / o.batch, correct + 0.0})
        loss, correct = sums:get(1), math.tointeger(sums:get(2))
    end
    if loss ~= loss or loss == math.huge then
        fail.as("diverged", "training%s: the loss is %s in epoch %d, step %d; try a lower rate",
            o.name and " " .. o.name or "", loss, at.epoch, at.step + 1)
    end
    self.plan:train_backward(self.dz)
    if o.schedule then
        o.optimiser.settings.rate = o.schedule((at.epoch - 1) * self.steps + at.step,
            self.steps * o.epochs)
    end
    o.optimiser:step(o.net, self.plan, o.clip, o.shared)
    at.step, at.sum, at.right = at.step + 1, at.sum + loss, at.right + correct
end

-- Saves everything that the rest of the run depends on; of ranks that share a run, rank 0 saves.
function Run:save()
    local o, numbers = self.o, {}
    self.saved = system.clock()
    if self.rank > 0 then return end
    for _, name in ipairs(places) do numbers[name] = self.at[name] end
    for name, value in pairs(type(o.schedule) == "table" and o.schedule.memory or {}) do
        numbers["schedule." .. name] = value
    end
    numbers.t, numbers.rate = o.optimiser.t, o.optimiser.settings.rate
    local done, message = checkpoint.save(o.checkpoint, {net = o.net, optimiser = o.optimiser,
        numbers = numbers, entries = self.entries, columns = train.columns, about = self.about})
    if not done then fail("%s", message) end
end

-- Valid numbers of a checkpoint.
function Run:fields_of_checkpoint(numbers)
    local o, images = self.o, self.steps * self.o.batch
    local done = numbers.epoch == o.epochs + 1
    local list = {{"epoch", schema.whole(1, o.epochs + 1)},
        {"step", schema.whole(0, done and 0 or self.steps)},
        {"right", schema.whole(0, images)}, {"sum", schema.number}, {"seconds", schema.amount},
        {"waited", schema.amount}, {"rate", schema.amount}, {"t", schema.count}}
    for name in pairs(type(o.schedule) == "table" and o.schedule.memory or {}) do
        list[#list + 1] = {"schedule." .. name, schema.number}
    end
    return list
end

-- Resumes from a checkpoint if there is one.
function Run:take_up()
    local o = self.o
    if not o.checkpoint then return end
    o.optimiser:prepare(o.net)
    local kept, message = checkpoint.load(o.checkpoint, {net = o.net, optimiser = o.optimiser,
        columns = train.columns, about = self.about, whole = {"epoch", "step", "right", "t"},
        fields = function(numbers) return self:fields_of_checkpoint(numbers) end,
        lines = function(numbers) return numbers.epoch - 1 end})
    if message then fail("%s", message) end
    if not kept then return end
    for name, value in pairs(kept.numbers) do
        local of_schedule = name:match("^schedule%.(.*)")
        if of_schedule then o.schedule.memory[of_schedule] = value end
    end
    for _, name in ipairs(places) do self.at[name] = kept.numbers[name] end
    o.optimiser.t = kept.numbers.t
    o.optimiser.settings.rate = kept.numbers.rate
    self.entries = kept.entries
end

-- The validation, the log entry, and the schedule's update.
function Run:close_epoch()
    local o, at = self.o, self.at
    local images = self.steps * o.batch
    local entry = {
        epoch = at.epoch, epochs = o.epochs, rate = o.optimiser.settings.rate,
        loss = at.sum / self.steps, accuracy = at.right / images, validation_accuracy = 0 / 0,
        seconds = at.seconds, waited = at.waited, images_per_second = images / at.seconds,
    }
    o.net:forget_plans()
    if o.validation then
        local right = o.shared and train.right(o.net, self.data, o.validation)
            or select(2, train.predict(o.net, self.data, o.validation))
        entry.validation_accuracy = right / #o.validation
        o.net:forget_plans()
    end
    if type(o.schedule) == "table" then
        o.schedule:observe(o.validation and entry.validation_accuracy or entry.accuracy)
    end
    self.entries[#self.entries + 1] = entry
    self.at = {epoch = at.epoch + 1, step = 0, sum = 0, right = 0, seconds = 0, waited = 0}
    if o.csv and self.rank == 0 then write_log(o.csv, self.entries) end
    if o.log then o.log(entry) end
    collectgarbage() -- the collector sees plans as small, but they are large
end

function Run:epoch()
    local o = self.o
    self:open_epoch()
    local began, before = system.clock(), self.at.seconds
    while self.data:next(self.x, self.y) do
        self:step()
        local at = self.at
        at.seconds = before + system.clock() - began
        if o.progress then
            o.progress((at.epoch - 1) * self.steps + at.step, self.steps * o.epochs,
                at.sum / at.step, at.right / (at.step * o.batch))
        end
        if o.checkpoint and system.clock() - self.saved >= (o.every or 60) then self:save() end
    end
    self.at.waited = self.at.waited + self.data:waited()
    self:close_epoch()
    if o.checkpoint then self:save() end
end

--- Trains o.net in place, with mean cross-entropy, batch statistics and dropout.
--   images, labels  [M,C,H,W] of the net's input size, or [M,D], u8 or, in the net's range, f32;
--                   table or tensor of M classes
--   data            instead of them: a feed (advrt.core.feed) of the net's input shape
--   part            i64 [n]: the numbers, from 0, of the images that are trained on; default: all. An
--                   image's augmentation depends on its place in it
--   validation      i64 [n]: the numbers of the images that the net is tried on after each epoch
--   epochs, batch   passes over the images; images a step. What is left after the last full batch
--                   of an epoch sits it out
--   shared          whether the ranks of advrt.dist share each batch: the same run as by one process,
--                   but for the order of sums. All of them call train.run with the same settings;
--                   rank 0 writes csv and checkpoint, which is to be read by all
--   optimiser       train.sgd or train.adam
--   schedule        function(step, steps) -> rate, or train.plateau; default: the optimiser's own
--                   rate throughout
--   clip            the most that the norm of all gradients together may be; default: no bound
--   augment         {flip = true, shift = pixels}: mirror half of the images, move each at random
--   seed            of order, augmentation and dropout; default 0
--   readers         threads that read images ahead, at most train.readers; default 1
--   log             function(entry), called after each epoch; csv: a file for the same
--   progress        function(step, steps, loss, accuracy), called after each step
--   checkpoint      a file: the run goes on from it where it is there, and leaves its state in it
--                   after each epoch and every `every` (60) seconds. A run that goes on from it ends
--                   as one that never stopped, bit for bit
--   name            what messages call the run
-- Returns the array of entries {epoch, epochs, loss, accuracy (on the augmented images, while
-- training), validation_accuracy, rate, seconds, images_per_second, waited}. A loss that is not
-- finite is a failure, and so is a checkpoint of another run. Afterwards the net's other plans are
-- gone, so they are made anew from the trained weights.
function train.run(o)
    local g, seed = o.net, o.seed or 0
    local count = o.part and #o.part or #(o.data or o.images)
    check_settings(o, count)
    local shared = o.shared and dist.size > 1
    o = setmetatable({shared = shared}, {__index = o})
    local first, batch = 0, o.batch
    if shared then first, batch = train.share(o.batch) end
    local self = setmetatable({o = o, seed = seed, rank = shared and dist.rank or 0, first = first,
        batch = batch, steps = count // o.batch, entries = {}}, Run)
    self.data = o.data or feed_of(g, o.images, o.labels)
    self.part = o.part or all_of(self.data)
    self.at = {epoch = 1, step = 0, sum = 0, right = 0, seconds = 0, waited = 0}
    self.about = ("%s, %d classes, %d images, %d epochs of %d, seed %d%s"):format(g.name, g.classes,
        count, o.epochs, o.batch, seed, o.name and ", " .. o.name or "")
    self.saved = system.clock()
    if shared then self:agree_settings() end
    self:take_up()
    local n = self.batch
    self.plan = g:training_plan(n, seed, (self.at.epoch - 1) * self.steps + self.at.step,
        shared and {first, o.batch} or nil)
    self.x, self.y = tensor.new {n, table.unpack(g.input)}, tensor.new({n}, "i64")
    self.z, self.dz = tensor.new {n, g.classes}, tensor.new {n, g.classes}
    while self.at.epoch <= o.epochs do self:epoch() end
    g:forget_plans()
    return self.entries
end

return train
