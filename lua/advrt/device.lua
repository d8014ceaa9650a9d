--- The device of this run and its settings. To choose: `advrt --help`.
--
--     device.name        where networks run: "cpu"
--     device.threads     number of computing threads
--     device.isa         instruction set of the device's own kernels: "x86-64", "avx2" or "avx512"
--     device.precision   "f32"
--     device.plan        how convolutions are computed: "fast" or "direct"

local system = require "advrt.core.system"

local options = system.options

local device = {
    name = options.device, threads = options.threads, isa = options.isa,
    precision = options.precision, plan = options.plan,
}

--- The core's counted memory (tensors, weights, plans) in bytes: in use now, and the peak. Memory
-- of Lua and the libraries is not included.
function device.memory()
    local count = system.memory()
    return count.in_use, count.peak
end

return device
