-- `make zoo BENCH_PYTHON=...`: the definitions of nets/ against PyTorch. advrt tests/zoo/zoo.lua PYTHON
-- [NET ...] fills each net with golden weights, has tests/zoo/models.py compute the logits and two
-- gradients of the model of torchvision (or, for CIFAR-10's, of the classes in that file) in float64 and
-- float32 with the same weights, and prints how far advrt's are from the float64 ones. The exit status is 1
-- where a net differs by more than it may.

local lfs = require "lfs"
local net = require "advrt.net"
local system = require "advrt.core.system"
local tensor = require "advrt.tensor"

local N = 2

local root = system.options.root
local compare = dofile(root .. "/tests/zoo/compare.lua")
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

local folder = os.tmpname()
os.remove(folder)
assert(lfs.mkdir(folder))

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

local failed = 0
print(compare.head)
for _, name in ipairs(chosen) do
    local g = assert(net.load(root .. "/nets/" .. name .. ".lua", {init = "golden"}))
    local x, state, count = tensor.uniform("x", {N, table.unpack(g.input)}), g:state(), 0
    for _, t in pairs(state) do count = count + t:numel() end
    local wanted = expected(name, state, x)
    local r = wanted and compare.compare(g, x, wanted)
    if not (r and r.ok) then failed = failed + 1 end
    print(r and compare.line(name, count, r) or ("%-32s failed: PyTorch gave no numbers"):format(name))
    io.stdout:flush()
end
os.execute("rm -rf '" .. folder .. "'")
print(("%d nets, %d failed"):format(#chosen, failed))
os.exit(failed == 0)
