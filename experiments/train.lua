--- Trains a net, by default the bundled one on Fashion-MNIST (Xiao et al., arXiv:1708.07747), and
-- reports its accuracy on the test images.
--
-- Recipe: SGD with Nesterov momentum; a rate that rises briefly and then falls along half a
-- cosine; weight decay; each image is mirrored with probability one half and shifted by up to one
-- pixel. The data are one of: the four IDX files of a data set like MNIST; folders `train` and
-- `val` of PNG and JPEG with one folder per class, which separate threads read ahead and decode;
-- files of arrays, train.npz and val.npz; or CIFAR's binary batches. Features are neither mirrored
-- nor shifted. Under mpirun, the processes share every batch: the same training except for the
-- order of sums. With --images DIR it writes instead the hundred test images that come with the
-- net: the first ten of each class, in the order of the test set.

local count_of = require "advrt.support.count"
local data = require "advrt.data"
local dist = require "advrt.dist"
local fail = require "advrt.support.fail"
local folder = require "advrt.run.folder"
local image = require "advrt.core.image"
local lfs = require "lfs"
local net = require "advrt.net"
local options = require "advrt.support.options"
local progress = require "advrt.run.progress"
local system = require "advrt.core.system"
local tensor = require "advrt.tensor"
local train = require "advrt.train"

local names = {
    "t-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag",
    "ankle boot",
}

local BUNDLED = "nets/fashion.lua"

local function read_options()
    local o = options.parse(arg, {
        name = "train.lua",
        description = "Trains a network, by default on Fashion-MNIST.",
        uses = {
            {"--net mynet.lua --data photos --out mynet.safetensors",
                "train on photos/train, test on photos/val"},
            {"--net mlp --epochs 5 --out mlp.safetensors", "a multilayer perceptron on Fashion-MNIST"},
            {"--net mynet.lua --data photos --out mynet.safetensors --checkpoint mynet.state",
                "save the state after each epoch; the same command continues"},
        },
        options = {"net", "data", "out", "images", "epochs", "batch", "rate", "readers", "log", "checkpoint",
            "seed"},
        ranks = true,
        defaults = {net = BUNDLED, data = "/usr/share/datasets/fashion-mnist", epochs = 20, batch = 128,
            rate = 0.1},
        help = {
            net = "network definition",
            data = "folder with train/ and val/ of images, train.npz and val.npz (or .npy, .safetensors), "
                .. "CIFAR's batches, or the four IDX files of MNIST's format",
            out = {"FILE", "file for the weights (for the bundled net, default: its own weights)"},
            images = "write a hundred test images to this folder instead of training",
            batch = {"N", "images per step", options.whole(1, 65536)},
        },
    })
    if not o.out and o.net ~= BUNDLED then
        fail.option("--out is missing: give the file for the weights of %s", o.net)
    end
    o.out = o.out or system.options.root .. "/nets/fashion.safetensors"
    return o
end

