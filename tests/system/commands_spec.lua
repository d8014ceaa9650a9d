-- The commands that README.md and docs/paper.md give: all are there, and those that take seconds are run.
-- (The pages of docs/ with shell blocks are followed step by step in install_spec.lua.)

local lfs = require "lfs"
local support = require "tests.support"
local system = require "advrt.core.system"

local sure = support.sure
local root = system.options.root
local folder

-- The commands of a page that are indented, their ends behind a backslash joined, comments cut off.
local function commands_of(page)
    local list, text = {}, support.read(root .. "/" .. page):gsub("\\\n%s*#?", "")
    for line in text:gmatch("\n    ([^\n]*)") do
        local command = line:gsub("%s+#.*$", "")
        if command:find("^mpirun ") or command:find("^build/advrt ") or command:find("^make ")
            or command:find("^[%u_]+=%S+ tests/run ") then
            list[#list + 1] = command
        end
    end
    return list
end

describe("a command of README or docs/paper.md", function()
    -- What of a command can be run here in seconds, on the bundled images; and where it differs.
    local cheap = {
        ["build/advrt experiments/attacks.lua"] = " --limit 2 --attacks fgs,pgd:norm=2:eps=0.5:restarts=3,"
            .. "lbfgs:iterations=5,cw:kappa=5:iterations=5",
        ["build/advrt experiments/theorem.lua"] = " --limit 2 --batch 2 --iterations 20 --margin-step 20",
        ["build/advrt experiments/simulation_2d.lua"] = " --n 100 --epochs 5",
        ["build/advrt experiments/equal_perturbation.lua --require"] = " --limit 2 --batch 2 --iterations 5",
        ["build/advrt experiments/equal_perturbation.lua --out"] = " --limit 2 --batch 2 --iterations 5",
        ["build/advrt experiments/equal_multiplier.lua --out"] = " --limit 2 --batch 2 --iterations 5",
        ["build/advrt experiments/table1.lua"] = "",
    }
    local text

    setup(function()
        folder = support.folder()
        assert(lfs.mkdir(folder .. "/build"))
        assert(lfs.link(system.options.executable, folder .. "/build/advrt", true))
        for _, name in ipairs {"experiments", "nets", "lua"} do
            assert(lfs.link(root .. "/" .. name, folder .. "/" .. name, true))
        end
        text = support.read(root .. "/README.md")
        support.write(folder .. "/margin.lua", (text:match("\n(    loss%.define.-\n    end%)\n)")
            :gsub("\n    ", "\n"):gsub("^    ", "")))
    end)
    teardown(function() support.remove(folder) end)

    it("is one that there is, with options that there are", function()
        local count = {make = 0, advrt = 0}
        for _, page in ipairs {"README.md", "docs/paper.md"} do
            for _, command in ipairs(commands_of(page)) do
                local words = command:match("build/advrt (.*)$")
                if words then
                    -- --help is obeyed when the options before it have been read.
                    sure(("cd %s && build/advrt %s --help"):format(support.quote(folder), words))
                    count.advrt = count.advrt + 1
                end
            end
        end
        for _, page in ipairs {"README.md", "docs/paper.md", "docs/own-images.md"} do
            for line in support.read(root .. "/" .. page):gmatch("[^\n]+") do
                for target in line:gmatch("%f[%w]make ([%w-]+)") do
                    local code = line:find("`make " .. target, 1, true) or line:find("^    make ")
                    if code and not target:find("^[%u_]+$") then
                        sure(("cd %s && grep -rqE '^([a-z0-9-]+ )*%s( |:)' --include=Makefile "
                            .. "--include='*.mk' Makefile runtime"):format(support.quote(root), target))
                        count.make = count.make + 1
                    end
                end
            end
        end
        assert.is_true(count.advrt > 15 and count.make > 15, count.advrt .. " " .. count.make)
    end)

    it("does what it says, where it is done in seconds", function()
        local left = {}
        for start in pairs(cheap) do left[start] = true end
        for _, page in ipairs {"README.md", "docs/paper.md"} do
            -- Where runs are joined, those of docs/paper.md; README's are of a large net.
            os.execute("rm -rf " .. support.quote(folder .. "/runs"))
            for _, command in ipairs(commands_of(page)) do
                for start, more in pairs(cheap) do
                    if command:sub(1, #start) == start and not command:find("imagenet", 1, true)
                        and (page == "docs/paper.md" or not start:find "table1") then
                        local plain = start:find("attacks.lua", 1, true) and start or command
                        sure(("cd %s && %s%s"):format(support.quote(folder), plain, more))
                        left[start] = nil
                    end
                end
            end
        end
        sure(("cd %s && build/advrt experiments/table1.lua runs/multiplier runs/perturbation"):format(
            support.quote(folder)))
        left["build/advrt experiments/table1.lua"] = nil
        assert.same({}, left)
    end)

    it("and each file that a page names in the tree is there", function()
        local count, tree = 0, {}
        for _, name in ipairs {"docs", "experiments", "lua", "nets", "packaging", "runtime", "tests",
            "third_party"} do
            tree[name] = true -- and no other folder, such as runs/, which a command has made
        end
        for _, page in ipairs {"README.md", "docs/paper.md", "docs/first-experiment.md", "docs/own-images.md",
            "docs/own-network.md", "docs/own-layer.md", "docs/own-loss.md", "docs/own-device.md",
            "docs/attacks.md", "docs/figures.md", "docs/statistics.md"} do
            for path in support.read(root .. "/" .. page):gmatch("[`( ]([%w_]+/[%w_/.-]+%.%l+)[`)]") do
                if tree[path:match("^[^/]+")] then
                    assert.truthy(support.exists(root .. "/" .. path), page .. " names " .. path)
                    count = count + 1
                end
            end
        end
        assert.is_true(count > 20, count .. " paths")
    end)
end)
