--- Folders of images with their classes, read as batches; points on two circles; and the rules that
-- choose targets.
--
-- A folder is listed, not opened: images are decoded when they are asked for, so that memory does
-- not grow with the folder and starting costs the listing alone. Files are sorted by the bytes of
-- their path relative to the folder, and known by it.

local csv = require "advrt.csv"
local fail = require "advrt.fail"
local image = require "advrt.core.image"
local lfs = require "lfs"
local progress = require "advrt.progress"
local system = require "advrt.core.system"
local tensor = require "advrt.tensor"

local data = {}

local suffixes = {png = true, jpg = true, jpeg = true}
local DEEPEST = 32 -- folders in folders; more is taken for a link that leads back

local function is_image(name)
    local suffix = name:match("%.(%w+)$")
    return suffix and suffixes[suffix:lower()] or false
end

-- Whether a folder is that of a run, finished or not, whose pictures are none of the images.
local function is_run(path)
    return lfs.attributes(path .. "/run.json", "mode") or lfs.attributes(path .. "/records.part", "mode")
end

--- Collects the images below `dir` into `found`, and its own subfolders into `folders`. Only
-- names that are not images are asked whether they are folders.
local function list(dir, prefix, depth, found, folders)
    if depth > DEEPEST then fail("%s: folders nested deeper than %d", dir, DEEPEST) end
    local ok, iterator, state = fail.try(lfs.dir, dir)
    if not ok then
        local reason = tostring(iterator):match("[^:]*$")
        fail("images: %s: %s", dir, lfs.attributes(dir, "mode")
            and "cannot be listed as a folder:" .. reason or "there is no such folder")
    end
    for name in iterator, state do
        if name:sub(1, 1) ~= "." then
            local path = dir .. "/" .. name
            if is_image(name) then
                found[#found + 1] = prefix .. name
            elseif lfs.attributes(path, "mode") == "directory" and not is_run(path) then
                if folders then folders[#folders + 1] = name end
                list(path, prefix .. name .. "/", depth + 1, found)
            end
        end
    end
end

--- A class number written in decimal digits alone, or nil.
local function class_number(text)
    return text:match("^%d+$") and #text < 10 and math.tointeger(tonumber(text)) or nil
end

--- Reads labels.csv: file -> class. `known` is the set of the images listed.
local function read_labels(path, classes, known)
    local text, problem = csv.read(path)
    if not text then fail("%s", problem) end
    local records, message = csv.parse(text)
    if not records then fail("%s: %s", path, message) end
    local labels, lines = {}, {}
    for i, record in ipairs(records) do
        local file, label = record[1], record[2]
        if #record ~= 2 then
            fail("%s: line %d: want file,label, got %d fields", path, record.line, #record)
        end
        if not (i == 1 and file == "file" and label == "label") then
            local class = class_number(label)
            if not known[file] then
                fail("%s: line %d: there is no image '%s' in the folder", path, record.line, file)
            elseif lines[file] then
                fail("%s: line %d: '%s' was given before, in line %d", path, record.line, file,
                    lines[file])
            elseif not class or class >= classes then
                fail("%s: line %d: label '%s' is not a class of the net (0 .. %d)", path,
                    record.line, label, classes - 1)
            end
            labels[file], lines[file] = class, record.line
        end
    end
    for _, file in ipairs(known) do
        if not labels[file] then fail("%s: no label for the image '%s'", path, file) end
    end
    return labels
end

--- classes.txt: line i, counted from 0, names class i; nil where there is no such file.
local function read_class_names(path, classes)
    if not lfs.attributes(path, "mode") then return nil end
    local text, problem = csv.read(path)
    if not text then fail("%s", problem) end
    local numbers, i = {}, 0
    for name in (text:gsub("\r\n", "\n"):gsub("\n*$", "\n")):gmatch("([^\n]*)\n") do
        if numbers[name] then
            fail("%s: line %d: '%s' stands in line %d too", path, i + 1, name, numbers[name] + 1)
        end
        numbers[name], i = i, i + 1
    end
    if i > classes then fail("%s: %d classes, but the net has %d", path, i, classes) end
    return numbers
end

--- The class of each folder where all folders agree to one rule: name -> class, or nil.
local function classes_by(folders, rule)
    local map = {}
    for _, name in ipairs(folders) do
        map[name] = rule(name)
        if not map[name] then return nil end
    end
    return map
end

--- The class of each subfolder, by the first rule of the contract that fits all of them, and that rule
-- in words.
local function folder_classes(dir, folders, classes)
    table.sort(folders)
    local by_number = classes_by(folders, class_number)
    local names = read_class_names(dir .. "/classes.txt", classes)
    local by_name = names and classes_by(folders, function(name) return names[name] end)
    if by_number then
        for _, name in ipairs(folders) do
            if by_number[name] >= classes then
                fail("%s/%s: the folder's name is no class of the net (0 .. %d)", dir, name,
                    classes - 1)
            elseif by_name and by_name[name] ~= by_number[name] then
                fail("%s/%s: by its name it holds class %d, by classes.txt class %d; remove "
                    .. "classes.txt or rename the folders", dir, name, by_number[name],
                    by_name[name])
            end
        end
        return by_number, "subfolders' numbers"
    elseif by_name then
        return by_name, "subfolders' lines in classes.txt"
    elseif #folders == classes then
        for i, name in ipairs(folders) do folders[name] = i - 1 end
        return folders, ("subfolders in sorted order, %s is 0 and %s is %d"):format(folders[1],
            folders[classes], classes - 1)
    end
    fail("%s: cannot tell the classes of its images: there is no labels.csv (lines file,label), "
        .. "its %d subfolders are neither class numbers nor lines of classes.txt, and the net has "
        .. "%d classes", dir, #folders, classes)
end

local Folder = {}
Folder.__index = Folder
Folder.__len = function(self) return #self.files end

--- Lists a folder of PNG and JPEG images and finds their classes.
--
-- dir      the folder; options.classes: number of classes of the net
-- options.input       {C,H,W}, what the net takes
-- options.resize, options.crop   as the image loader's, or nil: an image of another size fails
--
-- Classes: labels.csv in the folder (file,label with every image once); else subfolders, whose
-- names are all class numbers, or all lines of classes.txt (the line number counted from 0 is the
-- class), or are as many as the net has classes, in sorted order. Names that start with a dot are
-- passed over. Anything else is a failure that says so.
--
-- Where `dir` is a file instead, it is one of images in IDX form, as data.idx takes it.
--
-- Returns an object: files (sorted relative paths), #folder, folder:label(i), folder:load(i, x, k);
-- told_by, how its classes were told, in words.
function data.folder(dir, options)
    if lfs.attributes(dir, "mode") == "file" then return data.idx(dir, options) end
    local files, folders = {}, {}
    list(dir, "", 1, files, folders)
    if #files == 0 then fail("images: %s: no PNG or JPEG file in it", dir) end
    table.sort(files)
    local self = setmetatable({dir = dir, files = files, input = options.input,
        resize = options.resize, crop = options.crop}, Folder)
    local labels = dir .. "/labels.csv"
    if lfs.attributes(labels, "mode") then
        local known = {}
        for i, file in ipairs(files) do known[i], known[file] = file, true end
        self.labels, self.told_by = read_labels(labels, options.classes, known), "labels.csv"
        return self
    end
    if #folders == 0 then
        fail("%s: cannot tell the classes of its images: there is neither a labels.csv (lines "
            .. "file,label) nor a subfolder for each class", dir)
    end
    self.folders, self.told_by = folder_classes(dir, folders, options.classes)
    for _, file in ipairs(files) do
        if not file:find("/", 1, true) then
            fail("%s/%s: an image outside the class folders, and there is no labels.csv", dir, file)
        end
    end
    return self
end

--- The class of image i, counted from 0.
function Folder:label(i)
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

--- How many classes the first n images are of.
function Folder:classes(n)
    local seen, count = {}, 0
    for i = 1, n do
        local class = self:label(i)
        if not seen[class] then seen[class], count = true, count + 1 end
    end
    return count
end

--- One line on the first n images, those chosen: how many, of how many, of how many classes, and how
-- those were told.
function Folder:about(n)
    local classes = self:classes(n)
    return (("Images: %d of the %d in %s, of %d class%s (told by %s)"):format(n, #self.files, self.dir,
        classes, classes == 1 and "" or "es", self.told_by):gsub("%c", "?"))
end

--- The text of the folder's classes.txt, where there is one: line i, counted from 0, names class i.
function Folder:class_names()
    local path = self.dir .. "/classes.txt"
    return lfs.attributes(path, "mode") == "file" and csv.read_optional(path) or nil
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
-- read whole.
function Folder:digest(first, last)
    local shown <close> = progress.start("images looked at", last - first + 1)
    local lines = {}
    for i = first, last do
        local sum, message = system.sha256(self.dir .. "/" .. self.files[i])
        if not sum then fail("%s", message) end
        lines[#lines + 1] = ("%s %d %s\0"):format(sum, self:label(i), self.files[i])
        shown:update(#lines, "looking for changes")
    end
    return table.concat(lines)
end

--- Reads image i into row k of x, f32 [N,C,H,W] in [0,1]. Fails where it cannot be read, and where
-- it has another size than the net takes.
function Folder:load(i, x, k)
    local path, input = self.dir .. "/" .. self.files[i], self.input
    -- Closed by hand: the collector sees a handle of a few bytes, not the pixels behind it.
    local pixels <close>, message = image.load(path, {resize = self.resize, crop = self.crop,
        channels = input[1]})
    if not pixels then fail("%s", message) end
    local got = pixels:shape()
    if got[2] ~= input[2] or got[3] ~= input[3] then
        fail("%s: the image %s %d x %d (width x height), the net takes %d x %d; %s", path,
            (self.resize or self.crop) and "becomes" or "has", got[3], got[2], input[3], input[2],
            "give --resize and --crop that lead there")
    end
    x:set_image(k, pixels)
end

--- Iterates over batches of images first .. last, in order: yields x [B,C,H,W] and the numbers of
-- its images in the folder. x is the same tensor every time. A short last batch is padded by
-- repeating its last image, so that no number depends on how many there are.
function Folder:batches(first, last, B)
    local x = tensor.new {B, table.unpack(self.input)}
    local from = first
    return function()
        if from > last then return nil end
        local numbers = {}
        for k = 1, math.min(B, last - from + 1) do
            numbers[k] = from + k - 1
            self:load(numbers[k], x, k)
        end
        for k = #numbers + 1, B do x[k]:copy(x[#numbers]) end
        from = from + #numbers
        return x, numbers
    end
end

local Idx = setmetatable({}, Folder)
Idx.__index = Idx
Idx.__len = Folder.__len

--- The images of an IDX file (MNIST's form, NAME-images-idx3-ubyte, plain or .gz), whose labels are
-- in NAME-labels-idx1-ubyte beside it. All of them are held in memory, as bytes; they are known by
-- their number from 0, in five digits. Options and result as data.folder's.
function data.idx(path, options)
    local name = path:gsub("images%-idx3", "labels-idx1")
    if name == path then
        fail("images: %s: neither a folder nor a file NAME-images-idx3-ubyte", path)
    end
    local function read(file)
        local t, message = image.idx(file)
        if not t then fail("%s", message) end
        return t
    end
    local images, labels, input = read(path), read(name), options.input
    if images:dim() ~= 3 or labels:dim() ~= 1 or #labels ~= #images or #images == 0 then
        fail("%s: wanted images [M,H,W] and, in %s, as many labels", path, name)
    elseif input[1] ~= 1 or images:size(2) ~= input[2] or images:size(3) ~= input[3] then
        fail("%s: the images are grey and %d x %d (width x height), the net takes %d channels of "
            .. "%d x %d", path, images:size(3), images:size(2), input[1], input[3], input[2])
    end
    local self = setmetatable({dir = path, files = {}, input = input, labels = labels,
        told_by = name:match("[^/]*$"),
        pixels = images:reshape {#images, 1, images:size(2), images:size(3)}}, Idx)
    for i = 1, #images do
        self.files[i] = ("%05d"):format(i - 1)
        if labels:get(i) >= options.classes then
            fail("%s: label %d of image %d is not a class of the net (0 .. %d)", name,
                labels:get(i), i - 1, options.classes - 1)
        end
    end
    return self
end

--- The place of image i in the file, from 1: the images may have been chosen from it.
local function place_of(self, i) return math.tointeger(tonumber(self.files[i])) + 1 end

function Idx:label(i) return self.labels:get(place_of(self, i)) end

function Idx:class_names() return nil end

function Idx:load(i, x, k) x:set_image(k, self.pixels[place_of(self, i)]) end

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
    if rule == "random" then
        return function(file, label)
            local u = tensor.uniform(("%d:%s:target"):format(seed, file), {1}):get(1)
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
    return nil, ("'%s' is none of random, offset:K, least-likely, second, class:K"):format(
        rule)
end

return data
