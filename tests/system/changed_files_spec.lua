-- The files that a run depends on and those that it leaves, changed by somebody or by a disk: what a loss or
-- a net loads, and the folders of finished runs. Nothing goes on with others without a word.

local support = require "support"
local system = require "advrt.core.system"

local experiments = system.options.root .. "/experiments/"
local base, images

setup(function()
    base = support.folder()
    images = support.images(base .. "/images", 8)
end)
teardown(function() support.remove(base) end)

local function joined(...)
    local list = {}
    for _, part in ipairs {...} do table.move(part, 1, #part, #list + 1, list) end
    return list
end

-- Status and standard error; fails for what is no end in one line after a short time.
local function goes_on(list, told)
    local status, out, err = support.advrt(list, "timeout 60")
    told = ("%s: %d: %s%s"):format(told, status, out:sub(1, 200), err:sub(1, 600))
    assert.is_true(status == 0 or status == 1 or status == 2, told)
    assert.is_nil(err:find("traceback", 1, true), told)
    assert.is_nil(err:find(".lua:%d"), told)
    if status ~= 0 then assert.matches("advrt: [^\n]+\n$", err, 1, false) end
    return status, err
end

describe("a file that a run loads besides those that its options name", function()
    local helper, losses, definition

    local function words(out, more)
        return joined({"--threads", "1", experiments .. "equal_perturbation.lua", "--images", images,
            "--iterations", "6", "--batch", "4", "--no-figures", "--out", out}, more)
    end

    local function stopped_and_changed(name, more, path, text)
        local dir, before = base .. "/" .. name, support.read(path)
        local status, _, err = support.advrt(words(dir, more), support.stop {at = "commit", count = 1,
            signal = "KILL"})
        assert.equal(137, status, err)
        support.write(path, text)
        local changed, _, told = support.advrt(words(dir, joined(more, {"--resume"})))
        support.write(path, before)
        assert.equal(1, changed, name .. told)
        assert.matches("^advrt: [^\n]+\n$", told)
        assert.truthy(told:find(path, 1, true), told)
        local more_out
        status, _, more_out = support.advrt(words(dir, joined(more, {"--resume"})))
        assert.equal(0, status, name .. more_out)
        return dir
    end

    setup(function()
        helper, losses, definition = base .. "/k.lua", base .. "/l.lua", base .. "/n.lua"
    end)

    it("by dofile, loadfile, require or io.open in a file of losses is looked at", function()
        for way, code in pairs {dofile = "dofile(%q)", loadfile = "assert(loadfile(%q))()",
            require = "(function(path) package.path = path:gsub('k.lua', '?.lua') .. ';' .. package.path "
                .. "return require 'k' end)(%q)",
            open = "tonumber(io.open(%q):read('a'):match '%%d+')"} do
            support.write(helper, "return 2\n")
            support.write(losses, ("local k = " .. code .. [[

                loss.define("mine", function(z, t)
                    return (z:gather(2, t) - z:others(2, t):maximum(2)) * k
                end)]]):format(helper))
            stopped_and_changed(way, {"--require", losses, "--losses", "mine,ce"}, helper, "return 3\n")
        end
    end)

    it("while the loss is computed is looked at, too", function()
        support.write(helper, "return 2\n")
        support.write(losses, ([[
            loss.define("late", function(z, t)
                return (z:gather(2, t) - z:others(2, t):maximum(2)) * dofile(%q)
            end)]]):format(helper))
        stopped_and_changed("late", {"--require", losses, "--losses", "late,ce"}, helper, "return 3\n")
    end)

    it("by a net's definition is looked at", function()
        support.write(helper, "return 2\n")
        support.write(definition, ("assert(dofile(%q) == 2 or true)\n"):format(helper)
            .. support.read(system.options.root .. "/nets/fashion.lua"))
        local dir = stopped_and_changed("net", {"--net", definition, "--weights", system.options.root
            .. "/nets/fashion.safetensors"}, helper, "return 3\n")
        assert.truthy(support.read(dir .. "/run.json"):find(helper, 1, true))
    end)

    it("is the same for shards that are joined, and for runs in one Table I", function()
        support.write(losses, ([[
            local k = dofile(%q)
            loss.define("mine", function(z, t)
                return (z:gather(2, t) - z:others(2, t):maximum(2)) * k
            end)]]):format(helper))
        local dirs, more = {}, {"--require", losses, "--losses", "mine,ce"}
        for i = 1, 2 do
            support.write(helper, ("return %d\n"):format(i))
            dirs[i] = ("%s/shard%d"):format(base, i)
            local status, _, err = support.advrt(words(dirs[i], joined(more, {"--shard", i .. "/2"})))
            assert.equal(0, status, err)
        end
        local status, _, err = support.advrt {experiments .. "merge.lua", dirs[1], dirs[2], "--out",
            base .. "/merged"}
        assert.equal(1, status)
        assert.matches("is not a shard of the same run as [^\n]*k.lua has changed", err)
        local other = joined({experiments .. "equal_multiplier.lua", "--images", images, "--iterations", "6",
            "--no-figures", "--shard", "1/2", "--out", base .. "/multiplier"}, more)
        status, _, err = support.advrt(other)
        assert.equal(0, status, err)
        status, _, err = support.advrt {experiments .. "table1.lua", dirs[1], base .. "/multiplier"}
        assert.equal(1, status)
        assert.matches("^advrt: [^\n]*k.lua has changed; run both with the same files\n$", err)
    end)
end)

describe("a finished run", function()
    local run

    setup(function()
        run = base .. "/finished"
        local status, _, err = support.advrt {"--threads", "1", experiments .. "equal_perturbation.lua",
            "--images", images, "--iterations", "6", "--losses", "ce,logit", "--save-adversarial", "last",
            "--shard", "1/1", "--out", run}
        assert.equal(0, status, err)
    end)

    local function copy()
        local dir = base .. "/copy"
        support.remove(dir)
        assert(os.execute(("cp -r %s %s"):format(support.quote(run), support.quote(dir))))
        return dir
    end

    local function flip(path, at)
        local text = support.read(path)
        support.write(path, text:sub(1, at - 1) .. string.char(text:byte(at) ~ 1) .. text:sub(at + 1))
    end

    local readers = {
        merge = function(dir)
            return {experiments .. "merge.lua", dir, "--no-figures", "--out", base .. "/x"}
        end,
        compare = function(dir) return {experiments .. "compare.lua", dir, run, "--out", base .. "/x"} end,
        table1 = function(dir) return {experiments .. "table1.lua", dir, run} end,
        resume = function(dir)
            return {"--threads", "1", experiments .. "equal_perturbation.lua", "--images", images,
                "--iterations", "6", "--losses", "ce,logit", "--save-adversarial", "last", "--resume",
                "--out", dir}
        end,
    }

    it("is not read where a bit of a file flipped", function()
        for name, by in pairs {["records.msgpack"] = "merge compare resume",
            ["run.json"] = "merge compare table1",
            ["adversarial.safetensors"] = "merge resume", ["table1.csv"] = "table1 compare merge",
            ["left_out.csv"] = "merge", ["least_perturbation.csv"] = "table1", ["curves.csv"] = "compare",
            ["classes.txt"] = "compare", ["examples/01-original.png"] = "compare merge"} do
            local dir = copy()
            flip(dir .. "/" .. name, support.read(dir .. "/" .. name):len() // 2)
            for reader in by:gmatch("%S+") do
                local status, err = goes_on(readers[reader](dir), name .. " " .. reader)
                assert.equal(1, status, name .. " " .. reader .. err)
                assert.truthy(err:find(name, 1, true), err)
                assert.is_false(support.exists(base .. "/x"))
            end
        end
    end)

    it("is shown with a figure that was changed, and says so", function()
        local dir = copy()
        local path = dir .. "/fig1.svg"
        support.write(path, (support.read(path):gsub("</svg>", "<!--" .. ("<!--"):rep(20000) .. "</svg>")))
        local status, err = goes_on(readers.compare(dir), "fig1.svg")
        assert.equal(0, status, err)
        local _, count = support.read(base .. "/x/report.html"):gsub("was changed after the run", "")
        support.remove(base .. "/x")
        assert.equal(1, count)
    end)

    it("leads to no error further on, whatever its run.json holds", function()
        local json = require "advrt.support.json"
        local dir = copy()
        local text = support.read(dir .. "/run.json")
        local about = json.decode(text)
        about.sha256 = nil
        local script = support.write(base .. "/readers.lua", [[
            local fail = require "advrt.support.fail"
            local run_json, report = require "advrt.run.run_json", require "advrt.results.report"
            local shards, json = require "advrt.run.shards", require "advrt.support.json"
            local system = require "advrt.core.system"
            local dir = arg[1]
            local file = io.open(dir .. "/run.json")
            local about = json.decode(file:read "a")
            file:close()
            about.sha256 = nil
            local values = {"<script>alert(1)</script>", -1, 1e300, {}, {{}}, json.null,
                ("a"):rep(100000)}
            local count, made = 0, 0
            local function try(told)
                local body = json.encode(about, {indent = true}):gsub("\n}$", "")
                local out <close> = io.open(dir .. "/run.json", "wb")
                out:write(('%s,\n  "sha256":"%s"\n}\n'):format(body, system.digest(body)))
                out:close()
                for _, f in ipairs {function() return report.page {dir} end,
                    function() return shards.sum(shards.read {dir}) end} do
                    local from = os.clock()
                    local ok, problem = pcall(f)
                    count = count + 1
                    if not ok and not fail.is(problem) or os.clock() - from > 5 then
                        io.stderr:write(told, ": ", tostring(problem), "\n")
                        os.exit(3)
                    end
                    if ok and type(problem) == "string" then
                        made = made + 1
                        if problem:find("<script>alert", 1, true) then
                            io.stderr:write(told, ": the page has a script\n")
                            os.exit(3)
                        end
                    end
                end
            end
            for _, of in ipairs {about, about.options} do
                local keys = {}
                for key in pairs(of) do keys[#keys + 1] = key end
                table.sort(keys)
                for _, key in ipairs(keys) do
                    local before = of[key]
                    for i = 0, of == about and #values or 1 do
                        of[key] = values[i]
                        try(("%s = %s"):format(key, tostring(values[i]):sub(1, 20)))
                    end
                    of[key] = before
                end
            end
            print(count, made)
        ]])
        assert.truthy(about.files["records.msgpack"])
        local status, out, err = support.advrt({script, dir}, "timeout 200")
        assert.equal(0, status, err)
        assert.is_true(tonumber(out:match("^(%d+)")) > 300, out)
    end)

    it("does nothing in a page with its tables' text", function()
        for name, change in pairs {["table1.csv"] = {"\nequal_perturbation,ce,",
            "\n<script>alert(1)</script>,ce,"},
            ["left_out.csv"] = {"$", "<script>alert(1)</script>,1,1,wrong\n"},
            ["classes.txt"] = {"^[^\n]*", "<script>alert(1)</script>"},
            ["curves.csv"] = {"\nce", "\n<script>alert(1)</script>"}} do
            local dir = copy()
            local text = support.read(dir .. "/" .. name):gsub(change[1], change[2], 1)
            support.write(dir .. "/" .. name, text)
            support.reseal(dir)
            local status, err = goes_on(readers.compare(dir), name)
            assert.equal(0, status, err)
            assert.is_nil(support.read(base .. "/x/report.html"):find("<script>alert", 1, true), name)
            support.remove(base .. "/x")
        end
    end)
end)
