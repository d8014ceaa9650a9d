--- The classes of the images in a folder: labels.csv; else subfolders, by classes.txt, by their numbers
-- or in sorted order. What does not fit is a failure that names it; nothing is guessed in silence.
--
-- Names are compared in Unicode's NFC: macOS writes the letters of a file's name in parts, and editors
-- write them whole. Blanks at the ends of a line or of a name do not count.

local csv = require "advrt.support.csv"
local fail = require "advrt.support.fail"
local lfs = require "lfs"
local nearest = require "advrt.support.nearest"
local system = require "advrt.core.system"

local classes = {}

local LONGEST = 64 -- bytes of a name for which the nearest line is looked for

--- Without the blanks at both ends. A pattern would take long on a file of blanks.
local function trim(text)
    local first, last = text:find("%S") or #text + 1, #text
    while last >= first and text:find("^%s", last) do last = last - 1 end
    return text:sub(first, last)
end

local function key(name) return system.compose(trim(name)) end

--- A class number written in decimal digits alone, or nil.
local function class_number(text)
    return text:match("^%d+$") and #text < 10 and math.tointeger(tonumber(text)) or nil
end

--- The text of a file that a person wrote.
local function read_text(path)
    local text, problem = csv.read(path)
    if not text then fail("%s", problem) end
    local mark = text:sub(1, 2)
    if mark == "\xFF\xFE" or mark == "\xFE\xFF" then
        fail("%s: is written in UTF-16; save it as UTF-8", path)
    end
    return text
end

--- labels.csv

--- A function that finds a file as labels.csv writes it among the images listed: as it is, else by its
-- key. It returns the image's name, or nil and what is wrong.
local function finder(dir, files)
    local known, by_key = {}, nil
    for _, file in ipairs(files) do known[file] = true end
    return function(file)
        if known[file] then return file end
        if not by_key then
            by_key = {}
            for _, one in ipairs(files) do
                local k = key(one)
                by_key[k] = by_key[k] == nil and one or false
            end
        end
        local found = by_key[key(file):gsub("^%./+", "")]
        if found then return found end
        if found == false then return nil, ("'%s' names more than one image"):format(file) end
        if file:find("\\", 1, true) and not file:find("/", 1, true) then
            return nil, ("there is no image '%s' in the folder; write folders as a/b"):format(file)
        elseif lfs.attributes(dir .. "/" .. file, "mode") == "file" then
            return nil, ("'%s' does not have the name of an image file"):format(file)
        end
        return nil, ("there is no image '%s' in the folder"):format(file)
    end
end

