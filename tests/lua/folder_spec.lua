--- A run's folder and what is kept in it: claims that meet, and images that are lost on the way.
local fail = require "advrt.support.fail"
local folder = require "advrt.run.folder"
local json = require "dkjson"
local keep = require "advrt.run.keep"
local lfs = require "lfs"
local record = require "advrt.core.record"
local run_json = require "advrt.run.run_json"
local support = require "support"
local tensor = require "advrt.tensor"

describe("a run's folder", function()
    local base
    before_each(function() base = support.folder() end)
    after_each(function() support.remove(base) end)

    it("may be made by another run at the same moment", function()
        local mkdir = lfs.mkdir
        finally(function() lfs.mkdir = mkdir end)
        lfs.mkdir = function(path)
            mkdir(path)
            return mkdir(path)
        end
        local out = folder.claim(base .. "/runs/one")
        assert.same({"one"}, support.list(base .. "/runs"))
        out:folder("examples")
        assert.same({"examples"}, support.list(out.path))
    end)

    it("that cannot be listed is refused in one line", function()
        local dir = lfs.dir
        finally(function() lfs.dir = dir end)
        lfs.dir = function(path) error(("cannot open %s: Permission denied"):format(path)) end
        local ok, problem = pcall(folder.claim, base)
        assert.is_false(ok)
        assert.is_true(fail.is(problem))
        assert.equal(2, problem.status)
        assert.matches("cannot be listed: .*Permission denied$", problem.message)
    end)

    it("is not made below a file, and says so", function()
        support.write(base .. "/file", "")
        local ok, problem = pcall(folder.claim, base .. "/file/run")
        assert.is_false(ok)
        assert.is_true(fail.is(problem))
        assert.matches("cannot make the folder .*/file: ", problem.message)
    end)
end)

describe("kept images", function()
    -- Records of images that never flipped in two steps.
    local function write_records(out, files)
        local records = {}
        for i, file in ipairs(files) do
            records[i] = record.pack {{"file", file}, {"loss", "ce"}, {"label", 0}, {"target", 1},
                {"flip_iteration", -1}, {"l2", tensor.new({3}, "f64")}}
        end
        support.write(out:file("records.msgpack"), table.concat(records))
    end

    -- The first n of x's images, an iterator for keep.save.
    local function one_by_one(x, n)
        return function()
            local i = 0
            return function()
                i = i + 1
                return i <= n and x[i]:bytes() or nil
            end
        end
    end

    it("that are lost on the way leave no file", function()
        local base = support.folder()
        finally(function() support.remove(base) end)
        local x = tensor.uniform("x", {2, 1, 3, 3})
        for _, lost in ipairs {false, true} do
            local path = base .. (lost and "/lost" or "/whole")
            local out = folder.claim(path)
            write_records(out, {"a", "b"})
            local ok, problem = pcall(function()
                local guard <close> = out
                keep.save(guard, {"ce"}, "last", {1, 3, 3}, one_by_one(x, lost and 1 or 2))
            end)
            assert.equal(not lost, ok, problem)
            assert.equal(not lost, support.exists(path .. "/adversarial.safetensors"))
            assert.is_false(support.exists(path .. "/adversarial.safetensors.part"))
            if lost then
                assert.matches("are missing from the journal", problem.message)
            else
                local back = assert(tensor.load(path .. "/adversarial.safetensors"))
                assert.is_true(x:equal(back.ce))
                assert.same({2, 2}, back["ce.iteration"]:totable())
                local read = {}
                local pixels, shape = keep.pixels(path, "ce")
                for bytes in pixels do read[#read + 1] = bytes end
                assert.same({2, 1, 3, 3}, shape)
                assert.equal(x[1]:bytes() .. x[2]:bytes(), table.concat(read))
            end
        end
    end)

    it("can be read back whatever bytes a file's name holds", function()
        local base = support.folder()
        finally(function() support.remove(base) end)
        local out <close> = folder.claim(base .. "/run")
        local x = tensor.uniform("x", {2, 1, 3, 3})
        write_records(out, {"a\xff\xfeb.png", "\u{e9}.png"})
        keep.save(out, {"ce"}, "last", {1, 3, 3}, one_by_one(x, 2))
        local path = out:file "adversarial.safetensors"
        assert.is_true(x:equal(assert(tensor.load(path)).ce))
        local header = json.decode((string.unpack("<s8", support.read(path))))
        assert.same({"a\\xff\\xfeb.png", "\u{e9}.png"},
            json.decode(header.__metadata__["files.ce"]))
    end)
end)

describe("run.json", function()
    it("is UTF-8 whatever bytes an option holds", function()
        local about = run_json.start {options = {"images", "losses"}, net = {name = "n"},
            figures = {{"fig1", "fig1"}}, o = {images = "dir\xff", losses = {"ce"}}}
        run_json.finish(about, {found = 0, wrong = 0, left_out = 0, attacked = 0}, {ce = 1})
        local text = run_json.encode(about)
        assert.truthy(utf8.len(text))
        assert.equal("dir\\xff", json.decode(text).options.images)
    end)
end)
