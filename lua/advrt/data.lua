--- Labelled images from folders and files, read as batches; points on two circles; and the rules that
-- choose targets.

local Arrays = require "advrt.data.arrays"
local Folder = require "advrt.data.files"
local Source = require "advrt.data.source"
local cifar = require "advrt.data.cifar"
local lfs = require "lfs"
local tensor = require "advrt.tensor"

local data = {}

--- Opens a folder of images, or a file of them, and finds their classes.
--
--     local f = data.folder("mine", {net = g})
--     local x = f:load(1)                           -- f32 [C,H,W]
--     for x, numbers in f:batches() do ... end
--
-- dir      the folder or the file
-- options.net         optional: a net, whose classes, input and preprocessing the others default to
-- options.classes     number of classes; without it classes in sorted order are refused
-- options.input       {C,H,W}, what the net takes; without it each image has its own size
-- options.range       the net's range of values (advrt.support.range); without it any are taken
-- options.class_names  the path of the list of classes that is used where the folder has no classes.txt
-- options.unlabelled  true: looks for no labels in a folder of image files; every image is of class 0
-- options.resize, options.crop   as the image loader's, or nil: an image of another size fails
--
-- Classes of a folder: labels.csv in it (file,label with every image once); else subfolders: the lines of
-- classes.txt (line i, counted from 0, is class i) where that is there, and each folder must be in it;
-- else class numbers; else, where there are as many as the net has classes, their sorted order. Two
-- folders of one class, and anything else, are a failure that says so. Names that start with a dot,
-- subfolders without images and files of other formats are passed over; folder:about counts them.
--
-- Files hold arrays, which are kept in memory; their images are known by number from 0, in at least five
-- digits:
--     x.npz, x.safetensors   arrays x and y
--     x.npy                  x, and y.npy beside it
--     NAME.bin               records of CIFAR-10 or CIFAR-100; so does a folder of data_batch_1.bin ...
--     NAME-images-idx3-ubyte MNIST's IDX form, plain or .gz, the labels beside it
-- x is [N,D], [N,H,W] or [N,C,H,W] of floats, or of bytes, which are divided by 255; y [N] of integers.
--
-- Returns an object: files (the names of the images), #folder, folder:label(i), folder:load(i),
-- folder:batches(first, last, B); told_by, how its classes were told, in words; others, how many files
-- of other formats were passed over.
function data.folder(dir, options)
    local o = Source.options(dir, options, 2)
    local kind = lfs.attributes(dir, "mode")
    if kind == "file" then return Arrays.open(dir, o) end
    local batches = kind == "directory" and cifar.batches(dir)
    if batches then return Arrays.open_cifar(batches, dir, o) end
    return Folder.open(dir, o)
end

--- The images of an IDX file (MNIST's form, NAME-images-idx3-ubyte or NAME-images.idx3-ubyte, plain or
-- .gz), whose labels are in NAME-labels-idx1-ubyte beside it. All of them are held in memory, as bytes;
-- they are known by their number from 0, in five digits. Options and result as data.folder's.
function data.idx(path, options)
    return Arrays.open_idx(path, Source.options(path, options, 2))
end

--- Two concentric circles of points with noise, by the rules of scikit-learn's make_circles: n // 2
-- points evenly on a circle of radius 1, class 0, then the others evenly on one of radius `factor`,
-- class 1; to each coordinate a normal number of standard deviation `noise` is added, from the
-- stream "SEED:circles". Unlike there, the points are not shuffled. options: factor (default 0.8),
-- noise (default 0), seed (default 0). Raises for n below 2, a factor outside [0,1), a noise below 0.
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

--- The part of n pieces of work that is shard i of N: first and last, a run of neighbours, so that
-- the shards' records in order are the whole's.
function data.shard(n, i, N)
    return (i - 1) * n // N + 1, i * n // N
end

--- The place of the largest (sign = 1) or smallest (-1) of z's numbers but the label's, from 0; the
-- lowest class where several tie.
local function extreme(z, label, sign)
    local best
    for k, value in ipairs(z) do
        if k - 1 ~= label and (not best or sign * value > sign * z[best + 1]) then best = k - 1 end
    end
    return best
end

--- The rule that --targets names, for a net of K classes and a seed: a function
-- (file, label, z) -> target, or nil where the image is to be left out. z is the image's row of
-- clean logits, f32 [K].
--
--     random        u("SEED:FILE:target", 0) chooses among the other classes
--     random:SEED   the same by a seed of its own
--     offset:K      (label + K) mod classes
--     least-likely  the smallest logit;  second: the largest but the label's
--     class:K       K; images of class K are left out
--
-- Returns nil and a message for anything else, and where K leaves no other class.
function data.targets(rule, K, seed)
    if K < 2 then
        return nil, ("'%s': a net of %d class has no other class to target"):format(rule, K)
    end
    local name, number = rule:match("^([%a-]+):?(%d*)$")
    number = math.tointeger(tonumber(number)) -- nil where there is none, or one beyond 64 bits
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
            return nil, ("offset:%d leads back to the label itself"):format(number)
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
