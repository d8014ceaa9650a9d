--- The sections of a run's report, each as HTML.

local comparison = require "advrt.results.comparison"
local count_of = require "advrt.support.count"
local html = require "advrt.results.report.html"
local json = require "advrt.support.json"
local options = require "advrt.support.options"
local range = require "advrt.support.range"
local tables = require "advrt.results.tables"

local sections = {}

local text, name = html.text, html.name

--- A class by number and, if it has one, by name.
local function class_of(run, class)
    local called = run.classes[class]
    return called and ('%s <span class="dim">%d</span>'):format(name(called), class)
        or ("class %d"):format(class)
end

--- The same without markup, for labels and options.
local function class_text(run, class)
    local called = run.classes[class]
    return called and ("%d %s"):format(class, called) or ("class %d"):format(class)
end

local function number(v, form) return v ~= v and "&ndash;" or (form or "%.4g"):format(v) end

local function percent(v) return v == v and ("%.1f&thinsp;%%"):format(100 * v) or "&ndash;" end

local function style_of(run, loss)
    return ('style="--c:var(--g%s)"'):format(run.styles[loss].colour:sub(2):lower())
end

local function tile(label, value, note)
    return ('<div class="tile"><dt>%s</dt><dd>%s<small>%s</small></dd></div>'):format(label, value, note)
end

-- The definitions of the losses, by name without parameters.
local meanings = {
    ce = "the cross-entropy: minus the logarithm of the target's softmax. A step follows its gradient down",
    ce_sign = "the sign of CE's gradient alone: every pixel moves by the same amount",
    logit = "the target's logit. A step follows its gradient up",
    m_logit = "the target's logit minus the largest other logit, up to a margin of %s",
}

--- The words that the page uses, for the losses of all runs.
function sections.words(runs)
    local parts, seen = {}, {}
    local function add(word, meaning)
        parts[#parts + 1] = ("<dt>%s</dt><dd>%s.</dd>"):format(word, meaning)
    end
    for _, run in ipairs(runs) do
        for _, loss in ipairs(run.losses) do
            local base, parameters = loss:match("^([^:]*):?(.*)$")
            local kappa = ("%.6g"):format(tonumber(parameters:match("kappa=([^:]+)")
                or run.about.options.kappa) or 0 / 0)
            local meaning = meanings[base] or "a loss of lua/advrt/losses/, or of a file that --require names"
            if not seen[loss] then
                seen[loss] = true
                add(text(tables.title(loss)), text(meaning:format(kappa)))
            end
        end
    end
    add("Flip", "the first iteration after which the net takes the image for its target class")
    return '<dl class="words">' .. table.concat(parts) .. "</dl>"
end

--- A tile about the smallest value of a quantity: one loss, or several without a significant
-- difference. means: by name; shown: function(mean) -> text; over: the images that the means are
-- over; warning: a further remark.
local function least_tile(run, label, quantity, means, form, over, warning)
    local list = comparison.leaders(run.found, quantity, means)
    if #list == 0 then return "" end
    local names, numbers = {}, {}
    for i, name_of in ipairs(list) do
        names[i], numbers[i] = text(tables.title(name_of)), form.number:format(means[name_of])
    end
    local tie = #list == 1 and "" or "; the tests show no difference between them"
    if #list > 1 then label = label .. ": a tie" end
    return tile(label, table.concat(names, ", "), ("%s, mean over %s%s.%s"):format(
        form.text:format(table.concat(numbers, ", ")), over, tie, warning))
end

--- The main results of the run in four tiles.
function sections.tiles(run)
    local about, parts = run.about, {}
    local flipped, all = 0, 0
    -- Losses are compared over the common images; if there are none, each over its own.
    local common = run.rows[1].common_images > 0
    local n, l2 = {}, {}
    for _, row in ipairs(run.rows) do
        flipped, all = flipped + row.flipped, all + row.images
        n[row.loss] = common and row.common_mean or row.iterations_mean
        l2[row.loss] = common and row.common_l2 or row.mean_l2
    end
    local over = common and ("the %s that every loss flipped"):format(
        count_of(run.rows[1].common_images, "image")) or "its own flipped images"
    if #run.rows > 1 then
        parts[1] = least_tile(run, "Fewest iterations", "iterations", n,
            {text = "%s to the target", number = "%.1f"}, over, about.setting == "equal_multiplier"
                and " " .. comparison.warning or "")
        parts[2] = least_tile(run, "Least perturbation", "l2", l2,
            {text = "L<sub>2</sub> %s at the flip", number = "%.3g"}, over, "")
    end
    parts[#parts + 1] = tile("Flipped", percent(flipped / all),
        ("%d of %s"):format(flipped, count_of(all, "attack")))
    parts[#parts + 1] = tile("Clean accuracy", percent((about.images_found - about.images_wrong)
        / about.images_found), ("%d of %s"):format(about.images_found - about.images_wrong,
        count_of(about.images_found, "image")))
    local same = ""
    for _, line in ipairs(comparison.same_lines(run.found, tables.title)) do
        same = same .. ('<p class="note">%s</p>'):format(text(line))
    end
    return '<dl class="tiles">' .. table.concat(parts) .. "</dl>" .. same
