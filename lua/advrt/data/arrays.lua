--- Arrays in memory as a source of images (advrt.data.source): files of MNIST's IDX form, NumPy's .npy and
-- .npz, safetensors, and CIFAR's binary batches.
--
-- An array is held as it is, bytes as bytes and other numbers as f32. Its images are known by their number
-- from 0, padded with zeros, so that their names have the order of the numbers: 00017. Those of a folder
-- of CIFAR's batches have the batch's name before it: data_batch_1/00017.

local Source = require "advrt.data.source"
local cifar = require "advrt.data.cifar"
local count_of = require "advrt.support.count"
local fail = require "advrt.support.fail"
local image = require "advrt.core.image"
local lfs = require "lfs"
local system = require "advrt.core.system"
local tensor = require "advrt.tensor"
local weights = require "advrt.core.weights"

local Arrays = Source.kind()

local LEAST_DIGITS = 5 -- of an image's number

local function shape_text(shape) return "[" .. table.concat(shape, ",") .. "]" end

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

-- The readers: each returns the images and the labels.

local function must(value, message)
    if not value then fail("%s", message) end
    return value
end

local function read_idx(path, name)
    local images, labels = must(image.idx(path)), must(image.idx(name))
    if images:dim() ~= 3 or labels:dim() ~= 1 or #labels ~= #images or #images == 0 then
        fail("%s: needs images [M,H,W] and as many labels in %s", path, name)
    end
    return images, labels
end

--- The file of labels beside x.npy: y.npy. A word x or X of the name becomes y or Y, "images" or "data"
-- becomes "labels". nil where the name has no such word.
local function npy_labels(path)
    local folder, name = path:match("^(.*/)([^/]*)$")
    if not folder then folder, name = "", path end
    for _, words in ipairs {{"x", "y"}, {"X", "y"}, {"X", "Y"}, {"images", "labels"}, {"data", "labels"}} do
        local other, found = name:gsub("%f[%a]" .. words[1] .. "%f[%A]", words[2])
        if found > 0 and lfs.attributes(folder .. other, "mode") then return folder .. other end
    end
    local other, found = name:gsub("%f[%a][xX]%f[%A]", {x = "y", X = "Y"})
    return found > 0 and folder .. other or nil
end

local function read_arrays(path)
    local found = must(weights.arrays(path, "x", "y"))
    if found.y then return found.x, found.y, "its array y" end
    local name = npy_labels(path)
    if not name or not lfs.attributes(name, "mode") then
        fail("%s: has no labels, and no file of labels is beside it: %s", path,
            name or "call the two x.npy and y.npy")
    end
    return found.x, must(weights.arrays(name, "y")).y, name:match("[^/]*$"), name
end

--- The classes as i64 [N].
local function classes_of(labels, count, path, told_by)
    local shape, dtype = labels:shape(), labels:dtype()
    if #shape == 2 and shape[2] == 1 then labels, shape = labels:reshape {shape[1]}, {shape[1]} end
    if #shape ~= 1 or shape[1] ~= count then
        fail("%s: %s must be one class for each of %s, got %s", path, told_by, count_of(count, "image"),
            shape_text(shape))
    elseif not dtype:find("^[iu]") then
        fail("%s: %s must be whole numbers, got %s", path, told_by, dtype)
    end
    return dtype == "i64" and labels or labels:to("i64")
end

--- The images as u8 or f32 [N,C,H,W]: [N,D] are D channels of one value, [N,H,W] one channel.
local function images_of(images, path)
    local shape, dtype = images:shape(), images:dtype()
    if #shape < 2 or #shape > 4 or shape[1] == 0 then
        fail("%s: the images must be [N,D], [N,H,W] or [N,C,H,W], got %s", path, shape_text(shape))
    elseif dtype ~= "u8" and not dtype:find("^b?f") then
        fail("%s: the images must be floats, or bytes (uint8), which are divided by 255, got %s", path, dtype)
    end
    if #shape == 2 then images = images:reshape {shape[1], shape[2], 1, 1} end
    if #shape == 3 then images = images:reshape {shape[1], 1, shape[2], shape[3]} end
    return (dtype == "u8" or dtype == "f32") and images or images:to("f32")
end

--- Fails where the images are not what the net takes.
local function check_input(path, images, input, given)
    local got = {table.unpack(images:shape(), 2)}
    if table.concat(got, ",") == table.concat(input, ",") then return end
    local last = #given == 4 and table.concat({given[4], given[2], given[3]}, ",")
    fail("%s: the images are %s, the net takes %s%s", path, shape_text(given),
        input[2] == 1 and input[3] == 1 and "[N," .. input[1] .. "]"
            or "[N," .. table.concat(input, ",") .. "]",
        last == table.concat(input, ",") and "; numpy.transpose(x, (0, 3, 1, 2)) makes them so" or "")
end

--- Fails for the first label that is no class.
local function check_classes(path, labels, count)
    if labels:minimum() >= 0 and not (count and labels:maximum() >= count) then return end
    for i = 1, #labels do
        local label = labels:get(i)
        if label < 0 or count and label >= count then
            fail("%s: label %d of image %d is not a class%s", path, label, i - 1,
                count and (" of the net (0 .. %d)"):format(count - 1) or ", which is counted from 0")
        end
    end
