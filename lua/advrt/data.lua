--- Labelled images from folders and files, in batches; points on two circles; and rules that choose
-- targets.

local Arrays = require "advrt.data.arrays"
local Folder = require "advrt.data.files"
local Source = require "advrt.data.source"
local cifar = require "advrt.data.cifar"
local lfs = require "lfs"
local tensor = require "advrt.tensor"

local data = {}

--- Opens a folder or file of images, and finds their classes.
--
--     local f = data.folder("mine", {net = g})
--     local x = f:load(1)                           -- f32 [C,H,W]
--     for x, numbers in f:batches() do ... end
--
-- dir      the folder or the file
-- options.net         optional: a net; sets the defaults of the other options
-- options.classes     number of classes; without it, classes by sorted order are an error
-- options.input       {C,H,W}, the net's input; without it each image keeps its size
-- options.range       the net's range of values (advrt.support.range); without it all values are allowed
-- options.class_names  the path of the class list if the folder has no classes.txt
-- options.unlabelled  true: ignore labels of a folder of image files; all images get class 0
-- options.resize, options.crop   as in image.load; nil: an image of another size is an error
--
-- Classes of a folder, in order of preference: labels.csv (file,label with every image once); else
-- subfolders, named in classes.txt if it exists (line i, counted from 0, is class i; every folder must be
-- in it); else subfolders named by class numbers; else, if there are as many as the net's classes,
-- subfolders in sorted order. Anything else, or two folders of one class, is a failure with the reason.
-- Names with a leading dot, subfolders without images and files of other formats are ignored;
-- folder:about counts them.
--
-- Files of arrays are kept in memory; their images are named by number from 0, with at least five
-- digits:
--     x.npz, x.safetensors   arrays x and y
--     x.npy                  x, and y.npy beside it
--     NAME.bin               records of CIFAR-10 or CIFAR-100; so does a folder of data_batch_1.bin ...
--     NAME-images-idx3-ubyte MNIST's IDX form, plain or .gz, the labels beside it
-- x is [N,D], [N,H,W] or [N,C,H,W] of floats, or of bytes, which are divided by 255; y is [N] integers.
--
-- Returns an object: files (the names of the images), #folder, folder:label(i), folder:load(i),
-- folder:batches(first, last, B); told_by, a description of how the classes were found; others, the
-- number of ignored files of other formats.
function data.folder(dir, options)
    local o = Source.options(dir, options, 2)
    local kind = lfs.attributes(dir, "mode")
    if kind == "file" then return Arrays.open(dir, o) end
    local batches = kind == "directory" and cifar.batches(dir)
    if batches then return Arrays.open_cifar(batches, dir, o) end
    return Folder.open(dir, o)
end

--- The images of an IDX file (MNIST's format, NAME-images-idx3-ubyte or NAME-images.idx3-ubyte, plain
-- or .gz), with labels in NAME-labels-idx1-ubyte beside it. All images are held in memory as bytes and
-- named by number from 0, with five digits. Options and result are those of data.folder.
function data.idx(path, options)
    return Arrays.open_idx(path, Source.options(path, options, 2))
end

--- Two concentric circles of noisy points, like scikit-learn's make_circles. The first n // 2 points
-- are evenly spaced on a circle of radius 1 (class 0), the others on a circle of radius `factor`
-- (class 1). Normal noise of standard deviation `noise` is added to each coordinate, from the stream
-- "SEED:circles". Unlike in scikit-learn, the points are not shuffled. options: factor (default
-- 0.8), noise (default 0), seed (default 0). Raises for n < 2, factor outside [0,1), noise < 0.
-- Returns the points, f32 [n,2], and the classes, i64 [n].
function data.circles(n, o)
    o = o or {}
    local factor, noise = o.factor or 0.8, o.noise or 0
    if math.type(n) ~= "integer" or n < 2 then
        error("circles: n must be an integer of at least 2, got " .. tostring(n), 2)
    elseif not (math.type(factor) and factor >= 0 and factor < 1) then
        error("circles: factor must be a number from 0 to below 1, got " .. tostring(factor), 2)
    elseif not (math.type(noise) and noise >= 0 and noise < math.huge) then
        error("circles: noise must be a number of at least 0, got " .. tostring(noise), 2)
    end
    local outer = n // 2
    local points = tensor.normal(("%d:circles"):format(o.seed or 0), {n, 2}):mul_(noise)
    local classes = {}
    for i = 1, n do
        local class, place, count, radius = 0, i - 1, outer, 1
        if i > outer then class, place, count, radius = 1, i - 1 - outer, n - outer, factor end
        local angle = 2 * math.pi * place / count
        points:set(points:get(i, 1) + radius * math.cos(angle), i, 1)
        points:set(points:get(i, 2) + radius * math.sin(angle), i, 2)
        classes[i] = class
    end
    return points, tensor.from(classes, "i64")
end

--- The range first, last of shard i of N among n pieces of work. Shards are contiguous, so their
-- records joined in order are those of the whole.
function data.shard(n, i, N)
    return (i - 1) * n // N + 1, i * n // N
end

--- The index from 0 of the largest (sign = 1) or smallest (-1) element of z, except the label's;
-- the lowest index in a tie.
local function extreme(z, label, sign)
    local best
    for k, value in ipairs(z) do
        if k - 1 ~= label and (not best or sign * value > sign * z[best + 1]) then best = k - 1 end
    end
    return best
end

--- The rule of --targets for a net of K classes and a seed: a function (file, label, z) -> target,
-- or nil to leave the image out. z is the image's clean logits, f32 [K].
--
--     random        u("SEED:FILE:target", 0) chooses uniformly among the other classes
--     random:SEED   the same with seed SEED
--     offset:K      (label + K) mod classes
--     least-likely  the smallest logit;  second: the largest but the label's
--     class:K       K; images of class K are left out
--
-- Returns nil and a message for any other rule, and if K leaves no other class.
function data.targets(rule, K, seed)
    if K < 2 then
        return nil, ("'%s': a net of %d class has no other class to target"):format(rule, K)
    end
    local name, number = rule:match("^([%a-]+):?(%d*)$")
    number = math.tointeger(tonumber(number)) -- nil for no number, or one beyond 64 bits
    if name == "random" and (number or rule == "random") then
        return function(file, label)
            local u = tensor.uniform(("%d:%s:target"):format(number or seed, file), {1}):get(1)
            local other = math.floor(u * (K - 1))
            return other < label and other or other + 1
        end
    elseif rule == "least-likely" then
        return function(_, label, z) return extreme(z:totable(), label, -1) end
    elseif rule == "second" then
        return function(_, label, z) return extreme(z:totable(), label, 1) end
    elseif name == "offset" and number then
        if number % K == 0 then
            return nil, ("offset:%d is the label itself; give another offset"):format(number)
        end
        return function(_, label) return (label + number % K) % K end
    elseif name == "class" and number then
        if number >= K then
            return nil, ("class:%d is not a class of the net (0 .. %d)"):format(number, K - 1)
        end
        return function(_, label)
            if label == number then return nil end
            return number
        end
    end
    return nil, ("'%s' is none of random, random:SEED, offset:K, least-likely, second, class:K"):format(
        rule)
end

return data
