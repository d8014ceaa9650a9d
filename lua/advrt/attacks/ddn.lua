--- Decoupled direction and norm (Rony, Hafemann, Oliveira, Ben Ayed, Sabourin, Granger, "Decoupling
-- direction and norm for efficient gradient-based L2 adversarial attacks and defenses", CVPR 2019,
-- arXiv:1811.09600), Algorithm 1: the gradient gives the direction, success or failure the norm.
--
--     delta_k = delta_{k-1} + alpha_k g / ||g||_2,   g the loss's direction at x_{k-1}
--     eps_k = (1 - gamma) eps_{k-1} where x_{k-1} succeeds, else (1 + gamma) eps_{k-1}
--     x_k = clip(x_0 + eps_k delta_k / ||delta_k||_2),   delta_k = x_k - x_0
--
-- The nearest x_k that succeeds is the result. alpha falls from 1 to 0.01 along a cosine. The paper's
-- rounding to 8 bits is left out.
--
--     attacks.ddn {steps = 100, gamma = 0.05, radius = 1, loss = loss.ce}
--
-- @param steps   number of steps
-- @param gamma   relative change of the norm per step
-- @param radius  eps_0
-- @param loss    the loss to ascend; without a target its untargeted form (advrt.loss)

local method = require "advrt.attacks.method"
local tensor = require "advrt.tensor"

local FIRST, LAST = 1, 0.01 -- alpha

local ddn = method.new("ddn", {
    steps = method.count(100), gamma = method.below(1, 0.05), radius = method.positive(1),
    loss = method.loss("ce"),
})

ddn.norm = 2

function ddn.prepare(_, batch)
    local B = batch.size
    batch.delta, batch.share = tensor.new(batch.x:shape()), tensor.new({B}, "f64")
    batch.alpha, batch.lengths = tensor.new {B, 1, 1, 1}, tensor.new({B}, "f64")
end

function ddn.advance(_, batch)
    for k = 1, batch.size do
        local length = batch.q_l2:get(k)
        batch.alpha:set(length > 0 and batch.a:get(k) / length or 0, k, 1, 1, 1)
    end
    batch.delta:copy(batch.x):sub_(batch.x0):add_(batch.q:mul_(batch.alpha))
    batch.delta:norms(batch.lengths)
    for k = 1, batch.size do
        local image, length = batch.places[k], batch.lengths:get(k)
        local moves = batch.a:get(k) ~= 0
        batch.share:set(moves and length > 0 and image.radius / length or 0, k)
        if moves then batch.x[k]:copy(batch.x0[k]) end
    end
    batch:step(batch.x, batch.delta, batch.share)
end

function ddn:evaluations() return self.steps + 1 end

function ddn:attack(image)
    image:begin(image.x0)
    image.radius = self.radius
    for k = 1, self.steps do
        image:keep_nearest(2)
        image.radius = image.radius * (1 + (image.success and -self.gamma or self.gamma))
        image:step(LAST + (FIRST - LAST) * (1 + math.cos(math.pi * (k - 1) / self.steps)) / 2)
    end
    image:keep_nearest(2)
end

return ddn
