--- Puts finished runs side by side in one page, report.html, and compares the same losses in them.
--
--     advrt experiments/compare.lua runs/equal_multiplier-... runs/equal_perturbation-... --out runs/both

local comparison = require "advrt.results.comparison"
local fail = require "advrt.support.fail"
local folder = require "advrt.run.folder"
local latex = require "advrt.results.latex"
local options = require "advrt.support.options"
local report = require "advrt.results.report"
local tables = require "advrt.results.tables"

local o = options.parse(arg, {
    name = "compare.lua",
    description = "Puts finished runs side by side in one page, report.html.",
    uses = {
        {"runs/a runs/b", "two runs on one page, in a new folder of runs/"},
        {"runs/a runs/b --out runs/both", "the same in a folder that you name"},
        {"runs/a runs/b runs/c", "three runs; every pair is compared"},
    },
    options = {"out"},
    arguments = {{"run", "folder of a finished run", "+"}},
})
if #o.run < 2 then fail.option("give the folders of two runs or more") end
local out <close> = folder.claim(o.out, "compare")
local rows = report.write(out, o.run)
local text = comparison.text(rows, comparison.columns, function(row)
    return ("%s: run %s - run %s"):format(tables.title(row.loss), row.run_a, row.run_b)
end, {"Median difference on images that both flip, 95 % interval; p: Wilcoxon, Holm-adjusted."})
if text ~= "" then print(text) end
local header = comparison.paired_header "run"
table.insert(header, 3, "loss")
for _, row in ipairs(rows) do
    for _, side in ipairs {"run_a", "run_b"} do row[side] = o.run[tonumber(row[side])] end
end
latex.write(out, "paired", tables.csv(header, rows))
print(("Report: %s"):format(out:file("report.html")))
