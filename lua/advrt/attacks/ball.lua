--- The step that FGS, IFGS and PGD share: along the loss's direction, then a projection onto the
-- ball.
--
--     x_{n+1} = clip_{x0,eps}(x_n + a d_n),   d_n = sign(q_n), or q_n / ||q_n||_2 for norm 2
--
-- clip_{x0,eps} projects onto ||x - x0|| <= eps and the range of the net, [0,1] by default. The projection
-- rounds towards x0, so the stored image is inside the ball.

local tensor = require "advrt.tensor"

local ball = {}

--- Projects one point [C,H,W] onto the ball, as a step does; rounding cannot put it outside.
function ball.project(point, x0, norm, radius)
    local shape = {1, table.unpack(point:shape())}
    local x, centre = point:reshape(shape), x0:reshape(shape)
    local function row(v) return tensor.from({v}, "f64") end
    local l2 = x:step_(x, row(0), centre):get(1) -- a zero step: measures the distances only
    local scale = norm == 2 and l2 > radius and radius / l2 or 1
    x:project_(centre, row(scale), row(norm == 2 and math.huge or radius))
    return point
end

function ball:prepare(batch)
    local function rows() return tensor.new({batch.size}, "f64") end
    batch.multiplier, batch.scale, batch.radius = rows(), rows(), rows()
    batch.scale:fill(1)
    batch.radius:fill(self.norm == 2 and math.huge or self.eps)
end

--- Sets batch.q to the direction (not normalised), and returns the multipliers that give steps of
-- sizes batch.a.
function ball:direct(batch)
    local a = batch.a
    if self.norm ~= 2 then
        batch.q:sign_()
        return a
    end
    local multiplier = batch.multiplier:copy(a)
    for k = 1, batch.size do
        local length = batch.q_l2:get(k)
        multiplier:set(length > 0 and a:get(k) / length or 0, k)
    end
    return multiplier
end

--- The same for the images `x` [B,C,H,W] of a batch with L2 distances batch.l2 from x0.
function ball:hold(batch, x)
    if self.norm == 2 then
        for k = 1, batch.size do
            local l2 = batch.l2:get(k)
            batch.scale:set(l2 > self.eps and self.eps / l2 or 1, k)
        end
    end
    x:project_(batch.x0, batch.scale, batch.radius)
end

function ball:advance(batch)
    batch:step(batch.x, batch.q, ball.direct(self, batch))
    ball.hold(self, batch, batch.x)
end

return ball
