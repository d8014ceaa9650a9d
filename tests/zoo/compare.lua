--- How far a net is from PyTorch's numbers, as make zoo judges it.

local loss = require "advrt.loss"
local system = require "advrt.core.system"

local M = {}

-- Relative L2 of the logits, by the plan that is used: at most these, or as many times PyTorch's own float32.
local WITHIN = {direct = {1e-5, 3}, fast = {3e-5, 9}}
local COSINE, COSINE_OFF = 0.999, 0.0005
local LOSSES = {"ce", "logit"}

--- The L2 norm of a tensor, and how many numbers it has.
function M.norm(t)
    local n = t:numel()
    return t:reshape({1, n}):norm(2, 2):totable()[1], n
end

--- |a - b| / |b| of image i.
local function off(a, b, i)
    local wanted = b:narrow(1, i, 1)
    return M.norm(a:narrow(1, i, 1) - wanted) / M.norm(wanted)
end

local function cosine(a, b, i)
    local x, y = a:narrow(1, i, 1), b:narrow(1, i, 1)
    local _, n = M.norm(x)
    return (x:reshape({n}) * y:reshape({n})):sum() / (M.norm(x) * M.norm(y))
end

--- The worst of the images x: {logits = how far they are off, logits_f32 = PyTorch's float32 ones, cosine =
-- the least of a gradient, cosine_f32 = of its, ok = whether that is within the limits}.
function M.compare(g, x, wanted)
    local r = {logits = 0, logits_f32 = 0, cosine = 1, cosine_f32 = 1}
    local z = g:forward(x)
    for i = 1, #x do
        r.logits = math.max(r.logits, off(z, wanted.logits, i))
        r.logits_f32 = math.max(r.logits_f32, off(wanted.logits_f32, wanted.logits, i))
    end
    for _, l in ipairs(LOSSES) do
        local _, q = g:gradient(x, loss[l], {1, 2})
        local right, single = wanted["gradient_" .. l], wanted["gradient_" .. l .. "_f32"]
        for i = 1, #x do
            r.cosine = math.min(r.cosine, cosine(q, right, i))
            r.cosine_f32 = math.min(r.cosine_f32, cosine(single, right, i))
        end
    end
    local within = WITHIN[system.options.plan]
    r.ok = r.logits <= math.max(within[1], within[2] * r.logits_f32)
        and r.cosine >= math.min(COSINE, r.cosine_f32 - COSINE_OFF)
    return r
end

--- The line of a comparison under the head, or the head itself.
M.head = ("%-32s %11s %9s %11s %9s %11s"):format("net", "parameters", "logits", "PyTorch f32", "gradient",
    "PyTorch f32")
function M.line(name, count, r)
    return ("%-32s %11d %9.2e %11.2e %9.6f %11.6f%s"):format(name, count, r.logits, r.logits_f32, r.cosine,
        r.cosine_f32, r.ok and "" or "  failed")
end

return M
