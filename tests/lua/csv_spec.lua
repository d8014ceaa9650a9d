-- Names in tables that a spreadsheet opens: it computes what begins as a formula.

local csv = require "advrt.support.csv"
local record = require "advrt.record"
local support = require "support"
local system = require "advrt.core.system"

local experiments = system.options.root .. "/experiments/"

local names = {"=cmd|' C'!A0.png", "+1.png", "-1.png", "@SUM(A1).png", "\tx.png", "\rx.png", "\nx.png",
    "\u{FF1D}1.png"}

describe("a file's name in a table", function()
    it("is read back as it was, and begins no formula", function()
        local all = {"a.png", "./a.png", "./=a", "././-b", ".=a", "a/=b", "", ".", "./", "'x'", "1e5"}
        for _, name in ipairs(table.move(names, 1, #names, #all + 1, all)) do
            local text = csv.file(name)
            local field = csv.parse(text .. ",x\n")[1][1]
            assert.equal(name, csv.name(field), name)
            assert.is_nil(field:find("^[=+@\t\r\n-]"), name)
            assert.equal(name:find("^[=+@\t\r\n-]") ~= nil and "./" .. name or field, field)
        end
        for name, wanted in pairs {["a.png"] = "a.png", ["./a"] = "./a", ["=a"] = "./=a",
            ["a,b"] = '"a,b"'} do
            assert.equal(wanted, csv.file(name))
        end
    end)

    it("is a formula in no table of a run", function()
        local base <close> = setmetatable({path = support.folder()},
            {__close = function(self) support.remove(self.path) end})
        local images = base.path .. "/images"
        support.images(images, 6)
        local lines, i = {"file,label"}, 0
        for line in io.lines(images .. "/labels.csv") do
            local file, label = line:match("^(.-),(%d)$")
            if label then
                i = i + 1
                local name = names[i]:gsub("/", "_")
                assert(os.rename(images .. "/" .. file, images .. "/" .. name))
                -- The last ones are wrong, and left out.
                lines[#lines + 1] = ('"%s",%d'):format(name, (label + (i > 4 and 1 or 0)) % 10)
            end
        end
        support.write(images .. "/labels.csv", table.concat(lines, "\n") .. "\n")
        local count = 0
        for name, more in pairs {equal_perturbation = {"--iterations", "2", "--losses", "ce"},
            attacks = {"--attacks", "fgs"}, theorem = {"--iterations", "2", "--losses", "ce", "--margin-step",
                "50"}} do
            local dir = base.path .. "/" .. name
            local words = {experiments .. name .. ".lua", "--images", images, "--no-figures", "--out", dir}
            local status, _, err = support.advrt(table.move(more, 1, #more, #words + 1, words))
            assert.equal(0, status, err)
            for _, below in ipairs {"", "/examples"} do
                for _, file in ipairs(support.exists(dir .. below) and support.list(dir .. below) or {}) do
                    for _, row in ipairs(file:find("%.csv$")
                        and csv.parse(support.read(dir .. below .. "/" .. file)) or {}) do
                        for _, field in ipairs(row) do
                            count = count + (field:find("^%./") and 1 or 0)
                            assert.is_true(tonumber(field) ~= nil or not field:find("^[=+@\t\r\n-]"),
                                file .. ": " .. field)
                        end
                    end
                end
            end
            for r in record.each(dir .. "/records.msgpack") do assert.is_nil(r.file:find("^%./")) end
        end
        assert.is_true(count > 20, count .. " names")
    end)
end)
