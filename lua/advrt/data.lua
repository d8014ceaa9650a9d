--- Folders of images with their classes, read as batches; points on two circles; and the rules that
-- choose targets.
--
-- A folder is listed, not opened: images are decoded when they are asked for, so that memory does
-- not grow with the folder and starting costs the listing alone. Files are sorted by the bytes of
-- their path relative to the folder, and known by it.

local check = require "advrt.support.check"
local find = require "advrt.data.classes"
local fail = require "advrt.support.fail"
local image = require "advrt.core.image"
local lfs = require "lfs"
local list = require "advrt.data.list"
local progress = require "advrt.run.progress"
local system = require "advrt.core.system"
local tensor = require "advrt.tensor"

local data = {}

local Folder = {}
Folder.__index = Folder
Folder.__len = function(self) return #self.files end

local function is_count(v) return math.type(v) == "integer" and v > 0 end

--- Options of a folder as a script gives them: those of a net stand for its own where they are nil. What
-- is wrong with them is raised at the script's line.
local function options_of(dir, given)
    if type(dir) ~= "string" then
        error(("bad argument #1 to 'folder' (a path expected, got %s)"):format(type(dir)), 3)
    elseif given ~= nil and type(given) ~= "table" then
        error(("bad argument #2 to 'folder' (a table of options expected, got %s)"):format(type(given)), 3)
    end
    local problem = check.keys(given, {"net", "classes", "input", "resize", "crop", "class_names"})
    if problem then error("folder: " .. problem, 3) end
    local o, net = {}, given and given.net
    for key, value in pairs(given or {}) do o[key] = value end
    if net then
        o.classes, o.input = o.classes or net.classes, o.input or net.input
        o.resize, o.crop = o.resize or net.preprocess.resize, o.crop or net.preprocess.crop
    end
    local input = o.input
    if o.classes ~= nil and not is_count(o.classes) then
        error("folder: classes must be a whole number above 0, got " .. tostring(o.classes), 3)
    elseif input ~= nil and not (type(input) == "table" and #input == 3 and is_count(input[1])
        and is_count(input[2]) and is_count(input[3])) then
        error("folder: input must be {C, H, W}, what the net takes of an image", 3)
    end
    return o
end

