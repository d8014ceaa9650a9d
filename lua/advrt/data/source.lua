--- What all sources of labelled images have in common: a folder of image files (advrt.data.files) and
-- arrays in memory (advrt.data.arrays). A source knows its images by number, from 1, and by a name that
-- is the same in every run; it reads them as batches.
--
-- A source of a kind of its own has the fields
--     dir         the folder or the file that was opened
--     files       the names of its images, in order
--     input       {C, H, W}, what the net takes; nil: each image has a shape of its own
--     told_by     how its classes were told, in words; nil: it was opened without labels
--     passed_over what was not read, in words; nil: nothing
--     others      how many files of other formats were passed over
-- and the methods
--     class_of(name, i)   the class, from 0, of the image of that name
--     read(i)             its values, u8 or f32 [C,H,W], closed by the caller; nil and a message
--     feed(f)             adds all of them to a feed of training images (advrt.core.feed)
--     digest(first, last) what images first .. last are, as Source:names has them, with their sums
--     class_names()       the names of the classes, a line each; nil: there are none

local check = require "advrt.support.check"
local fail = require "advrt.support.fail"
local system = require "advrt.core.system"
local tensor = require "advrt.tensor"

local Source = {}
Source.__index = Source
Source.__len = function(self) return #self.files end

--- A kind of source: the table of its methods, which has those of all sources too.
function Source.kind()
    local Kind = setmetatable({}, Source)
    Kind.__index, Kind.__len = Kind, Source.__len
    return Kind
end

local function is_count(v) return math.type(v) == "integer" and v > 0 end

--- Options of a source as a script gives them: those of a net stand for its own where they are nil. What
-- is wrong with them is raised at the script's line, `level` calls up.
function Source.options(path, given, level)
    level = level + 1
    if type(path) ~= "string" then
        error(("bad argument #1 to 'folder' (a path expected, got %s)"):format(type(path)), level)
    elseif given ~= nil and type(given) ~= "table" then
        error(("bad argument #2 to 'folder' (a table of options expected, got %s)"):format(type(given)),
            level)
    end
    local problem = check.keys(given, {"net", "classes", "input", "resize", "crop", "class_names",
        "unlabelled", "range"})
    if problem then error("folder: " .. problem, level) end
    local o, net = {}, given and given.net
    for key, value in pairs(given or {}) do o[key] = value end
    if net then
        o.classes, o.input = o.classes or net.classes, o.input or net.input
        o.range = o.range or net.range
        o.resize, o.crop = o.resize or net.preprocess.resize, o.crop or net.preprocess.crop
    end
    local input = o.input
    if o.classes ~= nil and not is_count(o.classes) then
        error("folder: classes must be a whole number above 0, got " .. tostring(o.classes), level)
    elseif input ~= nil and not (type(input) == "table" and #input == 3 and is_count(input[1])
        and is_count(input[2]) and is_count(input[3])) then
        error("folder: input must be {C, H, W}, the shape of the net's input", level)
    end
    return o
end

--- Raises, at the line of the script that called it, for what is no number of an image.
local function check_number(self, i, name)
    if math.type(i) ~= "integer" or i < 1 or i > #self.files then
        error(("bad argument #1 to '%s' (the number of an image, 1 to %d, expected, got %s)"):format(name,
            #self.files, tostring(i)), 3)
    end
end

--- The class of image i, counted from 0.
function Source:label(i)
    check_number(self, i, "label")
    return self:class_of(self.files[i], i)
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
-- source's order. The others follow them, in the order in which they would have been drawn. Returns how
-- many are chosen.
function Source:choose(options)
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
function Source:classes(n)
    local seen, count = {}, 0
    for i = 1, n or #self.files do
        local class = self:label(i)
        if not seen[class] then seen[class], count = true, count + 1 end
    end
    return count
end

--- One line on the first n images, those chosen: how many, of how many, of how many classes, and how
-- those were told; and a line on what was passed over, where something was.
function Source:about(n)
    n = n or #self.files
    local count = self.told_by and self:classes(n)
    local line = ("Images: %d of the %d in %s"):format(n, #self.files, self.dir)
    if count then
        line = ("%s, of %d class%s (from %s)"):format(line, count, count == 1 and "" or "es", self.told_by)
    end
    return system.printable(line) .. (self.passed_over
        and "\nPassed over: " .. system.printable(self.passed_over) or "")
end

--- A SHA-256 over the names and classes of the first n images.
function Source:labels_digest(n)
    local lines = {}
    for i = 1, n do lines[i] = ("%d %s\0"):format(self:label(i), self.files[i]) end
    return system.digest(table.concat(lines))
end

--- The names and classes of images first .. last, as digest has them but for "-" in place of the sum:
-- no file is opened.
function Source:names(first, last)
    local lines = {}
    for i = first, last do lines[#lines + 1] = ("- %d %s\0"):format(self:label(i), self.files[i]) end
    return table.concat(lines)
end

--- Reads image i into row k of x, f32 [N,C,H,W]. Returns true; or nil and a message, as read.
function Source:try(i, x, k)
    -- Closed by hand: the collector sees a handle of a few bytes, not the pixels behind it.
    local pixels <close>, message = self:read(i)
    if not pixels then return nil, message end
    x:set_image(k, pixels)
    return true
end

--- Reads image i: into row k of x, f32 [N,C,H,W] in [0,1]; or, without x and k, returns it as a new
-- tensor f32 [C,H,W]. A file that is bad, or of another size than the net takes, is a failure.
function Source:load(i, x, k)
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
function Source:on_bad(skip, way_out) self.skip_bad, self.way_out = skip, way_out end

--- Iterates over batches of images first .. last (default: all), in order, B (default 32) at a time:
-- yields x [B,C,H,W], the numbers of its images in the folder, and of those that on_bad leaves out, whose
-- pixels are 0, a table number -> message. x is the same tensor every time. A short last batch is padded
-- by repeating its last image, so that no number depends on how many there are.
function Source:batches(first, last, B)
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

return Source
