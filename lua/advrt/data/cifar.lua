--- CIFAR's binary batches: which files of a folder they are, and reading several as one.

local fail = require "advrt.support.fail"
local image = require "advrt.core.image"
local lfs = require "lfs"
local list = require "advrt.data.list"
local tensor = require "advrt.tensor"

local cifar = {}

-- The list of class names that comes with the batches, by the number of classes.
local NAMES = {[10] = "batches.meta.txt", [100] = "fine_label_names.txt"}

--- The paths of a folder's batches, sorted: where it holds data_batch_1.bin and its like, or CIFAR-100's
-- train.bin or test.bin, and no image files; else nil. The test batch is not joined to the training
-- batches: it is read where it is alone, or by its own name.
function cifar.batches(dir)
    local train, test = {}, {}
    for name in lfs.dir(dir) do
        if name:find("^data_batch_%d+%.bin$") or name == "train.bin" then
            train[#train + 1] = dir .. "/" .. name
        elseif name == "test_batch.bin" or name == "test.bin" then
            test[#test + 1] = dir .. "/" .. name
        end
    end
    local found = #train > 0 and train or test
    if #found == 0 or #list(dir).files > 0 then return nil end
    table.sort(found, function(a, b) return #a < #b or #a == #b and a < b end)
    return found
end

--- The names of the classes beside the batches, or nil.
local function names_beside(path, count)
    local file = io.open((path:match("^(.*/)") or "") .. NAMES[count], "r")
    if not file then return nil end
    local names = {}
    for line in file:lines() do
        if line:find("%S") then names[#names + 1] = line:match("^%s*(.-)%s*$") end
    end
    file:close()
    return #names == count and names or nil
end

--- Reads files as one. Returns the images, u8 [N,3,32,32], the labels, u8 [N], and
-- about them: told_by; names, of the classes, or nil; parts, what the images' names begin with in each file
-- and how many it has.
function cifar.read(paths)
    local read, parts, N, classes = {}, {}, 0, nil
    for i, path in ipairs(paths) do
        local x, y, count = image.cifar(path)
        if not x then fail("%s", y) end
        if classes and count ~= classes then
            fail("%s: is of CIFAR-%d, and %s of CIFAR-%d", path, count, paths[1], classes)
        end
        read[i], classes, N = {x, y}, count, N + #x
        parts[i] = {#paths > 1 and path:match("([^/]*)%.[^.]*$") .. "/" or "", #x}
    end
    local x, y = read[1][1], read[1][2]
    if #read > 1 then
        x, y = tensor.new({N, 3, 32, 32}, "u8"), tensor.new({N}, "u8")
        local at = 1
        for _, one in ipairs(read) do
            local images <close> = one[1] -- by hand: the collector sees a handle of a few bytes
            x:narrow(at, #images):copy(images)
            y:narrow(at, #images):copy(one[2])
            at = at + #images
        end
    end
    return x, y, {told_by = ("the records of CIFAR-%d"):format(classes), parts = parts,
        names = names_beside(paths[1], classes)}
end

return cifar
