--- The device of plain loops (tests/plain), loaded as anybody's device is, computes a whole experiment.

local csv = require "advrt.support.csv"
local lfs = require "lfs"
local support = require "tests.support"
local system = require "advrt.core.system"

-- Of the column's largest value. Rounding decides whether a ReLU lets an input through that is almost 0
-- (a gradient's norm then moves by up to 7e-4 here), and the sign of an element of the gradient that is
-- almost 0, by which CE-sign takes a step (3e-3).
local CLOSE, CLOSE_BY_SIGN = 2e-3, 1e-2

local function table_of(path) return assert(csv.parse(support.read(path))) end

describe("the plain device", function()
    local folder, beside
    setup(function()
        folder = support.folder()
        beside = system.options.executable:match("^(.*/)")
        if not lfs.attributes(beside .. "tests/advrt_plain.so") then beside = beside .. "../" end
    end)
    teardown(function() support.remove(folder) end)

    local function demo(device, out)
        return support.advrt({"--device", device, "--plan", "direct", "experiments/equal_perturbation.lua",
            "--limit", "4", "--batch", "4", "--iterations", "5", "--no-figures", "--out", out},
            "env ADVRT_PLUGINS=" .. support.quote(beside .. "tests"))
    end

    it("draws the curves that the CPU draws", function()
        for _, device in ipairs {"plain", "cpu"} do
            local status, _, err = demo(device, folder .. "/" .. device)
            assert.equal(0, status, err)
        end
        local got, wanted = table_of(folder .. "/plain/curves.csv"), table_of(folder .. "/cpu/curves.csv")
        assert.equal(1 + 4 * 6, #wanted)
        assert.equal(#wanted, #got)
        for column, name in ipairs(wanted[1]) do
            local largest, last = 0, name:find("_std$") and 1 or #wanted -- the means alone
            for i = 2, last do
                largest = math.max(largest, math.abs(tonumber(wanted[i][column]) or 0))
            end
            for i = 2, last do
                local a, b = tonumber(got[i][column]), tonumber(wanted[i][column])
                if not b then
                    assert.equal(wanted[i][column], got[i][column])
                elseif math.abs(a - b) > (wanted[i][1] == "ce_sign" and CLOSE_BY_SIGN or CLOSE) * largest then
                    error(("row %d, %s: %g on the plain device, %g on the CPU"):format(i, name, a, b))
                end
            end
        end
    end)

    it("is named among those found where a name is wrong", function()
        local status, _, err = demo("plane", folder .. "/none")
        assert.equal(2, status)
        assert.matches("plain", err)
        assert.is_false(support.exists(folder .. "/none"))
    end)
end)
