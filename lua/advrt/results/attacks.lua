--- The results of experiments/attacks.lua: records, tables and a figure.
--
-- `list` is an array over the images of arrays over the attacks of {attack, file, label, target
-- (-1: untargeted), prediction, success, l2, linf, forward, backward, zero_gradients, unmoved,
-- not_finite ("": nothing)}, as attacks.stream yields them.

local comparison = require "advrt.results.comparison"
local core = require "advrt.core.record"
local count_of = require "advrt.support.count"
local csv = require "advrt.support.csv"
local fail = require "advrt.support.fail"
local keep = require "advrt.run.keep"
local latex = require "advrt.results.latex"
local plot = require "advrt.plot"
local range = require "advrt.support.range"
local record = require "advrt.record"
local results = require "advrt.results.finish"
local run_json = require "advrt.run.run_json"
local sheet = require "advrt.plot.sheet"
local tables = require "advrt.results.tables"

local report = {}

local MOST_NAME = 17 -- letters of an attack's name beside the other columns in a line of 100

-- The costs of an attack, as columns of attacks.csv.
report.costs = {"passes", "seconds_forward", "seconds_backward", "seconds_step"}

local fields = {"file", "label", "target", "attack", "success", "prediction", "l2", "linf", "forward",
    "backward", "zero_gradients", "unmoved", "not_finite"}

--- The packed record of one image and attack. one: its fields by name.
function report.pack(one)
    local pairs_of = {}
    for i, name in ipairs(fields) do pairs_of[i] = {name, one[name]} end
    return core.pack(pairs_of)
end

