-- experiments/figures.lua: the figures of a finished run, drawn again.

local lfs = require "lfs"
local support = require "support"
local system = require "advrt.core.system"

local experiments = system.options.root .. "/experiments/"

describe("figures.lua", function()
    local base, run
    setup(function()
        base = support.folder()
        run = base .. "/it's a run"
        support.images(base .. "/images", 8)
        local status, _, err = support.advrt {experiments .. "equal_perturbation.lua", "--images",
            base .. "/images", "--iterations", "6", "--losses", "ce,logit", "--figure-size", "column",
                "--out", run}
        assert.equal(0, status, err)
    end)
    teardown(function() support.remove(base) end)

    local function again(dir, ...)
        return support.advrt {experiments .. "figures.lua", run, "--out", base .. "/" .. dir, ...}
    end

    local function width(path) return tonumber(support.read(path):match "/MediaBox %[ 0 0 ([%d.]+)") end

    it("draws what the run has drawn, for the same options", function()
        local before = support.contents(run)
        local status, out, err = again("same", "--figure-size", "column")
        assert.equal(0, status, err)
        local names = "{fig1,fig3a,fig3b,fig3c,fig5,figflipped}.{svg,png,pdf}"
        assert.equal(("Figures: %s/same/%s\n"):format(base, names), out)
        local drawn = support.list(base .. "/same")
        assert.equal(6 * 4 + 1, #drawn)
        for _, name in ipairs(drawn) do
            if name ~= "examples" then support.same_files(run, base .. "/same", {name}) end
        end
        assert.same(before, support.contents(run)) -- and leaves the run as it was
    end)

    it("draws another size, other bands, and no titles", function()
        local status, _, err = again("page", "--bands", "sd", "--no-titles")
        assert.equal(0, status, err)
        for _, name in ipairs {"fig1", "fig3a", "fig5", "figflipped"} do
            assert.near(496, width(("%s/page/%s.pdf"):format(base, name)), 1)
            assert.near(241, width(("%s/%s.pdf"):format(run, name)), 1)
        end
        local script = support.read(base .. "/page/fig3a.gp")
        assert.truthy(script:find("mean and one standard deviation", 1, true))
        assert.truthy(script:find("each step 0.02 in the L₂ norm", 1, true))
        assert.is_nil(script:find("'Softmax of the initial", 1, true))
    end)

    it("refuses in one line what it cannot draw, and leaves nothing", function()
        local plain = base .. "/plain"
        assert(lfs.mkdir(plain))
        local other = base .. "/other"
        assert.equal(0, (support.advrt {experiments .. "attacks.lua", "--images", base .. "/images",
            "--attacks",
            "fgs", "--no-figures", "--out", other}))
        local changed = base .. "/changed"
        assert.equal(0, (support.shell(("cp -r %s %s"):format(support.quote(run), support.quote(changed)))))
        support.write(changed .. "/run.json", (support.read(changed .. "/run.json"):gsub('"softmax"',
            '"hardmax"')))
        support.reseal(changed)
        for _, case in ipairs {
            {1, "run.json: No such file", plain}, {1,
                "holds a run of attacks; only that script draws its figures", other},
            {1, "names the figure 'hardmax'", changed}, {1, "run.json", "--out", base .. "/x", base
                .. "/nowhere"},
            {2, "--figure-size wants page or column, got '9cm'", run, "--figure-size", "9cm"},
            {2, "--bands wants quartiles or interval or sd", run, "--bands", "mean"},
            {2, "missing argument 'run'"}} do
            local words = {experiments .. "figures.lua", table.unpack(case, 3)}
            if #case > 2 and case[3] ~= "--out" then
                words[#words + 1], words[#words + 2] = "--out", base .. "/x"
            end
            local status, out, err = support.advrt(words)
            assert.equal(case[1], status, err)
            assert.equal("", out)
            assert.matches("^advrt: [^\n]+\n$", err)
            assert.truthy(err:find(case[2], 1, true), err)
            assert.is_false(support.exists(base .. "/x"), case[2])
        end
    end)
end)
