--- Puts finished runs side by side in one page, report.html.
--
--     advrt experiments/compare.lua runs/equal_multiplier-... runs/equal_perturbation-... --out runs/both

local fail = require "advrt.support.fail"
local folder = require "advrt.run.folder"
local options = require "advrt.support.options"
local report = require "advrt.results.report"

local o = options.parse(arg, {
    name = "compare.lua",
    description = "Puts finished runs side by side in one page, report.html.",
    options = {"out"},
    arguments = {{"run", "folder of a finished run", "+"}},
})
if #o.run < 2 then fail.option("give the folders of two runs or more") end
local out <close> = folder.claim(o.out, "compare")
report.write(out, o.run)
print(("Report: %s"):format(out:file("report.html")))
