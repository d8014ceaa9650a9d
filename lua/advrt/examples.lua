--- Examples of a run as PNG: the image, and for each loss the adversarial image and the
-- perturbation, amplified around grey so that it can be seen.

local csv = require "advrt.csv"
local fail = require "advrt.fail"
local image = require "advrt.core.image"
local tables = require "advrt.tables"

local examples = {}

local COUNT = 4 -- images shown

local Examples = {}
Examples.__index = Examples

function examples.new() return setmetatable({images = {}, by_file = {}}, Examples) end

--- The amplification of a perturbation of this L2 norm over D numbers: the largest of 1, 2, 5, 10,
-- ... at which four times its root mean square stays between grey and white. The few numbers
-- beyond are clipped; by the largest one nothing but it would be seen.
function examples.factor(l2, D)
    if l2 <= 0 then return 1 end
    local most = 0.5 / (4 * l2 / math.sqrt(D))
    local decade = 10.0 ^ math.floor(math.log(most, 10))
    for _, step in ipairs {5, 2, 1} do
        if step * decade <= most then return math.max(1, step * decade) end
    end
    return 1
end

--- Keeps what is shown of the first images: what attack.run returned for a batch and one loss.
-- Shown is the image at its first flip; the last one where there is none.
function Examples:add(queue, real, name, r)
    for k = 1, real do
        local file = queue.files[k]
        local one = self.by_file[file]
        if not one and #self.images < COUNT then
            one = {file = file, label = queue.labels[k], target = queue.targets[k],
                x0 = queue.x[k]:clone(), losses = {}}
            self.images[#self.images + 1], self.by_file[file] = one, one
        end
        if one then
            local flip, last = r.flip_iteration:get(k), #r.series.l2
            local flipped = flip >= 0
            one.losses[#one.losses + 1] = {name = name, iteration = flip,
                x = (flipped and r.first or r.adversarial)[k]:clone(),
                l2 = flipped and r.flip_l2:get(k) or r.series.l2:get(last, k),
                linf = flipped and r.flip_linf:get(k) or r.series.linf:get(last, k)}
        end
    end
end

local function save(out, path, x)
    local done, message = image.save(out:file(path), x)
    if not done then fail("%s", message) end
    return path
end

--- Writes examples/ into the run's folder, with examples.csv to say what is what. Returns what
-- figures.fig5 takes.
function Examples:save(out)
    local shown = {}
    local rows = {"number,file,label,target,loss,flip_iteration,l2,linf,amplification"}
    out:folder("examples")
    for i, one in ipairs(self.images) do
        local shape = one.x0:shape()
        shown[i] = {file = one.file, label = one.label, target = one.target, losses = {},
            original = {path = save(out, ("examples/%02d-original.png"):format(i), one.x0),
                W = shape[3], H = shape[2]}}
        for k, l in ipairs(one.losses) do
            local stem = ("examples/%02d-%s"):format(i, (l.name:gsub("[^%w_-]", "_")))
            local factor = examples.factor(l.l2, one.x0:numel())
            local amplified = (l.x - one.x0):mul_(factor):add_(0.5):clamp_(0, 1)
            shown[i].losses[k] = {name = l.name, iteration = l.iteration, l2 = l.l2,
                factor = factor, adversarial = save(out, stem .. "-adversarial.png", l.x),
                perturbation = save(out, ("%s-perturbation-x%g.png"):format(stem, factor), amplified)}
            rows[#rows + 1] = ("%d,%s,%d,%d,%s,%d,%s,%s,%g"):format(i, csv.field(one.file),
                one.label, one.target, csv.field(l.name), l.iteration, tables.number(l.l2),
                tables.number(l.linf), factor)
        end
    end
    out:write("examples/examples.csv", table.concat(rows, "\n") .. "\n")
    return shown
end

return examples