end

local function bar(value, most)
    if value ~= value or most <= 0 then return "" end
    return ('<span class="bar" style="--w:%.1f%%"></span>'):format(100 * value / most)
end

local survival = [[An image
survives 8 bits if it still is the target class after its values at the flip are rounded to 8 bits.
Image files store 8 bits. ]]

--- Table I.
function sections.table1(run)
    local most_n, most_l2, lines = 0, 0, {}
    for _, row in ipairs(run.rows) do
        if row.iterations_mean == row.iterations_mean then
            most_n, most_l2 = math.max(most_n, row.iterations_mean), math.max(most_l2, row.mean_l2)
        end
    end
    for i, row in ipairs(run.rows) do
        local std = row.iterations_std == row.iterations_std
            and (" <span class=\"dim\">&plusmn;&thinsp;%.1f</span>"):format(row.iterations_std) or ""
        local common = row.common_images > 0 and ("%.1f <span class=\"dim\">[%.1f, %.1f]</span>"):format(
            row.common_mean, row.common_low, row.common_high) or "&ndash;"
        lines[i] = ([[<tr %s><th scope="row"><span class="chip"></span>%s</th><td>%s%s%s</td><td>%d
<span class="dim">of %d</span></td><td>%s</td><td>%s%s</td><td>%s</td><td>%s</td>%s<td>%.1f</td>
</tr>]])
            :format(style_of(run, row.loss), text(tables.title(row.loss)),
                number(row.iterations_mean, "%.1f"), std, bar(row.iterations_mean, most_n), row.flipped,
                row.images, common, number(row.mean_l2, "%#.3g"), bar(row.mean_l2, most_l2),
                number(row.common_l2, "%#.3g"), number(row.mean_linf, "%#.3g"),
                run.no_picture and "" or ("<td>%d</td>"):format(row.survive), row.seconds)
    end
    return ([[<div class="scroll" tabindex="0" role="region" aria-label="Table I">
<table><thead><tr><th scope="col">Loss</th><th scope="col">Iterations</th><th scope="col">Flipped</th>
<th scope="col">On common images</th><th scope="col">L<sub>2</sub> at the flip</th>
<th scope="col">On common images</th>
<th scope="col">L<sub>&infin;</sub></th>%s<th scope="col">Seconds</th>
</tr></thead><tbody>%s</tbody></table></div>
<p class="note">Iterations to the first flip, mean &plusmn; standard deviation over the flipped. Common
images are the %d that every loss flipped: mean and 95&thinsp;%% interval. %s Distances are means at the first
flip, in %s, of each loss over the images that it flipped, and over the common ones.
%sSeconds are those of forward, backward and step.</p>]]):format(
        run.no_picture and "" or '<th scope="col">Survive 8 bits</th>', table.concat(lines),
        run.rows[1].common_images, text(table.concat(tables.limits(run.rows), " ")),
        range.unit(not run.no_picture),
        run.no_picture and "" or survival)
end

local function interval(row, form)
    if row.n == 0 then return "&ndash;" end
    return text(comparison.difference_text(row, form)):gsub("%[.*%]", '<span class="dim">%0</span>')
end

--- The result of a pair's tests for a quantity. sides: function(row) -> the names of both, as HTML.
local function verdict(row, sides)
    local way = comparison.verdict(row)
    if way == 0 then return "no difference shown" end
    local a, b = sides(row)
    return (way < 0 and a or b) .. " less"
end

local shown = {{"iterations", "Iterations", "%.6g"}, {"l2", "L<sub>2</sub> at the flip", "%.3g"},
    {"linf", "L<sub>&infin;</sub> at the flip", "%.3g"}}

