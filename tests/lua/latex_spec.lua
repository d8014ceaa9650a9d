-- CSV tables as LaTeX.

local latex = require "advrt.results.latex"
local support = require "support"
local tables = require "advrt.results.tables"

local function rows_of(text)
    local rows = {}
    for row in text:match("\\midrule\n(.*)\\bottomrule"):gmatch "(.-) \\\\\n" do
        rows[#rows + 1] = {}
        for cell in (row .. " & "):gmatch "(.-) & " do table.insert(rows[#rows], cell) end
    end
    return rows
end

-- Whether braces close, and nothing in a text is a command that it should not be.
local function is_balanced(text)
    local depth = 0
    for brace in text:gsub("\\[{}]", ""):gmatch "[{}]" do
        depth = depth + (brace == "{" and 1 or -1)
        assert.is_true(depth >= 0, text)
    end
    assert.equal(0, depth, text)
    local _, dollars = text:gsub("\\%$", ""):gsub("%$", "")
    assert.equal(0, dollars % 2, text)
end

describe("a table as LaTeX", function()
    it("has the rows and columns of the CSV, in booktabs' style", function()
        local rows = {}
        for i, name in ipairs {"ce", "ce_sign", "own_loss:a=1"} do
            rows[i] = {setting = "equal_multiplier", loss = name, images = 100, flipped = 10 * i,
                iterations_mean = 12.3456 * i, iterations_std = i == 1 and 0 / 0 or 0.5, common_images = 7,
                common_mean = 9.0, common_low = -1.25, common_high = 123.456, seconds = 0.00012345}
        end
        local text = latex.table(tables.table1_csv(rows))
        assert.matches("^%% \\usepackage{booktabs}\n\\begin{tabular}{llrrrrrrrrr}\n\\toprule\n"
            .. "setting & loss & images & flipped & iterations mean & iterations std & ", text)
        assert.matches("\\bottomrule\n\\end{tabular}\n$", text)
        local shown = rows_of(text)
        assert.same({"equal multiplier", "CE", "100", "10", "12.3", "--", "7", "9", "$-1.25$", "123",
            "0.000123"},
            shown[1])
        assert.same({"equal multiplier", "own\\_loss:a=1", "100", "30", "37.0", "0.500"},
            {table.unpack(shown[3], 1, 6)})
        is_balanced(text)
    end)

    it("shows every character of a text, and runs none", function()
        for text, wanted in pairs {["a_b"] = "a\\_b", ["50 % & $x$ #1"] = "50 \\% \\& \\$x\\$ \\#1",
            ["\\input{/etc/passwd}"] = "\\textbackslash{}input\\{/etc/passwd\\}", ["~^"] =
                "\\textasciitilde{}"
                .. "\\textasciicircum{}", ["a--b"] = "a-{}-b", ["<a|b>"] =
                    "\\textless{}a\\textbar{}b\\textgreater{}",
            ["é ü"] = "é ü"} do
            assert.equal(wanted, latex.escape(text))
            is_balanced(wanted)
        end
        assert.is_nil(latex.escape("a\n\\b\27[1m"):find "[%c]")
        local shown = latex.table('attack,n\n"[1,\\x] ""q""",1\n')
        assert.truthy(shown:find("\n{[}1,\\textbackslash{}x] \\char34{}q\\char34{} & 1 \\\\\n", 1,
            true), shown)
    end)

    it("rounds a column to three digits of its largest number", function()
        local function column(...)
            local list = {}
            for i, row in ipairs(rows_of(latex.table("x\n" .. table.concat({...}, "\n") .. "\n"))) do
                list[i] = row[1]
            end
            return list
        end
        assert.same({"12.3", "0.1", "--"}, column("12.3456", "0.123", "nan"))
        assert.same({"1235", "$-0.5$"}, {column("1234.5678")[1], column("30.25", "-0.5")[2]})
        assert.same({"0.500", "$1.00 \\times 10^{-9}$", "0.000"}, column("0.5", "1e-9", "0.0"))
        assert.same({"$1.23 \\times 10^{-8}$"}, column("1.23e-8"))
        assert.same({"$\\infty$", "$-\\infty$", "1.00"}, column("inf", "-inf", "1.0"))
        assert.same({"3", "$-4$", "12345678"}, column("3", "-4", "12345678"))
        assert.same({"3", "--", "$\\infty$"}, column("3", "nan", "inf"))
        assert.same({}, column())
        local given = latex.table "eps,strength\n0.003921568627,7\n8e-06,0.05\n0,nan\n"
        assert.same({{"0.003922", "7"}, {"$8 \\times 10^{-6}$", "0.05"}, {"0", "--"}}, rows_of(given))
        assert.same({"8bit", "2"}, column("8bit", "2")) -- one text makes a column of texts
    end)

    it("rounds each quantity of a column to its own digits", function()
        local text = latex.table("loss_a,loss_b,quantity,n,mean\nce,m_logit,flipped,10,10\n"
            .. "ce,m_logit,l2,10,0.42734\nce,own_loss,iterations,7,-12.25\nce,own_loss,l2,7,0.00813\n")
        assert.same({{"CE", "M-Logit", "flipped", "10", "10"}, {"CE", "M-Logit", "l2", "10", "0.427"},
            {"CE", "own\\_loss", "iterations", "7", "$-12.2$"}, {"CE", "own\\_loss", "l2", "7", "0.008"}},
            rows_of(text))
    end)

    it("shows p values as a run prints them", function()
        assert.same({{"1.0000", "0.0156"}, {"\\textless{}0.0001", "0.0469"}, {"--", "1.0000"}},
            rows_of(latex.table "p,p_holm\n1,0.015625\n1.5e-9,0.046875\nnan,1\n"))
    end)

    it("stands beside the CSV", function()
        local dir = support.folder()
        local out = {write = function(_, name, text) support.write(dir .. "/" .. name, text) end}
        latex.write(out, "t", "a,b\n1,x\n")
        assert.equal("a,b\n1,x\n", support.read(dir .. "/t.csv"))
        assert.equal(latex.table "a,b\n1,x\n", support.read(dir .. "/t.tex"))
        support.remove(dir)
    end)
end)
