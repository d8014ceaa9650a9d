-- Files of arrays as sources of labelled images: NumPy's, safetensors, and CIFAR's batches.

local cifar = require("advrt.core.image").cifar
local data = require "advrt.data"
local lfs = require "lfs"
local malformed = require "malformed_arrays"
local support = require "support"
local tensor = require "advrt.tensor"
local weights = require "advrt.core.weights"
local zip = require("malformed").zip

local dir
local function path_of(name) return dir .. "/" .. name end
local function put(name, bytes) return support.write(path_of(name), bytes) end

describe("malformed files of arrays", function()
    before_each(function() dir = support.folder() end)
    after_each(function() support.remove(dir) end)

    local readers = {
        npy = function(path) return weights.arrays(path, "x", "y") end,
        npz = function(path) return weights.arrays(path, "x", "y") end,
        cifar = cifar,
    }

    for format, files in pairs(malformed) do
        it(("of %s are refused, each with its message"):format(format), function()
            local read, seen = readers[format], {}
            assert.is_truthy(read(put("f", files.good)))
            for i, bytes in ipairs(files.more) do
                local got, message = read(put("f", bytes))
                assert.is_truthy(got, ("%s more %d: %s"):format(format, i, message))
            end
            for i, file in ipairs(files) do
                local got, message = read(put("f", file[1]))
                assert.is_nil(got, ("%s %d was read, wanted: %s"):format(format, i, file[2]))
                assert.equal(path_of("f") .. ": " .. file[2], message, ("%s %d"):format(format, i))
                assert.is_nil(seen[file[1]], ("%s %d is there twice"):format(format, i))
                seen[file[1]] = true
            end
        end)
    end

    it("are cut off at each byte without harm", function()
        for _, format in ipairs {"npy", "npz"} do
            local whole = malformed[format].good
            for n = 0, #whole - 1 do
                local got = readers[format](put("f", whole:sub(1, n)))
                assert.is_nil(got, ("%s, %d bytes"):format(format, n))
            end
        end
    end)

    it("that are no regular file are named", function()
        local none, message = weights.arrays(path_of("none.npz"), "x")
        assert.is_nil(none)
        assert.matches("none.npz: No such file or directory", message, 1, true)
        assert.is_nil((weights.arrays(dir, "x")))
    end)
end)

describe("NumPy's values", function()
    before_each(function() dir = support.folder() end)
    after_each(function() support.remove(dir) end)

    local function read(descr, fortran, shape, values)
        local header = ("{'descr': '%s', 'fortran_order': %s, 'shape': %s, }\n"):format(descr,
            fortran and "True" or "False", shape)
        local found, message = weights.arrays(put("a.npy", "\x93NUMPY\1\0" .. string.pack("<s2", header)
            .. values), "x")
        assert.is_truthy(found, message)
        return found.x
    end

    it("come in every type and both byte orders", function()
        local packs = {f4 = "f", f8 = "d", i1 = "i1", i2 = "i2", i4 = "i4", i8 = "i8", u1 = "I1", u2 = "I2",
            u4 = "I4", u8 = "I8"}
        local types = {f4 = "f32", f8 = "f64", i1 = "i8", i2 = "i16", i4 = "i32", i8 = "i64", u1 = "u8",
            u2 = "i32", u4 = "i64", u8 = "i64"}
        for descr, form in pairs(packs) do
            for _, order in ipairs {"<", ">"} do
                local values = string.pack(order .. form:rep(4), 1, 2, 100, 7)
                local x = read(order .. descr, false, "(2, 2)", values)
                assert.equal(types[descr], x:dtype())
                assert.same({{1, 2}, {100, 7}}, x:totable(), order .. descr)
            end
        end
        assert.same({65535, 0}, read("<u2", false, "(2,)", "\xff\xff\0\0"):totable())
        assert.same({4294967295}, read(">u4", false, "(1,)", "\xff\xff\xff\xff"):totable())
        assert.same({0.5, -2}, read(">f2", false, "(2,)", "\x38\0\xc0\0"):to("f32"):totable())
        assert.same({true, false}, {read("|b1", false, "(2,)", "\7\0"):to("u8"):get(1) == 1,
            read("|b1", false, "(2,)", "\7\0"):to("u8"):get(2) == 1})
    end)

    it("come in Fortran's order of any number of dimensions", function()
        assert.same({{1, 2, 3}, {4, 5, 6}}, read("|u1", true, "(2, 3)", "\1\4\2\5\3\6"):totable())
        assert.same({1, 2, 3}, read("|u1", true, "(3,)", "\1\2\3"):totable())
        local x = read(">i2", true, "(2, 1, 3)", string.pack(">i2i2i2i2i2i2", 1, 4, 2, 5, 3, 6))
        assert.same({{{1, 2, 3}}, {{4, 5, 6}}}, x:totable())
    end)

    it("cross the pieces in which a file is read", function()
        local n, list = 100003, {}
        for i = 1, n do list[i] = string.pack(">I2", i % 65521) end
        local x = read(">u2", false, ("(%d,)"):format(n), table.concat(list))
        for _, i in ipairs {1, 65535, 65536, 65537, 65538, n} do assert.equal(i % 65521, x:get(i)) end
    end)
end)

