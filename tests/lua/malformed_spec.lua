-- Malformed weight files are each refused with a line of their own (tests/malformed.lua).

local malformed = require "malformed"
local support = require "support"
local tensor = require "advrt.tensor"

local LEAST = 30 -- of each format

describe("malformed weight files", function()
    local path
    before_each(function() path = os.tmpname() end)
    after_each(function() os.remove(path) end)

    for format, files in pairs(malformed) do
        it(("of %s are refused, each with its message"):format(format), function()
            local tensors = assert(tensor.load(support.write(path, files.good)))
            assert.same({0, 1}, {tensors.a:get(1), tensors.a:get(2)})
            for i, bytes in ipairs(files.more or {}) do
                assert.is_truthy(tensor.load(support.write(path, bytes)), ("%s more %d"):format(format, i))
            end
            assert.is_true(#files >= LEAST)
            local seen = {}
            for i, file in ipairs(files) do
                local got, message = tensor.load(support.write(path, file[1]))
                assert.is_nil(got, ("%s %d was read, wanted: %s"):format(format, i, file[2]))
                assert.equal(path .. ": " .. file[2], message, ("%s %d"):format(format, i))
                assert.is_nil(seen[file[1]], ("%s %d is there twice"):format(format, i))
                seen[file[1]] = true
            end
        end)
    end
end)
