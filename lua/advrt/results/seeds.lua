--- The spread of Table I over several choices of random targets (--seeds N), from the runs of the
-- seeds.

local comparison = require "advrt.results.comparison"
local csv = require "advrt.support.csv"
local fail = require "advrt.support.fail"
local html = require "advrt.results.report.html"
local latex = require "advrt.results.latex"
local lfs = require "lfs"
local lines_of = require "advrt.support.lines"
local report = require "advrt.results.report"
local run_json = require "advrt.run.run_json"
local tables = require "advrt.results.tables"

local seeds = {}

local columns = {"setting", "loss", "quantity", "seeds", "mean", "std", "least", "most"}

-- The numbers of Table I whose spread is reported: the name in seeds.csv, the column, its title and
-- format.
local quantities = {{"flipped", "flipped", "flipped", "%.1f"},
    {"iterations", "iterations_mean", "iterations", "%.1f"},
    {"common_images", "common_images", "common", "%.1f"},
    {"common_iterations", "common_mean", "on common images", "%.1f"},
    {"common_l2", "common_l2", "L2", "%.3g"},
    {"common_linf", "common_linf", "Linf", "%.3g"}}

--- Table I's rows from the run of one seed.
local function rows_of(dir)
    local about, message = run_json.read(dir)
    if not about then fail("%s", message) end
    run_json.check_files(dir, about, {"table1.csv", "least_perturbation.csv"})
    local rows, added
    rows, message = tables.read_table1(dir .. "/table1.csv")
    if not rows then fail("%s", message) end
    added, message = tables.add_distances(rows, dir .. "/least_perturbation.csv")
    if not added then fail("%s", message) end
    return rows
end

--- The rows of seeds.csv, from the folders of the seeds' runs: for each loss and number its mean,
-- sample standard deviation, minimum and maximum over the seeds; nan if a seed has no such number.
function seeds.rows(dirs)
    local runs, rows = {}, {}
    for i, dir in ipairs(dirs) do runs[i] = rows_of(dir) end
    for l, first in ipairs(runs[1]) do
        for _, quantity in ipairs(quantities) do
            local list = {}
            for i, run in ipairs(runs) do list[i] = run[l][quantity[2]] end
            local mean, std = tables.mean_std(list)
            rows[#rows + 1] = {setting = first.setting, loss = first.loss, quantity = quantity[1],
                seeds = #dirs, mean = mean, std = std,
                least = mean == mean and math.min(table.unpack(list)) or 0 / 0,
                most = mean == mean and math.max(table.unpack(list)) or 0 / 0}
        end
    end
    return rows
end

local function plus_minus(row, form)
    if row.mean ~= row.mean then return "-" end
    return (form .. " ± " .. form):format(row.mean, row.std)
end

--- The rows as lines of text cells: the titles, then one line per loss.
local function cells_of(rows)
    local lines = {{""}}
    for k, quantity in ipairs(quantities) do lines[1][k + 1] = quantity[3] end
    for i = 1, #rows, #quantities do
        local line = {tables.title(rows[i].loss)}
        for k, quantity in ipairs(quantities) do line[k + 1] = plus_minus(rows[i + k - 1], quantity[4]) end
        lines[#lines + 1] = line
    end
    return lines
end

local about_text = "Mean ± standard deviation of Table I over %d choices of random targets. Common images "
    .. "are those that every loss flipped. L2 and Linf are their means at the flip."

--- The rows as printed.
function seeds.text(rows)
    local lines = lines_of.columns(cells_of(rows), 14)
    for _, note in ipairs {about_text:format(rows[1].seeds),
        rows[1].setting == "equal_multiplier" and comparison.warning or nil} do
        local wrapped = lines_of.wrap(note)
        table.move(wrapped, 1, #wrapped, #lines + 1, lines)
    end
    return table.concat(lines, "\n") .. "\n"
end

local function page(rows, names)
    local lines, links = {}, {}
    for i, cells in ipairs(cells_of(rows)) do
        for k, cell in ipairs(cells) do
            local tag = i == 1 and 'th scope="col"' or k == 1 and 'th scope="row"' or "td"
            cells[k] = ("<%s>%s</%s>"):format(tag, html.text(cell), tag:match("^%a+"))
        end
        lines[i] = "<tr>" .. table.concat(cells) .. "</tr>" .. (i == 1 and "</thead><tbody>" or "")
    end
    for i, name in ipairs(names) do
        links[i] = ('<li><a href="%s/report.html">%s</a></li>'):format(html.text(name), html.text(name))
    end
    local warning = rows[1].setting == "equal_multiplier" and html.text(comparison.warning) or ""
    return report.frame("Spread over seeds", [[<header><p class="brand">advrt</p>
<h1>Spread over seeds</h1></header>]], '<a href="#spread">Spread</a><a href="#runs">Runs</a>',
        ([[<section id="spread"><h2>Spread</h2><p class="lead">%s Differences between losses that are
smaller than this spread depend on the targets. %s</p><div class="scroll" tabindex="0" role="region"
aria-label="Spread over seeds"><table><thead>%s</tbody></table></div></section>
<section id="runs"><h2>Runs</h2><p class="lead">Each choice of targets is a run with a report of its own.</p>
<ul>%s</ul></section>]]):format(about_text:format(rows[1].seeds), warning, table.concat(lines),
            table.concat(links)))
end

--- Writes seeds.csv and report.html into the folder `out` (advrt.run.folder). names: its subfolders
-- with the seeds' runs. Returns a function that prints the results.
function seeds.write(out, names)
    local dirs = {}
    for i, name in ipairs(names) do dirs[i] = out:file(name) end
    local rows = seeds.rows(dirs)
    local text = tables.csv(columns, rows)
    -- Resuming a finished run changes nothing.
    if csv.read_optional(out:file "seeds.csv") ~= text
        or not lfs.attributes(out:file "report.html", "mode") then
        latex.write(out, "seeds", text)
        out:write("report.html", page(rows, names))
    end
    return function()
        print("\n" .. seeds.text(rows))
        print(("Runs: %s/{%s}/"):format(out.path, table.concat(names, ",")))
        print(("Report: %s"):format(out:file("report.html")))
    end
end

return seeds
