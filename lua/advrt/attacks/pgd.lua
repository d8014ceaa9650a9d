--- Projected gradient descent (Madry et al. 2018): iterative steps from random points of the ball,
-- until a restart succeeds.
--
--     x_0 uniform in the ball;   x_{n+1} = clip_{x0,eps}(x_n + alpha d_n)
--
-- with d_n the sign of the direction for the norm inf, and the direction over its length for 2.
--
--     attacks.pgd {norm = "inf", eps = nil, alpha = nil, steps = 40, restarts = 1, random = true,
--                  start = nil, early = false, loss = loss.ce}
--
-- @param norm      "inf" or 2
-- @param eps       the ball's radius in that norm; default: 8/255, or 1 for norm 2
-- @param alpha     size of a step in that norm; default: 2.5 eps / steps
-- @param steps     number of steps
-- @param restarts  maximum number of starts; stops at the first whose last image succeeds
-- @param random    whether starts are random; otherwise the first is x0
-- @param start     random starts: "ball", uniform in it, which in norm 2 and many dimensions is almost on
--                  its surface; or "radius", in a ball of a radius uniform in 0 .. eps. Default: "ball",
--                  or "radius" for norm 2, where it breaks more images
-- @param early     whether an image stops at its first success
-- @param loss      the loss to ascend; without a target its untargeted form (advrt.loss)

local ball = require "advrt.attacks.ball"
local method = require "advrt.attacks.method"

local pgd = method.new("pgd", {
    norm = method.norm("inf"), eps = method.positive(), alpha = method.positive(),
    steps = method.count(40), restarts = method.count(1), random = method.switch(true),
    start = method.choice("ball", "radius"), early = method.switch(false), loss = method.loss("ce"),
}, function(self)
    self.eps = self.eps or (self.norm == 2 and 1 or 8 / 255)
    self.start = self.start or (self.norm == 2 and "radius" or "ball")
    self.alpha = self.alpha or 2.5 * self.eps / self.steps
end)

pgd.prepare, pgd.advance = ball.prepare, ball.advance

function pgd:evaluations() return self.restarts * (self.steps + 1) end

function pgd:attack(image)
    local best = -math.huge
    for restart = 1, self.restarts do
        if self.random or restart > 1 then
            image:begin(image:around("start" .. restart, self.norm, self.eps,
                self.start == "radius"))
        else
            image:begin(image.x0)
        end
        for _ = 1, self.steps do
            if self.early and image.success then break end
            image:step(self.alpha)
        end
        if image.success or image.value > best then
            best = image.value
            image:keep()
        end
        if image.success then return end
    end
end

return pgd
