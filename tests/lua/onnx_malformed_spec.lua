-- Malformed ONNX models are each refused with a line of their own (tests/malformed_onnx.lua).

local malformed = require "malformed_onnx"
local net = require "advrt.net"
local support = require "support"
local tensor = require "advrt.tensor"

local LEAST = 40

describe("malformed ONNX models", function()
    local folder, path
    before_each(function()
        folder = support.folder()
        path = folder .. "/model.onnx"
    end)
    after_each(function() support.remove(folder) end)

    it("are refused, each with its message", function()
        local x = tensor.from {{1, 2, 3}}:reshape {1, 3, 1, 1}
        for i, bytes in ipairs {malformed.good, table.unpack(malformed.more)} do
            local g, message = net.load(support.write(path, bytes))
            assert.is_truthy(g, ("%d: %s"):format(i, message))
            assert.same({{1 + 4.5, 2 + 0.75}}, g:forward(x):totable())
        end
        assert.is_true(#malformed >= LEAST)
        local seen = {}
        for i, case in ipairs(malformed) do
            local got, message = net.load(support.write(path, case[1]))
            assert.is_nil(got, ("%d was read, wanted: %s"):format(i, case[2]))
            assert.equal(path .. ": " .. tostring(case[2]), message, tostring(i))
            assert.is_nil(seen[case[1]], ("%d is there twice"):format(i))
            seen[case[1]] = true
        end
    end)
end)