--- The pairs: for each quantity the difference, p and the conclusion. label: function(row) -> HTML.
local function pairs_table(paired, title, label, sides)
    local heads, lines, rows = {}, {}, {}
    for q, quantity in ipairs(shown) do
        heads[q] = ('<th scope="col">%s</th>'):format(quantity[2])
        rows[q] = comparison.rows_of(paired, quantity[1])
    end
    for i, first in ipairs(rows[1]) do
        local cells = {}
        for q, quantity in ipairs(shown) do
            local row = rows[q][i]
            cells[q] = ("<td>%s<br><small>%s, p %s</small></td>"):format(interval(row, quantity[3]),
                verdict(row, sides), text(comparison.p_text(row.p_holm)))
        end
        lines[i] = ('<tr><th scope="row">%s</th><td>%d</td>%s</tr>'):format(label(first), first.n,
            table.concat(cells))
    end
    return ([[<div class="scroll" tabindex="0" role="region" aria-label="%s"><table><thead><tr>
<th scope="col">Pair</th><th scope="col">Images</th>%s</tr></thead><tbody>%s</tbody></table></div>
<p class="note">The median of first minus second over the images that both flip, and its 95&thinsp;%%
interval (bootstrap): below 0 the first needs less. p is of Wilcoxon's signed-rank test, adjusted by Holm
over the pairs. A difference is shown where p is below 0.05 and the interval lies on one side of 0.
paired.csv has the sign test too, which counts the images that one side alone flips.</p>]]):format(title,
        table.concat(heads), table.concat(lines))
end

local function warning(about)
    return about.setting == "equal_multiplier" and ('<p class="note">%s</p>'):format(comparison.warning) or ""
end

--- The times at which a quarter, a half and three quarters of the images have flipped.
local function survival_table(run)
    local lines = {}
    local function at(row, key)
        local v, low, high = row[key], row[key .. "_low"], row[key .. "_high"]
        if v ~= v then return "not reached" end
        return ('%d <span class="dim">[%s, %s]</span>'):format(v, number(low, "%d"), number(high, "%d"))
    end
    for i, row in ipairs(run.found.survival) do
        lines[i] = ([[<tr %s><th scope="row"><span class="chip"></span>%s</th><td>%d
<span class="dim">of %d</span></td><td>%s</td><td>%s</td><td>%s</td></tr>]]):format(style_of(run, row.loss),
            text(tables.title(row.loss)), row.flipped, row.images, at(row, "quartile1"), at(row, "median"),
            at(row, "quartile3"))
    end
    return ([[<h3>Time to the flip</h3>
<div class="scroll" tabindex="0" role="region" aria-label="Time to the flip"><table><thead><tr>
<th scope="col">Loss</th><th scope="col">Flipped</th><th scope="col">A quarter by</th>
<th scope="col">Half by</th><th scope="col">Three quarters by</th></tr></thead><tbody>%s</tbody></table></div>
<p class="note">The iteration by which that fraction of all attacked images has flipped, with its 95&thinsp;%%
interval (Kaplan-Meier and Greenwood). An image that does not flip counts as observed up to the last
iteration. So the numbers do not favour a loss that flips only the easy images.</p>]]):format(
        table.concat(lines))
end

--- The tests of each pair of losses, and the time to the flip.
function sections.statistics(run)
    local function sides(row) return text(tables.title(row.loss_a)), text(tables.title(row.loss_b)) end
    local of_pairs = #run.losses > 1 and "<h3>Pairs of losses</h3>" .. pairs_table(run.found.paired,
        "Pairs of losses", function(row) return ("%s &minus; %s"):format(sides(row)) end, sides)
        .. warning(run.about) or ""
    return of_pairs .. survival_table(run)
end

--- The same losses in several runs. rows: from comparison.between, for runs named by numbers.
function sections.between(runs, rows)
    if #rows == 0 then
        return '<p class="note">The runs have no loss in common on the same images and targets.</p>'
    end
    local function sides(row) return "run " .. text(row.run_a), "run " .. text(row.run_b) end
    local warned = ""
    for _, run in ipairs(runs) do
        if warned == "" then warned = warning(run.about) end
    end
    return pairs_table(rows, "Between runs", function(row)
        return ("%s, %s &minus; %s"):format(text(tables.title(row.loss)), sides(row))
    end, sides) .. warned
end

