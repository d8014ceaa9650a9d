--- The tables of a run, computed from records.msgpack in one pass: means and standard deviations
-- over images per loss and iteration, one row of Table I per loss, and the perturbations at the
-- first flip. Memory grows with iterations and losses; each image adds only a few numbers.

local attack = require "advrt.attack"
local comparison = require "advrt.results.comparison"
local count_of = require "advrt.support.count"
local csv = require "advrt.support.csv"
local fail = require "advrt.support.fail"
local lines_of = require "advrt.support.lines"
local record = require "advrt.record"
local stats = require "advrt.results.stats"
local tensor = require "advrt.tensor"

local tables = {}

local RESAMPLES = 1000 -- of the bootstrap

--- The series with a curve, in the order of curves.csv: all except the subspace.
tables.curves = {}
for _, s in ipairs(attack.series) do
    if s[1] ~= "subspace" then tables.curves[#tables.curves + 1] = s[1] end
end

--- A number in the form of the CSV files: 9 digits; NaN of either sign is `nan`.
function tables.number(v)
    if v ~= v then return "nan" end
    return math.type(v) == "integer" and ("%d"):format(v) or ("%.9g"):format(v)
end

--- The 95 % interval of the fraction `right` of n by Wilson's score (1927): low, high; nan if n is
-- 0.
function tables.interval(right, n)
    if n == 0 then return 0 / 0, 0 / 0 end
    local z = 1.959963984540054
    local p, zz = right / n, z * z
    local middle, half = p + zz / (2 * n), z * math.sqrt(p * (1 - p) / n + zz / (4 * n * n))
    return math.max(0, (middle - half) / (1 + zz / n)), math.min(1, (middle + half) / (1 + zz / n))
end

--- Mean and sample standard deviation of a list; nan if it has too few numbers.
function tables.mean_std(list)
    local mean, m2 = 0, 0
    for i, v in ipairs(list) do
        local d = v - mean
        mean = mean + d / i
        m2 = m2 + d * (v - mean)
    end
    if #list == 0 then return 0 / 0, 0 / 0 end
    return mean, #list > 1 and math.sqrt(m2 / (#list - 1)) or 0 / 0
end

--- Running mean and sum of squared deviations (Welford) of one series, [0 .. iterations].
local function new_curve(iterations)
    local c = {mean = {}, m2 = {}}
    for n = 0, iterations do c.mean[n], c.m2[n] = 0, 0 end
    return c
end

local function add_to_curve(c, count, values)
    for n = 0, #values - 1 do
        local v = values[n + 1]
        local d = v - c.mean[n]
        c.mean[n] = c.mean[n] + d / count
        c.m2[n] = c.m2[n] + d * (v - c.mean[n])
    end
end

local function new_loss(name, iterations)
    local s = {name = name, images = 0, flips = {}, flip_l2 = {}, flip_linf = {}, common = {},
        common_l2 = {}, common_linf = {}, missed = 0, curves = {}, subspaces = {}}
    for _, series in ipairs(tables.curves) do s.curves[series] = new_curve(iterations) end
    for n = 0, iterations do s.subspaces[n] = {0, 0, 0} end
    return s
end

--- The type of each field of a record, in terms of math.type or type; a number field may hold an
-- integer.
local wanted = {file = "string", label = "integer", target = "integer", loss = "string",
    setting = "string", flip_iteration = "integer", flip_l2 = "number", flip_linf = "number"}

--- Returns what is wrong with a record's fields and series, or nil. Each series must have as many
-- elements as the first; subspaces are 1, 2, 3.
function tables.problem_of(r)
    for name, kind in pairs(wanted) do
        if type(r[name]) ~= kind and math.type(r[name]) ~= kind then
            return ("no %s of type %s"):format(name, kind)
        end
    end
    if type(r.survives_8bit) ~= "boolean" and r.survives_8bit ~= -1 then
        return "no survives_8bit of type boolean"
    end
    local steps
    for _, s in ipairs(attack.series) do
        local values = r[s[1]]
        if type(values) ~= "table" then return "no series " .. s[1] end
        steps = steps or #values
        if #values ~= steps then
            return ("a series %s of %d elements, not %d"):format(s[1], #values, steps)
        end
    end
    for _, subspace in ipairs(r.subspace) do
        if subspace ~= 1 and subspace ~= 2 and subspace ~= 3 then
            return ("a subspace %s"):format(subspace)
        end
    end
end

local function add_record(s, r)
    s.images = s.images + 1
    for name, curve in pairs(s.curves) do add_to_curve(curve, s.images, r[name]) end
    for n = 0, #r.subspace - 1 do
        local count = s.subspaces[n]
        count[r.subspace[n + 1]] = count[r.subspace[n + 1]] + 1
    end
    if r.flip_iteration >= 0 then
        s.flips[#s.flips + 1] = r.flip_iteration
        s.flip_l2[#s.flip_l2 + 1] = r.flip_l2
        s.flip_linf[#s.flip_linf + 1] = r.flip_linf
    end
end

local function least_row(r)
    local flipped = r.flip_iteration >= 0
    return ("%s,%s,%d,%d,%d,%s,%s,%d"):format(csv.field(r.loss), csv.file(r.file), r.label,
        r.target, r.flip_iteration, tables.number(flipped and r.flip_l2 or 0 / 0),
        tables.number(flipped and r.flip_linf or 0 / 0),
        r.survives_8bit == -1 and -1 or flipped and r.survives_8bit and 1 or 0)
end

--- If exactly one loss did not flip an image, adds 1 to that loss's `missed`. group: an array of
-- records with a `loss`, for the losses that flipped the image; losses: by name, tables with the
-- field `missed`; count: number of losses.
function tables.miss(group, losses, count)
    if #group ~= count - 1 then return end
    local flipped = {}
    for _, r in ipairs(group) do flipped[r.loss] = true end
    for name, s in pairs(losses) do
        if not flipped[name] then s.missed = s.missed + 1 end
    end
end

--- The 2.5 % and 97.5 % points of the mean of `list` under resampling with replacement. The drawn
-- images depend only on the seed, so all losses are compared on the same draws.
local function bootstrap(list, seed)
    local n, means = #list, {}
    if n == 0 then return 0 / 0, 0 / 0 end
    for k = 1, RESAMPLES do
        local u = tensor.uniform(("%d:bootstrap:%d"):format(seed, k), {n}):totable()
        local sum = 0
        for i = 1, n do sum = sum + list[math.floor(u[i] * n) + 1] end
        means[k] = sum / n
    end
    table.sort(means)
    return tables.quantile(means, 0.025), tables.quantile(means, 0.975)
end

--- The p-quantile of a sorted list, linear between its elements; nan of an empty one.
tables.quantile = stats.quantile

--- Reads the records and summarises them.
--
-- path: records.msgpack; losses: names, in the given order; iterations; seed of the bootstrap.
-- Returns a table:
--
--   losses       an array of {name, images, flips, flip_l2, flip_linf (lists over the flipped images),
--                common, common_l2, common_linf (iterations and distances over the images that every
--                loss flipped), missed (number of images that only this loss did not flip),
--                curves[series].mean and .std [0 .. iterations], subspaces[n] = counts of S1, S2, S3}
--   iterations, setting
--   least        the rows of least_perturbation.csv
--   comparison   (advrt.results.comparison) of the same records
--
-- Fails on records that a run of these losses and iterations cannot make.
function tables.summarise(path, losses, iterations, seed)
    local summary = {path = path, losses = {}, iterations = iterations, seed = seed, least = {},
        comparison = comparison.new(losses)}
    local by_name, group = {}, {}
    for i, name in ipairs(losses) do
        by_name[name] = new_loss(name, iterations)
        summary.losses[i] = by_name[name]
    end
    local number = 0
    for r in record.each(path) do
        number = number + 1
        local problem = tables.problem_of(r)
        if problem then fail("%s: record %d has %s", path, number, problem) end
        local s = by_name[r.loss]
        if not s or #r.l2 ~= iterations + 1 then
            fail("%s: holds a record of another run (loss %s, %d steps)", path, r.loss, #r.l2 - 1)
        end
        add_record(s, r)
        summary.comparison:add(r)
        summary.setting, summary.no_picture = r.setting, r.survives_8bit == -1
        summary.least[#summary.least + 1] = least_row(r)
        if r.loss == losses[1] then group = {} end
        if r.flip_iteration >= 0 then group[#group + 1] = r end
        if r.loss == losses[#losses] then tables.miss(group, by_name, #losses) end
        if r.loss == losses[#losses] and #group == #losses then
            for i, s_i in ipairs(summary.losses) do
                s_i.common[#s_i.common + 1] = group[i].flip_iteration
                s_i.common_l2[#s_i.common_l2 + 1] = group[i].flip_l2
                s_i.common_linf[#s_i.common_linf + 1] = group[i].flip_linf
            end
        end
    end
    for _, s in ipairs(summary.losses) do
        for _, curve in pairs(s.curves) do
            curve.std = {}
            for n = 0, iterations do
                curve.std[n] = s.images > 1 and math.sqrt(curve.m2[n] / (s.images - 1)) or 0 / 0
                if s.images == 0 then curve.mean[n] = 0 / 0 end
            end
        end
    end
    return summary
end

--- The columns of table1.csv.
tables.table1_header = {"setting", "loss", "images", "flipped", "iterations_mean",
    "iterations_std", "common_images", "common_mean", "common_low", "common_high", "seconds"}

--- The rows of Table I: for each loss one table with the columns of table1.csv by name. It also has
-- common_l2 and common_linf: means at the flip over the common images. missed is the number of
-- images that only this loss did not flip. seconds: loss name -> seconds spent in forward,
-- backward and step.
function tables.table1(summary, setting, seconds)
    local rows = {}
    for i, s in ipairs(summary.losses) do
        local mean, std = tables.mean_std(s.flips)
        local low, high = bootstrap(s.common, summary.seed)
        rows[i] = {setting = setting, loss = s.name, images = s.images, flipped = #s.flips,
            iterations_mean = mean, iterations_std = std, common_images = #s.common,
            common_mean = (tables.mean_std(s.common)), common_low = low, common_high = high,
            common_l2 = (tables.mean_std(s.common_l2)), common_linf = (tables.mean_std(s.common_linf)),
            missed = s.missed, seconds = seconds[s.name]}
    end
    return rows
end

--- CSV text of rows; each row is a table with these columns. Values are texts, numbers, or booleans
-- (as 1 and 0).
function tables.csv(columns, rows)
    local lines = {table.concat(columns, ",")}
    for _, row in ipairs(rows) do
        local fields = {}
        for i, name in ipairs(columns) do
            local v = row[name]
            if type(v) == "boolean" then v = v and 1 or 0 end
            fields[i] = type(v) ~= "string" and tables.number(v) or name == "file" and csv.file(v)
                or csv.text(v)
        end
        lines[#lines + 1] = table.concat(fields, ",")
    end
    return table.concat(lines, "\n") .. "\n"
end

--- CSV text of Table I's rows.
function tables.table1_csv(rows) return tables.csv(tables.table1_header, rows) end

local counts = {images = true, flipped = true, common_images = true}

--- A field of table1.csv as the value of its column; or nil and what was wanted.
local function value_of(name, field)
    if name == "setting" or name == "loss" then return field end
    if counts[name] then
        local count = math.tointeger(tonumber(field))
        if count and count >= 0 then return count end
        return nil, "no count"
    end
    local number = field == "nan" and 0 / 0 or tonumber(field)
    return number, "no number"
end

--- Reads table1.csv: rows in the form of table1; or nil and a message if it is invalid.
function tables.read_table1(path)
    local text, message = csv.read(path)
    if not text then return nil, message end
    local records, problem = csv.parse(text)
    if not records then return nil, ("%s: %s"):format(path, problem) end
    local header, rows = records[1], {}
    if not header or table.concat(header, ",") ~= table.concat(tables.table1_header, ",") then
        return nil, path .. ": not a run's table1.csv"
    end
    for i = 2, #records do
        local row = {}
        for k, name in ipairs(tables.table1_header) do
            local field = records[i][k]
            if not field then
                return nil, ("%s: line %d: a field is missing"):format(path, records[i].line)
            end
            local value, reason = value_of(name, field)
            if not value then
                return nil, ("%s: line %d: %s: '%s' is %s"):format(path, records[i].line, name,
                    field, reason)
            end
            row[name] = value
        end
        rows[i - 1] = row
    end
    if #rows == 0 then return nil, path .. ": holds no loss" end
    return rows
end

--- Adds common_l2, common_linf and missed to rows of read_table1, from the same run's
-- least_perturbation.csv. Returns true, or nil and a message if the file does not match the rows.
function tables.add_distances(rows, path)
    local text, message = csv.read(path)
    if not text then return nil, message end
    local records, problem = csv.parse(text)
    if not records then return nil, ("%s: %s"):format(path, problem) end
    local column, lists, by_name = {}, {}, {}
    for k, name in ipairs(records[1] or {}) do column[name] = k end
    for l, row in ipairs(rows) do
        lists[l], by_name[row.loss], row.missed = {l2 = {}, linf = {}}, row, 0
    end
    for i = 2, #records, #rows do
        local group, whole = {}, column.loss and column.iteration and column.l2 and column.linf
        for l, row in ipairs(rows) do
            local r = records[i + l - 1]
            if not (whole and r and r[column.loss] == row.loss) then
                return nil, path .. ": not of the run of table1.csv"
            end
            r.loss = row.loss
            if (tonumber(r[column.iteration]) or -1) >= 0 then group[#group + 1] = r end
        end
        tables.miss(group, by_name, #rows)
        for l, r in ipairs(#group == #rows and group or {}) do
            for key, list in pairs(lists[l]) do list[#list + 1] = tonumber(r[column[key]]) or 0 / 0 end
        end
    end
    for l, row in ipairs(rows) do
        if #lists[l].l2 ~= row.common_images then
            return nil, path .. ": not of the run of table1.csv"
        end
        row.common_l2 = tables.mean_std(lists[l].l2)
        row.common_linf = tables.mean_std(lists[l].linf)
    end
    return true
end

--- CSV text of the mean curves and of their standard deviations, in columns named NAME_std.
function tables.curves_csv(summary)
    local header = {"loss", "iteration"}
    table.move(tables.curves, 1, #tables.curves, 3, header)
    for _, name in ipairs(tables.curves) do header[#header + 1] = name .. "_std" end
    local lines = {table.concat(header, ",")}
    for _, s in ipairs(summary.losses) do
        for n = 0, summary.iterations do
            local fields = {csv.field(s.name), tables.number(n)}
            for _, part in ipairs {"mean", "std"} do
                for _, name in ipairs(tables.curves) do
                    fields[#fields + 1] = tables.number(s.curves[name][part][n])
                end
            end
            lines[#lines + 1] = table.concat(fields, ",")
        end
    end
    return table.concat(lines, "\n") .. "\n"
end

--- CSV text of the perturbations at the first flip, in the order of the records.
function tables.least_perturbation_csv(summary)
    local header = "loss,file,label,target,iteration,l2,linf,survives_8bit\n"
    if #summary.least == 0 then return header end
    return header .. table.concat(summary.least, "\n") .. "\n"
end

local titles = {ce = "CE", ce_sign = "CE-Sign", logit = "Logit", m_logit = "M-Logit"}

--- A loss's name in the paper's notation; other losses keep their own.
function tables.title(name) return titles[name] or name end

--- "93.2 ± 31.0"; nan is shown as "-".
local function plus_minus(mean, std)
    if mean ~= mean then return "-" end
    return ("%.1f ± %s"):format(mean, std ~= std and "-" or ("%.1f"):format(std))
end

local settings = {equal_multiplier = "Equal Multiplier", equal_perturbation = "Equal Perturbation"}

--- A sentence for each loss without which there would be more than twice as many common images.
-- rows: Table I's rows of one setting, with `missed`.
function tables.limits(rows)
    local list = {}
    for _, row in ipairs(rows) do
        local without = row.common_images + (row.missed or 0)
        if #rows > 1 and without > 2 * row.common_images then
            list[#list + 1] = ("%s limits the common images to %d; the other losses have %d in common.")
                :format(tables.title(row.loss), row.common_images, without)
        end
    end
    return list
end

--- Table I as text, one table per setting: iterations to the flip, seconds, and, if the rows have
-- them, the distances at the flip over the common images. groups: arrays of rows from table1.
function tables.table1_text(groups)
    local lines, notes = {}, {}
    for i, rows in ipairs(groups) do
        local near = rows[1].common_l2
        local name = settings[rows[1].setting] or rows[1].setting
        local cells = {{"", "Iterations", "flipped", "on common images",
            table.unpack(near and {"L2, Linf on these", "Time (s)"} or {"Time (s)"})}}
        for k, r in ipairs(rows) do
            local common = r.common_images > 0
            local line = {tables.title(r.loss), plus_minus(r.iterations_mean, r.iterations_std),
                ("%d of %d"):format(r.flipped, r.images), common
                    and ("%.1f [%.1f, %.1f]"):format(r.common_mean, r.common_low, r.common_high) or "-"}
            if near then line[5] = common and ("%.3g, %.3g"):format(r.common_l2, r.common_linf) or "-" end
            line[#line + 1] = ("%.2f"):format(r.seconds)
            cells[k + 1] = line
        end
        lines[#lines + 1] = name
        table.move(lines_of.columns(cells, 24), 1, 2 * #cells, #lines + 1, lines)
        lines[#lines + 1] = i < #groups and "" or nil
        notes[i] = ("%s: %s that every loss flipped"):format(name, count_of(rows[1].common_images, "image"))
    end
    local sentences = {"Iterations: mean ± standard deviation to the first flip, over the flipped.",
        "Common images, mean and 95 % interval: " .. table.concat(notes, "; ") .. "."}
    for _, rows in ipairs(groups) do
        for _, limit in ipairs(tables.limits(rows)) do
            sentences[#sentences + 1] = ("%s: %s"):format(settings[rows[1].setting] or rows[1].setting, limit)
        end
    end
    for _, sentence in ipairs(sentences) do
        for _, line in ipairs(lines_of.wrap(sentence)) do lines[#lines + 1] = line end
    end
    return table.concat(lines, "\n") .. "\n"
end

return tables
