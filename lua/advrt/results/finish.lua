--- The results of a run besides its records, all computed from them: tables, figures, examples,
-- kept images, run.json. It serves runs that finish and runs merged from shards.

local comparison = require "advrt.results.comparison"
local count_of = require "advrt.support.count"
local csv = require "advrt.support.csv"
local examples = require "advrt.results.examples"
local fail = require "advrt.support.fail"
local figures = require "advrt.results.figures"
local keep = require "advrt.run.keep"
local latex = require "advrt.results.latex"
local loss = require "advrt.loss"
local plot = require "advrt.plot"
local report = require "advrt.results.report"
local run_json = require "advrt.run.run_json"
local tables = require "advrt.results.tables"

local results = {}

-- The modules that write the results of settings other than equal multiplier and equal
-- perturbation. Each has a function `write` and, optionally, `sum`.
local others = {attacks = "advrt.results.attacks", robustness = "advrt.results.robustness",
    theorem = "advrt.paper.theorem_report"}

--- The module that writes the results of a setting's runs. write(out, run) fills a run's folder,
-- which contains records.msgpack, and returns a function that prints the results; see
-- results.write for the fields of run. The optional sum(run, list) adds to `run` what it needs
-- from shards (shards.read).
function results.of(setting) return others[setting] and require(others[setting]) or results end

--- The names of the classes in order, from the text of classes.txt.
function results.class_names(text)
    local names = {}
    for name in text:gmatch("([^\n]*)\n?") do names[#names + 1] = (name:gsub("\r$", "")) end
    return names
end

--- The text of left_out.csv from its lines.
function results.left_out_csv(lines) return "file,label,prediction,reason\n" .. lines end

--- One line of left_out.csv: an image that was not attacked, its predicted class, and the reason.
-- The reasons: "wrong" on the clean image; already the "target" class; or the problem with its
-- file, with class -1.
function results.left_out_line(file, label, prediction, reason)
    return ("%s,%d,%d,%s\n"):format(csv.file(file), label, prediction, csv.text(reason))
end

--- Fails unless records.msgpack in the run's folder `out` has as many records as the attacked
-- images need. held: number of records found; each: records per image. A shard's file may have
-- been cut off at the end of a record.
function results.check_count(out, held, each, counts)
    local wanted = each * counts.attacked
    if held ~= wanted then
        fail("%s: holds %d records, %d attacked images have %d", out:file("records.msgpack"), held,
            counts.attacked, wanted)
    end
end

--- Lines about user-defined losses that flip no image and, on average, lead away from the target.
local function wrong_signs(summary)
    local lines, last = {}, summary.iterations
    for _, one in ipairs(summary.losses) do
        local z, p = one.curves.z_target.mean, one.curves.p_target.mean
        if #one.flips == 0 and z[last] < z[0] and p[last] <= p[0] and not loss.is_builtin(one.name) then
            lines[#lines + 1] = ("%s lowers the target's logit (from %.3g to %.3g, mean). Is its sign wrong? "
                .. "An attack ascends a loss."):format(one.name, z[0], z[last])
        end
    end
    return lines
end

--- Draws figures into the folder `out`, which contains the examples' pictures. list: array of
-- {name, figure}, see results.write; form: a result of plot.form, optional; shown: a result of
-- examples.read. Returns the names.
function results.draw(out, list, summary, form, shown)
    local names, drawn = {}, {}
    for _, figure in ipairs(list) do
        if not figures.known[figure[2]] then
            fail("%s: run.json names the figure '%s', which this version does not have", figure[1], figure[2])
        end
        if not (shown.no_picture and figure[2] == "fig5") then drawn[#drawn + 1] = figure end
    end
    for i, figure in ipairs(drawn) do
        names[i] = figure[1]
        out:write(figure[1] .. ".gp", figures[figure[2]](figure[1], summary, form, shown))
    end
    plot.draw(out.path, names)
    return names
end

--- Adds to a summary what figures show of a run besides its records. about: its run.json; classes:
-- the text of classes.txt, or nil.
function results.describe(summary, about, classes)
    summary.setting, summary.options = about.setting, about.options
    summary.classes = classes and results.class_names(classes)
end

--- Fills the run's folder `out`, which contains records.msgpack and the examples' pictures.
--
--   run.about       the result of run_json.start
--   run.counts      {found, wrong, left_out, bad, attacked}: numbers of images
--   run.seconds     loss name -> seconds
--   run.left        lines of left_out.csv, one text
--   run.figures     array of {name, figure}: the name of the picture and the function of
--                   advrt.results.figures that draws it; none are drawn if run.no_figures
--   run.form        a result of plot.form, optional: how to draw them
--   run.classes     the text of classes.txt, or nil
--   run.input       {C,H,W}; run.pixels: the argument of keep.save, if images are kept
--
-- Returns a function that prints the results.
function results.write(out, run)
    local about = run.about
    local o = about.options
    local summary = tables.summarise(out:file("records.msgpack"), o.losses, o.iterations, o.seed)
    results.check_count(out, #summary.least, #o.losses, run.counts)
    results.describe(summary, about, run.classes)
    local rows = tables.table1(summary, about.setting, run.seconds)
    latex.write(out, "table1", tables.table1_csv(rows))
    out:write("curves.csv", tables.curves_csv(summary))
    out:write("least_perturbation.csv", tables.least_perturbation_csv(summary))
    local found = summary.comparison:finish(o.seed)
    latex.write(out, "paired", tables.csv(comparison.paired_header "loss", found.paired))
    latex.write(out, "survival", tables.csv(comparison.survival_header, found.survival))
    out:write("left_out.csv", results.left_out_csv(run.left))
    if run.classes then out:write("classes.txt", run.classes) end
    local shown = examples.read(out.path)
    if not shown.no_picture then examples.save(out, shown) end
    if run.pixels then
        keep.save(out, o.losses, o.save_adversarial, run.input, run.pixels)
    end
    run_json.finish(about, run.counts, run.seconds)
    local names = {}
    if not run.no_figures and run.counts.attacked > 0 then
        names = results.draw(out, run.figures, summary, run.form, shown)
    end
    run_json.write(out, about)
    report.write(out, {out.path}, true)
    return function()
        results.say(out, run.counts, {tables.table1_text {rows},
            comparison.losses_text(found, about.setting, tables.title)}, names, wrong_signs(summary),
            shown.no_picture)
    end
end

--- A line about the number of a run's images.
function results.images_text(counts)
    local bad = counts.bad or 0
    return ("%s, %d right on the clean image (%.2f %%), %d attacked%s%s"):format(
        count_of(counts.found, "image"), counts.found - counts.wrong,
        100 * (counts.found - counts.wrong) / math.max(1, counts.found), counts.attacked, counts.left_out > 0
            and (", %d of the target class left out"):format(counts.left_out) or "",
        bad > 0 and (", %s left out"):format(count_of(bad, "bad file")) or "")
end

--- Prints the results of a run: a line about its images, texts of tables, lines about the losses,
-- and the paths. no_examples: true if the run wrote no examples/ folder.
function results.say(out, counts, texts, pictures, lines, no_examples)
    print(results.images_text(counts) .. "\n")
    for _, text in ipairs(texts) do
        if text ~= "" then print(text) end
    end
    for _, line in ipairs(lines) do print(line) end
    if #pictures > 0 then
        print(("Pictures: %s/{%s}.{svg,png,pdf}%s"):format(out.path, table.concat(pictures, ","),
            no_examples and "" or (" and %s/examples/"):format(out.path)))
    end
    print(("Records and tables: %s/"):format(out.path))
    print(("Report: %s"):format(out:file("report.html")))
end

return results