--- Fails where no image file can be what the net takes.
local function check_channels(dir, input, possible)
    for _, C in ipairs(possible) do
        if not input or input[1] == C then return end
    end
    fail.again("images: %s: image files have %s channel%s, the net takes %d", dir,
        table.concat(possible, " or "), #possible == 1 and possible[1] == 1 and "" or "s", input[1])
end

local function has_idx(dir)
    for name in lfs.dir(dir) do
        if name:find("images[-.]idx3") then return name end
    end
end

--- Lists a folder of images and finds their classes.
--
--     local f = data.folder("mine", {net = g})
--     local x = f:load(1)                           -- f32 [C,H,W] in [0,1]
--     for x, numbers in f:batches() do ... end
--
-- dir      the folder
-- options.net         optional: a net, whose classes, input and preprocessing the others default to
-- options.classes     number of classes; without it classes in sorted order are refused
-- options.input       {C,H,W}, what the net takes; without it each image has its own size
-- options.class_names  the path of the list of classes that is used where the folder has no classes.txt
-- options.resize, options.crop   as the image loader's, or nil: an image of another size fails
--
-- Classes: labels.csv in the folder (file,label with every image once); else subfolders: the lines of
-- classes.txt (line i, counted from 0, is class i) where that is there, and each folder must be in it;
-- else class numbers; else, where there are as many as the net has classes, their sorted order. Two
-- folders of one class, and anything else, are a failure that says so. Names that start with a dot,
-- subfolders without images and files of other formats are passed over; folder:about counts them.
--
-- Where `dir` is a file instead, it is one of images in IDX form, as data.idx takes it.
--
-- Returns an object: files (sorted relative paths), #folder, folder:label(i), folder:load(i),
-- folder:batches(first, last, B); told_by, how its classes were told, in words; others, how many files
-- of other formats were passed over.
function data.folder(dir, options)
    local o = options_of(dir, options)
    if lfs.attributes(dir, "mode") == "file" then return data.idx(dir, o) end
    local found = list(dir)
    if #found.files == 0 then
        local idx, others = has_idx(dir), found:passed_over()
        fail("images: %s: no image file in it%s", dir,
            idx and ("; give the IDX file itself, %s/%s"):format(dir, idx)
                or others and "; passed over: " .. others or "")
    end
    check_channels(dir, o.input, {1, 3})
    local self = setmetatable({dir = dir, files = found.files, input = o.input, resize = o.resize,
        crop = o.crop, others = found:other_files(), own_names = o.class_names}, Folder)
    self.labels = find.by_labels(dir, found.files, o.classes)
    if self.labels then
        self.told_by = "labels.csv"
        find.names(dir, o.classes)
    else
        self.folders, self.told_by = find.by_folders(dir, found, o.classes, o.class_names)
    end
    self.passed_over = found:passed_over(self.labels)
    return self
end

--- Raises, at the line of the script that called it, for what is no number of an image.
local function check_number(self, i, name)
    if math.type(i) ~= "integer" or i < 1 or i > #self.files then
        error(("bad argument #1 to '%s' (the number of an image, 1 to %d, expected, got %s)"):format(name,
            #self.files, tostring(i)), 3)
    end
end

--- The class of image i, counted from 0.
function Folder:label(i)
    check_number(self, i, "label")
    local file = self.files[i]
    if self.labels then return self.labels[file] end
    return self.folders[file:match("^[^/]+")]
end

--- The numbers 1 .. n in the order in which images are drawn from the first n: round by round over the
-- classes, in each an image of every class that has one left. Which image, and which class comes first,
-- is the random number of the image's file and of the class, for the purpose "sample".
local function draw_order(images, n, seed)
    local by_class, classes = {}, {}
    local function chance(name)
        return tensor.uniform(("%d:%s:sample"):format(seed, name), {1}):get(1)
    end
    for i = 1, n do
        local class = images:label(i)
        if not by_class[class] then
            by_class[class] = {}
            classes[#classes + 1] = {class, chance("class " .. class), by_class[class]}
        end
        table.insert(by_class[class], {i, chance(images.files[i])})
    end
    local function earlier(a, b) return a[2] < b[2] or a[2] == b[2] and a[1] < b[1] end
    table.sort(classes, earlier)
    for _, of_class in pairs(by_class) do table.sort(of_class, earlier) end
    local order, round = {}, 1
    while #order < n do
        for _, class in ipairs(classes) do
            local one = class[3][round]
            if one then order[#order + 1] = one[1] end
        end
        round = round + 1
    end
    return order
end

--- Chooses the images that are worked on: options.limit, of the first so many files; of these
-- options.sample at random by options.seed, as evenly over their classes as those have images, in the
-- folder's order. The others follow them, in the order in which they would have been drawn. Returns how
-- many are chosen.
function Folder:choose(options)
    local n = math.min(#self.files, options.limit or #self.files)
    local count = math.min(n, options.sample or n)
    if count < n then
        local order, files = draw_order(self, n, options.seed or 0), {}
        local chosen = table.move(order, 1, count, 1, {})
        table.sort(chosen)
        table.move(chosen, 1, count, 1, order)
        for i, number in ipairs(order) do files[i] = self.files[number] end
        table.move(files, 1, n, 1, self.files)
    end
    return count
end

--- How many classes the first n images are of; of all where n is nil.
function Folder:classes(n)
    local seen, count = {}, 0
    for i = 1, n or #self.files do
        local class = self:label(i)
        if not seen[class] then seen[class], count = true, count + 1 end
    end
    return count
end

--- One line on the first n images, those chosen: how many, of how many, of how many classes, and how
-- those were told; and a line on what was passed over, where something was.
function Folder:about(n)
    n = n or #self.files
    local count = self:classes(n)
    local line = ("Images: %d of the %d in %s, of %d class%s (told by %s)"):format(n, #self.files, self.dir,
        count, count == 1 and "" or "es", self.told_by)
    return system.printable(line) .. (self.passed_over
        and "\nPassed over: " .. system.printable(self.passed_over) or "")
end

--- The text of the folder's classes.txt, where there is one: line i, counted from 0, names class i.
function Folder:class_names()
    local names = find.names(self.dir, nil, self.own_names)
    return names and table.concat(names, "\n") .. "\n"
end

--- A SHA-256 over the names and classes of the first n images.
function Folder:labels_digest(n)
    local lines = {}
    for i = 1, n do lines[i] = ("%d %s\0"):format(self:label(i), self.files[i]) end
    return system.digest(table.concat(lines))
end

--- The names and classes of images first .. last, as digest has them but for "-" in place of the sum:
-- no file is opened.
function Folder:names(first, last)
    local lines = {}
    for i = first, last do lines[#lines + 1] = ("- %d %s\0"):format(self:label(i), self.files[i]) end
    return table.concat(lines)
end

--- What images first .. last are, one after another as "SHA256 CLASS FILE" and a NUL byte. Each file is
-- read whole; "unreadable" stands for the sum of one that cannot be.
function Folder:digest(first, last)
    local shown <close> = progress.start("images looked at", last - first + 1)
    local lines = {}
    for i = first, last do
        local sum = system.sha256(self.dir .. "/" .. self.files[i]) or "unreadable"
        lines[#lines + 1] = ("%s %d %s\0"):format(sum, self:label(i), self.files[i])
        shown:update(#lines, "looking for changes")
    end
    return table.concat(lines)
end

--- The pixels of image i, u8 [C,H,W], closed by the caller; nil and a message where its file is bad or
-- the image has another size than the net takes.
function Folder:read(i)
    local path, input = self.dir .. "/" .. self.files[i], self.input
    local pixels, message, no_memory = image.load(path, {resize = self.resize, crop = self.crop,
        channels = input and input[1]})
    if no_memory then fail("%s", message) end
    local got = pixels and pixels:shape()
    if not pixels or not input or got[2] == input[2] and got[3] == input[3] then return pixels, message end
    local _ <close> = pixels
    return nil, ("%s: the image %s %d x %d (width x height), the net takes %d x %d; %s"):format(path,
        (self.resize or self.crop) and "becomes" or "has", got[3], got[2], input[3], input[2],
        "give --resize and --crop that lead there")
end

--- Reads image i into row k of x, f32 [N,C,H,W] in [0,1]. Returns true; or nil and a message, as read.
function Folder:try(i, x, k)
    -- Closed by hand: the collector sees a handle of a few bytes, not the pixels behind it.
    local pixels <close>, message = self:read(i)
    if not pixels then return nil, message end
    x:set_image(k, pixels)
    return true
end

--- Reads image i: into row k of x, f32 [N,C,H,W] in [0,1]; or, without x and k, returns it as a new
-- tensor f32 [C,H,W]. A file that is bad, or of another size than the net takes, is a failure.
function Folder:load(i, x, k)
    check_number(self, i, "load")
    if x then
        local done, message = self:try(i, x, k)
        if not done then fail("%s", message) end
        return
    end
    local pixels <close>, message = self:read(i)
    if not pixels then fail("%s", message) end
    local shape = pixels:shape()
    return tensor.new({1, table.unpack(shape)}):set_image(1, pixels):reshape(shape)
end

--- What batches does with a bad file: with `skip` it leaves the image out, else it fails, and the message
-- ends with `way_out`.
function Folder:on_bad(skip, way_out) self.skip_bad, self.way_out = skip, way_out end

--- Iterates over batches of images first .. last (default: all), in order, B (default 32) at a time:
-- yields x [B,C,H,W], the numbers of its images in the folder, and of those that on_bad leaves out, whose
-- pixels are 0, a table number -> message. x is the same tensor every time. A short last batch is padded
-- by repeating its last image, so that no number depends on how many there are.
function Folder:batches(first, last, B)
    first, last, B = first or 1, last or #self.files, B or 32
    local of = self.input and self or setmetatable({input = self:load(first):shape()}, {__index = self})
    local x = tensor.new {B, table.unpack(of.input)}
    local from = first
    return function()
        if from > last then return nil end
        local numbers, bad = {}, {}
        for k = 1, math.min(B, last - from + 1) do
            numbers[k] = from + k - 1
            local done, message = of:try(numbers[k], x, k)
            if not done and not self.skip_bad then fail("%s%s", message, self.way_out or "") end
            if not done then
                bad[numbers[k]] = message
                x[k]:fill(0)
            end
        end
        for k = #numbers + 1, B do x[k]:copy(x[#numbers]) end
        from = from + #numbers
        return x, numbers, bad
    end
end

local Idx = setmetatable({}, Folder)
Idx.__index = Idx
Idx.__len = Folder.__len

--- The name of the labels' file beside a file of images, or nil where the name is none of images: as
-- NAME-images-idx3-ubyte has NAME-labels-idx1-ubyte, or with Kaggle's dot, NAME-images.idx3-ubyte. Either
-- may be packed (.gz), whether the other is or not.
local function labels_beside(path)
    local folder, name = path:match("^(.*/)([^/]*)$")
    if not folder then folder, name = "", path end
    local plain, found = name:gsub("%.gz$", ""):gsub("images([-.])idx3", "labels%1idx1")
    if found == 0 then return nil end
    local other = plain:gsub("labels([-.])idx1", function(sign)
        return "labels" .. (sign == "-" and "." or "-") .. "idx1"
    end)
    local packed = name:find("%.gz$") and {".gz", ""} or {"", ".gz"}
    for _, one in ipairs {plain, other} do
        for _, ending in ipairs(packed) do
            local beside = folder .. one .. ending
            if lfs.attributes(beside, "mode") == "file" then return beside end
        end
    end
    return folder .. plain .. packed[1]
end

--- The images of an IDX file (MNIST's form, NAME-images-idx3-ubyte or NAME-images.idx3-ubyte, plain or
-- .gz), whose labels are in NAME-labels-idx1-ubyte beside it. All of them are held in memory, as bytes;
-- they are known by their number from 0, in five digits. Options and result as data.folder's.
function data.idx(path, options)
    local o = options_of(path, options)
    local name, input = labels_beside(path), o.input
    if not name then
        fail("images: %s: neither a folder nor a file NAME-images-idx3-ubyte", path)
    end
    check_channels(path, input, {1})
    local function read(file)
        local t, message = image.idx(file)
        if not t then fail("%s", message) end
        return t
    end
    local images, labels = read(path), read(name)
    if images:dim() ~= 3 or labels:dim() ~= 1 or #labels ~= #images or #images == 0 then
        fail("%s: wanted images [M,H,W] and, in %s, as many labels", path, name)
    end
    input = input or {1, images:size(2), images:size(3)}
    if images:size(2) ~= input[2] or images:size(3) ~= input[3] then
        fail("%s: the images are grey and %d x %d (width x height), the net takes %d channels of "
            .. "%d x %d", path, images:size(3), images:size(2), input[1], input[3], input[2])
    end
    local self = setmetatable({dir = path, files = {}, input = input, labels = labels, others = 0,
        told_by = name:match("[^/]*$"),
        pixels = images:reshape {#images, 1, images:size(2), images:size(3)}}, Idx)
    for i = 1, #images do
        self.files[i] = ("%05d"):format(i - 1)
        if o.classes and labels:get(i) >= o.classes then
            fail("%s: label %d of image %d is not a class of the net (0 .. %d)", name,
                labels:get(i), i - 1, o.classes - 1)
        end
    end
    return self
end

--- The place of image i in the file, from 1: the images may have been chosen from it.
local function place_of(self, i) return math.tointeger(tonumber(self.files[i])) + 1 end

function Idx:label(i)
    check_number(self, i, "label")
    return self.labels:get(place_of(self, i))
end

function Idx:class_names() return nil end

--- A tensor of its own, which the caller may close.
function Idx:read(i) return self.pixels[place_of(self, i)]:clone() end

function Idx:try(i, x, k)
    x:set_image(k, self.pixels[place_of(self, i)])
    return true
end

--- As Folder:digest has it; the sum is the whole file's, which is in memory since it was opened.
function Idx:digest(first, last)
    if not self.sum then
        local sum, message = system.sha256(self.dir)
        if not sum then fail("%s", message) end
        self.sum = sum
    end
    local lines = {}
    for i = first, last do
        lines[#lines + 1] = ("%s %d %s\0"):format(self.sum, self:label(i), self.files[i])
    end
    return table.concat(lines)
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
