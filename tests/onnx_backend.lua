-- tests/onnx_backend.lua FOLDER [WORD]...: the test data of the onnx wheel (onnx/backend/test/data) through
-- advrt's reader, drawing and engine: models of one operator with their inputs and outputs, and the
-- `light` classifiers. A graph of any inputs and outputs is a net here: its input is all of the graph's
-- inputs that are real numbers, one after another, its output all outputs; other inputs are constants. The
-- tolerance is onnx's own. Lists what passes, what differs and what is not supported; ends with status 1
-- where something differs.

package.path = arg[0]:match("^(.*/)") .. "?.lua;" .. package.path
local builder = require "advrt.nets.builder"
local constant = require "advrt.nets.onnx.constant"
local core = {net = require "advrt.core.net", onnx = require "advrt.core.onnx"}
local draw = require "advrt.nets.onnx.draw"
local fail = require "advrt.support.fail"
local lfs = require "lfs"
local model = require "advrt.nets.onnx.model"
local onnx = require "onnx"
local tensor = require "advrt.tensor"

local RELATIVE, ABSOLUTE = 1e-3, 1e-7
local LEAST = 113 -- tests that pass: what was supported once stays so

local folder = arg[1] or fail.option("name the folder onnx/backend/test/data")

local function read(path)
    local file <close> = assert(io.open(path, "rb"))
    return file:read("a")
end

--- The tensor in a .pb file, as an initializer of a model made for it.
local function tensor_of(path)
    local made = os.tmpname()
    local file = assert(io.open(made, "wb"))
    file:write(onnx.model {graph = onnx.bytes(5, read(path))})
    file:close()
    local m, problem = core.onnx.open(made)
    os.remove(made)
    if not m then fail("%s: %s", path, problem) end
    local item = m:structure().graph.initializer[1]
    local values, message = m:tensor(item.item)
    return values or fail("%s: %s", path, message), item.dims or {}
end

