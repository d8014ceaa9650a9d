--- Folders of image files as a source of images (advrt.data.source).
--
-- A folder is listed, not opened: images are decoded when they are asked for, so that memory does
-- not grow with the folder and starting costs the listing alone. Files are sorted by the bytes of
-- their path relative to the folder, and known by it.

local Source = require "advrt.data.source"
local fail = require "advrt.support.fail"
local find = require "advrt.data.classes"
local image = require "advrt.core.image"
local lfs = require "lfs"
local list = require "advrt.data.list"
local progress = require "advrt.run.progress"
local system = require "advrt.core.system"

local Folder = Source.kind()

--- What may be read by its own name in place of the folder.
local function file_in(dir)
    for name in lfs.dir(dir) do
        if name:find("images[-.]idx3") then return "IDX", name end
        if name:find("%.np[yz]$") then return "array", name end
    end
end

--- Fails where no image file can be what the net takes.
local function check_channels(dir, input)
    if not input or input[1] == 1 or input[1] == 3 then return end
    fail.again("images: %s: image files have 1 or 3 channels, the net takes %d", dir, input[1])
end

--- Lists the folder `dir`; o: Source.options.
function Folder.open(dir, o)
    local found = list(dir)
    if #found.files == 0 then
        local others, kind, name = found:passed_over(), file_in(dir)
        fail("images: %s: holds no image files%s", dir,
            kind and ("; give the %s file itself, %s/%s"):format(kind, dir, name)
                or others and "; passed over: " .. others or "")
    end
    check_channels(dir, o.input)
    if o.range and not o.range:holds_pixels() then
        fail("images: %s: the pixels of image files are in [0,1], and the net's values in %s; give arrays "
            .. "(.npz) of its values", dir, o.range:text())
    end
    local self = setmetatable({dir = dir, files = found.files, input = o.input, resize = o.resize,
        crop = o.crop, others = found:other_files(), own_names = o.class_names}, Folder)
    self.labels = not o.unlabelled and find.by_labels(dir, found.files, o.classes)
    if self.labels then
        self.told_by = "labels.csv"
        find.names(dir, o.classes)
    elseif not o.unlabelled then
        self.folders, self.told_by = find.by_folders(dir, found, o.classes, o.class_names)
    end
    self.passed_over = found:passed_over(self.labels)
    return self
end

--- Adds all images to a feed (advrt.core.feed), which reads a file when its turn comes.
function Folder:feed(f)
    for i = 1, #self do f:file(self.dir .. "/" .. self.files[i], self:label(i)) end
end

--- The class of the image of that name, counted from 0; of a folder opened without labels, always 0.
function Folder:class_of(file)
    if self.labels then return self.labels[file] end
    return self.told_by and self.folders[file:match("^[^/]+")] or 0
end

--- The text of the folder's classes.txt, where there is one: line i, counted from 0, names class i.
function Folder:class_names()
    local names = find.names(self.dir, nil, self.own_names)
    return names and table.concat(names, "\n") .. "\n"
end

--- What images first .. last are, one after another as "SHA256 CLASS FILE" and a NUL byte. Each file is
-- read whole; "unreadable" stands for the sum of one that cannot be.
function Folder:digest(first, last)
    local shown <close> = progress.start("images read", last - first + 1)
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

return Folder