local captions = {
    fig1 = {"Initial and target class",
        "Softmax of both classes under one loss, over the subspace of most images; below, for each loss, the "
            .. "fraction of the images in each subspace."},
    softmax = {"Softmax", "For each loss: how sure the net is of the initial class, and of the target."},
    logits = {"Logits", "The logits of both classes, before the softmax."},
    least = {"Perturbation at the first flip", "Distance from the original: median, quartiles, "
        .. "whiskers to 1.5 times their distance."},
    fig4 = {"Magnitudes", "Norm of the gradient (CE-sign: before taking the sign) and of the step's "
        .. "perturbation; log scale."},
    flipped = {"Images flipped", "The fraction of all images that each loss has flipped by each iteration."},
}

--- The figures as {caption, HTML} each, except the figure of examples, which has its own section.
function sections.figures(run, prefix)
    local parts = {}
    for _, figure in ipairs(run.figures) do
        local caption = captions[figure.figure]
        local drawing = caption and html.svg(html.file(figure.path), prefix .. figure.name .. "-",
            caption[1] .. ". " .. caption[2])
        if drawing then
            parts[#parts + 1] = {caption[1], ([[<figure class="card"><figcaption><h3>%s</h3>
<p>%s</p></figcaption>
<div class="scroll plot" tabindex="0" role="region" aria-label="%s">%s</div>%s</figure>]]):format(
                caption[1], caption[2], caption[1], drawing, figure.changed
                    and '<p class="note">This picture was changed after the run.</p>' or "")}
        end
    end
    if #parts == 0 then return '<p class="note">The run was made without figures.</p>' end
    return parts
end

local function confidence(label, p, kind)
    return ('<div class="p %s"><span>%s</span><i style="--w:%.1f%%"></i><b>%s</b></div>'):format(kind,
        label, p == p and 100 * p or 0, percent(p))
end

local function picture(run, path, alt, small)
    return ('<img src="%s" alt="%s"%s>'):format(html.png(run.dir .. "/" .. path), text(alt),
        small and ' class="pixels"' or "")
end

--- One loss's pictures of an example.
local function example_of(run, one, l, small)
    local flipped = l.iteration >= 0
    local title = tables.title(l.name)
    return ([[<div class="loss" %s><h4><span class="chip"></span>%s</h4><div class="pair">
<figure>%s<figcaption>adversarial</figcaption></figure>
<figure>%s<figcaption>perturbation &times;&thinsp;%g</figcaption></figure></div>
%s%s<p class="facts">%s<br>L<sub>2</sub> %s, L<sub>&infin;</sub> %s%s</p></div>]]):format(
        style_of(run, l.name), text(title),
        picture(run, l.adversarial, ("%s made by %s into %s"):format(one.file, title,
            class_text(run, one.target)), small),
        picture(run, l.perturbation, ("The perturbation of %s by %s, %g times amplified around grey")
            :format(one.file, title, l.factor), small), l.factor,
        confidence("target", l.p_target, "to"), confidence("initial", l.p_initial, "from"),
        flipped and ("flips at iteration <b>%d</b>"):format(l.iteration)
            or ("<b>no flip</b> in %d iterations"):format(run.about.options.iterations),
        number(l.l2, "%#.3g"), number(l.linf, "%#.3g"),
        flipped and (l.survives_8bit == true and ", survives 8 bits" or ", lost in 8 bits") or "")
end

--- The gallery of examples.
function sections.gallery(run)
    local parts = {}
    for _, one in ipairs(run.shown) do
        local small = math.max(one.original.W, one.original.H) <= 96
        local losses = {}
        for i, l in ipairs(one.losses) do losses[i] = example_of(run, one, l, small) end
        parts[#parts + 1] = ([[<article class="card example"><div class="original"><figure>%s</figure>
<div><h3>%s</h3><p>%s <span aria-label="to be made into">&rarr;</span> %s</p>%s</div></div>
<div class="losses">%s</div></article>]]):format(
            picture(run, one.original.path, ("%s, %s"):format(one.file, class_text(run, one.label)), small),
            name(one.file), class_of(run, one.label), class_of(run, one.target),
            confidence("clean", one.losses[1].p_clean, "from"), table.concat(losses))
    end
    if run.no_picture then return '<p class="note">The inputs are no images.</p>' end
    if #parts == 0 then return '<p class="note">No image was attacked.</p>' end
    return table.concat(parts) .. [[<p class="note">Shown is the image at its first flip, or after the last
step where there is none; confidences are the net's softmax for it. The perturbations of one image are
amplified alike for all losses.</p>]]
end

