--- report.html: one run, or several side by side, as a self-contained page without network access
-- or other files. It is made only from the runs' folders.
--
--     report.write(out, {out.path})                 -- out: advrt.run.folder
--     report.page {"runs/a", "runs/b"}              -- the text
--
-- @module advrt.results.report

local comparison = require "advrt.results.comparison"
local fail = require "advrt.support.fail"
local html = require "advrt.results.report.html"
local json = require "advrt.support.json"
local run_json = require "advrt.run.run_json"
local sections = require "advrt.results.report.sections"
local system = require "advrt.core.system"

local report = {}

local read = require "advrt.results.report.read".read

-- The sections: name (in the page, and of the function), title, and a text about what the section
-- shows and how to read it.
local list = {
    {"tiles", "In short", "The run in four numbers. One loss is named alone only where it differs from every "
        .. "other loss by more than chance (Statistics, below)."},
    {"table1", "Table I", "How soon and how near each loss flips the images, as the paper's Table I has it. "
        .. "Compare losses on the common images."},
    {"statistics", "Statistics", "Which differences between losses are more than chance, image by image, "
        .. "and when the images flip."},
    {"figures", "Figures", "The same attacks step by step: one line or box for each loss. The first picture "
        .. "is shaded by the subspace that most images are in. S1: a class other than the target has a "
        .. "softmax of at least 0.9. S3: the target has. S2: no class has."},
    {"gallery", "Examples", "Some of the images, before and after each loss's attack. Look at where the "
        .. "perturbation lies."},
    {"viewer", "Single images", "The curves of one image at a time: choose an image and a quantity."},
    {"left", "Left out", "The images that were not attacked, and why. The numbers above do not count them."},
    {"again", "Run it again", "The command that reproduces these numbers, and its settings."},
}