-- The test images of Fashion-MNIST: u8 [N,1,28,28] and the classes, u8 [N].
local function read_test(dir)
    local function idx(what)
        local t, message = image.idx(("%s/t10k-%s-ubyte.gz"):format(dir, what))
        if not t then fail("%s (Debian's package dataset-fashion-mnist installs it)", message) end
        return t
    end
    local images, labels = idx("images-idx3"), idx("labels-idx1")
    return images:reshape {#images, 1, images:size(2), images:size(3)}, labels
end

local function must(done, message)
    if not done then fail("%s", message) end
end

local function write_images(dir, images, labels)
    lfs.mkdir(dir)
    local taken, lines = {}, {"file,label"}
    for i = 1, #labels do
        local label = labels:get(i)
        taken[label] = (taken[label] or 0) + 1
        if taken[label] <= 10 then
            local file = ("%05d.png"):format(i - 1)
            must(image.save(dir .. "/" .. file, images[i]))
            lines[#lines + 1] = ("%s,%d"):format(file, label)
        end
    end
    must(system.write(dir .. "/labels.csv", table.concat(lines, "\n") .. "\n"))
    must(system.write(dir .. "/classes.txt", table.concat(names, "\n") .. "\n"))
    print(("%s in %s"):format(count_of(#lines - 1, "image"), dir))
end

-- The possible names of each part of the data, in the order of search.
local parts = {
    train = {"train", "train.npz", "train.safetensors", "x_train.npy", "train_x.npy", "data_batch_1.bin",
        "train.bin", "train-images-idx3-ubyte.gz", "train-images-idx3-ubyte"},
    test = {"val", "val.npz", "val.safetensors", "x_val.npy", "val_x.npy", "test", "test.npz",
        "test.safetensors", "x_test.npy", "test_x.npy", "test_batch.bin", "test.bin",
        "t10k-images-idx3-ubyte.gz", "t10k-images-idx3-ubyte"},
}

--- A feed of the images of a part of the data, "train" or "test".
local function open(g, dir, part)
    for _, name in ipairs(parts[part]) do
        local path = dir .. "/" .. name
        if lfs.attributes(path, "mode") then
            -- CIFAR-10's training batches are a folder's
            local images = data.folder(name == "data_batch_1.bin" and dir or path, {net = g})
            local f = train.feed(g)
            images:feed(f)
            return f
        end
    end
    if part == "test" then
        fail("--data %s: has training images but no test images; add one of %s", dir,
            table.concat(parts.test, ", "))
    end
    fail("--data %s: no training images; add folders train and val, train.npz and val.npz, CIFAR's batches, "
        .. "or MNIST's files such as train-images-idx3-ubyte.gz (Debian's package dataset-fashion-mnist)",
        dir)
end

local function all_of(f)
    local list = {}
    for i = 1, #f do list[i] = i - 1 end
    return tensor.from(list, "i64")
end

local o = read_options()
if o.images then
    if dist.size > 1 then fail.option("--images runs in one process; start it without mpirun") end
    write_images(o.images, read_test(o.data))
    return
end

-- Check everything that the end needs before the first epoch.
local g, message = net.load(o.net, {init = "he", seed = o.seed})
must(g, message)
if dist.rank == 0 then
    local bytes = 0
    for _, p in ipairs(g:parameters()) do
        local count = 1
        for _, size in ipairs(p.shape) do count = count * size end
        bytes = bytes + 4 * count
    end
    folder.try_file(o.out, "--out", bytes)
    if o.log then folder.try_file(o.log, "--log", 0) end
    if o.checkpoint then folder.try_file(o.checkpoint, "--checkpoint", 2 * bytes) end -- momentum too
end
local images, test = open(g, o.data, "train"), open(g, o.data, "test")
print(g)
if o.batch > #images then
    fail.option("--batch %d: there are only %s; give a smaller batch", o.batch, count_of(#images, "image"))
end
local shown <close> = progress.start("images", #images // o.batch * o.batch * o.epochs)

local function report(entry)
    print(("epoch %d of %d: loss %.4f, %.2f %% right, %.1f s, %.0f images/s, %.1f s of waiting for images")
        :format(entry.epoch, entry.epochs, entry.loss, 100 * entry.accuracy, entry.seconds,
        entry.images_per_second, entry.waited))
    io.stdout:flush()
end

train.run {
    net = g, data = images, epochs = o.epochs, batch = o.batch, seed = o.seed, readers = o.readers,
    shared = true,
    optimiser = train.sgd {momentum = 0.9, weight_decay = 5e-4, nesterov = true},
    schedule = train.cosine(o.rate, 0.05),
    augment = g.input[2] * g.input[3] > 1 and {flip = true, shift = 1} or nil,
    log = report, csv = o.log, checkpoint = o.checkpoint,
    progress = function(step, _, loss, accuracy)
        shown:update(step * o.batch, ("loss %.4f, %.2f %% right"):format(loss, 100 * accuracy))
    end,
}
shown:finish("trained")
if dist.rank == 0 then must(g:save(o.out)) end
print("weights in " .. o.out)
io.stdout:flush()
local right = train.right(g, test, all_of(test))
print(("test images: %.2f %% right"):format(100 * right / #test))
