--- Cross-entropy, log p_t as in loss.ce (the paper's Eq. 5), with the target's gradient computed
-- from the other classes:
--
--     m = log sum_{i != t} exp(z_i) - z_t,   log p_t = -log(1 + e^m)
--     d/dz_t = sigmoid(m) = sum_{i != t} p_i,   d/dz_i = -p_i
--
-- loss.ce computes 1 - p_t from p_t, as frameworks do: in float that is 0 beyond a margin of about
-- 16.7 (few classes) to 23 (1000). Here it stays nonzero as long as the p_i, up to about 104. max(m,
-- 0) is factored out of log(1 + e^m), so that it is finite for every m. At m = 0 the ties of both
-- halves give the slope 1/2.

local loss = require "advrt.loss"

return loss.define("ce_stable", function(z, t)
    local m = z:others(2, t):logsumexp(2) - z:gather(2, t)
    return -(m:max(0) + (-m:abs()):exp():log1p())
end)
