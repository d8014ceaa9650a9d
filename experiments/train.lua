--- Trains the bundled net on Fashion-MNIST (Xiao et al., arXiv:1708.07747) and says how many of its
-- 10,000 test images it gets right.
--
-- Recipe: SGD with Nesterov momentum, the rate falling along half a cosine after a short rise,
-- weight decay, half of the images mirrored and each moved by up to one pixel.
-- With --images DIR it writes instead the hundred test images that come with the net: the first
-- ten of each class, in the order of the test set.

local argparse = require "argparse"
local fail = require "advrt.fail"
local image = require "advrt.core.image"
local lfs = require "lfs"
local net = require "advrt.net"
local system = require "advrt.core.system"
local train = require "advrt.train"

local names = {
    "t-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag",
    "ankle boot",
}

local bundled = system.options.root .. "/nets/fashion.safetensors"

local function whole(least)
    return function(text)
        local n = text:match("^%d+$") and math.tointeger(tonumber(text))
        if n and n >= least then return n end
        return nil, ("'%s' is no whole number of at least %d"):format(text, least)
    end
end

local function above_zero(text)
    local n = tonumber(text)
    if n and n > 0 and n < math.huge then return n end
    return nil, ("'%s' is no number above 0"):format(text)
end

local function options()
    local parser = argparse("train.lua", "Trains a net on Fashion-MNIST.")
    parser:option("--net", "the definition to train", "nets/fashion.lua"):argname("FILE")
    parser:option("--data", "folder of the four IDX files", "/usr/share/datasets/fashion-mnist")
        :argname("DIR")
    parser:option("--out", "file of weights to write", bundled):argname("FILE")
    parser:option("--images", "write a hundred test images instead of training"):argname("DIR")
    parser:option("--epochs", "passes over the 60,000 images", "20"):argname("N"):convert(whole(1))
    parser:option("--batch", "images a step", "128"):argname("N"):convert(whole(1))
    parser:option("--rate", "highest rate", "0.1"):argname("R"):convert(above_zero)
    parser:option("--seed", "of every random choice", "0"):argname("S"):convert(whole(0))
    local ok, values = parser:pparse()
    if not ok then fail.option("%s", (values:gsub("\n+", "; "))) end
    return values
end

-- One half of the data: u8 [N,1,28,28] and the classes, u8 [N].
local function read(folder, part)
    local function idx(what)
        local t, message = image.idx(("%s/%s-%s-ubyte.gz"):format(folder, part, what))
        if not t then fail("%s (Debian's package dataset-fashion-mnist has it)", message) end
        return t
    end
    local images, labels = idx("images-idx3"), idx("labels-idx1")
    return images:reshape {#images, 1, images:size(2), images:size(3)}, labels
end

local function must(done, message)
    if not done then fail("%s", message) end
end

local function write_images(folder, images, labels)
    lfs.mkdir(folder)
    local taken, lines = {}, {"file,label"}
    for i = 1, #labels do
        local label = labels:get(i)
        taken[label] = (taken[label] or 0) + 1
        if taken[label] <= 10 then
            local file = ("%05d.png"):format(i - 1)
            must(image.save(folder .. "/" .. file, images[i]))
            lines[#lines + 1] = ("%s,%d"):format(file, label)
        end
    end
    must(system.write(folder .. "/labels.csv", table.concat(lines, "\n") .. "\n"))
    must(system.write(folder .. "/classes.txt", table.concat(names, "\n") .. "\n"))
    print(("%d images in %s"):format(#lines - 1, folder))
end

local function report(entry)
    print(("epoch %d of %d: loss %.4f, %.2f %% right, %.1f s"):format(
        entry.epoch, entry.epochs, entry.loss, 100 * entry.accuracy, entry.seconds))
    io.stdout:flush()
end

local o = options()
local test_images, test_labels = read(o.data, "t10k")
if o.images then
    write_images(o.images, test_images, test_labels)
    return
end

local g, message = net.load(o.net, {init = "he", seed = o.seed})
must(g, message)
print(g)
local images, labels = read(o.data, "train")
if o.batch > #images then fail.option("--batch %d: there are only %d images", o.batch, #images) end
train.run {
    net = g, images = images, labels = labels, epochs = o.epochs, batch = o.batch, seed = o.seed,
    optimiser = train.sgd {momentum = 0.9, weight_decay = 5e-4, nesterov = true},
    schedule = train.cosine(o.rate, 0.05),
    augment = {flip = true, shift = 1},
    log = report,
}
print(("test images: %.2f %% right"):format(100 * train.accuracy(g, test_images, test_labels)))
must(g:save(o.out))
print("weights in " .. o.out)
