--- report.html of a run of experiments/robustness.lua.

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
        "Robust accuracy", "95&thinsp;% interval"}, lines) .. [[<p class="note">Robust accuracy is the share
of all images that are right before and after the attack. The attacks are made in this order, each on the
images that are still right; an image that is broken at one eps is broken at every larger one.</p>]]
end

--- The matrix: a line for each pair, a column for each eps.
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

local function picture(out, drawn)
    if not drawn then return '<p class="note">The run was made without figures.</p>' end
    return ([[<figure class="card"><div class="scroll plot" tabindex="0" role="region" aria-label="%s">
%s</div></figure>]]):format("Robust accuracy over eps", html.svg(html.file(out:file("fig_robust.svg")),
        "robust-", "Robust accuracy over eps"))
end

--- Writes report.html into a run's folder. run: about (run.json), rows and matrix (of robustness.csv and
-- matrix.csv), drawn: whether there is a picture.
function robust.write(out, run)
    local about = run.about
    local list = {{"accuracy", "Robust accuracy", accuracy(run.rows)},
        {"picture", "Over eps", picture(out, run.drawn)},
        {"matrix", "Losses and attacks", matrix(run.matrix)},
        {"again", "Run it again", sections.again(run, "r-")}}
    local nav, parts = {}, {}
    for i, one in ipairs(list) do
        nav[i] = ('<a href="#%s">%s</a>'):format(one[1], one[2])
        parts[i] = ('<section id="%s"><h2>%s</h2>%s</section>'):format(one[1], one[2], one[3])
    end
    out:write("report.html", report.frame("Robust accuracy", ([[<header><p class="brand">advrt</p>
<h1>Robust accuracy</h1>
<p>Net %s, %d images, %d of them right on the clean image, attacked in the norm %s.</p>
</header>]]):format(name(about.net or "?"), about.images_found, about.images_found - about.images_wrong,
        text(tostring(about.options.norm))), table.concat(nav), table.concat(parts, "\n")))
end

return robust
