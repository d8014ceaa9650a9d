--- A run's folder: claims that meet, and places where there can be none.
local fail = require "advrt.fail"
local folder = require "advrt.folder"
local lfs = require "lfs"
local support = require "support"

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

    it("is not made below a file, and says so", function()
        support.write(base .. "/file", "")
        local ok, problem = pcall(folder.claim, base .. "/file/run")
        assert.is_false(ok)
        assert.is_true(fail.is(problem))
        assert.matches("cannot make the folder .*/file: ", problem.message)
    end)
end)
