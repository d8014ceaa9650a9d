-- attacks.lua, robustness.lua and theorem.lua killed, interrupted, torn, in shards and as the work of two
-- processes: their finished files are those of a run of one process that nothing stopped.

local ranks = require "ranks"
local record = require "advrt.core.record"
local support = require "support"
local system = require "advrt.core.system"

local experiments = system.options.root .. "/experiments/"
local contents = support.contents

-- More images than wait together (attacks.lua), or than a batch (theorem.lua), and some that are wrong.
local cases = {
    attacks = {"--limit", "36", "--batch", "2", "--attacks", "fgs,ifgs:steps=3,pgd:norm=2:steps=3:restarts=2,"
        .. "lbfgs:searches=1:iterations=4,cw:iterations=8:rate=0.2:searches=1:c=10:starts=2",
        "--save-adversarial", "last"},
    robustness = {"--limit", "36", "--batch", "2", "--attacks", "apgd:steps=2,fab:steps=2:classes=2,"
        .. "square:queries=4", "--eps", "0,0.002,0.004", "--matrix", "none"},
    theorem = {"--limit", "10", "--batch", "3", "--iterations", "30", "--every", "7", "--losses",
        "ce,m_logit", "--margin-step", "8", "--magnitude", "0.2", "--targets", "class:2"},
}
local other = {
    attacks = {{"--untargeted"}, {"--untargeted false, not true"}},
    robustness = {{"--eps", "0,0.002"}, {"--eps"}},
    theorem = {{"--every", "8"}, {"--every 7, not 8"}},
}

