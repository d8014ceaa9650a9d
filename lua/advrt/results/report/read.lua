--- Reads a finished run for its report, only from its folder.

local comparison = require "advrt.results.comparison"
local csv = require "advrt.support.csv"
local examples = require "advrt.results.examples"
local fail = require "advrt.support.fail"
local json = require "advrt.support.json"
local lfs = require "lfs"
local plot = require "advrt.plot"
local record = require "advrt.record"
local run_json = require "advrt.run.run_json"
local tables = require "advrt.results.tables"

local POINTS = 84 -- points of a curve at most, besides the last
local NUMBERS = 250000 -- numbers in the curves of a page, which make about 1.5 MB
local LEFT = 200 -- lines shown of the images that were left out

--- The series of single images that the page can show.
local series = {"p_initial", "p_target", "z_initial", "z_target", "l2", "linf", "grad_l2", "step_l2"}

local function read_lines(path, count)
    local lines = {}
    local text = csv.read_optional(path)
    for line in (text or ""):gmatch("([^\n]*)\n?") do
        if #lines == count then break end
        lines[#lines + 1] = (line:gsub("\r$", ""))
    end
    return lines
end

--- The steps at which a curve is drawn: every k-th and the last.
local function steps_of(iterations)
    local steps, k = {}, math.ceil((iterations + 1) / POINTS)
    for n = 0, iterations, k do steps[#steps + 1] = n end
    if steps[#steps] ~= iterations then steps[#steps + 1] = iterations end
    return steps
end

--- A number with four digits, in JSON's form; 0 if it is NaN or infinite.
local function short(v)
    return v == v and math.abs(v) < math.huge and tonumber(("%.4g"):format(v)) or 0
end

--- One record's curves: for each series an array over the steps.
local function curves_of(r, steps)
    local all = setmetatable({}, {__jsontype = "array"})
    for i, name in ipairs(series) do
        local curve = setmetatable({}, {__jsontype = "array"})
        for k, n in ipairs(steps) do curve[k] = short(r[name][n + 1]) end
        all[i] = curve
    end
    return all
end

--- Reads the records: means of the perturbations at the first flip, and the curves of as many
-- images as fit.
local function read_records(run)
    local room = NUMBERS // (#series * #run.losses * #run.steps)
    run.curves, run.least = {}, {}
    local compared = comparison.new(run.losses)
    for _, name in ipairs(run.losses) do
        run.least[name] = {l2 = {}, linf = {}, common_l2 = {}, common_linf = {}, survive = 0,
            missed = 0}
    end
    local one
    local flipped = {} -- the records of the present image
    local function close_image()
        tables.miss(flipped, run.least, #run.losses)
        if #flipped < #run.losses then return end
        for _, r in ipairs(flipped) do
            local least = run.least[r.loss]
            least.common_l2[#least.common_l2 + 1] = r.flip_l2
            least.common_linf[#least.common_linf + 1] = r.flip_linf
        end
    end
    for r in record.each(run.dir .. "/records.msgpack") do
        local problem = tables.problem_of(r)
        if problem then fail("%s/records.msgpack: a record has %s", run.dir, problem) end
        local least = run.least[r.loss]
        if not least or #r.l2 ~= run.about.options.iterations + 1 or r.flip_iteration >= #r.l2 then
            fail("%s/records.msgpack: holds a record of another run", run.dir)
        end
        compared:add(r)
        run.no_picture = r.survives_8bit == -1
        if r.flip_iteration >= 0 then
            least.l2[#least.l2 + 1], least.linf[#least.linf + 1] = r.flip_l2, r.flip_linf
            if r.survives_8bit == true then least.survive = least.survive + 1 end
        end
        if not one or one.file ~= r.file then
            close_image()
            flipped = {}
            one = {file = r.file, label = r.label, target = r.target, flips = {}, curves = {}}
            if #run.curves < room then run.curves[#run.curves + 1] = one end
        end
        if #run.curves <= room and run.curves[#run.curves] == one then
            one.flips[#one.flips + 1] = r.flip_iteration
            one.curves[#one.curves + 1] = curves_of(r, run.steps)
        end
        if r.flip_iteration >= 0 then flipped[#flipped + 1] = r end
    end
    close_image()
    run.found = compared:finish(run.about.options.seed)
end

--- The images that were not attacked, as {file, label, prediction, reason}; only the first lines.
local function read_left(path)
    local text = csv.read_optional(path)
    local left = {}
    for i, fields in ipairs(text and csv.parse(text) or {}) do
        if i > 1 and #left < LEFT and #fields == 4 then
            fields[1] = csv.name(fields[1])
            left[#left + 1] = fields
        end
    end
    return left
end

--- Reads the folder of a finished run. Returns a table:
--
--   dir; about (run.json); losses and styles (advrt.plot)
--   rows      Table I's rows, each with mean_l2, mean_linf, common_l2, common_linf (over the images that
--             every loss flipped), survive and missed
--   least; found (advrt.results.comparison); shown (advrt.results.examples)
--   figures   {name, figure, path} of the existing pictures
--   left; classes (names by class, or empty); steps, series and curves of single images
--
-- Fails if the folder is not a finished run. Unless the run is trusted, a file that has changed is
-- a failure too, and a changed figure is marked.
local function read(dir, trusted)
    local about, message = run_json.read(dir)
    if not about then fail("%s", message) end
    if not about.options.losses or about.options.losses == json.null or not about.options.iterations then
        fail("%s: has no report: it is a run of %s", dir, about.setting)
    end
    if not trusted then run_json.check_files(dir, about, nil, "adversarial.safetensors") end
    local run = {dir = dir, about = about, losses = about.options.losses,
        styles = plot.styles(about.options.losses), steps = steps_of(about.options.iterations),
        series = series, figures = {}, classes = {}}
    for i, name in ipairs(read_lines(dir .. "/classes.txt", 100000)) do
        if name ~= "" then run.classes[i - 1] = name end
    end
    run.rows, message = tables.read_table1(dir .. "/table1.csv")
    if not run.rows then fail("%s", message) end
    read_records(run)
    for _, row in ipairs(run.rows) do
        local least = run.least[row.loss]
        if not least then fail("%s/table1.csv: holds a loss that is not the run's", dir) end
        row.mean_l2 = tables.mean_std(least.l2)
        row.mean_linf = tables.mean_std(least.linf)
        row.common_l2, row.common_linf = (tables.mean_std(least.common_l2)),
            (tables.mean_std(least.common_linf))
        row.survive, row.missed = least.survive, least.missed
    end
    run.shown = examples.read(dir)
    run.left = read_left(dir .. "/left_out.csv")
    for _, figure in ipairs(about.figures or {}) do
        local path = ("%s/%s.svg"):format(dir, figure[1])
        if lfs.attributes(path, "mode") == "file" then
            run.figures[#run.figures + 1] = {name = figure[1], figure = figure[2], path = path,
                changed = not trusted and run_json.is_file(dir, about, figure[1] .. ".svg") ~= true}
        end
    end
    return run
end

return {read = read}
