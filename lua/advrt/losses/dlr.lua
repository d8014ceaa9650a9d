--- The targeted difference of logits ratio (Croce & Hein, "Reliable evaluation of adversarial
-- robustness with an ensemble of diverse parameter-free attacks", ICML 2020, arXiv:2003.01690):
--
--     -(z_y - z_t) / (z_pi1 - (z_pi3 + z_pi4) / 2),   pi: the classes by falling logit
--
-- Shifting or scaling the logits does not change it, so it does not saturate as CE does. It needs
-- four classes. y is the image's own class in the paper. A loss here knows only the target, so y is
-- the largest other logit: the same until a third class overtakes y. If all four logits tie, 1e-12
-- (as in the authors' code) keeps the ratio finite.
--
-- Away from the label y an attack ascends the authors' untargeted form:
--
--     -(z_y - max_{i != y} z_i) / (z_pi1 - z_pi3)

local loss = require "advrt.loss"
local tensor = require "advrt.tensor"

-- The scale's weights of the largest logits.
local targeted = tensor.from {{1}, {0}, {-0.5}, {-0.5}}
local untargeted = tensor.from {{1}, {0}, {-1}}

local function ratio(z, t, weights)
    local margin = z:gather(2, t) - z:others(2, t):maximum(2)
    return margin / (z:topk(weights:size(1), 2):matmul(weights):reshape {-1} + 1e-12)
end

return loss.define("dlr", function(z, t) return ratio(z, t, targeted) end, {
    min_classes = 4,
    untargeted = function(z, y) return -ratio(z, y, untargeted) end,
})
