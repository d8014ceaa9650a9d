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

local argparse = require "argparse"
local count_of = require "advrt.support.count"
local data = require "advrt.data"
local dist = require "advrt.dist"
local fail = require "advrt.support.fail"
local folder = require "advrt.run.folder"
local image = require "advrt.core.image"
local lfs = require "lfs"
local nearest = require "advrt.support.nearest"
local net = require "advrt.net"
local progress = require "advrt.run.progress"
local system = require "advrt.core.system"
local tensor = require "advrt.tensor"
local train = require "advrt.train"

local names = {
    "t-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag",
    "ankle boot",
}

local bundled = system.options.root .. "/nets/fashion.safetensors"

local function whole(option, least, most)
    local wanted = most and ("from %d to %d"):format(least, most) or "of at least " .. least
    return function(text)
        local n = text:match("^%d+$") and math.tointeger(tonumber(text))
        if n and n >= least and n <= (most or n) then return n end
        return nil, ("%s wants a whole number %s, got '%s'"):format(option, wanted, text)
    end
end

local function above_zero(option)
    return function(text)
        local n = tonumber(text)
        if n and n > 0 and n < math.huge then return n end
        return nil, ("%s wants a number above 0, got '%s'"):format(option, text)
    end
end

local function options()
    local parser = argparse("train.lua", "Trains a net, by default on Fashion-MNIST.")
    local known = {"--help"}
    local function add(name, ...)
        known[#known + 1] = name
        return parser:option(name, ...)
    end
    add("--net", "the definition to train", "nets/fashion.lua"):argname("FILE")
    add("--data", "folder of train/ and val/ with images, of train.npz and val.npz (or .npy, "
        .. ".safetensors), of CIFAR's batches, or of the four IDX files",
        "/usr/share/datasets/fashion-mnist"):argname("DIR")
    add("--out", "file of weights to write; default: the bundled ones, of the bundled net")
        :argname("FILE")
    add("--images", "write a hundred test images instead of training"):argname("DIR")
    add("--epochs", "passes over the images", "20"):argname("N"):convert(whole("--epochs", 1))
    add("--batch", "images a step", "128"):argname("N"):convert(whole("--batch", 1))
    add("--rate", "highest rate", "0.1"):argname("R"):convert(above_zero "--rate")
    add("--readers", "threads that read and decode images", "1"):argname("N")
        :convert(whole("--readers", 1, train.readers))
    add("--log", "CSV of the epochs to write"):argname("FILE")
    add("--checkpoint", "state to keep, in a file, and to go on from where it is there")
        :argname("FILE")
    add("--seed", "of every random choice", "0"):argname("S"):convert(whole("--seed", 0))
    local ok, values = parser:pparse()
    if not ok then
        local unknown = values:match("^unknown option '(.-)'")
        local hint = unknown and nearest.hint(unknown, known) or ""
        if unknown and hint == "" then hint = " (there are " .. table.concat(known, ", ") .. ")" end
        fail.option("%s%s", values:match("^[^\n]*"), hint)
    end
    if not values.out and values.net ~= "nets/fashion.lua" then
        fail.option("--net wants --out FILE too: where its weights are to go")
    end
    values.out = values.out or bundled
    return values
end

-- The test images of Fashion-MNIST: u8 [N,1,28,28] and the classes, u8 [N].
local function read_test(dir)
    local function idx(what)
        local t, message = image.idx(("%s/t10k-%s-ubyte.gz"):format(dir, what))
        if not t then fail("%s (Debian's package dataset-fashion-mnist has it)", message) end
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
        fail("--data %s: holds training images, but no test images beside them: no %s", dir,
            table.concat(parts.test, ", "))
    end
    fail("--data %s: holds neither folders train and val of images nor train-images-idx3-ubyte.gz and its "
        .. "like (Debian's package dataset-fashion-mnist has them), nor train.npz and val.npz, nor CIFAR's "
        .. "batches", dir)
end

local function all_of(f)
    local list = {}
    for i = 1, #f do list[i] = i - 1 end
    return tensor.from(list, "i64")
end

dist.mute()
local o = options()
if o.images then
    if dist.size > 1 then fail.option("--images is the work of one process; start it without mpirun") end
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
    fail.option("--batch %d: the folder holds only %s", o.batch, count_of(#images, "image"))
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
