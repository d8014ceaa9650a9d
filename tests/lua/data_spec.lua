-- Folders of images, their classes, batches and targets.

local csv = require "advrt.support.csv"
local data = require "advrt.data"
local image = require "advrt.core.image"
local lfs = require "lfs"
local support = require "support"
local tensor = require "advrt.tensor"

local INPUT = {1, 2, 3}

describe("CSV", function()
    it("is read with quotes, CRLF, empty lines and a byte order mark", function()
        local records = assert(csv.parse('\xEF\xBB\xBFfile,label\r\n"a ""b"", c.png",3\r\n\r\n'
            .. 'd.png,\n"x\ny",1'))
        assert.same({
            {line = 1, "file", "label"}, {line = 2, 'a "b", c.png', "3"}, {line = 4, "d.png", ""},
            {line = 5, "x\ny", "1"},
        }, records)
        assert.same({}, csv.parse(""))
    end)

    it("takes CR alone for a line's end, and passes over lines of blanks", function()
        assert.same({{line = 1, "a", "1"}, {line = 2, "b\rc\r\nd", "2"}, {line = 6, "e", "3"}},
            csv.parse('a,1\r"b\rc\r\nd",2\r  \re,3\r'))
    end)

    it("is refused with the line where it is broken", function()
        for text, wanted in pairs {
            ['a,1\nb"c,2\n'] = "line 2: a quote inside a field that is not quoted",
            ['a,1\n"b,2\n'] = "line 2: a quote that is never closed",
            ['"a"b,1\n'] = "line 1: text after a closing quote",
        } do
            local none, message = csv.parse(text)
            assert.is_nil(none)
            assert.equal(wanted, message)
        end
    end)

    it("comes back from its own writing", function()
        for _, text in ipairs {"plain", 'with "quotes"', "a,b", "a\nb", ""} do
            assert.equal(text, csv.parse(csv.field(text) .. ",1\n")[1][1])
        end
    end)
end)

