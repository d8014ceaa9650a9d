--- The common base of the attacks in this folder. An attack is written for one image, as in its
-- paper. Many of them run side by side, so that every pass of the network takes a full batch.
--
--     local ifgs = method.new("ifgs", {eps = method.positive(8 / 255), ...})
--     function ifgs:attack(image)
--         image:begin(image.x0)                                 -- the network is evaluated at x
--         for _ = 1, self.steps do image:step(self.alpha) end   -- x moves, and again
--     end
--
-- attack(image) is a coroutine over numbers. begin, step and stay yield; when all images have
-- yielded, the network is evaluated once for all, and each attack resumes. Image-sized work is done
-- for the whole batch in these functions of an attack:
--
--     evaluations()          optional: the expected number of evaluations per image without an early
--                            stop; default 1. Used for progress before any measurement
--     prepare(batch)         optional: allocates its own tensors beside the batch's
--     enter(batch, k)        optional: image k restarts at x[k]
--     advance(batch)         moves each image k that asked for a step: batch.a [k] is the number
--                            it gave, 0 where it stays; the gradient of what it ascends is batch.q.
--                            Leaves in batch.l2, and in batch.linf where the attack reads it, the
--                            distances of the images that moved. It may call batch:stop(k, what) where
--                            numbers overflow
--     evaluate(batch)        optional: the values and the gradient dz of what the images ascend, from
--                            the logits batch.z; default: the loss's
--     differentiate(batch)   optional: batch.q from batch.dz; default: one backward pass. Where it
--                            takes several, batch.backwards tells how many
--
-- An attack always ascends: batch.value and batch.q belong to batch.loss, which leads to the target,
-- or to the loss's untargeted form, which leads away from the label. No attack negates anything
-- itself.
--
-- An image whose attack returns is finished: its result is the image saved by image:keep(), else x. An
-- image with logits, value or gradient that are not finite is finished too, and its attack is not
-- resumed: its result is the saved image, else x0. The next image of the queue takes its slot, so the
-- shapes never change, and an image has the same bits whatever else runs.

local ball = require "advrt.attacks.ball"
local fail = require "advrt.support.fail"
local logits = require "advrt.core.loss"
local losses = require "advrt.loss"
local nearest = require "advrt.support.nearest"
local range = require "advrt.support.range"
local system = require "advrt.core.system"
local tensor = require "advrt.tensor"

local method = {}

--- The margin z_t - max_{i != t} z_i, as a loss without a cap.
method.margin = losses.m_logit {kappa = math.huge}

-- Parameters ----------------------------------------------------------------------------------

local function finite(v) return math.type(v) ~= nil and v == v and math.abs(v) < math.huge end

--- A kind of parameter: its default, the expected form, and value -> stored value, or nil.
local function kind(default, wanted, read)
    return {default = default, wanted = wanted, read = read}
end

function method.positive(default)
    return kind(default, "a number above 0", function(v) return finite(v) and v > 0 and v or nil end)
end

function method.not_negative(default)
    return kind(default, "a number of at least 0",
        function(v) return finite(v) and v >= 0 and v or nil end)
end

function method.below(most, default)
    return kind(default, ("a number above 0 and below %g"):format(most),
        function(v) return finite(v) and v > 0 and v < most and v or nil end)
end

function method.share(default)
    return kind(default, "a number from 0 to 1",
        function(v) return finite(v) and v >= 0 and v <= 1 and v or nil end)
end

function method.whole(default)
    return kind(default, "a whole number of at least 0", function(v)
        v = math.type(v) and math.tointeger(v)
        return v and v >= 0 and v or nil
    end)
end

function method.count(default, most)
    local wanted = most and ("a whole number from 1 to %d"):format(most)
    return kind(default, wanted or "a whole number of at least 1", function(v)
        v = math.type(v) and math.tointeger(v)
        return v and v >= 1 and v <= (most or v) and v or nil
    end)
end

function method.switch(default)
    return kind(default, "true or false", function(v)
        if type(v) == "boolean" then return v end
    end)
end

function method.norm(default)
    return kind(default, "2 or inf", function(v)
        if v == 2 or v == "inf" then return v end
    end)
end

--- One of these words; nil by default.
function method.choice(...)
    local words = {...}
    return kind(nil, table.concat(words, " or "), function(v)
        for _, word in ipairs(words) do
            if v == word then return v end
        end
    end)
end

