--- Auto-PGD (Croce & Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
-- parameter-free attacks", ICML 2020, arXiv:2003.01690), Algorithm 1: PGD with momentum and an
-- adaptive step size, which depends on the budget and on the progress of the loss.
--
--     z_{n+1} = P(x_n + eta_n d_n)
--     x_{n+1} = P(x_n + 0.75 (z_{n+1} - x_n) + 0.25 (x_n - x_{n-1})),   x_1 = P(x_0 + eta_0 d_0)
--
-- with x_0 uniform in the ball, P the projection onto ball and [0,1], d_n the sign of the direction for
-- the norm inf and the direction over its length for 2, and eta_0 = 2 eps. At each checkpoint w_j the
-- step is halved and the image goes back to the best point so far where one of these holds:
--
--     1. fewer than a fraction rho of the steps since w_{j-1} raised the loss;
--     2. the step was not halved at w_{j-1}, and the best loss has not increased since
--
--     w_j = ceil(p_j N),   p_0 = 0, p_1 = 0.22, p_{j+1} = p_j + max(p_j - p_{j-1} - 0.03, 0.06)
--
--     attacks.apgd {norm = "inf", eps = nil, steps = 100, restarts = 1, classes = 0, rho = 0.75,
--                   early = true, loss = loss.ce}
--
-- @param norm      "inf" or 2
-- @param eps       the ball's radius in that norm; default: 8/255, or 1 for norm 2
-- @param steps     number of steps N
-- @param restarts  maximum number of starts; stops at the first success
-- @param classes   untargeted: 0, away from the label; or how many classes are tried one after another
--                  as the loss's target, from the one with the largest logit at x0 (their Section 4.2)
-- @param rho       the fraction of steps that must raise the loss
-- @param early     whether an image stops at its first success
-- @param loss      the loss to ascend; the paper uses ce and dlr

local ball = require "advrt.attacks.ball"
local losses = require "advrt.loss"
local method = require "advrt.attacks.method"
local tensor = require "advrt.tensor"

local MOMENTUM = 0.75

--- The checkpoints of N steps, Section 3.2; p in whole per cent, so that the ceiling is exact.
local function marks_of(N)
    local list, before, p = {}, 0, 22
    while p <= 100 do
        list[#list + 1] = (p * N + 99) // 100
        before, p = p, p + math.max(p - before - 3, 6)
    end
    return list
end

local apgd = method.new("apgd", {
    norm = method.norm("inf"), eps = method.positive(), steps = method.count(100),
    restarts = method.count(1), classes = method.whole(0), rho = method.share(0.75),
    early = method.switch(true), loss = method.loss("ce"),
}, function(self)
    self.eps = self.eps or (self.norm == 2 and 1 or 8 / 255)
    self.marks = marks_of(self.steps)
end)

function apgd:prepare(batch)
    ball.prepare(self, batch)
    local shape, B = batch.x:shape(), batch.size
    local function like() return tensor.new(shape) end
    batch.z_next, batch.last, batch.move = like(), like(), like()
    batch.top, batch.top_q = like(), like() -- x of the largest loss, and its gradient
    batch.now, batch.momentum = tensor.new {B, 1, 1, 1}, tensor.new {B, 1, 1, 1}
    batch.moving = tensor.new({B}, "f64")
end

--- Saves the points of the largest loss with their gradients, and returns to them when required.
local function remember(batch)
    local back = false
    for k, image in pairs(batch.places) do
        if image.improved then
            batch.top[k]:copy(batch.x[k])
            batch.top_q[k]:copy(batch.q[k])
        end
        if image.back and batch.a:get(k) > 0 then
            batch.x[k]:copy(batch.top[k])
            batch.q[k]:copy(batch.top_q[k])
            back = true
        end
        image.improved, image.back = false, false
    end
    if back then batch.q:norms(batch.q_l2, batch.q_linf, batch.q_zero) end
end

function apgd:advance(batch)
    remember(batch)
    for k = 1, batch.size do
        local image = batch.places[k]
        local share = image and image.momentum or 1
        batch.now:set(share, k, 1, 1, 1)
        batch.momentum:set(1 - share, k, 1, 1, 1)
        batch.moving:set(batch.a:get(k) > 0 and 1 or 0, k)
    end
    local x, z, move = batch.x, batch.z_next, batch.move
    batch:step(z:copy(x), batch.q, ball.direct(self, batch))
    ball.hold(self, batch, z)
    move:copy(x):sub_(batch.last):mul_(batch.momentum)
    move:add_(z:sub_(x):mul_(batch.now))
    batch.last:copy(x)
    batch:step(x, move, batch.moving)
    ball.hold(self, batch, x)
end

--- Aimed at a class: the loss itself.
function apgd:ascends(targeted)
    if targeted or self.classes > 0 then return self.loss end
    return losses.untargeted(self.loss)
end

function apgd:evaluations()
    return self.restarts * math.max(1, self.classes) * (self.steps + 1) + (self.classes > 0 and 1 or 0)
end

--- Algorithm 1 from the image's present point; returns whether it succeeded. `found` is called at
-- each point.
local function ascend(self, image, found)
    local marks, j, last_mark = self.marks, 1, 0
    local eta, highest, before, rises = 2 * self.eps, -math.huge, nil, 0
    local halved, highest_at_mark = false, image.value
    for n = 0, self.steps do
        local f = image.value
        image.improved = f > highest
        highest = math.max(highest, f)
        if found() then return true end
        if n == self.steps then return false end
        if before and f > before then rises = rises + 1 end
        before = f
        if n == marks[j] then
            local few = rises < self.rho * (n - last_mark)
            halved = few or (not halved and highest == highest_at_mark)
            if halved then
                eta, before, image.back = eta / 2, highest, true
            end
            highest_at_mark, rises, last_mark, j = highest, 0, n, j + 1
        end
        image.momentum = n == 0 and 1 or MOMENTUM
        image:step(eta)
    end
end

function apgd:attack(image)
    local best, won = -math.huge, false

    -- Saves the point if it is the best so far; returns whether the image is done.
    local function found()
        if (image.success and not won) or (image.success == won and image.value > best) then
            best, won = image.value, image.success
            image:keep()
        end
        return won and self.early
    end

    local classes = {false}
    if self.classes > 0 and not image.target then
        image:begin(image.x0)
        if found() then return end
        best = -math.huge
        classes = image:rivals(self.classes)
    end
    for restart = 1, self.restarts do
        for _, class in ipairs(classes) do
            if class then image:aim(class) end
            image:begin(image:around(("start%d:%s"):format(restart, class), self.norm, self.eps))
            if ascend(self, image, found) or won then return end
        end
    end
end

return apgd
