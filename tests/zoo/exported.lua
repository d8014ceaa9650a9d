-- `make zoo-onnx BENCH_PYTHON=...`: torchvision's classifiers, exported by both of PyTorch's exporters,
-- against PyTorch. advrt tests/zoo/exported.lua PYTHON [all] [NET ...]: the smallest net of each family,
-- all below 100 M parameters, or those named. tests/zoo/exported.py makes the models and the numbers. The
-- exit status is 1 where a net differs by more than it may.

local lfs = require "lfs"
local net = require "advrt.net"
local system = require "advrt.core.system"
local tensor = require "advrt.tensor"

local MOST = 100e6 -- parameters of a net that `all` runs: larger ones take minutes and gigabytes
local EXPORTERS = {"torchscript", "dynamo"}

local root = system.options.root
local compare = dofile(root .. "/tests/zoo/compare.lua")
local python, every, named = arg[1], false, {}
if not python then
    io.stderr:write "zoo: BENCH_PYTHON must name a Python that has torch, torchvision, onnx and onnxscript\n"
    os.exit(2)
end
for i = 2, #arg do
    if arg[i] == "all" then every = true else named[arg[i]], named[1] = true, true end
end
local script = root .. "/tests/zoo/exported.py"
local listing = ("%s %s --list %s"):format(python, script, (every or named[1]) and "all" or "")

local folder = os.tmpname()
os.remove(folder)
assert(lfs.mkdir(folder))

local compared, failed, left_out = 0, 0, {}

local function judge(name, exporter, count, wanted)
    local g, message = net.load(("%s/%s.onnx"):format(folder, exporter))
    local r = g and compare.compare(g, wanted.x, wanted)
    local label = name .. " " .. exporter
    compared, failed = compared + 1, failed + (r and r.ok and 0 or 1)
    print(r and compare.line(label, count, r) or ("%-32s failed: %s"):format(label, message))
    io.stdout:flush()
end

print(compare.head)
for line in io.popen(listing):lines() do
    local name, count = line:match "^(%S+) (%d+)$"
    count = tonumber(count)
    if every and not named[name] and count >= MOST then
        left_out[#left_out + 1] = ("%s (%.0f M parameters)"):format(name, count / 1e6)
    elseif not named[1] or named[name] then
        local ok = os.execute(("%s %s %s %s %s >%s/log 2>&1"):format(python, script, name, folder,
            table.concat(EXPORTERS, " "), folder))
        if ok then
            local wanted = assert(tensor.load(folder .. "/expect.safetensors"))
            for _, exporter in ipairs(EXPORTERS) do judge(name, exporter, count, wanted) end
        else
            local last = ""
            for text in io.lines(folder .. "/log") do last = text end
            compared, failed = compared + 1, failed + 1
            print(("%-32s failed in PyTorch: %s"):format(name, last))
        end
        os.execute(("rm -f '%s'/*"):format(folder))
    end
end
lfs.rmdir(folder)
if #left_out > 0 then print("not run, 100 M parameters or more: " .. table.concat(left_out, ", ")) end
print(("%d models, %d failed"):format(compared, failed))
os.exit(failed == 0)
