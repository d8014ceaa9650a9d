--- The losses of the paper (Eq. 12-15) as objects: what an attack ascends, and in which direction.
--
--     loss.ce        J(z,t) = -log softmax(z)_t; the value to ascend is -J      L-BFGS
--     loss.ce_sign   the same, the image's gradient replaced by its sign        FGS, IFGS, PGD
--     loss.logit     z_t
--     loss.m_logit   min(z_t - max_{i!=t} z_i, kappa), kappa = 20               Carlini & Wagner
--
-- A loss has a `name`, the least number of classes it makes sense with (`min_classes`), and
--
--     loss:evaluate(z, target[, value, dz]) -> value, dz
--         z f32 [N,K] logits; target a table or i64 tensor of N classes counted from 0;
--         value f32 [N], the number to ascend; dz f32 [N,K], its gradient. Given outputs are
--         overwritten and returned.
--     loss:direction(grad) -> q
--         the direction of the step from the gradient with respect to the image [N,C,H,W], in
--         place. `loss.signed` is true where it is not the gradient itself.
--
-- Calling a loss makes a variant: loss.m_logit{kappa = 5}. Whatever has this shape is a loss to
-- the attacks, and loss.add makes it known by name.

local core = require "advrt.core.loss"
local nearest = require "advrt.nearest"

local loss = {}
local registry, order = {}, {}

local Loss = {}
Loss.__index = Loss
Loss.__name = "advrt.loss"

--- The number to ascend, f32 [N], and its gradient dz, f32 [N,K], of logits z [N,K] and N target
-- classes; into `value` and `dz` where they are given.
function Loss:evaluate(z, target, value, dz)
    return core.evaluate(self.kind, self.kappa or 0, z, target, value, dz)
end

--- The direction of the step from the gradient with respect to the image [N,C,H,W], in place.
function Loss:direction(grad)
    if self.signed then grad:sign_() end
    return grad
end

function Loss:__tostring()
    return self.kappa and ("loss %s (kappa = %g)"):format(self.name, self.kappa)
        or "loss " .. self.name
end

--- A loss made from another with other parameters. Raises for a parameter that the loss does not
-- have and for a value out of its range.
function Loss:__call(parameters)
    if type(parameters) ~= "table" then
        error(("loss.%s wants a table of parameters, got %s"):format(self.name, type(parameters)), 2)
    end
    local variant = setmetatable({}, Loss)
    for key, value in pairs(self) do variant[key] = value end
    for key, value in pairs(parameters) do
        local check = self.parameters[key]
        if not check then
            local known = {}
            for name in pairs(self.parameters) do known[#known + 1] = name end
            error(("loss.%s has no parameter '%s' (it has %s)"):format(self.name, tostring(key),
                #known > 0 and table.concat(known, ", ") or "none"), 2)
        end
        local wanted = check(value)
        if wanted then
            error(("loss.%s: %s must be %s, got %s"):format(self.name, key, wanted,
                tostring(value)), 2)
        end
        variant[key] = value
    end
    return variant
end

--- What is wanted of kappa where `value` is not that.
local function check_kappa(value)
    local good = math.type(value) and value >= 0 and value < math.huge
    return not good and "a number of at least 0" or nil
end

--- Makes a loss known under its name, as loss.NAME and to loss.get. Raises where the name is taken.
function loss.add(object)
    if type(object.name) ~= "string" or loss[object.name] ~= nil then
        error(("a loss cannot be named '%s': the name is taken or no name"):format(
            tostring(object.name)), 2)
    end
    registry[object.name], loss[object.name] = object, object
    order[#order + 1] = object.name
    return object
end

--- The names of all losses, in the order in which they were added.
function loss.names()
    return table.move(order, 1, #order, 1, {})
end

--- The loss of that name, or nil and a line that names the nearest one.
function loss.get(name)
    if registry[name] then return registry[name] end
    return nil, ("unknown loss '%s'; did you mean '%s'? (losses: %s)"):format(tostring(name),
        nearest(tostring(name), order), table.concat(order, ", "))
end

local function builtin(fields)
    fields.parameters = fields.parameters or {}
    loss.add(setmetatable(fields, Loss))
end

builtin {name = "ce", kind = "ce", min_classes = 2, signed = false}
builtin {name = "ce_sign", kind = "ce", min_classes = 2, signed = true}
builtin {name = "logit", kind = "logit", min_classes = 1, signed = false}
builtin {name = "m_logit", kind = "m_logit", min_classes = 2, signed = false, kappa = 20,
    parameters = {kappa = check_kappa}}

return loss