--- The numbered files of a set: input_0.pb ...
local function files(dir, what)
    local list = {}
    while lfs.attributes(("%s/%s_%d.pb"):format(dir, what, #list), "mode") do
        list[#list + 1] = ("%s/%s_%d.pb"):format(dir, what, #list)
    end
    return list
end

--- What a light model is given: 0, 1/n, 2/n ...
local function ramp(shape)
    local sizes, list = {}, {}
    for d, size in ipairs(shape) do sizes[d] = size or 1 end
    local n = constant.count(sizes)
    for i = 1, n do list[i] = (i - 1) / n end
    return tensor.from(list, "f32", sizes), sizes
end

local function as_constant(t, shape)
    return constant.of(t:dtype(), shape, function() return t end)
end

--- Outputs of a model for tensors: an array of {values, shape}. What cannot be drawn is a failure. N: how
-- many images the first dimensions are, nil where they are dimensions like others.
local function evaluate(m, given, N)
    local numbers, values, total, rows = {}, {}, 0, N or 1
    for i, input in ipairs(m.inputs) do
        local t, shape = given[i][1], given[i][2]
        if constant.is_real(t:dtype()) and t:numel() > 0 then
            local own = N and {1, table.unpack(shape, 2)} or shape
            numbers[#numbers + 1] = {name = input.name, t = t:to("f32"), shape = own, at = total}
            total = total + t:numel() // rows
        else
            values[input.name] = as_constant(t, shape)
        end
    end
    local names = {}
    for i, output in ipairs(m.outputs) do names[i] = output.name end
    local graph = core.net.new {math.max(total, 1), 1, 1}
    local b, x = builder.new(graph, nil, {math.max(total, 1), 1, 1})
    local flat, parts = b:reshape(x, {math.max(total, 1)}), {}
    for _, one in ipairs(numbers) do
        local n = one.t:numel() // rows
        values[one.name] = {shape = one.shape, v = #numbers > 1 and b:narrow(flat, 1, one.at + 1, n) or flat}
        for k = 1, rows do
            parts[(k - 1) * #numbers + #parts // rows + 1] = one.t:reshape({rows, n})[k]:reshape {-1}
        end
    end
    local made, state, d = draw.draw(m, b, values, names)
    local out, results, size = {}, {}, 0
    for i, z in ipairs(made) do
        if constant.is(z) then
            results[i] = {z:tensor():reshape {-1}, z.shape}
        else
            local n = constant.count(z.shape)
            local shape = N and {N, table.unpack(z.shape, 2)} or z.shape
            out[#out + 1], results[i], size = d:as(z, {n}), {n, shape, size}, size + n
        end
    end
    if #out == 0 then return results end
    local z = #out > 1 and b:concat(out, 1) or out[1]
    if z == flat then b:reshape(z, {size, 1}) end
    for name, value in pairs(state) do graph:set(name, value()) end
    local plan = graph:plan {purpose = "forward", batch = rows, direct = true, precision = "f32"}
    local all = plan:forward(tensor.concat(parts):reshape {rows, total, 1, 1})
    for _, r in ipairs(results) do
        if math.type(r[1]) then
            local list = {}
            for k = 1, rows do list[k] = all[k]:narrow(r[3] + 1, r[1]) end
            r[1] = tensor.concat(list)
        end
    end
    return results
end

--- The same, in either way.
local function evaluate_somehow(m, given)
    local ok, results = fail.try(evaluate, m, given)
    if ok then return results end
    local N, alone = given[1] and given[1][2][1], #given == 1
    if not alone or not N or N < 2 then error(results, 0) end
    local well, of_images = fail.try(evaluate, m, given, N)
    return well and of_images or error(results, 0)
end

--- In what an output differs from what is wanted; nil where it does not.
local function difference(got, wanted, shape)
    local text = constant.text
    if text(got[2]) ~= text(shape) then
        return ("shape %s, wanted %s"):format(text(got[2]), text(shape))
    end
    if wanted:numel() == 0 then return nil end
    local a, b = got[1]:totable(), wanted:reshape({-1}):totable()
    for i, v in ipairs(b) do
        if type(v) == "boolean" then v = v and 1 or 0 end
        local close = a[i] == v or a[i] ~= a[i] and v ~= v
            or math.abs(a[i] - v) <= ABSOLUTE + RELATIVE * math.abs(v)
        if not close then
            return ("element %d is %.7g, wanted %.7g"):format(i, a[i], v)
        end
    end
end

--- What comes of one set of inputs and outputs; nil where all is right.
local function try(m, inputs, outputs)
    for _, path in ipairs(outputs) do
        local wanted = tensor_of(path)
        if wanted:dtype() == "f64" and wanted:to("f32"):abs():maximum() == math.huge then
            fail("its numbers are too large for f32")
        end
    end
    local results = evaluate_somehow(m, inputs)
    for i, path in ipairs(outputs) do
        local wanted, shape = tensor_of(path)
        local problem = difference(results[i], wanted, shape)
        if problem then return ("output %d: %s"):format(i, problem) end
    end
end

local function try_folder(path)
    local m = model.open(path .. "/model.onnx")
    local sets = 0
    for name in lfs.dir(path) do
        if name:find("^test_data_set_") then
            sets = sets + 1
            local inputs = {}
            for i, file in ipairs(files(path .. "/" .. name, "input")) do inputs[i] = {tensor_of(file)} end
            local problem = try(m, inputs, files(path .. "/" .. name, "output"))
            if problem then return problem end
        end
    end
    return sets == 0 and "has no test data" or nil
end

local function try_light(path)
    local m, inputs = model.open(path), {}
    for i, input in ipairs(m.inputs) do inputs[i] = {ramp(input.shape)} end
    return try(m, inputs, {(path:gsub("%.onnx$", "_output_0.pb"))})
end

local function wanted_name(name)
    for i = 2, #arg do
        if name:find(arg[i], 1, true) then return true end
    end
    return #arg == 1
end

local passed, differ, other = {}, {}, {}

local function run(name, f, path)
    if not wanted_name(name) then return end
    local ok, problem = fail.try(f, path)
    if ok and not problem then
        passed[#passed + 1] = name
    elseif ok then
        differ[#differ + 1] = name .. ": " .. problem
    else
        local text = fail.is(problem) and problem.message or tostring(problem)
        text = text:gsub(path:gsub("%p", "%%%0"), ""):gsub("^/model.onnx: ", ""):gsub("^: ", "")
        other[#other + 1] = name .. ": " .. text
    end
end

for _, kind in ipairs {"pytorch-operator", "pytorch-converted", "simple", "light"} do
    local names = {}
    for name in lfs.dir(folder .. "/" .. kind) do names[#names + 1] = name end
    table.sort(names)
    for _, name in ipairs(names) do
        local path = ("%s/%s/%s"):format(folder, kind, name)
        if kind == "light" and name:find("%.onnx$") then
            run(kind .. "/" .. name, try_light, path)
        elseif kind ~= "light" and name:find("^test_") then
            run(kind .. "/" .. name, try_folder, path)
        end
    end
end

for _, line in ipairs(other) do print("not supported  " .. line) end
for _, line in ipairs(differ) do print("DIFFERS        " .. line) end
print(("%d are not supported"):format(#other))
if #arg == 1 and #passed < LEAST then
    print(("only %d pass, where %d did"):format(#passed, LEAST))
    differ[#differ + 1] = "too few"
end
print(("%d passed, %d failed"):format(#passed, #differ))
os.exit(#differ == 0 and 0 or 1, true)
