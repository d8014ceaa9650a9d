--- A run's folder and what is kept in it: claims that meet, and images that are lost on the way.
local fail = require "advrt.fail"
local folder = require "advrt.folder"
local json = require "dkjson"
local keep = require "advrt.keep"
local lfs = require "lfs"
local run_json = require "advrt.run_json"
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
    it("that are lost on the way leave no file", function()
        local base = support.folder()
        finally(function() support.remove(base) end)
        local x = tensor.uniform("x", {2, 1, 3, 3})
        local queue = {files = {"a", "b"}, labels = {0, 1}, targets = {1, 0}}
        local r = {adversarial = x, flip_iteration = tensor.from({-1, -1}, "i64"),
            series = {l2 = tensor.new {3, 2}}}
        for _, lost in ipairs {false, true} do
            local path = base .. (lost and "/lost" or "/whole")
            local out <close> = folder.claim(path)
            local kept = keep.new(out, {"ce"}, "last", {1, 3, 3})
            kept:add(queue, 2, "ce", r)
            kept.parts.ce.file:flush()
            if lost then support.write(path .. "/adversarial-1.part", "short") end
            local ok, problem = pcall(kept.save, kept, out)
            assert.equal(not lost, ok)
            assert.equal(not lost, support.exists(path .. "/adversarial.safetensors"))
            if lost then
                assert.matches("not all there", problem.message)
            else
                local back = assert(tensor.load(path .. "/adversarial.safetensors"))
                assert.is_true(x:equal(back.ce))
                assert.same({2, 2}, back["ce.iteration"]:totable())
            end
        end
    end)

    it("can be read back whatever bytes a file's name holds", function()
        local base = support.folder()
        finally(function() support.remove(base) end)
        local out <close> = folder.claim(base .. "/run")
        local kept = keep.new(out, {"ce"}, "last", {1, 3, 3})
        local x = tensor.uniform("x", {2, 1, 3, 3})
        kept:add({files = {"a\xff\xfeb.png", "\u{e9}.png"}, labels = {0, 1}, targets = {1, 0}}, 2, "ce",
            {adversarial = x, flip_iteration = tensor.from({-1, -1}, "i64"),
                series = {l2 = tensor.new {3, 2}}})
        kept:save(out)
        local path = out:file "adversarial.safetensors"
        assert.is_true(x:equal(assert(tensor.load(path)).ce))
        local header = json.decode((string.unpack("<s8", support.read(path))))
        assert.same({"a\\xff\\xfeb.png", "\u{e9}.png"},
            json.decode(header.__metadata__["files.ce"]))
    end)
end)

describe("run.json", function()
    it("is UTF-8 whatever bytes an option holds", function()
        local text = run_json.text {options = {"images"}, net = {name = "n"}, found = 0, began = 0,
            o = {images = "dir\xff", losses = {"ce"}}, seconds = {ce = 1}}
        assert.truthy(utf8.len(text))
        assert.equal("dir\\xff", json.decode(text).options.images)
    end)
end)
