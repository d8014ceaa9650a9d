--- Cross-entropy of logits divided by a temperature (Hinton, Vinyals & Dean, "Distilling the Knowledge
-- in a Neural Network", 2015):
--
--     log softmax(z / T)_t
--
-- A temperature above 1 multiplies the margins at which the softmax saturates. Carlini & Wagner do
-- this for networks with large logits ("Defensive Distillation is Not Robust to Adversarial
-- Examples", 2016). loss.ce_temperature{temperature = 10} is a variant.

local loss = require "advrt.loss"

return loss.define("ce_temperature", function(z, t, p)
    return (z / p.temperature):log_softmax(2):gather(2, t)
end, {parameters = {temperature = 4}})
