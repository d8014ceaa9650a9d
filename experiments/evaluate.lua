--- The top-1 and top-5 accuracy of a net on a folder of images. Run it first with new weights, to
-- check them and the preprocessing.

local count_of = require "advrt.support.count"
local csv = require "advrt.support.csv"
local experiment = require "advrt.run.experiment"
local fail = require "advrt.support.fail"
local lfs = require "lfs"
local options = require "advrt.support.options"
local progress = require "advrt.run.progress"
local system = require "advrt.core.system"
local tensor = require "advrt.tensor"

local o = options.parse(arg, {
    name = "evaluate.lua",
    description = "Prints a net's top-1 and top-5 accuracy on images, or writes its predictions as labels.",
    uses = {
        {"", "accuracy of the bundled network on the bundled images"},
        {"--net model.onnx --images photos", "your own network and images"},
        {"--net model.onnx --images photos --write-labels photos/labels.csv",
            "label images with the network's predictions"},
    },
    options = table.move(options.of_images, 1, #options.of_images, 3, {"seed", "write-labels"}),
    flags = {{"skip-bad", "skip images that cannot be read; without it they cause exit status 1"}},
})
local net = experiment.load_net(o)

--- Fails before any work if labels cannot be written.
local function check_labels()
    if lfs.attributes(o.write_labels, "mode") then
        fail("--write-labels: %s exists; give another file, or remove it", o.write_labels)
    elseif o.images and lfs.attributes(o.images, "mode") == "file" then
        fail("--write-labels needs a folder of image files as --images, got the file %s", o.images)
    end
end

--- Writes the predicted classes, by the image's number.
local function write_labels(images, count, predicted)
    local lines, seen, classes = {"file,label\n"}, {}, 0
    for i = 1, count do
        local class = predicted[i]
        lines[#lines + 1] = ("%s,%d\n"):format(csv.field(images.files[i]), class)
        if not seen[class] then seen[class], classes = true, classes + 1 end
    end
    local done, message = system.write(o.write_labels, table.concat(lines))
    if not done then fail("%s", message) end
    print(("%s: the predictions of %s for %s, %s"):format(o.write_labels, net.name,
        count_of(count, "image"), count_of(classes, "class", "classes")))
end

if o.write_labels then check_labels() end
local images, count = experiment.open_images(o, net)
print(images:about(count))
images:on_bad(true) -- report all of them
local shown <close> = progress.start("images", count)
local z = tensor.new {o.batch, net.classes}
local done, good, top1, top5, bad_files = 0, 0, 0, 0, {}
local predicted = {} -- class of each image, by the image's number
local broken, first = 0, nil -- images with an infinite or NaN logit
for x, numbers, bad in images:batches(1, count, o.batch) do
    local labels = {}
    for k = 1, o.batch do labels[k] = images:label(numbers[math.min(k, #numbers)]) end
    local before = net:forward(x, z):rank(labels) -- classes with a larger logit than the label, or NaN
    local largest, classes = z:abs():maximum(2), o.write_labels and z:argmax(2)
    for k, i in ipairs(numbers) do
        if bad[i] then
            bad_files[#bad_files + 1] = bad[i]
        else
            good = good + 1
            local finite = largest:get(k) < math.huge -- false for NaN
            if not finite then broken, first = broken + 1, first or images.files[i] end
            if classes then predicted[i] = classes:get(k) end
            if before:get(k) < 1 then top1 = top1 + 1 end
            if before:get(k) < 5 then top5 = top5 + 1 end
        end
    end
    done = done + #numbers
    shown:update(done, o.write_labels and "predicted"
        or ("top-1 %.2f %%"):format(100 * top1 / math.max(1, good)))
end
shown:finish(count_of(count, "image"))
for _, message in ipairs(bad_files) do io.stderr:write("bad file: ", system.printable(message), "\n") end
if good > 0 and broken == good then
    fail("%s: the logits of all %s are not finite; check the weights and the preprocessing", net.name,
        count_of(good, "image"))
end
if o.write_labels then
    if good < count then
        fail("no labels written: %d of %d images cannot be read; fix or remove them", #bad_files, count)
    end
    if broken > 0 then fail("no labels written: the logits of %s are not finite", first) end
    write_labels(images, count, predicted)
    return
end
if good > 0 then
    print(("%s on %s: %s%s"):format(net.name, o.images, count_of(good, "image"),
        #bad_files > 0 and (", %d bad left out"):format(#bad_files) or ""))
    print(("top-1  %6.2f %%  (%d right)"):format(100 * top1 / good, top1))
    -- With five classes or fewer, every label is among the first five.
    if net.classes > 5 then print(("top-5  %6.2f %%  (%d right)"):format(100 * top5 / good, top5)) end
    experiment.doubt(net, top1, good)
end
if broken > 0 then
    print(("Logits that are not finite: %s, the first %s. An image whose logits hold NaN is never top-1; "
        .. "check the weights and the preprocessing."):format(count_of(broken, "image"), first))
end
if good == 0 or #bad_files > 0 and not o.skip_bad then
    fail("%s: %d of %d images cannot be read; replace the files%s", o.images, #bad_files, count,
        good > 0 and ", or skip them with --skip-bad" or "")
end
