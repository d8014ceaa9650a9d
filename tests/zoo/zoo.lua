-- `make zoo BENCH_PYTHON=...`: the definitions of nets/ against PyTorch. advrt tests/zoo/zoo.lua PYTHON
-- [NET ...] fills each net with golden weights, has tests/zoo/models.py compute the logits and two
-- gradients of the model of torchvision (or, for CIFAR-10's, of the classes in that file) in float64 and
-- float32 with the same weights, and prints how far advrt's are from the float64 ones. The exit status is 1
-- where a net differs by more than it may.

local lfs = require "lfs"
local loss = require "advrt.loss"
local net = require "advrt.net"
local system = require "advrt.core.system"
local tensor = require "advrt.tensor"

local N = 2
-- Relative L2 of the logits, by the plan that is used: at most these, or as many times PyTorch's own float32.
local WITHIN = {direct = {1e-5, 3}, fast = {3e-5, 9}}
local COSINE, COSINE_OFF = 0.999, 0.0005

local root = system.options.root
local python, chosen = arg[1], table.move(arg, 2, #arg, 1, {})
if not python then
    io.stderr:write "zoo: BENCH_PYTHON must name a Python that has torch and torchvision\n"
    os.exit(2)
end
if #chosen == 0 then
    for line in io.popen(("%s %s/tests/zoo/models.py --list"):format(python, root)):lines() do
        chosen[#chosen + 1] = line
    end
end

local function norm(t)
    local n = 1
    for _, size in ipairs(t:shape()) do n = n * size end
    return t:reshape({1, n}):norm(2, 2):totable()[1], n
end

--- |a - b| / |b| of image i.
local function off(a, b, i)
    local wanted = b:narrow(1, i, 1)
    return norm(a:narrow(1, i, 1) - wanted) / norm(wanted)
end

local function cosine(a, b, i)
    local x, y = a:narrow(1, i, 1), b:narrow(1, i, 1)
    local _, n = norm(x)
    return (x:reshape({n}) * y:reshape({n})):sum() / (norm(x) * norm(y))
end

local folder = os.tmpname()
os.remove(folder)
assert(lfs.mkdir(folder))

local LOSSES = {"ce", "logit"}

--- The worst of the images: how far the logits are off, and PyTorch's float32 ones; the least cosine of a
-- gradient, and of its.
local function compare(g, x, wanted)
    local logits, theirs, least, least_theirs = 0, 0, 1, 1
    local z = g:forward(x)
    for i = 1, N do
        logits = math.max(logits, off(z, wanted.logits, i))
        theirs = math.max(theirs, off(wanted.logits_f32, wanted.logits, i))
    end
    for _, l in ipairs(LOSSES) do
        local _, q = g:gradient(x, loss[l], {1, 2})
        local right, single = wanted["gradient_" .. l], wanted["gradient_" .. l .. "_f32"]
        for i = 1, N do
            least = math.min(least, cosine(q, right, i))
            least_theirs = math.min(least_theirs, cosine(single, right, i))
        end
    end
    return logits, theirs, least, least_theirs
end

--- What PyTorch makes of the weights and images; nil where it has no such model.
local function expected(name, state, x)
    local given, found = folder .. "/state.safetensors", folder .. "/expect.safetensors"
    state["zoo.x"] = x
    assert(tensor.save(given, state))
    if not os.execute(("%s %s/tests/zoo/models.py %s %s %s"):format(python, root, name, given, found)) then
        return nil
    end
    return assert(tensor.load(found))
end

local failed, within = 0, WITHIN[system.options.plan]
print(("%-20s %10s %9s %11s %9s %11s"):format("net", "parameters", "logits", "PyTorch f32", "gradient",
    "PyTorch f32"))
for _, name in ipairs(chosen) do
    local g = assert(net.load(root .. "/nets/" .. name .. ".lua", {init = "golden"}))
    local x, state, count = tensor.uniform("x", {N, table.unpack(g.input)}), g:state(), 0
    for _, t in pairs(state) do count = count + select(2, norm(t)) end
    local wanted = expected(name, state, x)
    local logits, theirs, least, least_theirs = math.huge, 0, 0, 1
    if wanted then logits, theirs, least, least_theirs = compare(g, x, wanted) end
    local ok = logits <= math.max(within[1], within[2] * theirs)
        and least >= math.min(COSINE, least_theirs - COSINE_OFF)
    if not ok then failed = failed + 1 end
    print(("%-20s %10d %9.2e %11.2e %9.6f %11.6f%s"):format(name, count, logits, theirs, least, least_theirs,
        ok and "" or "  failed"))
    io.stdout:flush()
end
os.execute("rm -rf '" .. folder .. "'")
print(("%d nets, %d failed"):format(#chosen, failed))
os.exit(failed == 0)
