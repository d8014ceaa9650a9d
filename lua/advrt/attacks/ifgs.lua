--- Iterative fast gradient sign, or basic iterative method (Kurakin, Goodfellow, Bengio 2017).
--
--     x_{n+1} = clip_{x0,eps}(x_n + alpha sign(-grad J(x_n, t)))
--
--     attacks.ifgs {eps = 8/255, alpha = nil, steps = 20, loss = loss.ce}
--
-- @param eps    bound on ||x - x0||_inf
-- @param alpha  size of a step; default: 2.5 eps / steps
-- @param steps  number of steps; all are taken
-- @param loss   the loss to ascend; without a target its untargeted form (advrt.loss)

local ball = require "advrt.attacks.ball"
local method = require "advrt.attacks.method"

local ifgs = method.new("ifgs", {
    eps = method.positive(8 / 255), alpha = method.positive(), steps = method.count(20),
    loss = method.loss("ce"),
}, function(self) self.alpha = self.alpha or 2.5 * self.eps / self.steps end)

ifgs.norm = "inf"
ifgs.prepare, ifgs.advance = ball.prepare, ball.advance

function ifgs:evaluations() return self.steps end

function ifgs:attack(image)
    image:begin(image.x0)
    for _ = 2, self.steps do image:step(self.alpha) end
    image:last_step(self.alpha)
end

return ifgs