--- The two fields of a line; what is wrong with it is a failure.
local function fields_of(record, path)
    if #record == 2 then return record[1], trim(record[2]) end
    fail("%s: line %d: want file,label, got %d fields%s", path, record.line, #record,
        #record == 1 and record[1]:find("[;\t]") and "; separate them by a comma" or "")
end

--- Reads labels.csv in the folder `dir`: image -> class. files: the images listed; count: of classes, nil
-- where that is not known. nil where there is no labels.csv.
function classes.by_labels(dir, files, count)
    local path = dir .. "/labels.csv"
    if not lfs.attributes(path, "mode") then return nil end
    local records, message = csv.parse(read_text(path))
    if not records then fail("%s: %s", path, message) end
    local labels, lines, find = {}, {}, finder(dir, files)
    for i, record in ipairs(records) do
        local written, label = fields_of(record, path)
        if not (i == 1 and trim(written):lower() == "file" and label:lower() == "label") then
            local file, problem = find(written)
            local class = class_number(label)
            if not file then
                fail("%s: line %d: %s%s", path, record.line, problem,
                    i == 1 and not class and "; a first line of titles reads file,label" or "")
            elseif lines[file] then
                fail("%s: line %d: '%s' was given before, in line %d", path, record.line, file,
                    lines[file])
            elseif not class or count and class >= count then
                fail("%s: line %d: label '%s' is not a class%s", path, record.line, label,
                    count and (" of the net (0 .. %d)"):format(count - 1) or " number")
            end
            labels[file], lines[file] = class, record.line
        end
    end
    for _, file in ipairs(files) do
        if not labels[file] then fail("%s: no label for the image '%s'", path, file) end
    end
    return labels
end

--- classes.txt

--- The lines of a classes.txt: line i, counted from 0, names class i. A byte order mark, blanks at the end
-- of a line, and empty lines at the file's end are left out. nil where there is no such file. More lines
-- than `count` classes are a failure.
function classes.read(path, count)
    if not lfs.attributes(path, "mode") then return nil end
    local list = {}
    local text, last = read_text(path):gsub("^\xEF\xBB\xBF", ""):gsub("\r\n?", "\n"), 0
    for line in (text .. "\n"):gmatch("([^\n]*)\n") do
        list[#list + 1] = trim(line)
        if list[#list] ~= "" then last = #list end
    end
    for i = #list, last + 1, -1 do list[i] = nil end
    if count and #list > count then
        fail("%s: %d classes, but the net has %d", path, #list, count)
    end
    return list, path
end

--- The same of the classes.txt in a folder, or else of the file at the path `own`, which may be nil.
function classes.names(dir, count, own)
    local list, path = classes.read(dir .. "/classes.txt", count)
    if not list and own then return classes.read(own, count) end
    return list, path
end

--- The class of each line by its key.
local function numbers_of(list, path)
    local numbers = {}
    for i, name in ipairs(list) do
        local k = key(name)
        if name == "" then
            fail("%s: line %d is empty; each line names a class", path, i)
        elseif numbers[k] then
            fail("%s: line %d: '%s' is in line %d too", path, i, name, numbers[k] + 1)
        end
        numbers[k] = i - 1
    end
    return numbers
end

local function nearest_line(name, list)
    local short = {}
    for _, line in ipairs(list) do
        if #line <= LONGEST then short[#short + 1] = line end
    end
    local near = #name <= LONGEST and nearest(key(name), short)
    return near and (" (the nearest is '%s')"):format(near) or ""
end

local function by_list(folders, list, path)
    local map, numbers = {}, numbers_of(list, path)
    for _, name in ipairs(folders) do
        map[name] = numbers[key(name)]
        if not map[name] then
            fail("%s: no line names the folder '%s'%s; each folder with images needs a line, or remove the "
                .. "file", path, name, nearest_line(name, list))
        end
    end
    return map, "subfolders' lines in " .. path:match("[^/]*$")
end

--- Subfolders

--- The class of each folder by its number; nil and the first name that is none.
local function by_number(dir, folders, count)
    local map = {}
    for _, name in ipairs(folders) do
        map[name] = class_number(name)
        if not map[name] then return nil, name end
    end
    for _, name in ipairs(folders) do
        if count and map[name] >= count then
            fail("%s/%s: the folder's number is not a class of the net (0 .. %d); if it is a name, list all "
                .. "folders in classes.txt", dir, name, count - 1)
        end
    end
    return map
end

--- What the first line says where classes are the folders' numbers: torchvision's ImageFolder numbers
-- folders in the order of their names as text, in which 10 stands before 2.
local function told_by_number(map, folders)
    for i = 2, #folders do
        if map[folders[i]] < map[folders[i - 1]] then
            return ("subfolders' numbers; torchvision's ImageFolder sorts them as text, %s before %s")
                :format(folders[i - 1], folders[i])
        end
    end
    return "subfolders' numbers"
end

--- Fails where two folders would become one class.
local function check_twins(dir, folders, map)
    local names = {}
    for _, name in ipairs(folders) do
        local twin = names[map[name]]
        if twin then
            fail("%s: the folders '%s' and '%s' are both class %d; rename or join them", dir, twin, name,
                map[name])
        end
        names[map[name]] = name
    end
end

--- Why no rule fits the folders.
local function refuse(dir, found, count, word)
    local folders = found.folders
    if #folders == 0 then
        fail("%s: cannot find the classes of its images; add labels.csv (lines file,label) or a subfolder "
            .. "for each class, or label them by the net with `advrt evaluate --write-labels "
            .. "%s/labels.csv`", dir, dir)
    end
    fail("%s: cannot find the classes of its images; add labels.csv (lines file,label) or classes.txt: '%s' "
        .. "is not a class number, and %d subfolders have images%s, %s", dir, word,
        #folders, #found.empty > 0 and (" ('%s' has none)"):format(found.empty[1]) or "",
        count and ("the net has %d classes"):format(count)
            or "the number of classes is not known (give {classes = N})")
end

--- The class of each subfolder with images by its name, and the rule in words. found: what
-- advrt.data.list says of the folder `dir`; count: of classes, nil where that is not known; own: the net's
-- own list of classes, or nil.
function classes.by_folders(dir, found, count, own)
    local folders, map, told, word = found.folders, nil, nil, nil
    local list, path = classes.names(dir, count, own)
    if list and #folders > 0 then
        map, told = by_list(folders, list, path)
    elseif #folders > 0 then
        map, word = by_number(dir, folders, count)
        told = map and told_by_number(map, folders)
    end
    if not map and #folders == count and #folders > 0 then
        map = {}
        for i, name in ipairs(folders) do map[name] = i - 1 end
        told = ("subfolders in sorted order, %s is 0 and %s is %d"):format(folders[1], folders[count],
            count - 1)
    end
    if not map then refuse(dir, found, count, word) end
    check_twins(dir, folders, map)
    for _, file in ipairs(found.files) do
        if not file:find("/", 1, true) then
            fail("%s/%s: an image outside the class folders, and there is no labels.csv", dir, file)
        end
    end
    return map, told
end

return classes
