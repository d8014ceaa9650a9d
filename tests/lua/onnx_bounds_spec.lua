-- ONNX models that share one thing in many places, or compute much from little: what reading one takes of
-- memory and time goes with the size of its files. Each is read by a process of its own.

local onnx = require "onnx"
local support = require "support"

local SECONDS = 15 -- of the processor; the longest takes a fifth of it
local RESIDENT = 640 << 20 -- 2^25 numbers of Lua, and the program

local measure = [[
    local g, message = require "advrt.net".load(...)
    local status = io.open("/proc/self/status"):read("a")
    print(os.clock(), status:match("VmHWM:%s*(%d+) kB"), g and "read" or message)
]]

describe("an ONNX model's memory and time", function()
    local dir
    before_each(function() dir = support.folder() end)
    after_each(function() support.remove(dir) end)

    --- Reads a net of K inputs and as many outputs; fails where it takes more than a few seconds or much
    -- memory. Returns what was said, without the path.
    local function read(K, nodes, initializers)
        local path = support.write(dir .. "/model.onnx", onnx.model {graph = {nodes = nodes,
            initializers = initializers, inputs = {onnx.value("x", {"N", K})},
            outputs = {onnx.value("z", {"N", K})}}})
        local script = support.write(dir .. "/measure.lua", measure)
        local status, out, err = support.advrt({script, path}, "timeout 100")
        assert.equal(0, status, err)
        local seconds, resident, said = out:match("^(%S+)%s+(%S+)%s+(.*)\n$")
        if not support.sanitized() then
            assert.is_true(tonumber(seconds) < SECONDS, seconds .. " s")
            assert.is_true(tonumber(resident) * 1024 < RESIDENT, resident .. " kB")
        end
        return (said:gsub("^.*/model.onnx: ", ""))
    end

    --- Nodes in a row from x to z, each of make(i, what it reads, what it makes).
    local function chain(n, make, from, to)
        local nodes = {}
        for i = 1, n do
            nodes[i] = make(i, i == 1 and (from or "x") or "h" .. i - 1, i == n and (to or "z") or "h" .. i)
        end
        return nodes
    end

    local function joined(...)
        local all = {}
        for _, list in ipairs {...} do table.move(list, 1, #list, #all + 1, all) end
        return all
    end

    --- A constant "c" of n zeros, and what adds the sum of `name` to x.
    local function zeros() return onnx.node("ConstantOfShape", {"shape"}, {"c"}) end
    local function ending(name)
        return {onnx.node("ReduceSum", {name}, {"sum"}), onnx.node("Add", {"x", "sum"}, {"z"})}
    end

    it("are bounded where hundreds of layers have one initializer", function()
        local K = 512
        local function layers(n, name)
            return chain(n, function(i, from, to) return onnx.node("MatMul", {from, name(i)}, {to}) end)
        end
        local raw = ("\0"):rep(4 * K * K)
        local one = {onnx.tensor {name = "w", dims = {K, K}, raw = raw}}
        assert.equal("read", read(K, layers(12, function() return "w" end), one))
        local said = "^its layers' parameters would take %d+ bytes or more, far more than the %d+ of the file"
        assert.matches(said, read(K, layers(150, function() return "w" end), one))
        -- In another file, whose bytes each of them names; and none of its own.
        support.write(dir .. "/weights.bin", raw)
        local many = {}
        for i = 1, 150 do
            many[i] = onnx.tensor {name = "w" .. i, dims = {K, K}, external = {location = "weights.bin"}}
        end
        assert.matches(said, read(K, layers(150, function(i) return "w" .. i end), many))
        local large = {onnx.tensor {name = "w", dims = {1 << 17, 1 << 17}, raw = raw}}
        assert.matches(said, read(1 << 17, layers(1, function() return "w" end), large))
    end)

    it("are bounded where weights are filled with one number", function()
        local function layer(K)
            local nodes = {zeros(), onnx.node("MatMul", {"x", "c"}, {"z"})}
            return read(K, nodes, {onnx.wholes("shape", {K, K})})
        end
        assert.equal("read", layer(4096)) -- 64 MiB of a file of 200 bytes
        assert.matches("^its layers' parameters would take 1073872900 bytes or more", layer(16385))
    end)

    it("are bounded where thousands of tensors lie in one other file", function()
        local many = {}
        support.write(dir .. "/weights.bin", ("\0"):rep(4 << 20))
        for i = 1, 4000 do
            many[i] = onnx.tensor {name = "w" .. i, dims = {2, 2},
                external = {location = "weights.bin", offset = 16 * i}}
        end
        assert.equal("read", read(2, chain(4000, function(i, from, to)
            return onnx.node("MatMul", {from, "w" .. i}, {to})
        end), many))
    end)

    it("are bounded where thousands of layers have weights of one name", function()
        assert.equal("read", read(2, chain(8000, function(_, from, to)
            return onnx.node("MatMul", {from, "w.weight"}, {to})
        end), {onnx.reals("w.weight", {2, 2}, {1, 0, 0, 1})}))
    end)

    it("are bounded where constants are computed from one another", function()
        local function negatives(n)
            return chain(n, function(_, from, to) return onnx.node("Neg", {from}, {to}) end, "c", "last")
        end
        local nodes = joined({zeros()}, negatives(3), ending "last")
        assert.equal("read", read(2, nodes, {onnx.wholes("shape", {1000})}))
        nodes = joined({zeros()}, negatives(100), ending "last")
        assert.matches("Neg of constants, more than the %d+ numbers that the file's size allows",
            read(2, nodes, {onnx.wholes("shape", {1 << 20})}))
        -- Each of the products reads the one before twice.
        local squares = chain(40, function(_, from, to) return onnx.node("MatMul", {from, from}, {to}) end,
            "w", "last")
        assert.equal("read", read(2, joined(squares, {onnx.node("MatMul", {"x", "last"}, {"z"})}),
            {onnx.reals("w", {2, 2}, {1, 0, 0, 1})}))
    end)

    it("are bounded where one constant is taken over and over", function()
        local said = "of constants of %d numbers, more than 16777216"
        local list = {}
        for i = 1, 4000 do list[i] = "c" end
        assert.truthy(read(2, joined({zeros(), onnx.node("Concat", list, {"all"}, {axis = 0})}, ending "all"),
            {onnx.wholes("shape", {1 << 20})}):find("Concat " .. said:format(4000 << 20), 1, true))
        local index = {value = {tensor = onnx.tensor {dims = {1}, type = 7, raw = onnx.whole {0}}}}
        assert.truthy(read(2, joined({zeros(), onnx.node("ConstantOfShape", {"times"}, {"i"}, index),
            onnx.node("Gather", {"c", "i"}, {"all"})}, ending "all"),
            {onnx.wholes("shape", {1, 1 << 15}), onnx.wholes("times", {1 << 20})})
            :find("Gather " .. said:format(1 << 35), 1, true))
        assert.truthy(read(2, joined({onnx.node("MatMul", {"a", "b"}, {"all"})}, ending "all"),
            {onnx.tensor {name = "a", dims = {1 << 15, 1}, raw = ("\0"):rep(1 << 17)},
                onnx.tensor {name = "b", dims = {1, 1 << 15}, raw = ("\0"):rep(1 << 17)}})
            :find("MatMul " .. said:format(1 << 30), 1, true))
    end)
end)
