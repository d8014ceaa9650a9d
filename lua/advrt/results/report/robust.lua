--- report.html of a run of experiments/robustness.lua.

local comparison = require "advrt.results.comparison"
local html = require "advrt.results.report.html"
local report = require "advrt.results.report"
local sections = require "advrt.results.report.sections"

local robust = {}

local text, name = html.text, html.name

local function percent(v) return ("%.1f&thinsp;%%"):format(100 * v) end

local function table_of(label, head, lines)
    return ([[<div class="scroll" tabindex="0" role="region" aria-label="%s"><table><thead><tr>%s</tr></thead>
<tbody>%s</tbody></table></div>]]):format(label, head, table.concat(lines, "\n"))
end

local function heads(titles)
    local cells = {}
    for i, title in ipairs(titles) do cells[i] = ('<th scope="col">%s</th>'):format(title) end
    return table.concat(cells)
end

local function accuracy(rows)
    local lines = {}
    for i, row in ipairs(rows) do
        lines[i] = ([[<tr><th scope="row">%.5g</th><td>%s</td><td>%s</td><td>%d</td><td>%d</td><td>%s</td>
<td>%s to %s</td></tr>]]):format(row.eps, row.attack == "all" and "<b>all attacks</b>" or name(row.attack),
            name(row.loss), row.right, row.broken, percent(row.robust_accuracy), percent(row.low),
            percent(row.high))
    end
    return table_of("Robust accuracy", heads {"eps", "Attack", "Loss", "Right before", "Broken",
        "Robust accuracy", "95&thinsp;% interval"}, lines) .. [[
<p class="note">Robust accuracy is the fraction
of all images that are right before and after the attack. The attacks are made in this order, each on the
images that are still right; an image that is broken at one eps is broken at every larger one.</p>]]
end

--- The matrix: one line per pair, one column per eps.
local function matrix(rows)
    if #rows == 0 then return '<p class="note">The run was made without a matrix.</p>' end
    local all, titles, lines, seen = {}, {"Attack", "Loss"}, {}, {}
    for _, row in ipairs(rows) do
        local key = row.attack .. " " .. row.loss
        if not all[key] then
            all[key] = {("<tr><th scope=\"row\">%s</th><td>%s</td>"):format(name(row.attack),
                name(row.loss))}
            lines[#lines + 1] = all[key]
        end
        if not seen[row.eps] then
            seen[row.eps], titles[#titles + 1] = true, ("eps %.5g"):format(row.eps)
        end
        table.insert(all[key], ("<td>%s</td>"):format(percent(row.robust_accuracy)))
    end
    for i, cells in ipairs(lines) do lines[i] = table.concat(cells) .. "</tr>" end
    return table_of("Losses and attacks", heads(titles), lines)
        .. '<p class="note">Robust accuracy under each attack with each loss, each pair on its own.</p>'
end

--- The losses of the matrix in pairs.
local function of_pairs(rows)
    if #rows == 0 then return '<p class="note">The matrix has no two losses to compare.</p>' end
    local lines = {}
    for i, row in ipairs(rows) do
        local less = row.right_a < row.right_b and row.loss_a or row.loss_b
        lines[i] = ([[<tr><th scope="row">%s</th><td>%.5g</td><td>%s &minus; %s</td><td>%d, %d</td>
<td>%d, %d</td><td>%s</td><td>%s</td></tr>]]):format(name(row.attack), row.eps, name(row.loss_a),
            name(row.loss_b), row.right_a, row.right_b, row.only_a, row.only_b,
            text(comparison.p_text(row.p_holm)), row.p_holm < comparison.level
                and name(less) .. " breaks more" or "no difference shown")
    end
    return table_of("Pairs of losses", heads {"Attack", "eps", "Losses", "Right under each",
        "Right under one alone", "p", "Shown"}, lines) .. [[
<p class="note">p: exact sign test on the images that are
right under one loss only, Holm-adjusted over the pairs of an attack and eps.</p>]]
end

local function picture(out, drawn)
    if not drawn then return '<p class="note">The run was made without figures.</p>' end
    return ([[<figure class="card"><div class="scroll plot" tabindex="0" role="region" aria-label="%s">
%s</div></figure>]]):format("Robust accuracy over eps", html.svg(html.file(out:file("fig_robust.svg")),
        "robust-", "Robust accuracy over eps"))
end

--- Writes report.html into a run's folder. run: about (run.json), rows, matrix and paired (of
-- robustness.csv, matrix.csv and paired.csv), drawn: whether there is a picture.
function robust.write(out, run)
    local about = run.about
    local list = {
        {"accuracy", "Robust accuracy", "The fraction of images that stay right at each eps, with its "
            .. "interval. The rows of all attacks are the result.", accuracy(run.rows)},
        {"picture", "Over eps", "The same numbers as curves: the lower a curve, the stronger the attacks.",
            picture(out, run.drawn)},
        {"matrix", "Losses and attacks", "The accuracy under each loss alone, with the same attacks: the "
            .. "lower, the stronger the loss.", matrix(run.matrix)},
        {"pairs", "Pairs of losses", "Which differences between losses of the matrix are more than chance, "
            .. "image by image.", of_pairs(run.paired)},
        {"again", "Run it again", "The command that reproduces these numbers, and its settings.",
            sections.again(run, "r-")},
    }
    local nav, parts = {}, {}
    for i, one in ipairs(list) do
        nav[i] = ('<a href="#%s">%s</a>'):format(one[1], one[2])
        parts[i] = ('<section id="%s"><h2>%s</h2><p class="lead">%s</p>%s</section>'):format(
            table.unpack(one))
    end
    out:write("report.html", report.frame("Robust accuracy", ([[<header><p class="brand">advrt</p>
<h1>Robust accuracy</h1>
<p>Net %s, %d images, %d of them right on the clean image, attacked in the norm %s.</p>
</header>]]):format(name(about.net or "?"), about.images_found, about.images_found - about.images_wrong,
        text(tostring(about.options.norm))), table.concat(nav), table.concat(parts, "\n")))
end

return robust
