--- Equal perturbation (the paper's Section V-B, second setting; Fig. 1, 3, 5 and Table I).
--
--     x_{n+1} = P(x_n + a_n q_n),   a_n = magnitude / ||q_n||            (Eq. 16)
--
-- The multiplier of each image depends on the gradient's norm. So every loss adds a perturbation
-- of the same norm in each step, and the numbers of iterations can be compared.

local attack = require "advrt.attack"
local experiment = require "advrt.run.experiment"

experiment.run({
    setting = "equal_perturbation",
    description = "Attacks images with each loss, every step's perturbation of the same norm.",
    uses = {
        {"", "the four losses on the bundled network and images"},
        {"--net model.onnx --images photos", "your own network and images"},
        {"--require dlr --losses ce,m_logit,dlr --norm inf", "other losses, with steps of equal Linf norm"},
    },
    step = "magnitude",
    norm = true,
    multiplier = function(o) return attack.equal_perturbation(o.magnitude, {norm = o.norm}) end,
    figures = {
        {"fig1", "fig1"}, {"fig3a", "softmax"}, {"fig3b", "logits"}, {"fig3c", "least"},
        {"fig5", "fig5"}, {"figflipped", "flipped"},
    },
}, arg)
