--- The device of this run, and what it is set to. To choose: `advrt --help`.
--
--     device.name        where networks run: "cpu"
--     device.threads     the threads that it computes with
--     device.isa         the instruction set of its own kernels: "x86-64", "avx2" or "avx512"
--     device.precision   "f32"
--     device.plan        how convolutions are computed: "fast" or "direct"

local system = require "advrt.core.system"

local options = system.options

local device = {
    name = options.device, threads = options.threads, isa = options.isa,
    precision = options.precision, plan = options.plan,
}

--- The core's counted memory (tensors, weights, plans): bytes in use now, and the most there were.
-- What Lua and the libraries hold is not in it.
function device.memory()
    local count = system.memory()
    return count.in_use, count.peak
end

return device
