-- How the classes of a folder of images are found, what is passed over, and what a session gets.

local data = require "advrt.data"
local image = require "advrt.core.image"
local lfs = require "lfs"
local net = require "advrt.net"
local support = require "support"
local tensor = require "advrt.tensor"

describe("the classes of a folder of images", function()
    local dir

    -- Writes images of the size [1,2,3], each in its own folder where its name has one.
    local function pictures(...)
        for _, name in ipairs {...} do
            local above = ""
            for part in name:gmatch("([^/]+)/") do
                above = above .. "/" .. part
                lfs.mkdir(dir .. above)
            end
            assert(image.save(dir .. "/" .. name, tensor.new {1, 2, 3}))
        end
    end

    local function list(text) support.write(dir .. "/classes.txt", text) end

    local function open(classes, changes)
        local options = {classes = classes or 10, input = {1, 2, 3}}
        for key, value in pairs(changes or {}) do options[key] = value end
        return data.folder(dir, options)
    end

    local function failure(...)
        local ok, problem = pcall(open, ...)
        assert.is_false(ok)
        assert.equal("table", type(problem), tostring(problem))
        return problem.message
    end

    -- The classes of all images, in their order.
    local function labels(folder)
        local found = {}
        for i = 1, #folder do found[i] = folder:label(i) end
        return table.concat(found, " ")
    end

    before_each(function() dir = support.folder() end)
    after_each(function() support.remove(dir) end)

    it("are lines of classes.txt, however they end", function()
        pictures("coat/a.png", "dress/a.png")
        for _, text in ipairs {
            "shirt\ncoat\ndress\n", "shirt\r\ncoat\r\ndress", "shirt\rcoat\rdress\r",
            "\xEF\xBB\xBFshirt\r\ncoat \r\n\tdress\t\r\n\r\n", "\xEF\xBB\xBFcoat\ncoats\ndress\n \n\n",
        } do
            list(text)
            local folder = open()
            assert.equal(text:find("coats") and "0 2" or "1 2", labels(folder), text)
            assert.equal("subfolders' lines in classes.txt", folder.told_by)
        end
        assert.equal("coat\ncoats\ndress\n", open():class_names())
    end)

    it("are in no list that does not hold every folder: the first one is named", function()
        pictures("bag/a.png", "coat/a.png")
        for text, wanted in pairs {
            ["Bag\ncoat\n"] = "no line names the folder 'bag' (the nearest is 'Bag')",
            ["bag\ncoats\n"] = "no line names the folder 'coat' (the nearest is 'coats')",
            ["0 bag\n1 coat\n"] = "no line names the folder 'bag'; each folder with images needs a line",
            [""] = "no line names the folder 'bag'; each folder with images needs a line",
            ["bag\n\ncoat\n"] = "line 2 is empty; each line names a class",
            ["bag\ncoat\nbag \n"] = "line 3: 'bag' is in line 1 too",
            ["\xFF\xFEb\0a\0g\0"] = "is written in UTF-16; save it as UTF-8",
            [("x\n"):rep(2)] = "line 2: 'x' is in line 1 too",
        } do
            list(text)
            local message = failure(2 + #text) -- as many classes as folders would sort them else
            assert.truthy(message:find(dir .. "/classes.txt: " .. wanted, 1, true), message)
        end
        list("bag\ncoat\nshoe\n")
        assert.matches("classes.txt: 3 classes, but the net has 2", failure(2))
        support.write(dir .. "/labels.csv", "bag/a.png,0\ncoat/a.png,1\n")
        assert.matches("classes.txt: 3 classes, but the net has 2", failure(2)) -- a report names by it
    end)

    it("are the same names in Unicode's parts and whole", function()
        pictures("cafe\u{301}/a.png", "th\u{e9}/a.png")
        list("th\u{65}\u{301}\ncaf\u{e9}\n")
        assert.equal("1 0", labels(open()))
        pictures("caf\u{e9}/b.png")
        assert.matches("the folders 'cafe\u{301}' and 'caf\u{e9}' are both class 1", failure())
        support.write(dir .. "/labels.csv", "cafe\u{301}/a.png,4\ncaf\u{e9}/b.png,5\nthe\u{301}/a.png,6\n")
        assert.equal("4 5 6", labels(open()))
        pictures("caf\u{e9}/a.png") -- the parts' key is of two images now, the whole name of one
        support.write(dir .. "/labels.csv",
            "cafe\u{301}/a.png,4\ncaf\u{e9}/a.png,1\ncaf\u{e9}/b.png,5\n th\u{e9}/a.png ,6\n")
        assert.equal("4 1 5 6", labels(open()))
        support.write(dir .. "/labels.csv", " caf\u{e9}/a.png,4\n")
        assert.matches("line 1: ' caf\u{e9}/a.png' names more than one image", failure())
    end)

    it("are numbers only where no list says otherwise", function()
        pictures("1/a.png", "10/a.png", "2/a.png")
        list("1\n10\n2\n")
        assert.equal("0 1 2", labels(open()))
        os.remove(dir .. "/classes.txt")
        local folder = open(11)
        assert.equal("1 10 2", labels(folder))
        assert.truthy(folder:about():find("of 3 classes (from subfolders' numbers; torchvision's "
            .. "ImageFolder sorts them as text, 10 before 2)", 1, true), folder:about())
        assert.matches("/10: the folder's number is not a class of the net %(0 .. 9%); .*classes.txt",
            failure())
        support.remove(dir .. "/10")
        assert.equal("subfolders' numbers", open().told_by)
        pictures("02/b.png")
        assert.matches("the folders '02' and '2' are both class 2; rename or join them", failure())
        list("0\n1\n02\n2\n")
        assert.equal("2 1 3", labels(open()))
    end)

    it("do not come from folders without images, which are named", function()
        pictures("a/1.png", "b/deep/1.png")
        for _, name in ipairs {"__MACOSX", "__MACOSX/a", ".git"} do lfs.mkdir(dir .. "/" .. name) end
        support.write(dir .. "/__MACOSX/a/._1.png", "resource fork")
        local folder = open(2)
        assert.equal("0 1", labels(folder))
        assert.equal(("Images: 2 of the 2 in %s, of 2 classes (from subfolders in sorted order, a is 0 "
            .. "and b is 1)\nPassed over: 1 folder without images (__MACOSX)"):format(dir), folder:about())
        list("a\nb\n")
        assert.equal("0 1", labels(open(2)))
        os.remove(dir .. "/classes.txt")
        local message = failure(3) -- the third may be a class, or not
        assert.truthy(message:find("'a' is not a class number, and 2 subfolders have images ('__MACOSX' has "
            .. "none), the net has 3 classes", 1, true), message)
    end)

    it("leave a count of the files that are passed over", function()
        pictures("0/a.png", "0/b.jpeg", "1/c.JFIF")
        for _, name in ipairs {"0/d.tif", "0/e.TIF", "1/f.gif", "1/no_suffix", "1/.DS_Store"} do
            support.write(dir .. "/" .. name, "")
        end
        local folder = open()
        assert.equal("0 0 1", labels(folder))
        assert.equal(4, folder.others)
        assert.matches("\nPassed over: 4 files %(2 tif, 1 gif, 1 no suffix%)$", folder:about())
        support.write(dir .. "/labels.csv", "0/a.png,1\n0/b.jpeg,1\n1/c.JFIF,1\n")
        assert.matches("\nPassed over: 4 files %(2 tif", open():about()) -- the folder's own files are none
        for _, name in ipairs {"0/a.png", "0/b.jpeg", "1/c.JFIF"} do os.remove(dir .. "/" .. name) end
        assert.matches("holds no image files; passed over: 4 files", failure())
    end)

    it("are of files with one channel or three", function()
        pictures("a.png")
        support.write(dir .. "/labels.csv", "a.png,1\n")
        for _, C in ipairs {2, 4} do
            assert.equal(("images: %s: image files have 1 or 3 channels, the net takes %d"):format(dir, C),
                failure(10, {input = {C, 2, 3}}))
        end
        assert.equal(1, #open(10, {input = {3, 2, 3}}))
        support.write(dir .. "/images-idx3-ubyte", string.pack(">I4I4I4I4", 0x0803, 1, 1, 1) .. "a")
        local ok, problem = pcall(data.folder, dir .. "/images-idx3-ubyte", {input = {3, 1, 1}})
        assert.is_false(ok)
        assert.matches("image files have 1 channel, the net takes 3", problem.message)
    end)

    it("are found in a session too, which needs no net", function()
        pictures("2/a.png", "7/b.png")
        assert(image.save(dir .. "/2/c.png", tensor.new {3, 4, 5}:fill(1)))
        local folder = data.folder(dir)
        assert.equal(3, #folder)
        assert.equal("2 2 7", labels(folder))
        assert.matches("Images: 3 of the 3 in .* of 2 classes", folder:about())
        assert.same({1, 2, 3}, folder:load(1):shape())
        local x = folder:load(2)
        assert.same({3, 4, 5}, x:shape())
        assert.equal("f32", x:dtype())
        assert.equal(1, x:get(3, 4, 5))
        local failed, why = pcall(function() for _ in folder:batches() do end end)
        assert.is_false(failed) -- a batch is of one shape, its first image's
        assert.matches("2/c.png: the image has 5 x 4", why.message)
        for _, i in ipairs {0, 4, 1.5, "1"} do
            for _, name in ipairs {"load", "label"} do
                local ok, problem = pcall(folder[name], folder, i)
                assert.is_false(ok)
                assert.truthy(tostring(problem):find(("bad argument #1 to '%s' (the number of an image, 1 to "
                    .. "3, expected, got %s)"):format(name, i), 1, true), tostring(problem))
            end
        end
        pictures("x/d.png")
        local ok, problem = pcall(data.folder, dir)
        assert.is_false(ok)
        assert.matches("'x' is not a class number.*the number of classes is not known %(give {classes = N}%)",
            problem.message)
        for _, case in ipairs {
            {"a path expected, got nil"}, {"a table of options expected, got number", dir, 3},
            {"'clases' is unknown; did you mean 'classes'", dir, {clases = 3}},
            {"classes must be a whole number above 0, got 0", dir, {classes = 0}},
            {"input must be {C, H, W}", dir, {input = {28, 28}}},
        } do
            ok, problem = pcall(data.folder, case[2], case[3])
            assert.is_false(ok)
            assert.truthy(tostring(problem):find(case[1], 1, true), tostring(problem))
        end
    end)

    it("and sizes come from a net that is given", function()
        local g = assert(net.load "fashion")
        assert(image.save(dir .. "/a.png", tensor.new {3, 28, 28}:fill(0.5)))
        support.write(dir .. "/labels.csv", "a.png,9\n")
        local folder = data.folder(dir, {net = g})
        assert.same({1, 28, 28}, folder:load(1):shape())
        local x, numbers = folder:batches()()
        assert.same({32, 1, 28, 28}, x:shape())
        assert.same({1}, numbers)
        support.write(dir .. "/labels.csv", "a.png,10\n")
        local ok, problem = pcall(data.folder, dir, {net = g})
        assert.is_false(ok)
        assert.matches("label '10' is not a class of the net %(0 .. 9%)", problem.message)
    end)
end)
