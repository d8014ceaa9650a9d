--- What a run leaves besides its records, all computed from them: tables, figures, examples, kept
-- images, run.json. A run that finishes and one that is merged from shards come through here.

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

-- Of what other settings leave besides their records, where they are not equal multiplier or equal
-- perturbation: a module with the functions write and, optional, sum.
local others = {attacks = "advrt.results.attacks", robustness = "advrt.results.robustness",
    theorem = "advrt.paper.theorem_report"}

--- What writes the results of a setting's runs: write(out, run) fills a run's folder, which holds
-- records.msgpack, and returns a function that says what came out (results.write tells what run has);
-- sum(run, list), where it is there, adds to `run` what it wants of shards (shards.read) besides.
function results.of(setting) return others[setting] and require(others[setting]) or results end

--- The names of the classes, in their order, from the text of classes.txt.
function results.class_names(text)
    local names = {}
    for name in text:gmatch("([^\n]*)\n?") do names[#names + 1] = (name:gsub("\r$", "")) end
    return names
end

--- The text of left_out.csv, of its lines.
function results.left_out_csv(lines) return "file,label,prediction,reason\n" .. lines end

--- One line of left_out.csv: an image that was not attacked, the class that the net gives it, and
-- why: "wrong" on the clean image, of the "target" class itself, or what is bad about its file, where the
-- class is -1.
function results.left_out_line(file, label, prediction, reason)
    return ("%s,%d,%d,%s\n"):format(csv.file(file), label, prediction, csv.text(reason))
end

--- Fails unless records.msgpack in the run's folder `out` holds as many records as were made of the
-- images attacked: `held` of them, `each` an image. A shard's file may have been cut off where a record
-- ends.
function results.check_count(out, held, each, counts)
    local wanted = each * counts.attacked
    if held ~= wanted then
        fail("%s: holds %d records, %d attacked images have %d", out:file("records.msgpack"), held,
            counts.attacked, wanted)
    end
end

--- Lines on losses of the user's own that flip nothing and lead away from the target, in the mean.
local function wrong_signs(summary)
    local lines, last = {}, summary.iterations
    for _, one in ipairs(summary.losses) do
        local z, p = one.curves.z_target.mean, one.curves.p_target.mean
        if #one.flips == 0 and z[last] < z[0] and p[last] <= p[0] and not loss.is_builtin(one.name) then
            lines[#lines + 1] = ("%s lowers the target's logit (from %.3g to %.3g, mean): is its sign "
                .. "turned? An attack ascends a loss."):format(one.name, z[0], z[last])
        end
    end
    return lines
end

--- Draws figures into the folder `out`, which holds the examples' pictures. list: array of {name, figure} as
-- results.write takes it; form: plot.form's, optional; shown: what examples.read returned. Returns the names.
function results.draw(out, list, summary, form, shown)
    local names, drawn = {}, {}
    for _, figure in ipairs(list) do
        if not figures.known[figure[2]] then
            fail("%s: run.json names a figure '%s' that there is not in this version", figure[1], figure[2])
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

--- What the figures show of a run besides its records. about: its run.json; classes: the text of
-- classes.txt, or nil.
function results.describe(summary, about, classes)
    summary.setting, summary.options = about.setting, about.options
    summary.classes = classes and results.class_names(classes)
end

--- Fills the run's folder `out`, which holds records.msgpack and the examples' pictures.
--
-- run.about       what run_json.start returned
-- run.counts      {found, wrong, left_out, bad, attacked}: numbers of images
-- run.seconds     loss name -> seconds
-- run.left        lines of left_out.csv, one text
-- run.figures     array of {name, figure}: the name of the picture and the function of advrt.results.figures
--                 that draws it; none are drawn where run.no_figures
-- run.form        plot.form's, optional: how they are drawn
-- run.classes     the text of classes.txt, or nil
-- run.input       {C,H,W}; run.pixels: what keep.save takes, where images are kept
--
-- Returns a function that says what came out.
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

--- A line about a run's images.
function results.images_text(counts)
    local bad = counts.bad or 0
    return ("%s, %d right on the clean image (%.2f %%), %d attacked%s%s"):format(
        count_of(counts.found, "image"), counts.found - counts.wrong,
        100 * (counts.found - counts.wrong) / math.max(1, counts.found), counts.attacked, counts.left_out > 0
            and (", %d of the target class left out"):format(counts.left_out) or "",
        bad > 0 and (", %s left out"):format(count_of(bad, "bad file")) or "")
end

--- Prints what a run found: a line about its images, texts of tables, lines about the losses, and where
-- everything is; no_examples: there is no folder of them.
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
