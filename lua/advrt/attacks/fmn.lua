--- Fast minimum norm (Pintor, Roli, Brendel, Biggio, "Fast minimum-norm adversarial attacks through
-- adaptive norm constraints", NeurIPS 2021, arXiv:2102.12827), Algorithm 1: a step along the gradient and
-- back into a ball around x0, whose radius follows the boundary.
--
--     eps_k = ||delta_{k-1}||_p + L / ||g||_q            before anything has succeeded, L the missing margin
--     eps_k = min(eps_{k-1} (1 - gamma_k), ||delta*||_p) where x_{k-1} succeeds, delta* the least so far
--     eps_k = eps_{k-1} (1 + gamma_k)                    where it does not
--     x_k = clip(P(x_{k-1} + alpha_k g / ||g||_2))       P onto ||x - x_0||_p <= eps_k
--
-- with q the dual norm of p. alpha falls to a hundredth and gamma to 0.001 along a cosine.
--
--     attacks.fmn {norm = 2, steps = 100, alpha = 1, gamma = 0.05, loss = nil}
--
-- @param norm   2 or "inf": the norm to minimise
-- @param steps  number of steps
-- @param alpha  the first step's length in the norm 2, for every p
-- @param gamma  relative change of the radius at first
-- @param loss   replaces the paper's margin

local method = require "advrt.attacks.method"
local tensor = require "advrt.tensor"

local LAST_GAMMA, LAST_ALPHA = 0.001, 0.01 -- alpha's in parts of the first

local fmn = method.new("fmn", {
    norm = method.norm(2), steps = method.count(100), alpha = method.positive(1),
    gamma = method.below(1, 0.05), loss = method.loss(),
}, function(self) self.loss = self.loss or method.margin end)

function fmn.prepare(_, batch)
    local function rows() return tensor.new({batch.size}, "f64") end
    batch.share, batch.scale, batch.radius, batch.still = rows(), rows(), rows(), rows()
end

--- Sets eps_k of the moving images.
function fmn:set_radii(batch)
    local dual = self.norm == 2 and batch.q_l2 or batch.q:norm(1)
    for k, image in pairs(batch.places) do
        if batch.a:get(k) ~= 0 and not image.found then
            local far = self.norm == 2 and image.l2 or image.linf
            local slope = dual:get(k)
            image.radius = slope > 0 and far + math.max(0, -image.margin) / slope or math.huge
        end
    end
end

function fmn:advance(batch)
    self:set_radii(batch)
    for k = 1, batch.size do
        local length = batch.q_l2:get(k)
        batch.share:set(length > 0 and batch.a:get(k) / length or 0, k)
    end
    batch:step(batch.x, batch.q, batch.share)
    for k = 1, batch.size do
        local image, l2 = batch.places[k], batch.l2:get(k)
        local radius = image and batch.a:get(k) ~= 0 and image.radius or math.huge
        batch.scale:set(self.norm == 2 and l2 > radius and radius / l2 or 1, k)
        batch.radius:set(self.norm == 2 and math.huge or radius, k)
    end
    batch.x:project_(batch.x0, batch.scale, batch.radius)
    batch:step(batch.x, batch.q, batch.still) -- a zero step: measures the distances only
end

function fmn:evaluations() return self.steps + 1 end

function fmn:attack(image)
    image:begin(image.x0)
    image.radius = math.huge
    for k = 1, self.steps do
        image:keep_nearest(self.norm)
        local share = (1 + math.cos(math.pi * (k - 1) / self.steps)) / 2
        local gamma = LAST_GAMMA + (self.gamma - LAST_GAMMA) * share
        image.found = image.nearest < math.huge
        if image.success then
            image.radius = math.min(image.radius * (1 - gamma), image.nearest)
        elseif image.found then
            image.radius = image.radius * (1 + gamma)
        end
        image:step(self.alpha * (LAST_ALPHA + (1 - LAST_ALPHA) * share))
    end
    image:keep_nearest(self.norm)
end

return fmn
