-- Text for a terminal: no line is longer than a terminal's, and nothing is lost.

local lines = require "advrt.support.lines"

describe("lines", function()
    it("break between words at 100 letters", function()
        local text = ("ein Wört "):rep(40):gsub(" $", "")
        local list = lines.wrap(text)
        assert.equal(text, table.concat(list, " "))
        for i, line in ipairs(list) do
            assert.is_true(utf8.len(line) <= 100)
            assert.is_true(i == #list or utf8.len(line) > 95)
        end
        assert.same({("x"):rep(120), "y"}, lines.wrap(("x"):rep(120) .. " y"))
        assert.same({}, lines.wrap "")
    end)

    it("hold columns as wide as their texts, and long first texts apart", function()
        assert.same({"a   b", "±±  1  c", "long name", "    2"}, lines.columns({{"a", "b"}, {"±±", "1", "c"},
            {"long name", "2"}}, 4))
    end)

    it("put columns that do not fit below, with the first again", function()
        local rows = {}
        for i = 1, 3 do
            rows[i] = {"row " .. i}
            for k = 2, 12 do rows[i][k] = ("%d.%d"):format(i, k) .. ("x"):rep(10) end
        end
        local list = lines.columns(rows, 10)
        for _, line in ipairs(list) do assert.is_true(#line <= 100, line) end
        local text = table.concat(list, "\n")
        for i = 1, 3 do
            for k = 2, 12 do
                assert.equal(1, select(2, text:gsub(("%d%%.%dx"):format(i, k), "")), i .. " " .. k)
            end
        end
        assert.equal(2 * 3 + 1, #list)
        assert.equal("", list[4])
        assert.matches("^row 1  1%.%d+x", list[5])
    end)
end)
