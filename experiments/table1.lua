--- Joins an equal-multiplier and an equal-perturbation run into the paper's Table I.
--
--     advrt experiments/table1.lua runs/equal_multiplier-... runs/equal_perturbation-...

local fail = require "advrt.support.fail"
local folder = require "advrt.run.folder"
local latex = require "advrt.results.latex"
local loaded = require "advrt.support.loaded"
local options = require "advrt.support.options"
local run_json = require "advrt.run.run_json"
local system = require "advrt.core.system"
local tables = require "advrt.results.tables"

local settings = {"equal_multiplier", "equal_perturbation"}

local o = options.parse(arg, {
    name = "table1.lua",
    description = "Joins an equal-multiplier and an equal-perturbation run into Table I.",
    uses = {
        {"runs/multiplier runs/perturbation", "print Table I from two runs"},
        {"runs/multiplier runs/perturbation --csv", "print it as CSV"},
        {"runs/multiplier runs/perturbation --out runs/table1", "write it as CSV and LaTeX too"},
    },
    options = {"out"},
    flags = {{"csv", "print CSV instead of the table"}},
    arguments = {
        {"run_a", "folder of a run of equal_multiplier or equal_perturbation"},
        {"run_b", "folder of a run of the other setting"},
    },
})

local groups, found, abouts = {}, {}, {}
for i, dir in ipairs {o.run_a, o.run_b} do
    local about, problem = run_json.read(dir)
    if not about then fail("%s", problem) end
    abouts[i] = about
    run_json.check_files(dir, about, {"table1.csv", "least_perturbation.csv"})
    local rows, message = tables.read_table1(dir .. "/table1.csv")
    if not rows then fail("%s", message) end
    local added
    added, message = tables.add_distances(rows, dir .. "/least_perturbation.csv")
    if not added then fail("%s", message) end
    found[rows[1].setting] = rows
end
for i, setting in ipairs(settings) do
    groups[i] = found[setting]
    if not groups[i] then
        fail("neither %s nor %s holds a run of %s", o.run_a, o.run_b, setting)
    end
end
for i = 1, math.max(#groups[1], #groups[2]) do
    local a, b = groups[1][i], groups[2][i]
    if not (a and b and a.loss == b.loss) then
        fail("%s and %s have different losses; run both with the same --losses", o.run_a, o.run_b)
    end
end

-- Both must agree in these fields of run.json.
for key, what in pairs {net_sha256 = "net", weights_sha256 = "weights", labels_sha256 = "images",
    require_sha256 = "losses"} do
    if abouts[1][key] ~= abouts[2][key] then
        fail("%s and %s differ in their %s; Table I needs runs with the same", o.run_a, o.run_b, what)
    end
end

local file = loaded.difference(abouts[1].loaded, abouts[2].loaded)
if file then
    fail("%s and %s cannot be compared: %s; run both with the same files", o.run_a, o.run_b, file)
end

local joined = table.move(groups[2], 1, #groups[2], #groups[1] + 1,
    table.move(groups[1], 1, #groups[1], 1, {}))
local text, csv = tables.table1_text(groups), tables.table1_csv(joined)
io.write(o.csv and csv or system.printable(text, true))
if o.out then
    local out <close> = folder.claim(o.out)
    latex.write(out, "table1", csv)
    out:write("table1.txt", text)
end
