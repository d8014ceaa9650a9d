--- AutoAttack (Croce & Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
-- parameter-free attacks", ICML 2020, arXiv:2003.01690), the standard version. Four attacks run in
-- order, each on the images that the earlier ones did not break. An image is robust if none of the
-- four succeeds within eps.
--
--     1. apgd:loss=ce                   100 steps, one start
--     2. apgd:loss=dlr:classes=9        100 steps towards each of the nine classes of the largest logits
--     3. fab:classes=9                  100 steps for each of the nine
--     4. square                         5000 queries
--
--     attacks.autoattack {norm = "inf", eps = nil, steps = 100, classes = 9, queries = 5000}
--
-- @param norm     "inf" or 2
-- @param eps      the ball's radius in that norm; default: 8/255, or 1 for norm 2
-- @param steps    of the first three attacks
-- @param classes  of the second and the third
-- @param queries  of the fourth
--
-- With a target, each of the four attacks aims at it.

local apgd = require "advrt.attacks.apgd"
local fab = require "advrt.attacks.fab"
local method = require "advrt.attacks.method"
local square = require "advrt.attacks.square"

local autoattack = method.new("autoattack", {
    norm = method.norm("inf"), eps = method.positive(), steps = method.count(100),
    classes = method.count(9), queries = method.count(5000),
}, function(self)
    local norm, steps, classes = self.norm, self.steps, self.classes
    self.eps = self.eps or (norm == 2 and 1 or 8 / 255)
    local eps = self.eps
    self.stages = {
        apgd {norm = norm, eps = eps, steps = steps},
        apgd {norm = norm, eps = eps, steps = steps, classes = classes, loss = "dlr"},
        fab {norm = norm, eps = eps, steps = steps, classes = classes},
        square {norm = norm, eps = eps, queries = self.queries},
    }
    self.loss = self.stages[2].loss -- it needs the most classes
end)

function autoattack:ascends() return self.loss end

--- The result of an image that none of the four breaks.
function autoattack:evaluations()
    local sum = 0
    for _, stage in ipairs(self.stages) do sum = sum + stage:evaluations() end
    return sum
end

return autoattack
