--- Images that a net gets right, with their classes, as the experiments take them; in batches.

local data = require "advrt.data"
local fail = require "advrt.support.fail"
local tensor = require "advrt.tensor"

local images = {}

--- The images of a folder (advrt.data) that the net gets right and whose target rule (o.targets,
-- o.seed) has one, among its first `count`: x [n,C,H,W], files, labels, targets.
function images.right(o, g, folder, count)
    local target_of, message = data.targets(o.targets, g.classes, o.seed)
    if not target_of then fail.option("--targets: %s", message) end
    local list, taken = {}, {files = {}, labels = {}, targets = {}}
    for x, numbers in folder:batches(1, count, o.batch) do
        local z = g:forward(x)
        local predictions = z:argmax()
        for k, i in ipairs(numbers) do
            local file, label = folder.files[i], folder:label(i)
            local target = predictions:get(k) == label and target_of(file, label, z[k])
            if target then
                local n = #list + 1
                list[n] = x:narrow(k, 1):clone()
                taken.files[n], taken.labels[n], taken.targets[n] = file, label, target
            end
        end
    end
    if #list == 0 then fail("the net gets none of the images in %s right", folder.dir) end
    taken.x = tensor.concat(list)
    return taken
end

--- Iterates over batches of B of them, the last one padded with its last image: x, labels, targets
-- and how many are real.
function images.batches(taken, B)
    local first, n = 1, #taken.files
    return function()
        if first > n then return nil end
        local real = math.min(B, n - first + 1)
        local x, labels, targets = tensor.new {B, table.unpack(taken.x:shape(), 2)}, {}, {}
        for k = 1, B do
            local i = first + math.min(k, real) - 1
            x[k]:copy(taken.x[i])
            labels[k], targets[k] = taken.labels[i], taken.targets[i]
        end
        first = first + real
        return x, labels, targets, real
    end
end

return images