for name, options in pairs(cases) do
    describe(name .. ".lua", function()
        local base, whole, duration

        local function words(dir, ...)
            local list = {experiments .. name .. ".lua", "--no-figures", "--out", dir}
            table.move(options, 1, #options, #list + 1, list)
            return table.move({...}, 1, select("#", ...), #list + 1, list)
        end

        local function run_well(list, environment)
            local status, out, err = support.advrt(list, environment)
            assert.equal(0, status, err)
            return out, err
        end

        local function finish(dir, ...)
            run_well(words(dir, "--resume", ...))
            assert.same(contents(whole), contents(dir))
        end

        -- Goes on, and ends it at a point that tests/stop.lua takes.
        local function stopped(dir, signal, point, ...)
            point.signal = signal
            local status, _, err = support.advrt(words(dir, "--resume", ...), support.stop(point))
            assert.equal(signal == "INT" and 130 or 137, status, err)
            return err
        end

        setup(function()
            base = support.folder()
            whole = base .. "/whole"
            local began = system.clock()
            run_well(words(whole))
            duration = system.clock() - began
            assert.is_true(#support.rows(whole .. "/left_out.csv") > 0)
        end)
        teardown(function() support.remove(base) end)

        it("after being killed at random instants is the run that was not", function()
            local dir = base .. "/killed"
            support.kill_at_random(words(dir, "--resume"), dir, whole, duration, 6)
            finish(dir)
        end)

        -- A run that stopped after some units, and its journal.
        local function unfinished(dir)
            stopped(dir, "KILL", {at = "commit", count = 5})
            return support.read(dir .. "/records.part")
        end

        it("foretells what is left, after it was gone on with, too", function()
            local dir, told = base .. "/foretold", base .. "/told"
            local hook = ([[
                local progress = require "advrt.run.progress"
                local start = progress.start
                function progress.start(unit, total)
                    local shown = start(unit, total)
                    if unit == "images read" then return shown end
                    function shown.update(self, done)
                        self.done = done
                        local file <close> = io.open(%q, "a")
                        file:write(("%%.17g %%.17g\n"):format(done, self.total))
                    end
                    return shown
                end]]):format(told)
            local function look(list)
                os.remove(told)
                table.insert(list, 1, "-e")
                table.insert(list, 2, hook)
                run_well(list)
                local steps = {}
                for done, total in support.read(told):gmatch("(%S+) (%S+)\n") do
                    steps[#steps + 1] = {tonumber(done), tonumber(total)}
                end
                return steps
            end
            unfinished(dir)
            for _, steps in ipairs {look(words(base .. "/fresh")), look(words(dir, "--resume"))} do
                local before, last = 0, steps[#steps]
                for _, step in ipairs(steps) do
                    assert.is_true(step[1] >= before and step[2] >= step[1])
                    before = step[1]
                end
                assert.near(last[1], last[2], 0.02 * last[1])
                -- Half-way each attack has been measured, or every step counts alike.
                for i = #steps // 2 + 1, #steps do
                    assert.near(last[2], steps[i][2], 0.25 * last[2])
                end
            end
        end)

        it("passes over a torn end, whatever stands there", function()
            local dir = base .. "/torn"
            local journal = unfinished(dir)
            for _, torn in ipairs {journal:sub(1, -2), journal .. "advp\1" .. ("\0"):rep(500),
                journal:sub(1, #journal * 3 // 4) .. "?" .. journal:sub(#journal * 3 // 4 + 2),
                journal:sub(1, 2)} do
                for _, file in ipairs(support.list(dir)) do os.remove(dir .. "/" .. file) end
                support.write(dir .. "/records.part", torn)
                support.write(dir .. "/.advrt-0123456789abcdef.tmp", "half a file")
                finish(dir)
            end
        end)

        it("says at Ctrl-C the command that goes on with it, which does not begin anew", function()
            local dir = base .. "/it's interrupted"
            local err = stopped(dir, "INT", {at = "commit", count = 3})
            local command = err:match("advrt: interrupted; finished work is kept; continue with: ([^\n]+)\n$")
            assert.truthy(command, err)
            local before = support.read(dir .. "/records.part")
            assert.is_nil(os.execute(("%s %s >/dev/null 2>&1"):format(
                support.stop {at = "commit", signal = "KILL"}, command)))
            local after = support.read(dir .. "/records.part")
            assert.equal(before, after:sub(1, #before))
            local function units(text) return select(2, text:gsub("seconds", "")) end
            assert.is_true(units(after) > units(before))
            assert.is_true(os.execute(command .. " >/dev/null 2>&1"))
            assert.same(contents(whole), contents(dir))
        end)

        it("stays as it is where it is finished, and is refused with other options", function()
            local before = contents(whole)
            assert.equal(("The run in %s is finished.\n"):format(whole), (run_well(words(whole, "--resume"))))
            assert.same(before, contents(whole))
            local more, wanted = table.unpack(other[name])
            local status, out, err = support.advrt(words(whole, "--resume", table.unpack(more)))
            assert.same({2, ""}, {status, out})
            assert.matches("^advrt: [^\n]+\n$", err)
            for _, text in ipairs(wanted) do assert.truthy(err:find(text, 1, true), err) end
            assert.equal(2, (support.advrt(words(whole))))
        end)

        local function same_but_for_run_json(dir)
            local wanted, got = contents(whole), contents(dir)
            wanted["run.json"], got["run.json"] = nil, nil
            assert.same(wanted, got)
        end

        it("may be merged from shards, one of them gone on with", function()
            local list = {experiments .. "merge.lua", "--no-figures", "--out", base .. "/merged"}
            for i = 1, 3 do
                local dir, shard = base .. "/shard" .. i, i .. "/3"
                if i == 2 then
                    stopped(dir, "KILL", {at = "commit", count = 3}, "--shard", shard)
                end
                run_well(words(dir, "--shard", shard, "--resume"))
                list[#list + 1] = dir
            end
            local out = run_well(list)
            assert.truthy(out:find("right on the clean image", 1, true))
            same_but_for_run_json(base .. "/merged")
        end)

        ranks.may(it, pending)("is the work of two processes, too", function()
            local dir = base .. "/two"
            local done, out, err = ranks.several(2, words(dir))
            assert.equal(0, done, err)
            assert.truthy(out:find(dir .. "/", 1, true))
            assert.truthy(err:find("(rank 0 of 2)", 1, true))
            same_but_for_run_json(dir)
            assert.is_false(support.exists(dir .. "/shards"))
            assert.equal(0, (ranks.several(2, words(dir, "--resume"))))
            -- One of the two dies, and both go on.
            local cut = base .. "/cut"
            local status = ranks.several(2, words(cut),
                support.stop {at = "commit", count = 3, rank = 1, signal = "KILL"})
            assert.equal(137, status)
            assert.equal(0, (ranks.several(2, words(cut, "--resume"))))
            same_but_for_run_json(cut)
        end)

        it("goes on with a sample, which is the same images again", function()
            local one, two = base .. "/sample", base .. "/sampled"
            run_well(words(one, "--sample", "7"))
            local list = words(two, "--sample", "7", "--resume")
            stopped(two, "KILL", {at = "commit", count = 3}, "--sample", "7")
            run_well(list)
            assert.same(contents(one), contents(two))
            local files = {}
            for r in record.each(two .. "/records.msgpack") do files[r.file] = true end
            for _, row in ipairs(support.rows(two .. "/left_out.csv")) do files[row.file] = true end
            local count = 0
            for _ in pairs(files) do count = count + 1 end
            assert.equal(7, count)
            local status, _, err = support.advrt(words(two, "--sample", "6", "--resume"))
            assert.equal(2, status)
            assert.truthy(err:find("--sample 7, not 6", 1, true), err)
        end)
    end)
end