local quantities = {
    {"Softmax", {"p_target", "p_initial"}, 1}, {"Logits", {"z_target", "z_initial"}},
    {"Distance L\u{2082}", {"l2"}}, {"Distance L\u{221E}", {"linf"}},
    {"Gradient L\u{2082}", {"grad_l2"}}, {"Step L\u{2082}", {"step_l2"}},
}

--- The curves of single images, which the page's script draws on demand.
function sections.viewer(run, prefix)
    if #run.curves == 0 then return '<p class="note">There are no curves to show.</p>' end
    local data = {steps = run.steps, losses = {}, images = {}, quantities = {}}
    local place = {}
    for i, series in ipairs(run.series) do place[series] = i - 1 end
    for i, loss in ipairs(run.losses) do
        data.losses[i] = {title = tables.title(loss),
            colour = "--g" .. run.styles[loss].colour:sub(2):lower()}
    end
    local choices, choose = {}, {}
    for i, q in ipairs(quantities) do
        local which = {}
        for k, series in ipairs(q[2]) do which[k] = place[series] end
        data.quantities[i] = {title = q[1], series = which, most = q[3]}
        choices[i] = ([[<label><input type="radio" name="%squantity" value="%d"%s><span>%s</span></label>]])
            :format(prefix, i - 1, i == 1 and " checked" or "", q[1])
    end
    for i, one in ipairs(run.curves) do
        local title = ("%s: %s \u{2192} %s"):format(one.file, class_text(run, one.label),
            class_text(run, one.target))
        data.images[i] = {title = title, flips = one.flips, curves = one.curves}
        choose[i] = ('<option value="%d">%s</option>'):format(i - 1, text(title))
    end
    local note = run.about.images_attacked > #run.curves
        and (" The first %d of %d images are in this page; the records have all."):format(#run.curves,
            run.about.images_attacked) or ""
    return ([[<div class="card viewer" id="%sviewer">
<div class="controls"><label class="grow">Image <select>%s</select></label>
<div class="buttons"><button type="button" data-move="-1">Previous</button>
<button type="button" data-move="1">Next</button></div></div>
<fieldset class="segments"><legend>Quantity</legend>%s</fieldset>
<div class="chart"></div>
<label class="slider">Iteration <output></output><input type="range" min="0" max="%d" value="0"></label>
<div class="scroll" tabindex="0" role="region" aria-label="Values at the iteration"><table class="values">
</table></div>
<noscript><p class="note">The curves of single images need the page's script.</p></noscript>
<script type="application/json">%s</script></div>
<p class="note">Solid: the target class; dashed: the initial class; rings: the first flip.%s</p>]]):format(
        prefix, table.concat(choose), table.concat(choices), #run.steps - 1, html.json(data), note)
end

--- The images that were left out, and the reasons.
function sections.left(run)
    local about, lines = run.about, {}
    local bad = about.images_bad or 0
    local count = about.images_wrong + about.images_left_out + bad
    if count == 0 then
        return '<p class="note">Nothing: every image was right on the clean image, and attacked.</p>'
    end
    for i, one in ipairs(run.left) do
        local file, label, prediction, reason = table.unpack(one)
        lines[i] = ("<tr><th scope=\"row\">%s</th><td>%s</td><td>%s</td><td>%s</td></tr>"):format(
            name(file), class_of(run, math.tointeger(label) or -1),
            prediction == "-1" and "" or class_of(run, math.tointeger(prediction) or -1),
            reason == "wrong" and "wrong on the clean image"
                or reason == "target" and "of the target class already" or html.text(reason))
    end
    return ([[<p>Of %s %d are not attacked: %d that the net gets wrong on the clean image, where there is
nothing to attack, and %d that are of the target class already%s.</p>
<details><summary>%s</summary><div class="scroll" tabindex="0" role="region" aria-label="Images left out">
<table class="left"><thead><tr><th scope="col">File</th><th scope="col">Class</th>
<th scope="col">The net says</th><th scope="col">Why</th></tr></thead><tbody>%s</tbody>
</table></div></details>]])
        :format(count_of(about.images_found + bad, "image"), count, about.images_wrong, about.images_left_out,
            bad > 0 and ("; and %s that cannot be read"):format(count_of(bad, "file")) or "",
            #run.left < count and ("The first %d of them"):format(#run.left) or "Show them",
            table.concat(lines))
end

local function value_text(value)
    if math.type(value) == "float" then return json.number(value) end
    if type(value) ~= "table" then return tostring(value) end
    local parts = {}
    for i, v in ipairs(value) do parts[i] = value_text(v) end
    return table.concat(parts, ",")
end

--- The options of a run in a fixed order, as {name, text}, without options that have no effect.
function sections.options(about)
    local list = {}
    for key, value in pairs(about.options) do
        if type(value) ~= "table" or #value > 0 then
            local given = value_text(value)
            if key == "shard" and type(value) == "table" then
                given = table.concat({tostring(value[1]), tostring(value[2])}, "/")
            end
            list[#list + 1] = {"--" .. key:gsub("_", "-"), given}
        end
    end
    table.sort(list, function(a, b) return a[1] < b[1] end)
    return list
end

--- The command that repeats the run, as HTML: the program and the script as they were called.
local function command_of(about)
    local words = {about.program or "advrt", "--device", value_text(about.device), "--threads",
        value_text(about.threads), "--plan", value_text(about.plan)}
    if about.precision and about.precision ~= "f32" then
        words[#words + 1] = "--precision"
        words[#words + 1] = value_text(about.precision)
    end
    words[#words + 1] = value_text(about.script or ("experiments/%s.lua"):format(about.setting))
    for i, word in ipairs(words) do words[i] = options.quote(tostring(word)) end
    local lines = {table.concat(words, " ")}
    for _, option in ipairs(sections.options(about)) do
        local key, value = table.unpack(option)
        local several = key == "--require" and about.options.require or {value}
        local flag = about.options[key:sub(3):gsub("-", "_")]
        if type(flag) == "boolean" then
            lines[#lines + 1] = flag and options.quote(key) or nil
            several = {}
        end
        for _, one in ipairs(key ~= "--out" and value ~= "1/1" and several or {}) do
            lines[#lines + 1] = ("%s %s"):format(options.quote(key), options.quote(value_text(one)))
        end
    end
    for i, line in ipairs(lines) do lines[i] = text(line) end
    return table.concat(lines, " \\\n    ")
end

--- How to repeat the run, and the machine and software it ran on.
function sections.again(run, prefix)
    local about, rows = run.about, {}
    local function row(key, value)
        if type(value) == "table" or value == nil then return end
        rows[#rows + 1] = ("<tr><th scope=\"row\">%s</th><td>%s</td></tr>"):format(text(key), name(value))
    end
    row("advrt", about.advrt)
    row("oneDNN", about.onednn)
    row("Device", ("%s, %s, %s threads"):format(value_text(about.device), value_text(about.isa),
        value_text(about.threads)))
    row("Precision", about.precision)
    row("Convolutions", about.plan)
    row("Net (SHA-256)", about.net_sha256)
    row("Weights (SHA-256)", about.weights_sha256)
    row("Images (SHA-256)", about.images_sha256)
    row("Started", about.start)
    row("Ended", about["end"])
    for _, option in ipairs(sections.options(about)) do row(option[1], option[2]) end
    return ([[<div class="card command"><pre tabindex="0" id="%scommand"><code>%s</code></pre>
<button type="button" data-copy="%scommand">Copy the command</button></div>
<details><summary>Everything that it depends on</summary><div class="scroll" tabindex="0" role="region"
aria-label="Settings"><table class="settings"><tbody>%s</tbody></table></div></details>]]):format(prefix,
        command_of(about), prefix, table.concat(rows))
end

--- A sentence about the run.
function sections.about(run)
    local about, o = run.about, run.about.options
    local what
    if about.setting == "equal_multiplier" then
        what = ("Every gradient is multiplied by the same constant, %s"):format(
            text(value_text(o.alpha)))
    elseif about.setting == "equal_perturbation" then
        what = ("Every step adds a perturbation of the same norm, L<sub>%s</sub> %s"):format(
            o.norm == "inf" and "&infin;" or "2", text(value_text(o.magnitude)))
    else
        what = text(about.setting)
    end
    return ("%s. %s of net %s, %s, targets: %s."):format(what,
        count_of(about.images_attacked, "image"), name(about.net or "?"),
        count_of(o.iterations, "iteration"), text(value_text(o.targets)))
end

local titles = {equal_multiplier = "Equal multiplier", equal_perturbation = "Equal perturbation"}

--- The run's title.
function sections.title(about) return titles[about.setting] or about.setting end

return sections
