--- Tables II and III from the runs of a retraining experiment: as text in the paper's layout, as
-- CSV, and as a figure.
--
-- A run is {table = 2 | 3, values, net, loss (the one trained on, "all" for Table III), recipe,
-- validation = {right, images}, counts = name -> {right, images}}; a run that diverged has no
-- counts.

local csv = require "advrt.support.csv"
local detect = require "advrt.paper.detect"
local lines_of = require "advrt.support.lines"
local plot = require "advrt.plot"
local tables = require "advrt.results.tables"

local M = {}

--- How to choose among the runs of a cell: the number to compare; the first of equal runs wins.
M.choices = {
    {"best on test", function(run) return run.counts.overall[1] / run.counts.overall[2] end},
    {"chosen on validation", function(run) return run.validation[1] / run.validation[2] end},
}

local function chosen(runs, choice, of)
    local best
    for _, run in ipairs(runs) do
        if run.counts and run.table == of.table and run.values == of.values and run.net == of.net
            and run.loss == of.loss and (not best or choice[2](run) > choice[2](best)) then
            best = run
        end
    end
    return best
end

--- The rows of a table: {title, loss trained on, name of the count}.
local function rows_of(number, losses)
    local rows = {}
    for i, name in ipairs(losses) do
        rows[i] = {tables.title(name), number == 2 and name or "all", number == 2 and "overall" or name}
    end
    if number == 3 then
        rows[#rows + 1] = {"Adversarial Examples", "all", "adversarial"}
        rows[#rows + 1] = {"Genuine Images", "all", "genuine"}
        rows[#rows + 1] = {"Overall Accuracy", "all", "overall"}
    end
    return rows
end

--- The cells of a table: array of rows, each {title, cells = array of {run, right, images, low,
-- high}}; false for a cell without a run.
function M.cells(runs, number, values, choice, losses, nets)
    local rows = {}
    for i, row in ipairs(rows_of(number, losses)) do
        local cells = {}
        for k, name in ipairs(nets) do
            local run = chosen(runs, choice, {table = number, values = values, net = name, loss = row[2]})
            local count = run and run.counts[row[3]]
            cells[k] = false
            if count then
                local low, high = tables.interval(count[1], count[2])
                cells[k] = {run = run, right = count[1], images = count[2], low = low, high = high}
            end
        end
        rows[i] = {title = row[1], cells = cells}
    end
    return rows
end

local captions = {
    [2] = "Table II: accuracy (%%) of detectors trained on one attack, %s, %s",
    [3] = "Table III: accuracy (%%) of detectors trained on all attacks, %s, %s",
}

--- One table as text, with the 95 % interval and the number of test images beside each accuracy.
function M.text(rows, number, values, choice, nets)
    local cells = {{"Attack"}}
    for k, name in ipairs(nets) do cells[1][k + 1] = detect.titles[name] end
    for i, row in ipairs(rows) do
        cells[i + 1] = {row.title}
        for k, c in ipairs(row.cells) do
            cells[i + 1][k + 1] = c and ("%.1f [%.1f, %.1f] %d"):format(100 * c.right / c.images,
                100 * c.low, 100 * c.high, c.images) or "-"
        end
    end
    local form = values == "8bit" and "8-bit values" or "float32 values"
    local lines = lines_of.columns(cells, 24)
    table.insert(lines, 1, captions[number]:format(form, choice[1]))
    return table.concat(lines, "\n") .. "\n"
end

--- One table as CSV without a header (see M.header).
function M.csv(rows, number, values, choice, nets)
    local lines = {}
    for _, row in ipairs(rows) do
        for k, c in ipairs(row.cells) do
            local fields = {tostring(number), values, choice[1], csv.field(row.title), nets[k]}
            if c then
                for _, v in ipairs {c.right / c.images, c.low, c.high, c.images, c.right} do
                    fields[#fields + 1] = tables.number(v)
                end
                fields[#fields + 1] = c.run.recipe
            else
                table.move({"nan", "nan", "nan", "0", "0", ""}, 1, 6, #fields + 1, fields)
            end
            lines[#lines + 1] = table.concat(fields, ",")
        end
    end
    return table.concat(lines, "\n") .. "\n"
end

M.header = "table,values,choice,row,net,accuracy,low,high,images,right,recipe\n"

--- Every run as CSV; nan for a run that diverged.
function M.runs_csv(runs)
    local lines = {"table,values,loss,net,recipe,validation_accuracy,validation_images,test_accuracy,"
        .. "test_images,genuine_accuracy,adversarial_accuracy,note"}
    for _, run in ipairs(runs) do
        local function share(count) return count and tables.number(count[1] / count[2]) or "nan" end
        local c = run.counts or {}
        lines[#lines + 1] = table.concat({tostring(run.table), run.values, csv.field(run.loss), run.net,
            run.recipe, share(run.validation), tostring(run.validation and run.validation[2] or 0),
            share(c.overall), tostring(c.overall and c.overall[2] or 0), share(c.genuine),
            share(c.adversarial), csv.text(run.diverged or "")}, ",")
    end
    return table.concat(lines, "\n") .. "\n"
end

--- A table as a figure: grouped bars, one panel per kind of values, with the number of test images
-- in brackets. groups: array of {values, rows from M.cells}; form: a result of plot.form.
function M.figure(name, number, groups, nets, form)
    local panels = {}
    for g, group in ipairs(groups) do
        local titles, series = {}, {}
        for r, row in ipairs(group[2]) do
            local images = 0
            for _, c in ipairs(row.cells) do images = math.max(images, c and c.images or 0) end
            titles[r] = ("%s (%d)"):format((row.title:gsub(" %a+$", "")), images)
        end
        for k, net in ipairs(nets) do
            series[k] = {title = detect.titles[net], rows = {}}
            for r, row in ipairs(group[2]) do
                local c = row.cells[k]
                series[k].rows[r] = c and {c.right / c.images, c.low, c.high}
            end
        end
        panels[g] = {groups = titles, series = series, title = ("trained on %s, %s"):format(number == 2
            and "one attack" or "all attacks", group[1] == "8bit" and "8-bit values"
            or "float32 values")}
    end
    return plot.bars(name, ("Table %s: accuracy of detectors"):format(number == 2 and "II" or "III"),
        "accuracy (%), 95 % interval", panels, 0.5, form)
end

return M
