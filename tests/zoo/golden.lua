-- advrt tests/zoo/golden.lua PYTHON: writes tests/golden/zoo/NET.safetensors anew for the nets that
-- tests/lua/zoo_spec.lua holds: PyTorch's logits in float64 and every 997th element of its gradients.

local lfs = require "lfs"
local net = require "advrt.net"
local system = require "advrt.core.system"
local tensor = require "advrt.tensor"

local root = system.options.root
local size = {swin_t = 104} -- whose grids of 26 and 13 are padded to windows
lfs.mkdir(root .. "/tests/golden/zoo")
for _, name in ipairs {"shufflenet_v2", "mobilenet_v3_small", "squeezenet1_1", "convnext_tiny", "swin_t"} do
    local state, expect = os.tmpname(), os.tmpname()
    local g = assert(net.load(root .. "/nets/" .. name .. ".lua", {init = "golden", crop = size[name]}))
    local all = g:state()
    all["zoo.x"] = tensor.uniform("x", {2, table.unpack(g.input)})
    assert(tensor.save(state .. ".safetensors", all))
    local command = "%s %s/tests/zoo/models.py %s %s.safetensors %s.safetensors"
    assert(os.execute(command:format(arg[1], root, name, state, expect)))
    local found, kept = assert(tensor.load(expect .. ".safetensors")), {}
    kept.logits = found.logits
    for _, loss in ipairs {"ce", "logit"} do
        local flat = found["gradient_" .. loss]:reshape({2 * g.input[1] * g.input[2] * g.input[3]}):totable()
        local some = {}
        for i = 1, #flat, 997 do some[#some + 1] = flat[i] end
        kept["gradient_" .. loss] = tensor.from(some)
    end
    assert(tensor.save(("%s/tests/golden/zoo/%s.safetensors"):format(root, name), kept))
    for _, file in ipairs {state, expect} do os.remove(file) os.remove(file .. ".safetensors") end
end
