--- Equal multiplier (the paper's Section V-B, first setting; Fig. 1, 2, 4, 5 and Table I).
--
--     x_{n+1} = P(x_n + alpha q_n)
--
-- All losses use the same constant. Their gradients differ by orders of magnitude, and so do the
-- steps: a loss that looks fast here takes large steps.

local attack = require "advrt.attack"
local experiment = require "advrt.run.experiment"

experiment.run({
    setting = "equal_multiplier",
    description = "Attacks images with each loss, every gradient multiplied by the same constant.",
    step = "alpha",
    default = 0.01,
    multiplier = function(o) return attack.equal_multiplier(o.alpha) end,
    figures = {
        {"fig1", "fig1"}, {"fig2a", "softmax"}, {"fig2b", "logits"}, {"fig2c", "least"},
        {"fig4", "fig4"}, {"fig5", "fig5"}, {"figflipped", "flipped"},
    },
}, arg)
