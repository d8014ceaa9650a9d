--- Fast gradient sign (Goodfellow, Shlens, Szegedy 2015): one step of size eps along the sign.
--
--     x' = clip(x0 + eps sign(-grad J(x0, t)))       towards a target t, or away from the label
--
--     attacks.fgs {eps = 8/255, loss = loss.ce}
--
-- @param eps   the step, and so the bound on ||x' - x0||_inf
-- @param loss  the loss to ascend; without a target its untargeted form (advrt.loss)

local ball = require "advrt.attacks.ball"
local method = require "advrt.attacks.method"

local fgs = method.new("fgs", {eps = method.positive(8 / 255), loss = method.loss("ce")})

fgs.norm = "inf"
fgs.prepare, fgs.advance = ball.prepare, ball.advance

function fgs:attack(image)
    image:begin(image.x0)
    image:last_step(self.eps)
end

return fgs