local without_gallery = {} -- for runs on inputs that are not images
for _, section in ipairs(list) do
    if section[1] ~= "gallery" then without_gallery[#without_gallery + 1] = section end
end

local function resource(name) return system.options.root .. "/lua/advrt/results/report/" .. name end

--- The script's digest for the page's security policy, which allows no other script.
local function digest(path)
    local hex = system.digest(html.file(path))
    return html.base64((hex:gsub("%x%x", function(byte) return string.char(tonumber(byte, 16)) end)))
end

--- The settings in which several runs differ, as a table.
local function differences(runs)
    local values, order = {}, {}
    for i, run in ipairs(runs) do
        local facts = sections.options(run.about)
        facts[#facts + 1] = {"setting", run.about.setting}
        facts[#facts + 1] = {"threads", json.encode(run.about.threads)}
        facts[#facts + 1] = {"instruction set", json.encode(run.about.isa)}
        for _, fact in ipairs(facts) do
            local name, value = table.unpack(fact)
            if not values[name] then
                values[name] = {}
                order[#order + 1] = name
            end
            values[name][i] = name ~= "--out" and value or nil
        end
    end
    table.sort(order)
    local head, rows = {}, {}
    for i in ipairs(runs) do head[i] = ('<th scope="col">Run %d</th>'):format(i) end
    for _, key in ipairs(order) do
        local cells, differ = {}, false
        for i in ipairs(runs) do
            differ = differ or values[key][i] ~= values[key][1]
            cells[i] = "<td>" .. (values[key][i] and html.name(values[key][i]) or "&ndash;") .. "</td>"
        end
        if differ then
            rows[#rows + 1] = ('<tr><th scope="row">%s</th>%s</tr>'):format(html.text(key),
                table.concat(cells))
        end
    end
    return ([[<section id="differences"><h2>What differs</h2>
<p class="lead">What the runs were made with, where that is not the same. Everything else is.</p>
<div class="scroll" tabindex="0" role="region"
aria-label="What differs"><table><thead><tr><th></th>%s</tr></thead><tbody>%s</tbody></table></div>
</section>]]):format(table.concat(head), table.concat(rows))
end

local function header_of(runs)
    local title, about
    if #runs == 1 then
        title, about = sections.title(runs[1].about), "<p>" .. sections.about(runs[1]) .. "</p>"
    else
        title = ("%d runs side by side"):format(#runs)
        local items = {}
        for i, run in ipairs(runs) do
            items[i] = ("<li><b>%s</b> %s <span class=\"dim\">%s</span></li>"):format(
                html.text(sections.title(run.about)), sections.about(run), html.name(run.dir))
        end
        about = "<ol>" .. table.concat(items) .. "</ol>"
    end
    return title, ("<header><p class=\"brand\">advrt</p><h1>%s</h1>%s</header>"):format(
        html.text(title), about)
end

--- Returns the results of f for a run in `dir`. If f fails, somebody has changed a file: a finished
-- run leaves only files that can be shown.
local function whole(dir, f, ...)
    local ok, result = fail.try(f, ...)
    if ok then return result end
    if fail.is(result) then error(result, 0) end
    fail("%s: a file has changed since the run ended: %s", dir, result)
end

--- One section, for a single run or for several side by side. If a section has parts ({title,
-- html}), the runs' parts with equal titles stand side by side.
local function section_of(runs, id, title, lead)
    local rows, number = {}, {}
    for i, run in ipairs(runs) do
        local made = whole(run.dir, sections[id], run, ("r%d-"):format(i))
        for _, part in ipairs(type(made) == "table" and made or {{id, made}}) do
            local row = number[part[1]] or #rows + 1
            number[part[1]], rows[row] = row, rows[row] or {}
            table.insert(rows[row], #runs == 1 and part[2] or ([[<div class="run">
<p class="of"><b>Run %d</b> %s</p>%s</div>]]):format(i, html.text(sections.title(run.about)), part[2]))
        end
    end
    for row, parts in ipairs(rows) do
        rows[row] = #runs == 1 and table.concat(parts)
            or ('<div class="runs">%s</div>'):format(table.concat(parts))
    end
    return ('<section id="%s"><h2>%s</h2><p class="lead">%s</p>%s</section>'):format(id, title, lead,
        (id == "tiles" and sections.words(runs) or "") .. table.concat(rows, "\n"))
end

local frame = [[
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none';
  img-src data:; style-src 'unsafe-inline'; script-src 'sha256-%s'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>%s - advrt</title>
<style>%s</style>
</head>
<body%s>
<a class="skip" href="#main">Skip to the content</a>
%s
<nav aria-label="Sections">%s</nav>
<main id="main" tabindex="-1">
%s
</main>
<footer>Made by advrt %s, %s.</footer>
<script>%s</script>
</body>
</html>
]]

--- A page around its parts; all but the title are HTML. wide: for several runs side by side.
function report.frame(title, header, nav, main, wide)
    local script = resource "page.js"
    return frame:format(digest(script), html.text(title), html.file(resource "page.css"),
        wide and ' class="wide"' or "", header, nav, main, html.text(system.options.version),
        run_json.utc(os.time()), html.file(script))
end

--- The section that compares the same losses in several runs, and its rows (comparison.between).
local function between(runs)
    local found, names = {}, {}
    for i, run in ipairs(runs) do found[i], names[i] = run.found, tostring(i) end
    local rows = comparison.between(found, names, runs[1].about.options.seed)
    return ([[<section id="between"><h2>Between runs</h2>
<p class="lead">The same loss in two runs, on the images that both attack towards the same target.</p>%s
</section>]]):format(sections.between(runs, rows)), rows
end

--- The page of the finished runs in the folders `dirs`: one, or several side by side. trusted: the
-- runs have just been made, so their files are unchanged. Returns the page's text. For several
-- runs it also returns the comparison of the same losses (comparison.between), in which numbers
-- name the runs.
function report.page(dirs, trusted)
    local runs, nav, parts, rows = {}, {}, {}, nil
    for i, dir in ipairs(dirs) do runs[i] = whole(dir, read, dir, trusted) end
    local title, header = header_of(runs)
    if #runs > 1 then
        nav[1], parts[1] = '<a href="#differences">What differs</a>', differences(runs)
    end
    local pictures = false
    for _, run in ipairs(runs) do pictures = pictures or not run.no_picture end
    for _, section in ipairs(pictures and list or without_gallery) do
        local id, name, lead = table.unpack(section)
        nav[#nav + 1] = ('<a href="#%s">%s</a>'):format(id, name)
        parts[#parts + 1] = section_of(runs, id, name, lead)
        if id == "statistics" and #runs > 1 then
            nav[#nav + 1] = '<a href="#between">Between runs</a>'
            parts[#parts + 1], rows = between(runs)
        end
    end
    return report.frame(title, header, table.concat(nav), table.concat(parts, "\n"), #runs > 1), rows
end

--- Writes report.html about the runs in `dirs` into a folder (advrt.run.folder). Returns the rows
-- of report.page.
function report.write(out, dirs, trusted)
    local text, rows = report.page(dirs, trusted)
    out:write("report.html", text)
    return rows
end

return report
