--- Draws the figures of a finished run again, in another size or with other bands, into a separate
-- folder.
--
--     advrt experiments/figures.lua runs/equal_perturbation-... --figure-size column --no-titles

local csv = require "advrt.support.csv"
local examples = require "advrt.results.examples"
local fail = require "advrt.support.fail"
local folder = require "advrt.run.folder"
local options = require "advrt.support.options"
local plot = require "advrt.plot"
local results = require "advrt.results.finish"
local run_json = require "advrt.run.run_json"
local tables = require "advrt.results.tables"

local o = options.parse(arg, {
    name = "figures.lua",
    description = "Draws a finished run's figures again, in another size or with other bands.",
    uses = {
        {"runs/a", "draw the run's figures again, in a new folder of runs/"},
        {"runs/a --figure-size column --no-titles", "for one column of a paper"},
        {"runs/a --bands sd --out runs/a-sd", "with bands of one standard deviation"},
    },
    options = {"out"}, figures = "always", bands = true,
    arguments = {{"run", "folder of a finished run of equal_multiplier.lua or equal_perturbation.lua"}},
})
plot.check()
local about, problem = run_json.read(o.run)
if not about then fail("%s", problem) end
if #(about.figures or {}) == 0 then
    fail("%s: holds a run of %s; only that script draws its figures, with the same options", o.run,
        about.setting)
end
run_json.check_files(o.run, about, nil, "adversarial.safetensors")
if about.images_attacked == 0 then fail("%s: no image was attacked, so there is nothing to draw", o.run) end
local summary = tables.summarise(o.run .. "/records.msgpack", about.options.losses, about.options.iterations,
    about.options.seed)
results.describe(summary, about, csv.read_optional(o.run .. "/classes.txt"))
local shown = examples.read(o.run)

local out <close> = folder.claim(o.out, "figures")
examples.copy(out, 1, o.run)
local names = results.draw(out, about.figures, summary, plot.form(o), shown)
out:keep()
print(("Figures: %s/{%s}.{svg,png,pdf}"):format(out.path, table.concat(names, ",")))