describe("a folder of images", function()
    local dir

    -- Writes an image whose pixels are all `level`, of the size that INPUT wants or another.
    local function picture(name, level, height)
        local above = name:match("^(.*)/")
        if above then lfs.mkdir(dir .. "/" .. above) end
        local pixels = tensor.new {1, height or 2, 3}
        assert(image.save(dir .. "/" .. name, pixels:fill((level or 0) / 255)))
    end

    local function labels(text) support.write(dir .. "/labels.csv", text) end
    local function open(classes, changes)
        local options = {classes = classes or 10, input = INPUT}
        for key, value in pairs(changes or {}) do options[key] = value end
        return data.folder(dir, options)
    end

    -- The message of the failure; everything that a folder holds wrong is one.
    local function failure(...)
        local ok, problem = pcall(open, ...)
        assert.is_false(ok)
        assert.equal("table", type(problem), tostring(problem))
        assert.equal(1, problem.status)
        return problem.message
    end

    before_each(function() dir = support.folder() end)
    after_each(function() support.remove(dir) end)

    it("is sorted by the bytes of relative paths and labelled by labels.csv", function()
        for _, name in ipairs {"b.png", "B.png", "a/z.png", "a.png", ".hidden.png"} do picture(name) end
        support.write(dir .. "/notes.txt", "not an image")
        labels("file,label\r\nb.png,3\r\na.png,0\r\n\"a/z.png\",9\r\nB.png,1\r\n")
        local folder = open()
        assert.same({"B.png", "a.png", "a/z.png", "b.png"}, folder.files)
        local found = {}
        for i = 1, #folder do found[i] = folder:label(i) end
        assert.same({1, 0, 9, 3}, found)
    end)

    it("needs no header in labels.csv", function()
        picture("a.png")
        for _, text in ipairs {"a.png,4\n", "\xEF\xBB\xBFa.png , 4 \r", "File , Label\n./a.png,4"} do
            labels(text)
            assert.equal(4, open():label(1))
        end
        os.rename(dir .. "/labels.csv", dir .. "/Labels.csv")
        assert.matches("/Labels.csv: this name is not recognised; rename it to labels.csv", failure())
    end)

    it("refuses a labels.csv that does not fit, with its line", function()
        picture("a.png")
        picture("b.png")
        support.write(dir .. "/b.tif", "BM")
        for text, wanted in pairs {
            ["file,label\na.png,1\nc.png,2\n"] = "line 3: there is no image 'c.png'",
            ["file,label\na.png,1\n\na.png,1\n"] = "line 4: 'a.png' was given before, in line 2",
            ["file,label\na.png,10\nb.png,1\n"] = "line 2: label '10' is not a class of the net (0 .. 9)",
            ["file,label\na.png,-1\nb.png,1\n"] = "line 2: label '-1' is not a class",
            ["file,label\na.png,1.0\nb.png,1\n"] = "line 2: label '1.0' is not a class",
            ["a.png,cat\nb.png,1\n"] = "line 1: label 'cat' is not a class",
            ["file,label\na.png\n"] = "line 2: want file,label, got 1 fields",
            ["file,label\na.png,1,2\n"] = "line 2: want file,label, got 3 fields",
            ["file,label\n\"a.png,1\n"] = "line 2: a quote that is never closed",
            ["file,label\na.png,1\n"] = "no label for the image 'b.png'",
            ["file,label\na.png;1\n"] = "line 2: want file,label, got 1 fields; separate them by a comma",
            ["file,label\ra.png,1\rb.png,x\r"] = "line 3: label 'x' is not a class",
            ["file,label\n\"x\r\ny\",1\n"] = "line 2: there is no image 'x??y'",
            ["file,label\na.png,1\nb.tif,1\n"] = "line 3: 'b.tif' does not have the name of an image file",
            ["filename,label\na.png,1\n"] =
                "line 1: there is no image 'filename' in the folder; a first line of titles reads file,label",
            ["c\\a.png,1\n"] = "line 1: there is no image 'c\\a.png' in the folder; write folders as a/b",
            ["\xFF\xFEf\0i\0"] = "is written in UTF-16; save it as UTF-8",
        } do
            labels(text)
            local message = failure()
            assert.truthy(message:find(wanted, 1, true), message .. " / " .. wanted)
            assert.truthy(message:find("/labels.csv: ", 1, true), message)
        end
    end)

    it("takes folders that are class numbers", function()
        for _, name in ipairs {"0/a.png", "9/a.png", "07/a.png"} do picture(name) end
        local folder = open()
        assert.same({"0/a.png", "07/a.png", "9/a.png"}, folder.files)
        assert.same({0, 7, 9}, {folder:label(1), folder:label(2), folder:label(3)})
        assert.matches("/9: the folder's number is not a class of the net %(0 .. 8%)", failure(9))
    end)

    it("takes folders that are lines of classes.txt", function()
        for _, name in ipairs {"dog/a.png", "cat/b.PNG"} do picture(name) end
        support.write(dir .. "/classes.txt", "fish\r\ndog\r\ncat\r\n")
        local folder = open()
        assert.same({2, 1}, {folder:label(1), folder:label(2)})
        assert.matches("3 classes, but the net has 2", failure(2))
        support.write(dir .. "/classes.txt", "fish\ndog\ndog\n")
        assert.matches("line 3: 'dog' is in line 2 too", failure())
    end)

    it("takes as many folders as the net has classes in sorted order", function()
        for _, name in ipairs {"n02/a.png", "n01/a.png", "n03/x.png"} do picture(name) end
        local folder = open(3)
        assert.same({0, 1, 2}, {folder:label(1), folder:label(2), folder:label(3)})
        local message = failure(4)
        assert.matches("cannot find the classes", message)
        assert.matches("3 subfolders .* 4 classes", message)
    end)

    it("says so where there are no classes, no images or no folder", function()
        assert.matches("no image", failure())
        picture("a.png")
        assert.matches("add labels.csv .*`advrt evaluate %-%-write%-labels .*/labels.csv`",
            failure())
        picture("1/a.png")
        assert.matches("/a.png: an image outside the class folders", failure())
        support.remove(dir)
        assert.matches("there is no such folder", failure())
        support.write(dir, "a file")
        assert.matches("neither a folder nor a file NAME%-images%-idx3%-ubyte", failure())
        os.remove(dir)
    end)

    it("is read in batches of one shape, a short one padded with its last image", function()
        local text = {}
        for i = 1, 5 do
            picture(i .. ".png", 10 * i)
            text[i] = i .. ".png,0\n"
        end
        labels(table.concat(text))
        local seen, shapes = {}, {}
        for x, numbers in open():batches(2, 5, 3) do
            seen[#seen + 1] = table.concat(numbers, " ")
            local levels = {}
            for k = 1, 3 do levels[k] = math.floor(x:get(k, 1, 2, 3) * 255 + 0.5) end
            shapes[#shapes + 1] = table.concat(levels, " ")
        end
        assert.same({"2 3 4", "5"}, seen)
        assert.same({"20 30 40", "50 50 50"}, shapes)
    end)

    it("refuses an image of another size and one that is broken, by name", function()
        picture("a.png", 0, 5)
        support.write(dir .. "/b.png", "no picture")
        labels("a.png,0\nb.png,0\n")
        local folder, x = open(), tensor.new {1, 1, 2, 3}
        local ok, problem = pcall(folder.load, folder, 1, x, 1)
        assert.is_false(ok)
        assert.matches("a.png: the image has 3 x 5 .* the net takes 3 x 2", problem.message)
        ok, problem = pcall(folder.load, folder, 2, x, 1)
        assert.is_false(ok)
        assert.matches("b.png", problem.message)
        assert.equal(1, problem.status)
    end)
end)

describe("a sample of images", function()
    local dir

    -- A folder of empty files, as many of each class as `counts` says: nothing is decoded here.
    local function open(counts)
        for class, count in pairs(counts) do
            lfs.mkdir(dir .. "/" .. class)
            for i = 1, count do support.write(("%s/%d/%03d.png"):format(dir, class, i), "") end
        end
        return data.folder(dir, {classes = 10, input = INPUT})
    end

    before_each(function() dir = support.folder() end)
    after_each(function() support.remove(dir) end)

    local function first(images, n) return table.move(images.files, 1, n, 1, {}) end

    it("is spread evenly over the classes, in the folder's order, and tells so", function()
        local images = open {[0] = 12, [3] = 2, [4] = 9, [7] = 12}
        assert.equal(14, images:choose {sample = 14, seed = 5})
        local chosen, counts = first(images, 14), {}
        for i = 1, 14 do counts[images:label(i)] = (counts[images:label(i)] or 0) + 1 end
        assert.same({[0] = 4, [3] = 2, [4] = 4, [7] = 4}, counts)
        local sorted = first(images, 14)
        table.sort(sorted)
        assert.same(sorted, chosen)
        assert.equal(("Images: 14 of the 35 in %s, of 4 classes (from subfolders' numbers)"):format(dir),
            images:about(14))
        local all = first(images, 35) -- the others follow, none is lost
        table.sort(all)
        assert.same(first(data.folder(dir, {classes = 10, input = INPUT}), 35), all)
        -- what comes next is drawn as evenly: images that nothing attacks are taken from there
        counts = {}
        for i = 15, 20 do counts[images:label(i)] = (counts[images:label(i)] or 0) + 1 end
        assert.same({[0] = 2, [4] = 2, [7] = 2}, counts)
    end)

    it("depends on the seed and on nothing else", function()
        local function chosen(seed, n)
            local images = data.folder(dir, {classes = 10, input = INPUT})
            images:choose {sample = n or 4, seed = seed}
            return first(images, n or 4)
        end
        open {[0] = 20, [1] = 20}
        assert.same(chosen(1), chosen(1))
        assert.are_not.same(chosen(1), chosen(2))
        local more = {}
        for _, file in ipairs(chosen(1, 12)) do more[file] = true end
        for _, file in ipairs(chosen(1)) do assert.is_true(more[file]) end
        local heads = {} -- each image has its turn under some seed
        for seed = 0, 199 do heads[chosen(seed, 1)[1]] = true end
        local count = 0
        for _ in pairs(heads) do count = count + 1 end
        assert.is_true(count > 35)
    end)

    it("is of the files that a limit leaves, and all of them where it asks for more", function()
        local images = open {[0] = 5, [1] = 5, [2] = 5}
        assert.equal(10, images:choose {limit = 10})
        assert.equal(2, images:classes(10))
        assert.equal(4, images:choose {limit = 10, sample = 4})
        assert.equal(2, images:classes(4))
        assert.equal(15, images:choose {sample = 100})
    end)
end)

describe("shards", function()
    it("are neighbours that make up the whole", function()
        for n = 0, 12 do
            for N = 1, 5 do
                local at = 1
                for i = 1, N do
                    local first, last = data.shard(n, i, N)
                    assert.equal(at, first)
                    assert.is_true(last - first + 1 >= n // N and last - first + 1 <= n // N + 1)
                    at = last + 1
                end
                assert.equal(n + 1, at)
            end
        end
    end)
end)

describe("targets", function()
    it("by random depend on seed and file alone, and are never the label", function()
        local rule = assert(data.targets("random", 10, 7))
        local count = {}
        for k = 0, 9 do count[k] = 0 end
        for i = 1, 2000 do
            local file, label = i .. ".png", i % 10
            local target = rule(file, label)
            assert.equal(target, rule(file, label))
            assert.is_true(target ~= label and target >= 0 and target < 10)
            count[target] = count[target] + 1
        end
        for k = 0, 9 do assert.is_true(count[k] > 140 and count[k] < 260, k .. ": " .. count[k]) end
        local u = tensor.uniform("7:3.png:target", {1}):item()
        local other = math.floor(u * 9)
        assert.equal(other < 3 and other or other + 1, rule("3.png", 3))
        local differ = 0
        for i = 1, 50 do
            if data.targets("random", 10, 8)(i .. ".png", 0) ~= rule(i .. ".png", 0) then
                differ = differ + 1
            end
        end
        assert.is_true(differ > 30)
        for i = 1, 50 do -- a seed of its own stands above the run's
            assert.equal(rule(i .. ".png", 0), data.targets("random:7", 10, 8)(i .. ".png", 0))
        end
    end)

    it("follow the other rules", function()
        local z = tensor.from {3, -1, 5, -1, 4}
        assert.equal(1, data.targets("least-likely", 5, 0)("a", 2, z))
        assert.equal(3, data.targets("least-likely", 5, 0)("a", 1, z))
        assert.equal(4, data.targets("second", 5, 0)("a", 2, z))
        assert.equal(0, data.targets("offset:3", 5, 0)("a", 2, z))
        assert.equal(4, data.targets("offset:9223372036854775807", 5, 0)("a", 2, z))
        assert.equal(4, data.targets("class:4", 5, 0)("a", 2, z))
        assert.is_nil(data.targets("class:4", 5, 0)("a", 4, z))
    end)

    it("refuse what is no rule or leads to the label", function()
        for rule, wanted in pairs {
            ["offset:0"] = "label itself", ["offset:10"] = "label itself",
            ["class:10"] = "not a class of the net (0 .. 9)", offset = "none of random",
            ["class:x"] = "none of random", [""] = "none of random", ["random:"] = "none of random",
            ["random:x"] = "none of random",
            ["random:99999999999999999999"] = "none of random",
        } do
            local none, message = data.targets(rule, 10, 0)
            assert.is_nil(none, rule)
            assert.truthy(message:find(wanted, 1, true), message)
        end
    end)

    it("cannot be had where there is one class", function()
        for _, rule in ipairs {"random", "least-likely", "second", "offset:1", "class:0", "class:1"} do
            local none, message = data.targets(rule, 1, 0)
            assert.is_nil(none, rule)
            assert.equal(("'%s': a net of 1 class has no other class to target"):format(rule), message)
        end
        assert.equal(1, data.targets("random", 2, 0)("a", 0))
        assert.equal(0, data.targets("random", 2, 0)("a", 1))
    end)
end)

describe("an IDX file of images", function()
    local base
    before_each(function() base = support.folder() end)
    after_each(function() support.remove(base) end)

    local function write(images, labels)
        support.write(base .. "/labels-idx1-ubyte", string.pack(">I4I4", 0x0801, #labels) .. labels)
        return support.write(base .. "/images-idx3-ubyte", string.pack(">I4I4I4I4", 0x0803,
            #images // 4, 2, 2) .. images)
    end
    local options = {classes = 3, input = {1, 2, 2}}

    it("is like a folder of its images, known by number", function()
        local f = data.folder(write("abcdefgh", "\2\0"), options)
        assert.are.equal(2, #f)
        assert.are.same({"00000", "00001"}, f.files)
        assert.are.equal(2, f:label(1))
        assert.are.equal(0, f:label(2))
        local x, numbers = f:batches(1, 2, 3)()
        assert.are.same({1, 2}, numbers)
        assert.near(("f"):byte() / 255, x:get(2, 1, 1, 2), 1e-7)
        assert.is_true(x[2]:equal(x[3]))
        assert.are_not.equal(f:labels_digest(1), f:labels_digest(2))
        local before = f:digest(1, 2)
        assert.are_not.equal(before, data.folder(write("abcdefgH", "\2\0"), options):digest(1, 2))
    end)

    it("is found under the names that people have, its labels packed or not", function()
        local function named(images, labels)
            os.execute("rm -rf " .. base .. "/*")
            local above = base .. "/images-idx3"
            lfs.mkdir(above)
            write("abcdefgh", "\2\0")
            for from, to in pairs {["images-idx3-ubyte"] = images, ["labels-idx1-ubyte"] = labels} do
                local plain = above .. "/" .. to:gsub("%.gz$", "")
                os.rename(base .. "/" .. from, plain)
                if to:find("%.gz$") then os.execute("gzip " .. plain) end
            end
            local f = data.folder(above .. "/" .. images, options)
            assert.equal(labels, f.told_by)
            assert.equal(2, f:label(1))
        end
        named("images-idx3-ubyte", "labels-idx1-ubyte")
        named("t10k-images.idx3-ubyte", "t10k-labels.idx1-ubyte")
        named("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte")
        named("t10k-images.idx3-ubyte", "t10k-labels.idx1-ubyte.gz")
        named("emnist-images-idx3-ubyte", "emnist-labels.idx1-ubyte")
        local ok, problem = pcall(data.folder, base .. "/images-idx3", options)
        assert.is_false(ok)
        assert.matches("holds no image files; give the IDX file itself, .*/emnist%-images%-idx3%-ubyte",
            problem.message)
    end)

    it("is refused where it does not fit", function()
        local function refused(pattern, images, labels, input)
            local ok, problem = pcall(data.folder, write(images, labels),
                {classes = 3, input = input or {1, 2, 2}})
            assert.is_false(ok)
            assert.matches(pattern, tostring(problem))
        end
        refused("as many labels", "abcdefgh", "\0")
        refused("label 3 of image 1 is not a class", "abcdefgh", "\0\3")
        refused("grey and 2 x 2 .* the net takes 1 channels of 3 x 2", "abcd", "\0", {1, 2, 3})
        os.remove(base .. "/labels-idx1-ubyte")
        local ok, problem = pcall(data.folder, base .. "/images-idx3-ubyte", options)
        assert.is_false(ok)
        assert.matches("labels%-idx1%-ubyte: No such file", tostring(problem))
    end)
end)
