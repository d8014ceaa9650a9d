-- --help of every experiment: what it is for, its three commonest uses, then the options. The options in
-- these uses are ones that there are, and their values are read.

local lfs = require "lfs"
local support = require "tests.support"
local system = require "advrt.core.system"

local root = system.options.root

local function help_of(script, ...)
    local status, out, err = support.advrt {"--device", "cpu", script, ...}
    return status == 0 and out or nil, err
end

--- The uses in a help: {words =, text =}, words those behind `advrt SCRIPT`.
local function uses_of(script, help)
    local list = {}
    local part = help:match("^[^\n]+%.\n\nCommon uses:\n(.-)\n\nUsage: " .. script .. "%.lua ") or ""
    for words, text in (part .. "\n"):gmatch("   advrt " .. script .. "([^\n]*)\n       (%l?[^\n]+)\n") do
        local one = {text = text}
        for word in words:gmatch("%S+") do one[#one + 1] = word end
        list[#list + 1] = one
    end
    return list
end

describe("--help of an experiment", function()
    it("begins with three uses, whose options are read", function()
        local count = 0
        for file in lfs.dir(root .. "/experiments") do
            local script = file:match("^([%w_]+)%.lua$")
            if script then
                local help = assert(help_of(script, "--help"))
                local uses = uses_of(script, help)
                assert.equal(3, #uses, script)
                for _, use in ipairs(uses) do
                    assert.is_true(#use.text > 0 and #use.text < 90, script)
                    if #use > 0 then
                        use[#use + 1] = "--help"
                        assert(help_of(script, table.unpack(use)))
                    end
                end
                for line in help:gmatch("[^\n]+") do assert.is_true(utf8.len(line) <= 100, line) end
                count = count + 1
            end
        end
        assert.equal(18, count)
    end)

    it("would not pass with an option or a value that there is not", function()
        assert.is_nil((help_of("equal_perturbation", "--magnitudes", "1", "--help")))
        assert.is_nil((help_of("equal_perturbation", "--norm", "3", "--help")))
        assert.is_nil((help_of("table1", "runs/a", "runs/b", "runs/c", "--help")))
        assert.same({}, uses_of("show", "Lists layers.\n\nUsage: show.lua [-h]\n"))
    end)
end)
