--- How often a net is right on a folder of images: top-1 and top-5. What to run first with new
-- weights, to know that they and the preprocessing are right.

local experiment = require "advrt.experiment"
local options = require "advrt.options"
local progress = require "advrt.progress"
local tensor = require "advrt.tensor"

local o = options.parse(arg, {
    name = "evaluate.lua",
    description = "Prints a net's top-1 and top-5 accuracy on a folder of images.",
    options = table.move(options.of_images, 1, #options.of_images, 2, {"seed"}),
})
local net = experiment.load_net(o)
local images, count = experiment.open_images(o, net)
print(images:about(count))
local shown <close> = progress.start("images", count)
local z = tensor.new {o.batch, net.classes}
local done, top1, top5 = 0, 0, 0
for x, numbers in images:batches(1, count, o.batch) do
    local labels = {}
    for k = 1, o.batch do labels[k] = images:label(numbers[math.min(k, #numbers)]) end
    local before = net:forward(x, z):rank(labels) -- classes with a larger logit than the label's
    for k = 1, #numbers do
        if before:get(k) < 1 then top1 = top1 + 1 end
        if before:get(k) < 5 then top5 = top5 + 1 end
    end
    done = done + #numbers
    shown:update(done, ("top-1 %.2f %%"):format(100 * top1 / done))
end
shown:finish(("%d images"):format(count))
print(("%s on %s: %d images"):format(net.name, o.images, count))
print(("top-1  %6.2f %%  (%d right)"):format(100 * top1 / count, top1))
print(("top-5  %6.2f %%  (%d right)"):format(100 * top5 / count, top5))
