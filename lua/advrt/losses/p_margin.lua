--- The margin between probabilities (Carlini & Wagner, "Towards Evaluating the Robustness of Neural
-- Networks", IEEE S&P 2017, the objective f_2, before its positive part and with its sign turned):
--
--     p_t - max_{i != t} p_i,   p = softmax(z)
--
-- Its gradient is that of the logits' margin if both classes are likely, and vanishes with p_t: if
-- another class is certain, the gradient is nearly zero.

local loss = require "advrt.loss"

return loss.define("p_margin", function(z, t)
    local p = z:softmax(2)
    return p:gather(2, t) - p:others(2, t):maximum(2)
end)
