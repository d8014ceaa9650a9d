--- Fast adaptive boundary attack (Croce & Hein, "Minimally distorted adversarial examples with a fast
-- adaptive boundary attack", ICML 2020, arXiv:1907.02044), Algorithm 1, aimed at one class at a time as
-- in AutoAttack (arXiv:2003.01690): the boundary to the class s is taken for the hyperplane
--
--     pi:  z_s(x_n) - z_c(x_n) + <w, x - x_n> = 0,   w = grad (z_s - z_c) at x_n
--
-- and the next point is slightly beyond it, pulled towards x0:
--
--     x_{n+1} = clip((1 - a) (x_n + eta delta_n) + a (x_0 + eta delta_0))                    (Eq. 9)
--     delta_n = proj(x_n) - x_n,  delta_0 = proj(x_0) - x_0                                  (Eq. 7)
--     a = min(||delta_n|| / (||delta_n|| + ||delta_0||), alpha)                              (Eq. 8)
--
-- where proj is the nearest point of pi within the range of the net, [0,1] by default. If x_{n+1}
-- succeeds, the search continues from (1 - beta) x_0 + beta x_{n+1} (Section 2.4). c is the image's label;
-- with a target it is the largest other logit.
--
--     attacks.fab {norm = "inf", eps = nil, steps = 100, restarts = 1, classes = 9, alpha = 0.1,
--                  eta = 1.05, beta = 0.9, searches = 3}
--
-- @param norm      "inf" or 2: the norm to minimise
-- @param eps       optional: an image stops at its first success within eps, and fails without one
-- @param steps     number of steps for each class and restart
-- @param restarts  the first starts at x0, the others at random points around it
-- @param classes   untargeted: how many classes are tried, from the one with the largest logit at x0
-- @param alpha     maximum weight of the pull towards x0
-- @param eta       overshoot of a step: 1 ends on the plane
-- @param beta      pull back towards x0 after a success: 1 is none
-- @param searches  evaluations of the final search on the line from x0 to the result (Section 2.5)

local ball = require "advrt.attacks.ball"
local method = require "advrt.attacks.method"
local plane = require "advrt.core.plane"
local tensor = require "advrt.tensor"

local margin = method.margin

local fab = method.new("fab", {
    norm = method.norm("inf"), eps = method.positive(), steps = method.count(100),
    restarts = method.count(1), classes = method.count(9), alpha = method.share(0.1),
    eta = method.positive(1.05), beta = method.share(0.9), searches = method.whole(3),
})

fab.loss = margin -- with a target

function fab:ascends() return self.loss end

--- Untargeted: z_s - z_c for each image; s is the class it aims at.
function fab:evaluate(batch)
    if batch.targeted then return self.loss:evaluate(batch.z, batch.aims, batch.value, batch.dz) end
    batch.dz:fill(0)
    for k, image in pairs(batch.places) do
        local s, c = batch.aims:get(k) + 1, image.label + 1
        batch.value:set(batch.z:get(k, s) - batch.z:get(k, c), k)
        batch.dz:set(-1, k, c)
        batch.dz:set(s ~= c and 1 or 0, k, s)
    end
end

function fab.prepare(_, batch)
    local shape, B = batch.x:shape(), batch.size
    local function rows() return tensor.new({B}, "f64") end
    batch.near, batch.near0, batch.margin_at = tensor.new(shape), tensor.new(shape), rows()
    batch.far, batch.far0, batch.moving = rows(), rows(), rows()
    batch.back, batch.forth = tensor.new {B, 1, 1, 1}, tensor.new {B, 1, 1, 1}
end

function fab:advance(batch)
    local x, x0, q, near, near0 = batch.x, batch.x0, batch.q, batch.near, batch.near0
    for k = 1, batch.size do
        batch.margin_at:set(batch.value:get(k), k)
        batch.moving:set(batch.a:get(k) ~= 0 and 1 or 0, k)
    end
    local low, high = batch.range:sides()
    plane.project(x, q, x, batch.margin_at, self.norm, near, batch.far, low, high)
    plane.project(x0, q, x, batch.margin_at, self.norm, near0, batch.far0, low, high)
    for k = 1, batch.size do
        local far, far0 = batch.far:get(k), batch.far0:get(k)
        local share = far > 0 and math.min(far / (far + far0), self.alpha) or 0
        batch.back:set(share, k, 1, 1, 1)
        batch.forth:set(1 - share, k, 1, 1, 1)
    end
    near:sub_(x):mul_(self.eta):add_(x):mul_(batch.forth)
    near0:sub_(x0):mul_(self.eta):add_(x0):mul_(batch.back)
    batch:step(x, near:add_(near0):sub_(x), batch.moving)
end

--- The result of an image without success.
function fab:evaluations() return 1 + self.restarts * self.classes * (self.steps + 1) end

--- The point x0 + t (x - x0).
local function between(image, x, t)
    return image.batch.range:clamp_((x - image.x0):mul_(t):add_(image.x0))
end

--- The final search: secant steps on the margin between x0 (margin m0) and the result (margin m1).
local function search(self, image, m0, m1, note)
    local result, low, high = image.best:clone(), 0, 1
    for _ = 1, self.searches do
        local t = low + (high - low) * m0 / (m0 - m1)
        if not (t > low and t < high) then return end
        image:begin(between(image, result, t))
        if note() then high, m1 = t, image.margin else low, m0 = t, image.margin end
    end
end

function fab:attack(image)
    local best_margin

    -- Whether the point succeeds; the nearest success is the result.
    local function note()
        if image:keep_nearest(self.norm) then best_margin = image.margin end
        return image.success
    end

    local function done() return self.eps and image.nearest <= self.eps end

    local function descend(point)
        image:begin(point)
        for _ = 1, self.steps do
            if note() then
                if done() then return end
                image:begin(between(image, image.x, self.beta))
                if note() and done() then return end
            end
            image:step(1)
        end
        note()
    end

    image:begin(image.x0)
    if note() then return end
    local m0, classes = image.margin, image.target and {image.target} or image:rivals(self.classes)
    for restart = 1, self.restarts do
        for _, class in ipairs(classes) do
            image:aim(class)
            descend(restart == 1 and image.x0 or image:around(("start%d:%d"):format(restart, class),
                self.norm, math.min(image.nearest, self.eps or math.huge,
                    self.norm == 2 and 1 or 8 / 255) / 2))
            if done() then return end
        end
    end
    if image.nearest < math.huge then search(self, image, m0, best_margin, note) end
    if self.eps and not done() then
        image.kept = false -- a point beyond eps is not a result
        ball.project(image.x, image.x0, self.norm, self.eps)
    end
end

return fab
