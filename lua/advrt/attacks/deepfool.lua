--- DeepFool (Moosavi-Dezfooli, Fawzi, Frossard, "DeepFool: a simple and accurate method to fool deep neural
-- networks", CVPR 2016, arXiv:1511.04599), Algorithm 2: again and again onto the nearest boundary, each
-- class's taken for a hyperplane.
--
--     w_s = grad (z_s - z_c),  f_s = z_s - z_c at x_i;   l = argmin_s |f_s| / ||w_s||_q     (Eq. 8, 11)
--     r_i = |f_l| / ||w_l||_2^2 w_l  for norm 2,   |f_l| / ||w_l||_1 sign(w_l)  for inf      (Eq. 9, 12)
--     x_{i+1} = clip(x_0 + (1 + overshoot) (r_0 + ... + r_i))
--
-- until the class changes; c is the label. At the box's bounds the steps would end on the boundary itself,
-- so, as in the authors' program, each goes 1e-4 farther than |f_l| / ||w_l||. For a target (not in the
-- paper) s is the target alone and c the largest other logit.
--
--     attacks.deepfool {norm = 2, steps = 50, classes = 9, overshoot = 0.02}
--
-- @param norm       2 or "inf"
-- @param steps      most steps; each takes a gradient for every class
-- @param classes    how many classes are looked at: those with the largest logits at x0
-- @param overshoot  how far beyond the boundary x is taken

local method = require "advrt.attacks.method"
local tensor = require "advrt.tensor"

local FARTHER = 1e-4
local margin = method.margin

local deepfool = method.new("deepfool", {
    norm = method.norm(2), steps = method.count(50), classes = method.count(9),
    overshoot = method.not_negative(0.02),
})

deepfool.loss = margin

function deepfool:prepare(batch)
    local shape, B = batch.x:shape(), batch.size
    batch.backwards = batch.targeted and 1 or math.min(self.classes, batch.net.classes - 1)
    batch.total, batch.nearest, batch.one = tensor.new(shape), tensor.new(shape), tensor.new(shape)
    batch.reach, batch.share = tensor.new {B, 1, 1, 1}, tensor.new({B}, "f64")
end

function deepfool.enter(_, batch, k) batch.total[k]:fill(0) end

--- The j-th pair of classes {s, c} of an image, from 1; nil if there is none.
local function pair_of(batch, k, image, j)
    local s = image.classes and image.classes[j]
    if not s then return nil end
    if not batch.targeted then return s + 1, image.label + 1 end
    local best
    for class, v in ipairs(batch.z[k]:totable()) do
        if class ~= s + 1 and (not best or v > batch.z:get(k, best)) then best = class end
    end
    return s + 1, best
end

--- Sets batch.q [k] to the w of the nearest boundary and batch.reach to its distance.
function deepfool:differentiate(batch)
    local nearest = {}
    for j = 1, batch.backwards do
        local gaps = {}
        batch.dz:fill(0)
        for k, image in pairs(batch.places) do
            local s, c = pair_of(batch, k, image, j)
            if s then
                batch.dz:set(1, k, s)
                batch.dz:set(-1, k, c)
                gaps[k] = batch.z:get(k, c) - batch.z:get(k, s)
            end
        end
        batch.net:backward(batch.dz, batch.one, batch.trace)
        local lengths = self.norm == 2 and batch.one:norms() or batch.one:norm(1)
        for k, gap in pairs(gaps) do
            local length = lengths:get(k)
            local far = length == 0 and math.huge or math.abs(gap) / length
            if not nearest[k] or far < nearest[k] or far ~= far then -- NaN: the batch handles it
                nearest[k] = far
                batch.nearest[k]:copy(batch.one[k])
                batch.reach:set(far < math.huge and far + FARTHER or 0, k, 1, 1, 1)
            end
        end
    end
    batch.q:copy(batch.nearest)
end

function deepfool:advance(batch)
    local q = batch.q
    if self.norm == 2 then
        local lengths = tensor.new {batch.size, 1, 1, 1}
        for k = 1, batch.size do
            local length = batch.q_l2:get(k)
            lengths:set(length > 0 and 1 / length or 0, k, 1, 1, 1)
        end
        q:mul_(lengths)
    else
        q:sign_()
    end
    q:mul_(batch.reach)
    for k = 1, batch.size do
        local moves = batch.a:get(k) ~= 0
        batch.share:set(moves and 1 + self.overshoot or 0, k)
        if moves then
            batch.total[k]:add_(q[k])
            batch.x[k]:copy(batch.x0[k])
        end
    end
    batch:step(batch.x, batch.total, batch.share)
end

function deepfool.evaluations() return 4 end -- typically three steps change the class

function deepfool:attack(image)
    image:begin(image.x0)
    image.classes = image.target and {image.target} or image:rivals(self.classes)
    for _ = 1, self.steps do
        if image.success then return end
        image:step(1)
    end
end

return deepfool