end

--- Fails for the first value that is not in the range.
local function check_range(path, images, within)
    local i, problem
    if images:dtype() == "f32" then
        i, problem = within:first_outside(images)
    elseif not within:holds_pixels() then
        local one = tensor.new {1, table.unpack(images:shape(), 2)}
        for k = 1, #images do
            i, problem = k, within:problem(one:set_image(1, images[k])[1])
            if problem then break end
        end
    end
    if problem then
        fail("%s: image %d: %s, the range of the net%s", path, i - 1, problem,
            within.unit and "; a net definition states another by range = {low, high}" or "")
    end
end

--- A source of arrays that have been read. self: its fields dir and told_by, and where they are,
-- labels_path, the file of the labels; parts, {name, count} of what the images are joined from; listed, the
-- names of the classes; whole, the files that they were read from.
local function new(images, labels, o, self)
    local given, path = images:shape(), self.dir
    images = images_of(images, path)
    self.labels = classes_of(labels, #images, path, self.told_by)
    check_classes(self.labels_path or path, self.labels, o.classes)
    if o.input then check_input(path, images, o.input, given) end
    if o.range then check_range(path, images, o.range) end
    self.input, self.values = o.input or {table.unpack(images:shape(), 2)}, images
    self.files, self.places, self.others = {}, {}, 0
    for _, part in ipairs(self.parts or {{"", #images}}) do
        local form = ("%%s%%0%dd"):format(math.max(LEAST_DIGITS, #tostring(part[2] - 1)))
        for i = 0, part[2] - 1 do
            local name = form:format(part[1], i)
            self.files[#self.files + 1] = name
            self.places[name] = #self.files
        end
    end
    return setmetatable(self, Arrays)
end

--- Whether a file begins as an .npy, an .npz or a .safetensors does.
local function holds_arrays(path)
    local file = io.open(path, "rb")
    local head = file and file:read(9) or ""
    if file then file:close() end
    return head:find("^\x93NUMPY") or head:find("^PK") or head:find("{", 9, true)
end

--- Opens a file of arrays, told by its name and its contents; o: Source.options.
function Arrays.open(path, o)
    local idx = labels_beside(path)
    if idx then return Arrays.open_idx(path, o, idx) end
    if not holds_arrays(path) then
        if path:lower():find("%.bin$") then return Arrays.open_cifar({path}, path, o) end
        fail("images: %s: neither a folder nor a file NAME-images-idx3-ubyte, nor arrays (.npz, .npy or "
            .. ".safetensors) or CIFAR's batches (.bin)", path)
    end
    local images, labels, told_by, labels_path = read_arrays(path)
    return new(images, labels, o, {dir = path, told_by = told_by, labels_path = labels_path})
end

--- Opens a file of images in IDX form.
function Arrays.open_idx(path, o, name)
    name = name or labels_beside(path)
    if not name then fail("images: %s: neither a folder nor a file NAME-images-idx3-ubyte", path) end
    local input = o.input
    if input and input[1] ~= 1 then
        fail.again("images: %s: image files have 1 channel, the net takes %d", path, input[1])
    end
    local images, labels = read_idx(path, name)
    if input and (images:size(2) ~= input[2] or images:size(3) ~= input[3]) then
        fail("%s: the images are grey and %d x %d (width x height), the net takes %d channels of "
            .. "%d x %d", path, images:size(3), images:size(2), input[1], input[3], input[2])
    end
    return new(images, labels, o, {dir = path, told_by = name:match("[^/]*$"), labels_path = name})
end

--- Opens files of CIFAR's batches, as one source that was named `dir`.
function Arrays.open_cifar(paths, dir, o)
    if o.unlabelled then fail("%s: holds CIFAR's batches, which have labels", dir) end
    local images, labels, about = cifar.read(paths)
    return new(images, labels, o, {dir = dir, told_by = about.told_by, parts = about.parts,
        listed = about.names, whole = paths})
end

--- The class of the image of that name, counted from 0.
function Arrays:class_of(name) return self.labels:get(self.places[name]) end

--- Adds all images to a feed (advrt.core.feed), which copies them.
function Arrays:feed(f) f:pixels(self.values, self.labels) end

--- The names of the classes, a line each, where the files beside CIFAR's batches give them.
function Arrays:class_names()
    return self.listed and table.concat(self.listed, "\n") .. "\n" or nil
end

--- A tensor of its own, which the caller may close.
function Arrays:read(i) return self.values[self.places[self.files[i]]]:clone() end

--- As Source:try has it.
function Arrays:try(i, x, k)
    x:set_image(k, self.values[self.places[self.files[i]]])
    return true
end

--- As Folder:digest has it; the sum is that of the whole file, or of several files, which are in memory
-- since they were opened.
function Arrays:digest(first, last)
    if not self.sum then
        local sums = {}
        for i, path in ipairs(self.whole or {self.dir}) do sums[i] = must(system.sha256(path)) end
        self.sum = #sums == 1 and sums[1] or system.digest(table.concat(sums))
    end
    local lines = {}
    for i = first, last do
        lines[#lines + 1] = ("%s %d %s\0"):format(self.sum, self:label(i), self.files[i])
    end
    return table.concat(lines)
end

return Arrays
