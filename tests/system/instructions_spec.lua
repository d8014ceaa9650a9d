-- Counts of instructions: a loop too many is told by its work's name.

local support = require "tests.support"
local system = require "advrt.core.system"

local SCRIPT = "tests/bench/instructions.lua"
-- Each file of comma-separated values is read twice.
local TWICE = [[local c = require 'advrt.support.csv'; local parse = c.parse
function c.parse(text) if #text > 1000 then parse(text) end; return parse(text) end]]

--- valgrind runs no program that is built with AddressSanitizer.
local function can_count()
    return os.execute("command -v valgrind >/dev/null")
        and not os.execute("grep -q __asan_init " .. support.quote(system.options.executable))
end

describe("counts of instructions", function()
    local folder, numbers
    before_each(function()
        folder = support.folder()
        numbers = folder .. "/numbers.csv"
    end)
    after_each(function() support.remove(folder) end)

    it("name the work that got dearer", function()
        if not can_count() then return pending("valgrind is absent, or advrt has sanitizers in it") end
        local known = support.read("tests/bench/instructions.csv")
        local status, said, err = support.advrt {SCRIPT, "--works", "csv"}
        assert.equal("", err)
        assert.equal(0, status)
        assert.matches("^csv +%d+ instructions, +%d+ before: [+-]%d", said)
        status, said, err = support.advrt({SCRIPT, "--works", "csv"}, "LUA_INIT=" .. support.quote(TWICE))
        assert.equal(1, status)
        assert.matches("before: %+[89]%d[^\n]*DEARER", said)
        assert.matches("^advrt: instructions: csv %+[89]%d%.%d %%\n$", err)
        support.write(numbers, (known:gsub("\ncsv,%d+", "\ncsv,9999999")))
        status, said = support.advrt {SCRIPT, "--works", "csv", "--numbers", numbers}
        assert.equal(1, status)
        assert.truthy(said:find("cheaper; write the numbers anew", 1, true), said)
    end)

    it("are left out in one line where they cannot be taken", function()
        local bin = folder .. "/bin"
        assert(os.execute("mkdir " .. bin .. " && ln -s /bin/sh /bin/rm " .. bin))
        local status, said = support.advrt({SCRIPT}, "PATH=" .. support.quote(bin))
        assert.equal(0, status)
        assert.equal("instructions are not counted: valgrind is not found\n", said)
        support.write(numbers, "work,instructions\noneDNN,1.0.0\n")
        status, said = support.advrt {SCRIPT, "--numbers", numbers}
        assert.equal(0, status)
        assert.matches("^instructions are not counted: the numbers are of oneDNN 1.0.0, this is [^\n]*\n$",
            said)
    end)

    it("refuse what makes no sense", function()
        for _, words in ipairs {{"--works", "dance"}, {"--write", "--works", "csv"}} do
            local status, _, err = support.advrt {SCRIPT, table.unpack(words)}
            assert.equal(2, status)
            assert.matches("^advrt: [^\n]+\n$", err)
        end
        local status, _, err = support.advrt {SCRIPT, "--numbers", numbers}
        assert.equal(1, status)
        assert.matches("^advrt: [^\n]*No such file[^\n]*\n$", err)
    end)
end)