describe("a file of arrays as a source of images", function()
    before_each(function() dir = support.folder() end)
    after_each(function() support.remove(dir) end)

    local function npy(descr, shape, values)
        local header = ("{'descr': '%s', 'fortran_order': False, 'shape': (%s,), }"):format(descr,
            table.concat(shape, ","))
        return "\x93NUMPY\1\0" .. string.pack("<s2", header) .. values
    end
    local function floats(...) return string.pack("<" .. ("f"):rep(select("#", ...)), ...) end
    local function bytes(...) return string.char(...) end
    local function npz(x, y) return zip({"x.npy", x}, {"y.npy", y}) end
    local TWO = npy("|u1", {2}, "\2\0")

    local function refused(name, wanted, options)
        local ok, problem = pcall(data.folder, path_of(name), options or {classes = 3})
        assert.is_false(ok)
        assert.equal("table", type(problem), tostring(problem))
        assert.equal(path_of(name) .. ": " .. wanted, problem.message)
        assert.equal(1, problem.status)
    end

    it("knows images by number, in names that sort", function()
        put("a.npz", npz(npy("<f4", {2, 3}, floats(0, 0.5, 1, 0.25, 0.125, 0)), TWO))
        local f = data.folder(path_of("a.npz"), {classes = 3, input = {3, 1, 1}})
        assert.equal(2, #f)
        assert.same({"00000", "00001"}, f.files)
        assert.same({2, 0}, {f:label(1), f:label(2)})
        assert.equal(("Images: 2 of the 2 in %s, of 2 classes (from its array y)"):format(
            path_of("a.npz")), f:about())
        local x, numbers = f:batches(1, 2, 3)()
        assert.same({1, 2}, numbers)
        assert.same({0.25, 0.125, 0}, x[2]:reshape {3}:totable())
        assert.is_true(x[2]:equal(x[3]))
        assert.is_nil(f:class_names())
        local before = f:digest(1, 2)
        put("a.npz", npz(npy("<f4", {2, 3}, floats(0, 0.5, 1, 0.25, 0.125, 1)), TWO))
        assert.are_not.equal(before, data.folder(path_of("a.npz"), {classes = 3}):digest(1, 2))

        local many = 100001
        put("many.npz", npz(npy("|u1", {many, 1}, ("\0"):rep(many)), npy("|u1", {many}, ("\0"):rep(many))))
        f = data.folder(path_of("many.npz"))
        assert.equal("000000", f.files[1])
        assert.equal("100000", f.files[many])
        local sorted = table.move(f.files, 1, many, 1, {})
        table.sort(sorted)
        assert.same(f.files, sorted)
    end)

    it("may hold [N,D], [N,H,W] and [N,C,H,W], of floats or bytes", function()
        local y = npy("<i8", {2, 1}, string.pack("<i8i8", 1, 0))
        for _, case in ipairs {{{2, 4}, {4, 1, 1}}, {{2, 2, 2}, {1, 2, 2}}, {{2, 4, 1, 1}, {4, 1, 1}},
            {{2, 1, 2, 2}, {1, 2, 2}}} do
            put("a.npz", npz(npy("|u1", case[1], bytes(0, 51, 102, 255, 1, 2, 3, 4)), y))
            local f = data.folder(path_of("a.npz"))
            assert.same(case[2], f.input)
            assert.same({0, 51, 102, 255}, f:load(1):mul(255):add(0.25):reshape {4}:to("i64"):totable())
        end
        put("a.npz", npz(npy("<f8", {2, 2}, string.pack("<dddd", 0, 0.1, 0.2, 1)), y))
        assert.near(0.1, data.folder(path_of("a.npz")):load(1):get(2, 1, 1), 1e-8)
    end)

    it("may be safetensors, or two .npy beside each other", function()
        assert(tensor.save(path_of("a.safetensors"), {x = tensor.from({{0.5, 1}, {0, 0.25}}),
            y = tensor.from({1, 0}, "i64"), other = tensor.from {7}}))
        assert.equal(0.25, data.folder(path_of("a.safetensors"), {classes = 2}):load(2):get(2, 1, 1))
        for x, y in pairs {["x.npy"] = "y.npy", ["X_test.npy"] = "y_test.npy", ["test-x.npy"] = "test-y.npy",
            ["train_images.npy"] = "train_labels.npy", ["data.npy"] = "labels.npy"} do
            put(x, npy("|u1", {2, 1}, "\0\xff"))
            put(y, TWO)
            local f = data.folder(path_of(x), {classes = 3})
            assert.equal(y, f.told_by)
            assert.equal(2, f:label(1))
        end
        os.remove(path_of("y.npy"))
        refused("x.npy", "has no labels, and no file of labels is beside it: " .. path_of("y.npy"))
        put("mine.npy", npy("|u1", {2, 1}, "\0\xff"))
        refused("mine.npy", "has no labels, and no file of labels is beside it: call the two x.npy and "
            .. "y.npy")
    end)

    it("is refused where it does not fit, in one line", function()
        local function case(wanted, x, y, options)
            put("a.npz", npz(x, y))
            refused("a.npz", wanted, options)
        end
        local x = npy("|u1", {2, 2}, "abcd")
        case("the images must be [N,D], [N,H,W] or [N,C,H,W], got [2]", TWO, TWO)
        case("the images must be [N,D], [N,H,W] or [N,C,H,W], got [2,1,1,1,1]",
            npy("|u1", {2, 1, 1, 1, 1}, "ab"), TWO)
        case("the images must be [N,D], [N,H,W] or [N,C,H,W], got [0,2]", npy("|u1", {0, 2}, ""),
            npy("|u1", {0}, ""))
        case("the images must be floats, or bytes (uint8), which are divided by 255, got i64",
            npy("<i8", {2, 1}, string.pack("<i8i8", 1, 0)), TWO)
        case("its array y must be one class for each of 2 images, got [3]", x, npy("|u1", {3}, "\0\0\0"))
        case("its array y must be one class for each of 2 images, got [2,3]", x,
            npy("|u1", {2, 3}, "\0\0\1\1\0\0"))
        case("its array y must be whole numbers, got f32", x, npy("<f4", {2}, floats(1, 0)))
        case("label 3 of image 1 is not a class of the net (0 .. 2)", x, npy("|u1", {2}, "\0\3"))
        case("label -1 of image 0 is not a class of the net (0 .. 2)", x, npy("|i1", {2}, "\xff\0"))
        case("the images are [2,2], the net takes [N,3]", x, TWO, {classes = 3, input = {3, 1, 1}})
        case("the images are [2,2], the net takes [N,1,2,2]", x, TWO, {classes = 3, input = {1, 2, 2}})
        case("the images are [2,2,1,3], the net takes [N,3,2,1]; numpy.transpose(x, (0, 3, 1, 2)) makes "
            .. "them so", npy("|u1", {2, 2, 1, 3}, "abcdefghijkl"), TWO, {classes = 3, input = {3, 2, 1}})
        put("notes.txt", "no arrays")
        local ok, problem = pcall(data.folder, path_of("notes.txt"))
        assert.is_false(ok)
        assert.matches("neither a folder nor a file NAME%-images%-idx3%-ubyte, nor arrays", problem.message)
        put("x.npz", "")
        ok, problem = pcall(data.folder, dir)
        assert.is_false(ok)
        assert.matches("holds no image files; give the array file itself, .*/%l.npz", problem.message)
    end)

    it("has its images chosen as a folder has", function()
        put("a.npz", npz(npy("|u1", {6, 1}, "abcdef"), npy("|u1", {6}, "\0\0\0\0\1\1")))
        local f = data.folder(path_of("a.npz"), {classes = 2})
        assert.equal(4, f:choose {sample = 4, seed = 1})
        local counts = {[0] = 0, 0}
        for i = 1, 4 do
            counts[f:label(i)] = counts[f:label(i)] + 1
            local number = math.tointeger(tonumber(f.files[i]))
            assert.near((("abcdef"):byte(number + 1)) / 255, f:load(i):get(1, 1, 1), 1e-6)
        end
        assert.same({[0] = 2, 2}, counts)
    end)
end)

describe("CIFAR's batches", function()
    before_each(function() dir = support.folder() end)
    after_each(function() support.remove(dir) end)

    local function record(label, level) return label .. string.char(level):rep(3072) end

    it("are a source alone, or a folder of them", function()
        put("data_batch_10.bin", record("\9", 40))
        put("data_batch_2.bin", record("\1", 20) .. record("\2", 30))
        put("test_batch.bin", record("\3", 50))
        put("batches.meta.txt", "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n\n")
        put("readme.html", "")
        local f = data.folder(dir, {classes = 10, input = {3, 32, 32}})
        assert.same({"data_batch_2/00000", "data_batch_2/00001", "data_batch_10/00000"}, f.files)
        assert.same({1, 2, 9}, {f:label(1), f:label(2), f:label(3)})
        assert.near(40 / 255, f:load(3):get(2, 5, 32), 1e-7)
        assert.equal("a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n", f:class_names())
        assert.matches("from the records of CIFAR%-10", f:about())
        local one = data.folder(path_of("test_batch.bin"))
        assert.same({"00000"}, one.files)
        assert.equal(3, one:label(1))
        local before = f:digest(1, 3)
        put("data_batch_10.bin", record("\9", 41))
        assert.are_not.equal(before, data.folder(dir):digest(1, 3))
    end)

    it("of CIFAR-100 have their fine labels", function()
        put("test.bin", record("\19\99", 7) .. record("\0\5", 8))
        local f = data.folder(dir, {classes = 100})
        assert.same({99, 5}, {f:label(1), f:label(2)})
        put("data_batch_1.bin", record("\1", 20))
        put("train.bin", record("\1\1", 20))
        local ok, problem = pcall(data.folder, dir)
        assert.is_false(ok)
        assert.matches("data_batch_1.bin: is of CIFAR%-10, and .*/train.bin of CIFAR%-100", problem.message)
    end)

    it("do not hide a folder of image files", function()
        put("data_batch_1.bin", record("\1", 20))
        lfs.mkdir(path_of("0"))
        assert(require("advrt.core.image").save(path_of("0/a.png"), tensor.new {1, 2, 2}))
        assert.same({"0/a.png"}, data.folder(dir, {classes = 1}).files)
    end)
end)