--- A loss, by name or as an object: one of advrt.loss or of lua/advrt/losses/. An untargeted
-- attack ascends the loss's untargeted form (advrt.loss). untargeted: optional, the default for
-- untargeted attacks.
function method.loss(default, untargeted)
    local parameter = kind(default, "a loss", function(v)
        if type(v) == "string" then v = losses.get(v) or losses.shipped(v) end
        return type(v) == "table" and v.evaluate and v.direction and v or nil
    end)
    parameter.untargeted = untargeted
    return parameter
end

--- A kind of attack: calling it with a table of parameters makes one. `complete`, optional, sets
-- parameters that depend on others. Unknown parameters and bad values raise at the caller's line.
function method.new(name, parameters, complete)
    local class = {kind = name, parameters = parameters}
    class.__index = class
    class.__name = "advrt.attack"
    function class.evaluations() return 1 end

    --- The loss that the attack ascends: towards the targets, or away from the labels.
    function class:ascends(targeted)
        if targeted then return self.loss end
        return losses.untargeted(self.away or self.loss)
    end

    function class.evaluate(_, batch) batch.loss:evaluate(batch.z, batch.aims, batch.value, batch.dz) end

    function class.differentiate(_, batch)
        batch.net:backward(batch.dz, batch.q, batch.trace, "loss " .. batch.loss.name)
    end

    local function make(_, given)
        local self = setmetatable({name = name}, class)
        if given ~= nil and type(given) ~= "table" then
            error(("%s wants a table of parameters, got %s"):format(name, tostring(given)), 2)
        end
        for key in pairs(given or {}) do
            if not parameters[key] and key ~= "name" then
                local known = {}
                for parameter in pairs(parameters) do known[#known + 1] = parameter end
                table.sort(known)
                error(("%s has no parameter '%s'%s (it has %s)"):format(name, tostring(key),
                    nearest.hint(tostring(key), known), table.concat(known, ", ")), 2)
            end
        end
        self.name = given and given.name or name
        for key, parameter in pairs(parameters) do
            local value = given and given[key]
            if value == nil then value = parameter.default end
            if value ~= nil then
                self[key] = parameter.read(value)
                if self[key] == nil then
                    error(("%s: %s must be %s, got %s"):format(name, key, parameter.wanted,
                        tostring(value)), 2)
                end
            end
        end
        local away = parameters.loss and parameters.loss.untargeted
        if away and not (given and given.loss) then self.away = parameters.loss.read(away) end
        if complete then complete(self) end
        return self
    end
    return setmetatable(class, {__call = make})
end

-- One image -----------------------------------------------------------------------------------

-- Fields an attack reads: x, x0 [C,H,W]; label, target (nil: untargeted); name; and from the network
-- at x: value, to ascend; margin and success, see method.judge; l2, linf, the norms of x - x0.
local Image = {}
Image.__index = Image

--- Moves to `point` [C,H,W] and evaluates the network there.
function Image:begin(point)
    local batch = self.batch
    self.x:copy(point)
    if batch.attack.enter then batch.attack:enter(batch, self.k) end
    local l2, linf = (self.x - self.x0):reshape {1, self.x:numel()}:norms()
    self.l2, self.linf = l2:get(1), linf:get(1)
    self.fresh = true
    coroutine.yield()
end

--- Requests a step, with `a` for advance() as batch.a, and evaluates the network after it.
function Image:step(a)
    self:last_step(a)
    coroutine.yield()
end

--- The same without an evaluation; the attack ends with it.
function Image:last_step(a)
    self.a = a
    self.backward = self.backward + self.batch.backwards
end

--- From the next evaluation on the loss uses `class`; the goal stays. An attack that aims at other
-- classes than its goal ascends the loss itself (ascends), not its untargeted form.
function Image:aim(class) self.batch.aims:set(class, self.k) end

--- The `count` classes with the largest logits at the last evaluation, in descending order, without
-- the image's own goal.
function Image:rivals(count)
    local goal, list = self.target or self.label, {}
    local _, classes = self.batch.z:narrow(self.k, 1):topk(math.min(count + 1, self.batch.net.classes), 2)
    for _, class in ipairs(classes:totable()[1]) do
        if class ~= goal and #list < count then list[#list + 1] = class end
    end
    return list
end

--- Saves the present image as the result.
function Image:keep()
    self.best:copy(self.x)
    self.kept = true
end

--- Sets it aside where it succeeds nearer to x0, in the norm 2 or "inf", than what was set aside so before;
-- whether it does. image.nearest is the least such distance, infinite before the first.
function Image:keep_nearest(norm)
    local far = norm == 2 and self.l2 or self.linf
    if not (self.success and far < self.nearest) then return false end
    self.nearest = far
    self:keep()
    return true
end

--- The name of the image's random stream for a purpose: a function of seed, file and purpose.
function Image:stream(purpose)
    return ("%d:%s:%s:%s"):format(self.batch.seed, self.name, self.batch.attack.kind, purpose)
end

--- A random point of the ball around x0, projected onto the range and the ball; norm 2 or "inf". Uniform in
-- the ball, which in many dimensions is almost on its surface; or, by_radius, uniform in a ball whose
-- radius is uniform between 0 and `radius`.
function Image:around(purpose, norm, radius, by_radius)
    local shape, stream = self.x0:shape(), self:stream(purpose)
    local d
    local u = tensor.uniform(stream .. ":radius", {1}):get(1)
    if norm == 2 then
        d = tensor.normal(stream, shape)
        local length = d:reshape {1, d:numel()}:norms():get(1)
        d:mul_(radius * (by_radius and u or u ^ (1 / d:numel())) / length)
    else
        d = tensor.uniform(stream, shape):mul_(2):sub_(1):mul_(radius * (by_radius and u or 1))
    end
    return ball.project(self.batch.range:clamp_(d:add_(self.x0)), self.x0, norm, radius)
end

-- Success ---------------------------------------------------------------------------------------

--- Decides which images have succeeded, for all attacks: during the attack, and at the end from the
-- returned image. An image's class is the first largest logit. It must be the target or, untargeted, any
-- class but the label. An attack with `kappa` above 0 also requires that margin. Logits with NaN are no
-- success.
--
-- z f32 [N,K]; goals i64 [N], targets or labels; margin f32 [N] and dz f32 [N,K] are overwritten.
-- Returns arrays of N: prediction (-1: a logit is NaN), margin, the lead of the target's logit over
-- the others (untargeted: of the best other logit over the label's), and success.
function method.judge(attack, targeted, z, goals, margin, dz)
    method.margin:evaluate(z, goals, margin, dz)
    if not targeted then margin:mul_(-1) end
    local prediction, margins, success = z:argmax():totable(), margin:totable(), {}
    local kappa = attack.kappa or 0
    for k, class in ipairs(prediction) do
        success[k] = class >= 0 and (class == goals:get(k)) == targeted
            and (kappa == 0 or margins[k] >= kappa)
    end
    return prediction, margins, success
end

-- The batch -----------------------------------------------------------------------------------

local Batch = {}
Batch.__index = Batch

local function rows(B, dtype) return tensor.new({B}, dtype) end

--- B slots for images of the net's input shape. targeted: whether images have targets.
function method.batch(g, attack, B, targeted, seed)
    local shape = {B, table.unpack(g.input)}
    local batch = setmetatable({
        net = g, range = range.of(g), attack = attack, loss = attack:ascends(targeted), size = B,
        targeted = targeted, seed = seed, aims = rows(B, "i64"), backwards = 1,
        x = tensor.new(shape), x0 = tensor.new(shape), q = tensor.new(shape),
        best = tensor.new(shape), z = tensor.new {B, g.classes}, dz = tensor.new {B, g.classes},
        value = rows(B, "f32"), margin = rows(B, "f32"), margin_dz = tensor.new {B, g.classes},
        goals = rows(B, "i64"), a = rows(B, "f64"), l2 = rows(B, "f64"), linf = rows(B, "f64"),
        q_l2 = rows(B, "f64"), q_linf = rows(B, "f64"), q_zero = rows(B, "f64"),
        places = {}, live = 0, seconds = {forward = 0, backward = 0, step = 0}, passes = 0, evaluations = 0,
    }, Batch)
    if attack.prepare then attack:prepare(batch) end
    return batch
end

--- Moves the images x [B,C,H,W] (the batch's or similar ones) by a_k q_k, clipped to the range of the
-- net; sets batch.l2 and batch.linf to their distances from x0.
function Batch:step(x, q, a)
    return x:step_(q, a, self.x0, self.l2, self.linf, self.range:sides())
end

--- Resumes an image's attack until it needs the network, or ends.
local function resume(image)
    local ok, problem = coroutine.resume(image.turn, image.batch.attack, image)
    if ok then return end
    error(type(problem) == "string" and debug.traceback(image.turn, problem) or problem, 0)
end

--- Puts the next item of the queue into slot k; the slot stays empty at the end of the queue.
function Batch:fill(k, queue)
    local item = not self.dry and queue() or nil
    self.places[k] = nil
    self.a:set(0, k)
    self.dry = not item -- an iterator must not be called again after its end
    if not item then return end
    local image = setmetatable({batch = self, k = k, item = item, x = self.x[k], x0 = self.x0[k],
        best = self.best[k], label = item.label, target = item.target, name = item.name, a = 0,
        forward = 0, backward = 0, flat = 0, nearest = math.huge,
        turn = coroutine.create(self.attack.attack)}, Image)
    image.x0:copy(item.image)
    self.goals:set(item.target or item.label, k)
    self.aims:set(item.target or item.label, k)
    self.places[k], self.live = image, self.live + 1
    resume(image)
    if coroutine.status(image.turn) == "dead" then
        error(("attack %s ended without an evaluation"):format(self.attack.name), 0)
    end
end

--- Ends the attack of image k because `what`, such as "gradient", is not finite or too large. own: optional,
-- the image's values of the loss that caused it, as in losses.blame.
function Batch:stop(k, what, own)
    self.a:set(0, k)
    local culprit = losses.blame(self.loss, own)
    self.places[k].not_finite = culprit and ("%s of loss %s"):format(what, culprit) or what
end

--- z = g(x), and the values that the images read from it.
function Batch:forward()
    local _, trace = self.net:trace(self.x, self.z)
    self.trace = trace
    self.attack:evaluate(self)
    local _, margin, success = method.judge(self.attack, self.targeted, self.z, self.goals,
        self.margin, self.margin_dz)
    self.passes, self.evaluations = self.passes + 1, self.evaluations + self.live
    local value, l2, linf = self.value:totable(), self.l2:totable(), self.linf:totable()
    local sound = not logits.not_finite(self.z)
    for k, image in pairs(self.places) do
        image.value, image.margin, image.success = value[k], margin[k], success[k]
        image.forward = image.forward + 1
        if not image.fresh then image.l2, image.linf = l2[k], linf[k] end
        image.fresh = false
        if not sound and logits.not_finite(self.z:narrow(k, 1)) then
            self:stop(k, "logits")
        elseif value[k] ~= value[k] then
            self:stop(k, "value", self.value:narrow(k, 1))
        end
    end
end

--- The gradient that the images ascend, at the points of the last forward pass. An image with a gradient
-- that is not finite takes no step.
function Batch:backward()
    self.attack:differentiate(self)
    self.q:norms(self.q_l2, self.q_linf, self.q_zero)
    for k, image in pairs(self.places) do
        local norm = self.q_l2:get(k)
        if image.a ~= 0 and (norm ~= norm or norm == math.huge) then
            self:stop(k, "gradient", self.dz:narrow(k, 1))
        elseif image.a ~= 0 and self.q_linf:get(k) == 0 then
            image.flat = image.flat + 1
        end
    end
    self.loss:direction(self.q)
end

--- Attacks all images of a queue.
--
-- queue   function() -> {image f32 [C,H,W], label, target or nil, name} or nil where it is empty
-- done    function(item, x [C,H,W], image): the image's result, in the order in which they finish; x is
--         overwritten afterwards. image: forward and backward, evaluations and gradients that it took;
--         flat, how many of these gradients were exactly 0; not_finite, what ended its attack, or nil
-- tick    optional: called with the batch after each pass of the network
function Batch:run(queue, done, tick)
    local clock, seconds = system.clock, self.seconds
    for k = 1, self.size do self:fill(k, queue) end
    while self.live > 0 do
        local t0 = clock()
        self:forward()
        local t1 = clock()
        seconds.forward = seconds.forward + t1 - t0
        local moving = false
        for k = 1, self.size do
            local image = self.places[k]
            if image then
                image.a = 0
                if not image.not_finite then resume(image) end
                moving = moving or image.a ~= 0
                self.a:set(image.a, k)
            end
        end
        local t2 = clock()
        if moving then
            self:backward()
            local t3 = clock()
            self.attack:advance(self)
            seconds.backward = seconds.backward + t3 - t2
            seconds.step = seconds.step + (t2 - t1) + (clock() - t3)
        else
            seconds.step = seconds.step + t2 - t1
        end
        for k = 1, self.size do
            local image = self.places[k]
            if image and (image.not_finite or coroutine.status(image.turn) == "dead") then
                done(image.item, image.kept and image.best or image.not_finite and image.x0 or image.x,
                    image)
                self.live = self.live - 1
                self:fill(k, queue)
            end
        end
        if tick then tick(self) end
        if system.interrupted() then fail.interrupted() end
    end
end

return method
