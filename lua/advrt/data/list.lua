--- What a folder of images holds: image files, subfolders with images, and what is passed over.

local fail = require "advrt.support.fail"
local lfs = require "lfs"

local suffixes = {png = true, jpg = true, jpeg = true, jpe = true, jfif = true, webp = true, bmp = true,
    ppm = true, pgm = true, pbm = true, pnm = true}
local own = {["labels.csv"] = true, ["classes.txt"] = true}
local DEEPEST = 32 -- folders in folders; more is taken for a link that leads back
local KINDS = 4    -- kinds of files, and names of folders, that a line names

local List = {}
List.__index = List

local function suffix_of(name) return (name:match("[^.]%.(%w+)$") or "no suffix"):lower() end

-- Whether a folder is that of a run, finished or not, whose pictures are none of the images.
local function is_run(path)
    return lfs.attributes(path .. "/run.json", "mode") or lfs.attributes(path .. "/records.part", "mode")
end

local function names_in(dir)
    local ok, iterator, state = fail.try(lfs.dir, dir)
    if ok then return iterator, state end
    local reason = tostring(iterator):match("[^:]*$")
    fail("images: %s: %s", dir, lfs.attributes(dir, "mode")
        and "cannot be listed as a folder:" .. reason or "there is no such folder")
end

--- Collects what is below `dir`. Only names that are not images are asked whether they are folders.
local function walk(self, dir, prefix, depth)
    if depth > DEEPEST then fail("%s: folders nested deeper than %d", dir, DEEPEST) end
    for name in names_in(dir) do
        local path = dir .. "/" .. name
        local hidden = name:sub(1, 1) == "."
        if not hidden and suffixes[suffix_of(name)] then
            self.files[#self.files + 1] = prefix .. name
        elseif not hidden and lfs.attributes(path, "mode") ~= "directory" then
            if prefix == "" and own[name:lower()] and not own[name] then
                fail("%s: this name is not recognised; rename it to %s", path, name:lower())
            elseif prefix ~= "" or not own[name] then
                local kind = suffix_of(name)
                self.others[kind] = (self.others[kind] or 0) + 1
            end
        elseif not hidden and is_run(path) then
            self.runs[#self.runs + 1] = prefix .. name
        elseif not hidden then
            local before = #self.files
            walk(self, path, prefix .. name .. "/", depth + 1)
            if prefix == "" then
                local kind = #self.files > before and self.folders or self.empty
                kind[#kind + 1] = name
            end
        end
    end
end

--- Names, the first few of a list, in words.
local function some(names)
    local shown = table.concat(names, ", ", 1, math.min(#names, KINDS))
    return #names > KINDS and ("%s and %d more"):format(shown, #names - KINDS) or shown
end

local function plural(n, what) return ("%d %s%s"):format(n, what, n == 1 and "" or "s") end

--- How many files are passed over.
function List:other_files()
    local count = 0
    for _, n in pairs(self.others) do count = count + n end
    return count
end

--- What is passed over, in words: "3 files (tif), 1 folder without images (__MACOSX)"; nil where nothing
-- is. `labelled`: the classes do not come from folders, so those without images do not matter.
function List:passed_over(labelled)
    local kinds, parts = {}, {}
    for kind in pairs(self.others) do kinds[#kinds + 1] = kind end
    table.sort(kinds, function(a, b)
        local m, n = self.others[a], self.others[b]
        return m > n or m == n and a < b
    end)
    if #kinds > 1 then
        for i, kind in ipairs(kinds) do kinds[i] = ("%d %s"):format(self.others[kind], kind) end
    end
    if #kinds > 0 then
        parts[1] = ("%s (%s)"):format(plural(self:other_files(), "file"), some(kinds))
    end
    if #self.empty > 0 and not labelled then
        parts[#parts + 1] = ("%s without images (%s)"):format(plural(#self.empty, "folder"),
            some(self.empty))
    end
    if #self.runs > 0 then
        parts[#parts + 1] = ("%s of runs (%s)"):format(plural(#self.runs, "folder"), some(self.runs))
    end
    return parts[1] and table.concat(parts, ", ")
end

--- Lists the folder `dir`. Returns an object: files, the images' paths relative to it; folders, its own
-- subfolders with images; empty, those without; runs, folders of runs; others, how many other files
-- there are by suffix. All are sorted by their bytes. Names that start with a dot are left out.
return function(dir)
    local self = setmetatable({files = {}, folders = {}, empty = {}, runs = {}, others = {}}, List)
    walk(self, dir, "", 1)
    for _, list in ipairs {self.files, self.folders, self.empty, self.runs} do table.sort(list) end
    return self
end