--- The list of a run's records.msgpack, sorted by image, then by attack as given; `each` is the
-- number of attacks per image.
local function read(out, each, counts)
    local all, of_image, held = {}, {}, 0
    for one in record.each(out:file("records.msgpack")) do
        of_image[#of_image + 1], held = one, held + 1
        if #of_image == each then all[#all + 1], of_image = of_image, {} end
    end
    results.check_count(out, held, each, counts)
    return all
end

local columns = {"attack", "targeted", "images", "success", "unmoved", "not_finite", "l2_mean", "l2_std",
    "l2_median", "linf_mean", "linf_std", "linf_median", "forward", "backward", "passes", "seconds_forward",
    "seconds_backward", "seconds_step", "seconds"}

--- One attack's row of attacks.csv, by column. Distances are over the images that succeeded;
-- forward and backward are the mean numbers of evaluations and gradients per image. spent: the
-- total cost by the names of report.costs: passes of the network over a batch, and seconds.
local function row_of(name, targeted, list, a, spent)
    local l2, linf, forward, backward, unmoved, not_finite = {}, {}, 0, 0, 0, 0
    for _, of_image in ipairs(list) do
        local one = of_image[a]
        if one.success then l2[#l2 + 1], linf[#linf + 1] = one.l2, one.linf end
        forward, backward = forward + one.forward, backward + one.backward
        if one.unmoved then unmoved = unmoved + 1 end
        if one.not_finite ~= "" then not_finite = not_finite + 1 end
    end
    local row = {attack = name, targeted = targeted, images = #list, success = #l2,
        unmoved = unmoved, not_finite = not_finite, forward = forward / #list, backward = backward / #list,
        seconds = spent.seconds_forward + spent.seconds_backward + spent.seconds_step}
    for _, key in ipairs(report.costs) do row[key] = spent[key] end
    for key, values in pairs {l2 = l2, linf = linf} do
        row[key .. "_mean"], row[key .. "_std"] = tables.mean_std(values)
        table.sort(values)
        row[key .. "_median"] = tables.quantile(values, 0.5)
    end
    return row
end

--- perturbations.csv: one row per image and attack, in the order of the records.
local function images_csv(list)
    local all = {}
    for _, of_image in ipairs(list) do table.move(of_image, 1, #of_image, #all + 1, all) end
    return tables.csv({"attack", "file", "label", "target", "prediction", "success", "l2", "linf",
        "forward", "backward", "zero_gradients", "unmoved", "not_finite"}, all)
end

--- The attacks compared in pairs on the same images: rows of paired.csv.
local function paired_rows(names, list, seed)
    local success, l2, linf = {}, {}, {}
    for a, name in ipairs(names) do
        success[name], l2[name], linf[name] = {}, {}, {}
        for i, of_image in ipairs(list) do
            local one = of_image[a]
            success[name][i] = one.success and 1 or 0
            l2[name][i] = one.success and one.l2 or 0 / 0
            linf[name][i] = one.success and one.linf or 0 / 0
        end
    end
    return comparison.pairs(names, "attack", {{name = "success", values = success, signs_only = true},
        {name = "l2", values = l2}, {name = "linf", values = linf}}, seed)
end

--- The pairs as printed.
local function pairs_text(paired)
    return comparison.text(paired, {{"l2", "L2", "%.3g"}, {"linf", "Linf", "%.3g"}}, function(row)
        return ("%s - %s"):format(row.attack_a, row.attack_b)
    end, {"Median difference on images on which both succeed, 95 % interval; "
        .. "p: Wilcoxon, Holm-adjusted. paired.csv compares successes, too."})
end

--- "N of M images were", for a sentence.
local function some(n, of)
    return ("%d of %s %s"):format(n, count_of(of, "image"), n == 1 and "was" or "were")
end

--- A line about images that an attack did not move; its count of successes treats them as robust.
local function unmoved_line(row, flat)
    local why = flat == row.unmoved and ", because every gradient was 0"
        or flat > 0 and (", %d because every gradient was 0"):format(flat) or ""
    return ("%s: %s not moved%s. That is no robustness; try another loss, such as m_logit."):format(
        row.attack, some(row.unmoved, row.images), why)
end

--- A line about images whose attack ended at NaN or infinite numbers.
local function not_finite_line(row, lost, first)
    return ("%s: %s stopped by numbers that are not finite; %d of them count as not broken. The first is "
        .. "%s (its %s)."):format(row.attack, some(row.not_finite, row.images), lost, first.file,
            first.not_finite)
end

--- Warnings about the attacks besides their rows.
local function warnings(rows, list)
    local lines = {}
    for a, row in ipairs(rows) do
        local flat, lost, first = 0, 0, nil
        for _, of_image in ipairs(list) do
            local one = of_image[a]
            if one.unmoved and one.backward > 0 and one.zero_gradients == one.backward then
                flat = flat + 1
            end
            if one.not_finite ~= "" then
                first = first or one
                lost = lost + (one.success and 0 or 1)
            end
        end
        if row.unmoved > 0 then lines[#lines + 1] = unmoved_line(row, flat) end
        if first then lines[#lines + 1] = not_finite_line(row, lost, first) end
    end
    return lines
end

--- The rows as printed.
local function text_of(rows, list)
    local width = 8
    for _, row in ipairs(rows) do
        if #row.attack <= MOST_NAME then width = math.max(width, #row.attack) end
    end
    local form = "%-" .. width .. "s  %10s  %9s %9s  %9s %9s  %9s %9s  %8s\n"
    local lines = {form:format("", "success", "L2 median", "mean", "Linf med.", "mean", "forward",
        "backward", "seconds")}
    local function short(v) return v == v and ("%.4f"):format(v) or "-" end
    for _, row in ipairs(rows) do
        local name = #row.attack > MOST_NAME and "" or row.attack -- a longer name gets its own line
        if name == "" then lines[#lines + 1] = row.attack .. "\n" end
        lines[#lines + 1] = form:format(name, ("%d of %d"):format(row.success, row.images),
            short(row.l2_median), short(row.l2_mean), short(row.linf_median), short(row.linf_mean),
            ("%.1f"):format(row.forward), ("%.1f"):format(row.backward),
            ("%.2f"):format(row.seconds))
    end
    lines[#lines + 1] = "Distances: over the successful images. Forward, backward: mean passes per image."
    for _, line in ipairs(warnings(rows, list)) do lines[#lines + 1] = "\n" .. line end
    return table.concat(lines)
end

--- The fraction of the images that an attack changed within a distance, as steps {distance,
-- fraction}.
local function curve(list, a, key)
    local far, steps = {}, {{0, 0}}
    for _, of_image in ipairs(list) do
        if of_image[a].success then far[#far + 1] = of_image[a][key] end
    end
    table.sort(far)
    for i, v in ipairs(far) do steps[i + 1] = {v, i / #list} end
    return steps, far[#far] or 0
end

--- The figure: for each attack the fraction of images that succeeded within a distance, L2 and
-- Linf.
local function figure(name, rows, list, untargeted, unit, form)
    local names, blocks, panels, keys = {}, {}, {}, {}
    for a, row in ipairs(rows) do names[a] = row.attack end
    local styles = plot.styles(names)
    for a, attack in ipairs(names) do
        keys[a] = {title = attack, colour = styles[attack].colour, dash = styles[attack].dash}
    end
    for p, key in ipairs {"l2", "linf"} do
        local parts, most, steps = {}, 0, {}
        for a in ipairs(rows) do
            local far
            steps[a], far = curve(list, a, key)
            most = math.max(most, far)
        end
        most = most > 0 and most * 1.05 or 1
        for a, row in ipairs(rows) do
            local corners = {steps[a][1]} -- as lines, which show dashes; gnuplot's steps do not
            steps[a][#steps[a] + 1] = {most, steps[a][#steps[a]][2]}
            for i = 2, #steps[a] do
                corners[#corners + 1] = {steps[a][i][1], steps[a][i - 1][2]}
                corners[#corners + 1] = steps[a][i]
            end
            blocks[#blocks + 1] = plot.block(key .. a, corners)
            parts[a] =
                ("$%s%d using 1:2 with lines linewidth 1.5 dashtype %d linecolor rgb '%s'"):format(key, a,
                styles[row.attack].dash, styles[row.attack].colour)
        end
        panels[p] = {xlabel = (p == 1 and "L₂" or "L∞") .. (" distance (%s)"):format(unit),
            ylabel = (p == 1 or form.size == "column") and "Fraction of images" or nil,
            commands = ("set xrange [0:%g]\nplot "):format(most) .. table.concat(parts, ", \\\n     ")}
    end
    return sheet.script(form, {name = name, title =
        "Fraction of images that an attack changed within a distance",
        panels = panels, columns = {page = 2, column = 1}, height = form.size == "page" and 150 or 110,
        keys = keys, blocks = table.concat(blocks), commands = "set yrange [0:1.03]",
        notes = {("images that %s"):format(untargeted and "left their class" or "became their target"),
            count_of(#list, "image")}})
end

--- Fills the run's folder `out` from its records.msgpack. run: the argument of results.write, and
-- `spent`: by an attack's name its costs, by the names of report.costs. Returns a function that
-- prints the results.
function report.write(out, run)
    local o, counts = run.about.options, run.counts
    local list, rows = read(out, #o.attacks, counts), {}
    for a, name in ipairs(o.attacks) do
        rows[a] = row_of(name, not o.untargeted, list, a, run.spent[name])
    end
    latex.write(out, "attacks", tables.csv(columns, rows))
    out:write("perturbations.csv", images_csv(list))
    local paired = paired_rows(o.attacks, list, o.seed)
    latex.write(out, "paired", tables.csv(comparison.paired_header "attack", paired))
    out:write("left_out.csv", results.left_out_csv(run.left))
    if run.pixels then
        keep.save(out, o.attacks, o.save_adversarial, run.input, run.pixels, "attack")
    end
    run_json.finish(run.about, counts, run.seconds)
    local drawn = not run.no_figures and counts.attacked > 0
    if drawn then
        out:write("fig_attacks.gp", figure("fig_attacks", rows, list, o.untargeted,
            range.unit(run.about.picture ~= false), run.form or plot.form()))
        plot.draw(out.path, {"fig_attacks"})
    end
    run_json.write(out, run.about)
    return function()
        print(("%s, %s\n"):format(results.images_text(counts),
            o.untargeted and "untargeted" or "towards targets"))
        print(text_of(rows, list))
        local of_pairs = pairs_text(paired)
        if of_pairs ~= "" then print("\n" .. of_pairs) end
        print(("Tables%s: %s/"):format(drawn and " and the picture" or "", out.path))
    end
end

--- Adds up the costs of attacks over shards (advrt.run.shards), for write.
function report.sum(run, list)
    run.spent = {}
    for _, name in ipairs(run.about.options.attacks) do
        run.spent[name] = {}
        for _, key in ipairs(report.costs) do run.spent[name][key] = 0 end
    end
    for _, one in ipairs(list) do
        local text, message = csv.read(one.dir .. "/attacks.csv")
        local rows = text and csv.parse(text)
        if not rows then fail("%s", message or one.dir .. "/attacks.csv: is not a table of attacks") end
        for i = 2, #rows do
            for k, key in ipairs(rows[1]) do
                local spent = run.spent[rows[i][1]]
                if spent and spent[key] then spent[key] = spent[key] + (tonumber(rows[i][k]) or 0) end
            end
        end
    end
end

return report
