--- The lines and bands of figures: for each loss and series the middle and two limits at each step
-- drawn. They come from a run's summary (advrt.results.tables), and for quartiles from its
-- records.

local record = require "advrt.record"
local tables = require "advrt.results.tables"

local bands = {}

local POINTS = 150 -- of a line, approximately

--- The numbers held at once to find quartiles, about 16 bytes each.
bands.held = 8000000

--- The description of each kind of bands (--bands).
bands.words = {quartiles = "median and quartiles of the images", interval = "mean and its 95 % interval",
    sd = "mean and one standard deviation"}

--- The steps at which lines are drawn: every k-th and the last.
function bands.steps(iterations)
    local steps, k = {}, math.max(1, (iterations + 1) // POINTS)
    for n = 0, iterations, k do steps[#steps + 1] = n end
    if steps[#steps] ~= iterations then steps[#steps + 1] = iterations end
    return steps
end

--- The values of all images at steps[from] .. steps[to]: by loss and series an array of lists.
local function values_at(summary, series, steps, from, to)
    local all = {}
    for _, s in ipairs(summary.losses) do
        all[s.name] = {}
        for _, name in ipairs(series) do
            all[s.name][name] = {}
            for k = from, to do all[s.name][name][k] = {} end
        end
    end
    for r in record.each(summary.path) do
        for name, lists in pairs(all[r.loss]) do
            local values = r[name]
            for k = from, to do
                local list = lists[k]
                list[#list + 1] = values[steps[k] + 1]
            end
        end
    end
    return all
end

--- Adds the quartiles of `series` to summary.quartiles: by loss and series an array over the steps
-- of {median, lower, upper}. Reads the records as often as needed to hold at most bands.held
-- numbers at once.
local function add_quartiles(summary, series, steps)
    local numbers = #series
    for _, s in ipairs(summary.losses) do numbers = numbers + #series * s.images end
    local window = math.max(1, bands.held // numbers)
    for from = 1, #steps, window do
        local to = math.min(from + window - 1, #steps)
        for loss, of_loss in pairs(values_at(summary, series, steps, from, to)) do
            local kept = summary.quartiles[loss]
            for name, lists in pairs(of_loss) do
                kept[name] = kept[name] or {}
                for k = from, to do
                    table.sort(lists[k])
                    kept[name][k] = {tables.quantile(lists[k], 0.5), tables.quantile(lists[k], 0.25),
                        tables.quantile(lists[k], 0.75)}
                end
            end
        end
    end
end

--- Arrays over the steps of {middle, low, high}, by loss and series, for one kind of bands; the
-- caller owns them. summary.path: records.msgpack, for the quartiles.
function bands.of(summary, series, kind, steps)
    local result = {}
    if kind == "quartiles" then
        summary.quartiles = summary.quartiles or setmetatable({}, {__index = function(all, loss)
            all[loss] = {}
            return all[loss]
        end})
        local missing = {}
        for _, name in ipairs(series) do
            if not summary.quartiles[summary.losses[1].name][name] then missing[#missing + 1] = name end
        end
        if #missing > 0 then add_quartiles(summary, missing, steps) end
        for _, s in ipairs(summary.losses) do
            result[s.name] = {}
            for _, name in ipairs(series) do
                local list = summary.quartiles[s.name][name]
                result[s.name][name] = table.move(list, 1, #list, 1, {})
            end
        end
        return result
    end
    for _, s in ipairs(summary.losses) do
        result[s.name] = {}
        local scale = kind == "interval" and 1.959963984540054 / math.sqrt(s.images) or 1
        for _, name in ipairs(series) do
            local list, curve = {}, s.curves[name]
            for k, n in ipairs(steps) do
                local mean, half = curve.mean[n], scale * curve.std[n]
                list[k] = {mean, mean - half, mean + half}
            end
            result[s.name][name] = list
        end
    end
    return result
end

return bands
