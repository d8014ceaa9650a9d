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
    uses = {
        {"", "the four losses on the bundled network and images"},
        {"--net model.onnx --images photos", "your own network and images"},
        {"--losses ce,m_logit --alpha 0.002 --out runs/two", "two losses with another multiplier"},
    },
    step = "alpha",
    default = 0.01,
    multiplier = function(o) return attack.equal_multiplier(o.alpha) end,
    figures = {
        {"fig1", "fig1"}, {"fig2a", "softmax"}, {"fig2b", "logits"}, {"fig2c", "least"},
        {"fig4", "fig4"}, {"fig5", "fig5"}, {"figflipped", "flipped"},
    },
}, arg)
