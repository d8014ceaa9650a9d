-- Tables and figures from records whose statistics are known.

local door = require "advrt.record"
local fail = require "advrt.support.fail"
local folder = require "advrt.run.folder"
local lfs = require "lfs"
local plot = require "advrt.plot"
local figures = require "advrt.results.figures"
local record = require "advrt.core.record"
local support = require "support"
local system = require "advrt.core.system"
local tables = require "advrt.results.tables"
local tensor = require "advrt.tensor"

local T = 2

-- A record whose series are all `base` + n, but the subspace.
local function fields_of(file, name, base, flip)
    local fields = {{"file", file}, {"label", 3}, {"target", 5}, {"loss", name},
        {"setting", "equal_multiplier"}, {"flip_iteration", flip},
        {"flip_l2", flip < 0 and 0 / 0 or base + flip}, {"flip_linf", flip < 0 and 0 / 0 or 0.5},
        {"survives_8bit", flip == 1}, {"zero_steps", 0}}
    for _, series in ipairs(tables.curves) do
        fields[#fields + 1] = {series, tensor.from({base + 0.0, base + 1.0, base + 2.0}, "f64")}
    end
    fields[#fields + 1] = {"subspace", tensor.from({1, base > 1 and 3 or 2, 3}, "u8")}
    return fields
end

local function one(...) return record.pack(fields_of(...)) end

describe("tables", function()
    local dir, path, summary
    before_each(function()
        dir = support.folder()
        path = dir .. "/records.msgpack"
        support.write(path, one("a,b.png", "ce", 1, 1) .. one("a,b.png", "logit", 2, 2)
            .. one("c.png", "ce", 4, 2) .. one("c.png", "logit", 2, -1)
            .. one("d.png", "ce", 4, 1) .. one("d.png", "logit", 5, 1))
        summary = tables.summarise(path, {"ce", "logit"}, T, 0)
    end)
    after_each(function() support.remove(dir) end)

    it("hold means and sample deviations over images", function()
        local ce = summary.losses[1]
        assert.equal(3, ce.images)
        assert.near(3, ce.curves.l2.mean[0], 1e-12)
        assert.near(5, ce.curves.l2.mean[2], 1e-12)
        assert.near(math.sqrt(3), ce.curves.l2.std[1], 1e-12)
        assert.same({0, 1, 2}, ce.subspaces[1])
        local lines = {}
        for line in tables.curves_csv(summary):gmatch("[^\n]+") do lines[#lines + 1] = line end
        assert.equal("loss,iteration,p_initial,p_target,z_initial,z_target,grad_l2,step_l2,l2,linf,"
            .. "zero_share,p_initial_std,p_target_std,z_initial_std,z_target_std,grad_l2_std,"
            .. "step_l2_std,l2_std,linf_std,zero_share_std", lines[1])
        assert.equal(1 + 2 * (T + 1), #lines)
        assert.equal("ce,0" .. (",3"):rep(9) .. (",1.73205081"):rep(9), lines[2])
    end)

    it("hold Table I's rows, the common ones over images that every loss flipped", function()
        local rows = tables.table1(summary, "equal_multiplier", {ce = 1.5, logit = 2})
        local ce, logit = rows[1], rows[2]
        assert.equal(3, ce.flipped)
        assert.near(4 / 3, ce.iterations_mean, 1e-12)
        assert.near(math.sqrt(1 / 3), ce.iterations_std, 1e-12)
        assert.equal(2, logit.flipped)
        assert.equal(2, ce.common_images)
        assert.equal(1, ce.common_mean)
        assert.same({1, 1}, {ce.common_low, ce.common_high})
        assert.equal(1.5, logit.common_mean)
        assert.same({1, 2}, {logit.common_low, logit.common_high})
        -- Of distances, too: ce's own three have a mean of 13/3, the common two of 3.5.
        assert.same({3.5, 0.5, 5, 0.5}, {ce.common_l2, ce.common_linf, logit.common_l2,
            logit.common_linf})
        assert.equal("setting,loss,images,flipped,iterations_mean,iterations_std,common_images,"
            .. "common_mean,common_low,common_high,seconds\n"
            .. "equal_multiplier,ce,3,3,1.33333333,0.577350269,2,1,1,1,1.5\n"
            .. "equal_multiplier,logit,3,2,1.5,0.707106781,2,1.5,1,2,2\n", tables.table1_csv(rows))
        support.write(dir .. "/table1.csv", tables.table1_csv(rows))
        local back = assert(tables.read_table1(dir .. "/table1.csv"))
        assert.equal(tables.table1_csv(rows), tables.table1_csv(back))
    end)

    it("print Table I in the paper's form", function()
        local text = tables.table1_text {tables.table1(summary, "equal_multiplier",
            {ce = 1.5, logit = 2})}
        assert.matches("Equal Multiplier\n", text)
        assert.matches("CE +1.3 ± 0.6 +3 of 3 +1.0 %[1.0, 1.0%] +3.5, 0.5 +1.50\n", text)
        assert.matches("Logit +1.5 ± 0.7 +2 of 3 +1.5 %[1.0, 2.0%] +5, 0.5 +2.00\n", text)
    end)

    it("name a loss without which twice as many images would be common", function()
        local written = {}
        for i = 1, 5 do
            for k, name in ipairs {"ce", "ce_sign", "logit"} do
                local flip = name == "logit" and i > 2 and -1 or name == "ce_sign" and i == 1 and -1 or 1
                written[#written + 1] = one(("%d.png"):format(i), name, k, flip)
            end
        end
        support.write(path, table.concat(written))
        local said = "Logit limits the common images to 1; the other losses have 4 in common."
        local all = tables.summarise(path, {"ce", "ce_sign", "logit"}, T, 0)
        local rows = tables.table1(all, "equal_perturbation", {ce = 1, ce_sign = 1, logit = 2})
        assert.same({said}, tables.limits(rows))
        assert.truthy(tables.table1_text({rows}):find("\nEqual Perturbation: " .. said .. "\n", 1, true))
        support.write(dir .. "/table1.csv", tables.table1_csv(rows))
        support.write(dir .. "/least.csv", tables.least_perturbation_csv(all))
        local back = assert(tables.read_table1(dir .. "/table1.csv"))
        assert(tables.add_distances(back, dir .. "/least.csv"))
        assert.same({said}, tables.limits(back))
        -- ce and logit have 2 of 3.
        local two = tables.table1(summary, "equal_perturbation", {ce = 1, logit = 1})
        assert.same({}, tables.limits(two))
    end)

    it("hold the least perturbations in the order of the records", function()
        assert.equal("loss,file,label,target,iteration,l2,linf,survives_8bit\n"
            .. 'ce,"a,b.png",3,5,1,2,0.5,1\nlogit,"a,b.png",3,5,2,4,0.5,0\nce,c.png,3,5,2,6,0.5,0\n'
            .. "logit,c.png,3,5,-1,nan,nan,0\nce,d.png,3,5,1,5,0.5,1\nlogit,d.png,3,5,1,6,0.5,1\n",
            tables.least_perturbation_csv(summary))
    end)

    it("say nan where there is nothing to average", function()
        support.write(path, one("c.png", "ce", 4, -1))
        local alone = tables.summarise(path, {"ce"}, T, 0)
        assert.equal("s,ce,1,0,nan,nan,0,nan,nan,nan,1\n",
            tables.table1_csv(tables.table1(alone, "s", {ce = 1})):match("\n(.*)"))
        assert.matches("\nce,0" .. (",4"):rep(9) .. (",nan"):rep(9) .. "\n", tables.curves_csv(alone))
        support.write(path, "")
        local none = tables.summarise(path, {"ce"}, T, 0)
        assert.equal("s,ce,0,0,nan,nan,0,nan,nan,nan,0\n",
            tables.table1_csv(tables.table1(none, "s", {ce = 0})):match("\n(.*)"))
    end)

    it("come from what advrt.record reads", function()
        local each = door.each
        finally(function() door.each = each end)
        door.each = function(file)
            local next_record, left = each(file), 2
            return function()
                left = left - 1
                return left >= 0 and next_record() or nil
            end
        end
        assert.equal(1, tables.summarise(path, {"ce", "logit"}, T, 0).losses[1].images)
    end)

    it("refuse records of another run", function()
        assert.error_matches(function() tables.summarise(path, {"ce"}, T, 0) end, "another run")
        assert.error_matches(function() tables.summarise(path, {"ce", "logit"}, 9, 0) end, "another run")
    end)

    it("refuse records whose fields or series are not a run's, in one line", function()
        local function refused(change, wanted)
            local fields = fields_of("x.png", "ce", 1, 1)
            change(fields)
            support.write(path, one("a.png", "ce", 1, 1) .. record.pack(fields))
            local ok, problem = pcall(tables.summarise, path, {"ce"}, T, 0)
            assert.is_false(ok)
            assert.is_true(fail.is(problem))
            assert.matches("records.msgpack: record 2 has " .. wanted, problem.message)
        end
        local function put(name, value)
            return function(fields)
                for i, field in ipairs(fields) do
                    if field[1] == name then
                        if value == nil then return table.remove(fields, i) end
                        field[2] = value
                    end
                end
            end
        end
        refused(put("l2"), "no series l2")
        refused(put("l2", 5), "no series l2")
        refused(put("zero_share", tensor.new {2}), "a series zero_share of 2 elements, not 3")
        refused(put("subspace", tensor.from({1, 4, 1}, "u8")), "a subspace 4")
        refused(put("label", 3.5), "no label of type integer")
        refused(put("flip_iteration"), "no flip_iteration")
        refused(put("flip_l2", "far"), "no flip_l2 of type number")
        refused(put("file", 5), "no file of type string")
        refused(put("loss"), "no loss")
    end)

    it("are not read back from counts that are none", function()
        local rows = tables.table1_csv(tables.table1(summary, "equal_multiplier", {ce = 1, logit = 2}))
        for from, to in pairs {["ce,3,3,"] = "ce,3.5,3,", ["ce,3,3,1"] = "ce,3,nan,1",
            ["ce,3,3"] = "ce,3,-3"} do
            local text, changed = rows:gsub(from, to)
            assert.equal(1, changed)
            support.write(dir .. "/table1.csv", text)
            local none, message = tables.read_table1(dir .. "/table1.csv")
            assert.is_nil(none)
            assert.matches("table1.csv: line 2: %a+: '[^']+' is no count", message)
        end
    end)

    it("draw the same interval for the same seed, around the mean", function()
        local text, flips = {}, {}
        for i = 1, 40 do
            flips[i] = i * 37 % 101
            text[i] = one(i .. ".png", "ce", i, flips[i])
        end
        support.write(path, table.concat(text))
        local function interval(seed)
            local row = tables.table1(tables.summarise(path, {"ce"}, T, seed), "s", {ce = 0})[1]
            return row.common_low, row.common_mean, row.common_high
        end
        local low, mean, high = interval(1)
        local std = select(2, tables.mean_std(flips)) / math.sqrt(40)
        assert.near(mean - 1.96 * std, low, 0.3 * std)
        assert.near(mean + 1.96 * std, high, 0.3 * std)
        assert.same({low, mean, high}, {interval(1)})
        assert.is_true(low ~= interval(2))
    end)

    it("fail in one line where gnuplot does, leaving no half picture", function()
        support.write(dir .. "/bad.gp", 'set output "bad.svg".suffix\nplot nonsense(\n')
        local ok, problem = pcall(plot.draw, dir, {"bad"})
        assert.is_false(ok)
        assert.matches("^gnuplot failed on bad.gp", problem.message)
        assert.same({"bad.gp", "records.msgpack"}, support.list(dir))
    end)

    it("take no picture that gnuplot has made a part of, as it does on a full disk", function()
        local half <close> = folder.claim(dir .. "/half")
        local spawn, place = system.spawn, half.path
        finally(function()
            system.spawn = spawn
            support.remove(place)
        end)
        half:write("fig1.gp", figures.fig1("fig1", summary))
        plot.draw(place, {"fig1"})
        local names = support.list(place)
        local whole = {}
        for _, kind in ipairs {"svg", "png", "pdf"} do whole[kind] = support.read(place .. "/fig1."
            .. kind) end
        for kind, bytes in pairs(whole) do
            support.write(place .. "/fig1." .. kind, "as it was")
            system.spawn = function()
                for k, text in pairs(whole) do support.write("fig1." .. k .. ".part", text) end
                support.write("fig1." .. kind .. ".part", bytes:sub(1, -9))
                return spawn {"true"}
            end
            local ok, problem = pcall(plot.draw, place, {"fig1"})
            assert.is_false(ok)
            assert.matches("fig1." .. kind .. ": gnuplot wrote only a part", problem.message)
            assert.same(names, support.list(place))
            assert.equal("as it was", support.read(place .. "/fig1." .. kind))
        end
    end)

    it("leave no half picture where gnuplot is interrupted", function()
        local spawn = system.spawn
        finally(function()
            system.spawn = spawn
            system.interrupted(true)
        end)
        system.spawn = function()
            return spawn {"sh", "-c",
                ": >a.svg.part; kill -INT $PPID; sleep 0.2; : >a.svg.part; : >a.png.part"}
        end
        local home = lfs.currentdir()
        local ok, problem = pcall(plot.draw, dir, {"a"})
        assert.is_false(ok)
        assert.equal(130, problem.status)
        assert.same({"records.msgpack"}, support.list(dir))
        assert.equal(home, lfs.currentdir())
    end)

    it("keep the quotes of others in", function()
        assert.equal("'a''b`c`?'", plot.quote("a'b`c`\n"))
    end)
end)

describe("the folder of a run", function()
    local dir
    before_each(function() dir = support.folder() end)
    after_each(function() support.remove(dir) end)

    it("is made with those above it, and taken back empty on an error", function()
        local path = dir .. "/a/b/c"
        local ok = pcall(function()
            local out <close> = folder.claim(path)
            support.write(out:scratch("records.part"), "x")
            error("no")
        end)
        assert.is_false(ok)
        assert.same({}, support.list(dir))
        do
            local out <close> = folder.claim(path)
            out:write("kept.txt", "x")
        end
        assert.same({"kept.txt"}, support.list(path))
    end)

    it("stays where something worth keeping is in it", function()
        pcall(function()
            local out <close> = folder.claim(dir .. "/a")
            support.write(out:scratch("records.part"), "x")
            out:keep("records.part")
            error("no")
        end)
        assert.same({"records.part"}, support.list(dir .. "/a"))
    end)

    it("is refused where it is not empty or no folder, status 2", function()
        support.write(dir .. "/file", "x")
        for path, wanted in pairs {[dir] = "not empty", [dir .. "/file"] = "a file of that name"} do
            local ok, problem = pcall(folder.claim, path)
            assert.is_false(ok)
            assert.equal(2, problem.status)
            assert.truthy(problem.message:find(wanted, 1, true), problem.message)
        end
    end)
end)

describe("the amplification of a perturbation", function()
    it("is 1, 2 or 5 times a power of ten, by its root mean square", function()
        local factor = require "advrt.results.examples".factor
        assert.equal(1, factor(0, 100))
        assert.equal(1, factor(5, 100)) -- rms 0.5
        assert.equal(10, factor(0.1, 100)) -- 0.5 / (4 rms) = 12.5
        assert.equal(20, factor(0.05, 100))
        assert.equal(50, factor(0.025, 100))
        assert.equal(1000, factor(0.001, 100))
    end)
end)
