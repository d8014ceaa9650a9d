--- The targeted difference of logits ratio (Croce & Hein, "Reliable evaluation of adversarial
-- robustness with an ensemble of diverse parameter-free attacks", ICML 2020, arXiv:2003.01690):
--
--     -(z_y - z_t) / (z_pi1 - (z_pi3 + z_pi4) / 2),   pi: the classes by falling logit
--
-- which neither shifting nor scaling the logits changes, so it does not saturate as CE does. It
-- needs four classes. y is the image's own class there; a loss here knows the target alone, and y is
-- the largest of the other logits: the same until another class than the target overtakes y. Where
-- all four logits tie, 1e-12, the authors' own, keeps the ratio a number.

local loss = require "advrt.loss"
local tensor = require "advrt.tensor"

local scale = tensor.from {{1}, {0}, {-0.5}, {-0.5}} -- of the four largest logits

return loss.define("dlr", function(z, t)
    local margin = z:gather(2, t) - z:others(2, t):maximum(2)
    return margin / (z:topk(4, 2):matmul(scale):reshape {-1} + 1e-12)
end, {min_classes = 4})
