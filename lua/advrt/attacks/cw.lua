--- Carlini & Wagner's L2 attack (2017).
--
--     minimise ||x - x0||_2^2 + c f(x),   x = (tanh w + 1) / 2,
--     f(x) = max(max_{i != t} z_i - z_t, -kappa)
--
-- over w with Adam; untargeted f(x) = max(z_label - max_{i != label} z_i, -kappa). For a net with another
-- range than [0,1], x = low + (high - low) (tanh w + 1) / 2. Binary search finds c for each image. The
-- result is the image of least distortion with a margin of at least kappa.
--
--     attacks.cw {kappa = 0, c = 1, searches = 9, iterations = 300, rate = 0.05, hair = 1e-6,
--                 starts = 1, radius = 1, early = true, loss = nil}
--
-- The paper's c = 0.01, 1000 iterations and rate = 0.01 need four times as many evaluations. On the bundled
-- images their median L2 is the same untargeted (0.236), and 0.466 instead of 0.481 with targets.
--
-- @param kappa       the margin that counts as success
-- @param c           the first c: ten times as much after a failure, half-way after a success
-- @param searches    number of values of c
-- @param iterations  maximum steps for each
-- @param rate        Adam's step size, in w
-- @param hair        epsilon: x0 is clamped to hair .. 1 - hair before atanh, so that such pixels can move
-- @param starts      number of starts: the first is x0; the others are uniform in a ball around x0, as
--                    large as the distance of the best image so far
-- @param radius      radius of the ball before there is a best image
-- @param early       whether to abandon a c when a tenth of the iterations did not lower the
--                    objective by a fraction of 1e-4
-- @param loss        instead of the margin: f is minus it, and has no cap at kappa

local method = require "advrt.attacks.method"
local tensor = require "advrt.tensor"

local MOST = 1e10 -- maximum of c
local STEEPEST = 1e19 -- gradients up to this size: Adam's second moment still fits in float
local margin = method.margin -- the cap at kappa is applied here

local cw = method.new("cw", {
    kappa = method.not_negative(0), c = method.positive(1), searches = method.count(9),
    iterations = method.count(300), rate = method.positive(0.05), hair = method.below(0.5, 1e-6),
    starts = method.count(1), radius = method.positive(1), early = method.switch(true),
    loss = method.loss(),
}, function(self)
    self.cut = not self.loss
    self.loss = self.loss or margin
end)

function cw:prepare(batch)
    local shape, B = batch.x:shape(), batch.size
    batch.adam = {x = batch.x, w = tensor.new(shape), m = tensor.new(shape), v = tensor.new(shape),
        q = batch.q, x0 = batch.x0, c = tensor.new({B}, "f64"), t = tensor.new({B}, "i64"),
        l2 = batch.l2}
    batch.adam.low, batch.adam.high = batch.range:sides()
end

function cw:enter(batch, k)
    local adam = batch.adam
    adam.x[k]:tanh_enter_(adam.w[k], self.hair, batch.range:sides())
    adam.m[k]:fill(0)
    adam.v[k]:fill(0)
end

--- batch.a holds each image's step number, adam.c its c or 0.
function cw:advance(batch)
    local adam = batch.adam
    for k = 1, batch.size do
        -- beyond it the moment is infinite, and Adam stops as if converged
        if batch.a:get(k) ~= 0 and adam.c:get(k) * batch.q_linf:get(k) > STEEPEST then
            batch:stop(k, "gradient")
        end
        adam.t:set(math.tointeger(batch.a:get(k)), k)
    end
    tensor.tanh_step(adam, {rate = self.rate})
end

function cw:evaluations() return self.starts * self.searches * (self.iterations + 1) end

function cw:attack(image)
    local weights, check = image.batch.adam.c, math.max(1, self.iterations // 10)

    -- Whether the image succeeds with the margin; the nearest such image is the result.
    local function look()
        image:keep_nearest(2)
        return image.success
    end

    -- Runs Adam for one c; returns whether any iterate, first to last, has the margin.
    local function descend(point, c)
        local lowest = math.huge
        image:begin(point)
        local found = look()
        for n = 1, self.iterations do
            local resting = self.cut and image.margin >= self.kappa
            local f = resting and -self.kappa or -image.value
            if self.early and n % check == 0 then
                local objective = image.l2 ^ 2 + c * f
                if objective > lowest - 1e-4 * math.abs(lowest) then break end
                lowest = objective
            end
            weights:set(resting and 0 or c, image.k)
            image:step(n)
            found = look() or found
        end
        return found
    end

    for start = 1, self.starts do
        local point = start == 1 and image.x0
            or image:around("start" .. start, 2, image.nearest < math.huge and image.nearest or self.radius)
        local c, low, high = self.c, 0, math.huge
        for _ = 1, self.searches do
            if descend(point, c) then high = math.min(high, c) else low = math.max(low, c) end
            c = high < math.huge and (low + high) / 2 or math.min(10 * c, MOST)
        end
    end
end

return cw
