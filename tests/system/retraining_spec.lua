-- Sets of adversarial examples and the detectors trained on them, as a user runs them: on the bundled
-- net, a few of its images, and steps so large that a handful of them flips every image.

local adversarial = require "advrt.paper.adversarial"
local core = require "advrt.core.record"
local csv = require "advrt.support.csv"
local detect = require "advrt.paper.detect"
local lfs = require "lfs"
local net = require "advrt.net"
local record = require "advrt.record"
local support = require "support"
local system = require "advrt.core.system"
local tensor = require "advrt.tensor"

local same_files = support.same_files
local experiments = system.options.root .. "/experiments/"
local threads = {"--threads", "1"}
local attacks = {"--limit", "25", "--iterations", "20", "--magnitude", "0.2", "--batch", "8"}
local training = {"--detectors", "alexnet", "--values", "float32", "--epochs", "2",
    "--train-batch", "16", "--test-share", "0.4", "--validation-share", "0.2", "--no-figures"}

-- All the words of words and lists of words.
local function words(...)
    local all = {}
    for _, list in ipairs {...} do
        for _, word in ipairs(type(list) == "table" and list or {list}) do all[#all + 1] = word end
    end
    return all
end

local function run(...) return support.advrt(words(threads, ...)) end

local function run_well(...)
    local status, out, err = run(...)
    assert.equal(0, status, err)
    return out, err
end

local function fails(wanted_status, wanted, ...)
    local status, _, err = run(...)
    assert.equal(wanted_status, status, err)
    assert.matches(wanted, err)
    assert.matches("\n?advrt: [^\n]+\n$", err)
    assert.is_nil(err:find("stack traceback", 1, true))
end

-- Runs the program, which is killed with SIGKILL at a point that tests/stop.lua takes.
local function killed(point, ...)
    point.signal = "KILL"
    local status, _, err = support.advrt(words(threads, ...), support.stop(point))
    assert.equal(137, status, err)
end

local function copy(from, to) os.execute(("cp -r %s %s"):format(support.quote(from), support.quote(to))) end

describe("a set of adversarial examples", function()
    local base, set
    setup(function()
        base = support.folder()
        set = base .. "/set"
        run_well(experiments .. "make_adversarial.lua", attacks, "--extra", "75", "--out", set)
    end)
    teardown(function() support.remove(base) end)

    it("holds each loss's examples beside their genuine images", function()
        local s = adversarial.open {set}
        assert.are.same({1, 28, 28}, s.input)
        assert.equal(75, #s.of.extra.number)
        local number = {}
        for name, list in pairs(s.of) do
            number[name] = {}
            for k, file in ipairs(list.file) do number[name][file] = list.number[k] end
        end
        local images, seen = s:feed(false), 0
        local x, y = tensor.new {2, 1, 28, 28}, tensor.new({2}, "i64")
        for r in record.each(set .. "/records.msgpack") do
            if r.l2 then
                seen = seen + 1
                local pair = {number[r.loss][r.file], number.genuine[r.file]}
                images:start {order = tensor.from(pair, "i64"), batch = 2}
                assert.is_true(images:next(x, y))
                assert.are.same({1, 0}, y:totable())
                local l2, linf = x[1]:sub(x[2]):reshape({1, -1}):norms()
                assert.near(r.l2, l2:get(1), 1e-5)
                assert.near(r.linf, linf:get(1), 1e-6)
                assert.equal(20, r.iteration)
            end
        end
        assert.is_true(seen > 60)
        local g = assert(net.load "fashion")
        for _, name in ipairs(s.losses) do
            local list = s.of[name]
            x, y = tensor.new {1, 1, 28, 28}, tensor.new({1}, "i64")
            images:start {order = tensor.from(list.number, "i64"), batch = 1}
            for k = 1, #list.number do
                assert.is_true(images:next(x, y))
                assert.equal(list.target[k], g:forward(x):argmax():get(1))
                local survives = g:forward(x:quantize_(255)):argmax():get(1) == list.target[k]
                assert.equal(list.survives[k], survives and 1 or 0)
            end
        end
    end)

    it("is the same after kill -9 and --resume", function()
        local other = base .. "/killed"
        local command = words(experiments .. "make_adversarial.lua", attacks, "--extra", "75", "--out",
            other)
        killed({at = "commit", count = 7}, command)
        assert.is_true(support.exists(other .. "/shard-00002-2.safetensors"))
        assert.is_false(support.exists(other .. "/records.msgpack"))
        run_well(command, "--resume")
        same_files(set, other, {"records.msgpack", "left_out.csv", "shard-00002-2.safetensors",
            "shard-00003-0.safetensors", "extra-00001.safetensors"})
    end)

    it("refuses to go on with another source net", function()
        local other, weights = base .. "/other-net", base .. "/weights.safetensors"
        copy(system.options.root .. "/nets/fashion.safetensors", weights)
        local command = words(experiments .. "make_adversarial.lua", attacks, "--weights", weights,
            "--out", other)
        killed({at = "commit", count = 4}, command)
        local g = assert(net.load("fashion", {weights = weights}))
        g:state()["fc.bias"]:add_(1)
        assert(g:save(weights))
        fails(1, "weights.safetensors: the weights changed since", command, "--resume")
        fails(2, "%-%-extra 0, not 5", experiments .. "make_adversarial.lua", attacks, "--weights",
            weights, "--extra", "5", "--out", other, "--resume")
    end)

    it("says how long it would take, and makes nothing", function()
        local out = run_well(experiments .. "make_adversarial.lua", attacks, "--dry-run", "--out",
            base .. "/dry")
        assert.matches("25 images, 4 losses, 20 iterations: about .*, and 333 kB on the disk", out)
        assert.is_false(support.exists(base .. "/dry"))
        fails(1, "%-%-extra 76: .*fashion%-images has 100 images, and %-%-limit leaves 75", experiments
            .. "make_adversarial.lua", attacks, "--extra", "76", "--out", base .. "/dry")
        assert.is_false(support.exists(base .. "/dry"))
    end)

    it("names a shard that is damaged", function()
        local bad = base .. "/bad"
        copy(set, bad)
        local f = assert(io.open(bad .. "/shard-00001-2.safetensors", "r+b"))
        f:seek("set", 2000)
        f:write("?")
        f:close()
        fails(1, "bad/shard%-00001%-2.safetensors: the shard is damaged", experiments
            .. "retraining.lua", "--set", bad, training, "--out", base .. "/bad-run")
    end)

    it("names an index that is damaged, or a shard that holds no images", function()
        local bad = base .. "/bad-index"
        copy(set, bad)
        -- Opens the set with an index of which `change` takes and gives each record as {key, value} pairs.
        local function refused(wanted, change)
            local all, names = {}, {"file", "label", "loss", "shard", "row", "sha256", "target", "setting",
                "iteration", "l2", "linf", "survives_8bit"}
            for r in record.each(set .. "/records.msgpack") do
                local fields = {}
                for _, name in ipairs(names) do
                    if r[name] ~= nil then fields[#fields + 1] = {name, r[name]} end
                end
                all[#all + 1] = change(fields, r) and core.pack(fields) or ""
            end
            support.write(bad .. "/records.msgpack", table.concat(all))
            local opened, problem = pcall(adversarial.open, {bad})
            assert.is_false(opened)
            assert.matches("records.msgpack: was changed after the run", problem.message)
            support.reseal(bad)
            opened, problem = pcall(adversarial.open, {bad})
            assert.is_false(opened)
            assert.matches(wanted, problem.message)
        end
        local first = "shard-00001-0.safetensors"
        refused("has no row 1000", function(fields, r)
            if r.shard == "shard-00001-1.safetensors" and r.row == 0 then fields[5][2] = 1000 end
            return true
        end)
        refused("has no row %-1", function(fields, r)
            if r.shard == "shard-00001-1.safetensors" and r.row == 0 then fields[5][2] = -1 end
            return true
        end)
        refused("images of the set are missing", function(_, r) return r.shard ~= first or r.row > 0 end)
        refused("images of the set are missing", function(_, r) return r.shard ~= first end)
        for _, header in ipairs {"5", '{"images":{"shape":[1,1,28,28],"data_offsets":[0,3136]}}'} do
            support.write(bad .. "/" .. first, string.pack("<s8", header) .. ("\0"):rep(3136))
            local sum = system.sha256(bad .. "/" .. first)
            refused(first:gsub("%p", "%%%0") .. ": holds no images", function(fields, r)
                if r.shard == first then fields[6][2] = sum end
                return true
            end)
        end
    end)

    it("needs no more memory to be read where it is larger", function()
        local s = adversarial.open {set}
        local f = s:feed(true)
        local numbers = s.of.genuine.number
        local x, y = tensor.new {4, 1, 28, 28}, tensor.new({4}, "i64")
        local function peak(times)
            local order = {}
            for _ = 1, times do table.move(numbers, 1, #numbers, #order + 1, order) end
            f:start {order = tensor.from(order, "i64"), batch = 4}
            local most = 0
            while f:next(x, y) do most = math.max(most, system.memory().in_use) end
            collectgarbage()
            return most
        end
        peak(1)
        local once, often = peak(1), peak(50)
        assert.is_true(often - once < 50 * #numbers * 8 * 2 + 100000)
    end)

    -- A CSV file's rows as tables by column.
    local function rows_of(path)
        local records = assert(csv.parse(support.read(path)))
        local rows = {}
        for i = 2, #records do
            rows[i - 1] = {}
            for k, name in ipairs(records[1]) do rows[i - 1][name] = records[i][k] end
        end
        return rows
    end

    it("tells which examples survive transformations, as its index does for 8 bits", function()
        local out = base .. "/transformations"
        local text = run_well(experiments .. "transformations.lua", "--set", set, "--transformations",
            "bits:8,bits:1,median:3,pad:0.8", "--out", out)
        assert.matches("Bits +8 ", text)
        assert.matches("Genuine", text)
        local s, seen = adversarial.open {set}, 0
        for _, row in ipairs(rows_of(out .. "/transformations.csv")) do
            local list = s.of[row.loss]
            assert.equal(#list.number, tonumber(row.images))
            if row.transformation == "none" then
                assert.equal(row.images, row.survive)
            elseif row.strength == "8" then
                local survive = 0
                for _, one in ipairs(list.survives) do survive = survive + one end
                -- Genuine images are on the 8-bit grid, and survive where they stay right.
                if row.loss == "genuine" then survive = #list.number end
                assert.equal(survive, tonumber(row.survive), row.loss)
                seen = seen + 1
            elseif row.strength == "1" then
                assert.is_true(tonumber(row.undone) < tonumber(row.images))
            end
        end
        assert.equal(5, seen)
        assert.is_true(support.exists(out .. "/figtransformations.png"))
        fails(2, "%-%-transformations: median takes an odd number", experiments
            .. "transformations.lua", "--set", set, "--transformations", "median:2", "--out", out .. "2")
        fails(2, "KIND:STRENGTH", experiments .. "transformations.lua", "--set", set,
            "--transformations", "blur:2", "--out", out .. "2")
    end)

    it("tells how many of its examples fool other nets", function()
        local out, weights = base .. "/transfer", base .. "/mlp.safetensors"
        assert(assert(net.load("mlp", {init = "golden"})):save(weights))
        run_well(experiments .. "transfer.lua", "--set", set, "--nets",
            "nets/fashion.lua,nets/mlp.lua=" .. weights, "--out", out)
        local rows, s = rows_of(out .. "/transfer.csv"), adversarial.open {set}
        assert.equal(3 * 4, #rows)
        local g = assert(net.load("mlp", {weights = weights}))
        local images, x, y = s:feed(false), tensor.new {1, 1, 28, 28}, tensor.new({1}, "i64")
        local function class(number)
            images:start {order = tensor.from({number}, "i64"), batch = 1}
            assert.is_true(images:next(x, y))
            return g:forward(x):argmax():get(1)
        end
        local right = {}
        for k, file in ipairs(s.of.genuine.file) do
            right[file] = class(s.of.genuine.number[k]) == s.of.genuine.label[k]
        end
        for i, row in ipairs(rows) do
            local list = s.of[row.loss]
            if i <= 8 then -- the source net, and itself as another
                assert.equal(#list.number, tonumber(row.examples))
                assert.equal(row.examples, row.target)
                assert.equal(row.examples, row.fooled)
            else
                local n, target, fooled = 0, 0, 0
                for k, file in ipairs(list.file) do
                    if right[file] then
                        local c = class(list.number[k])
                        n = n + 1
                        if c == list.target[k] then target = target + 1 end
                        if c ~= list.label[k] then fooled = fooled + 1 end
                    end
                end
                assert.are.same({n, target, fooled}, {tonumber(row.examples), tonumber(row.target),
                    tonumber(row.fooled)})
            end
        end
        fails(1, "resnet18 has no bundled weights", experiments
            .. "transfer.lua", "--set", set, "--nets", "nets/resnet18.lua", "--out", out .. "2")
    end)

    describe("gives detectors", function()
        local whole
        local results = {"tables.txt", "table2.csv", "table3.csv", "runs.csv", "records.msgpack"}
        setup(function()
            whole = base .. "/whole"
            run_well(experiments .. "retraining.lua", "--set", set, training, "--out", whole)
        end)

        it("whose tables have the paper's rows, and runs.csv every run", function()
            local text = support.read(whole .. "/tables.txt")
            local from = 1
            for _, row in ipairs {"Table II:", "Attack +AlexNet", "CE ", "CE%-Sign", "Logit",
                "M%-Logit", "Table III:", "Attack  .*AlexNet", "CE ", "CE%-Sign", "Logit", "M%-Logit",
                "Adversarial Examples", "Genuine Images", "Overall Accuracy"} do
                from = assert(text:find("%f[^\n\0]" .. row, from), row) + 1
            end
            local _, lines = support.read(whole .. "/runs.csv"):gsub("\n", "")
            assert.equal(1 + 5, lines)
            assert.matches("3,float32,chosen on validation,Genuine Images,alexnet,[%d.]+,[%d.]+,[%d.]+,"
                .. "%d+,%d+,adam:3e%-4", support.read(whole .. "/table3.csv"))
            assert.matches("^epoch,.*\n1,.*\n2,.*\n$",
                support.read(whole .. "/logs/float32-ce-alexnet-adam_3e-4.csv"))
        end)

        it("with the same tables after kill -9 in the set, in a training, and between two", function()
            local command = words(experiments .. "retraining.lua", attacks, "--images",
                system.options.root .. "/nets/fashion-images", "--extra", "75", training)
            local one = base .. "/one"
            run_well(command, "--out", one)
            for i, point in ipairs {{at = "commit", of = "/set/", count = 7},
                {at = "update", of = "on ce_sign", count = 2},
                {at = "commit", of = "/two%d/rec", count = 5}} do
                local two = base .. "/two" .. i
                killed(point, command, "--out", two)
                assert.is_false(support.exists(two .. "/tables.txt"))
                run_well(command, "--out", two, "--resume")
                same_files(one, two, results)
                for name in lfs.dir(two) do assert.is_nil(name:find "^checkpoint") end
            end
            assert.matches("is finished", (run_well(command, "--out", one, "--resume")))
            fails(2, "%-%-epochs 2, not 3", experiments .. "retraining.lua", attacks, "--images",
                system.options.root .. "/nets/fashion-images", "--extra", "75", training, "--epochs=3",
                "--out", one, "--resume")
        end)

        it("and leaves out one whose loss is no number, naming it", function()
            local out, err = run_well(experiments .. "retraining.lua", "--set", set, training,
                "--search", "--rates", "1e-3,1e30", "--out", base .. "/nan")
            assert.matches("advrt: training float32%-ce%-alexnet%-adam_1e30: the loss is .*left out", err)
            assert.matches("best on test", out)
            local runs = support.read(base .. "/nan/runs.csv")
            assert.matches("2,float32,ce,alexnet,adam:1e30,nan,0,nan,0,nan,nan,", runs)
            assert.matches("2,float32,ce,alexnet,paper,0%.%d", runs)
            local table2 = support.read(base .. "/nan/table2.csv")
            assert.is_nil(table2:find("1e30", 1, true))
        end)

        it("and names a class without images, and extra ones that are too few", function()
            local few = base .. "/few"
            run_well(experiments .. "make_adversarial.lua", "--limit", "20", "--iterations", "1",
                "--magnitude", "0.001", "--batch", "8", "--out", few)
            fails(1, "class adversarial has no images of loss ce in the train part", experiments
                .. "retraining.lua", "--set", few, training, "--out", base .. "/few-run")
            local none = base .. "/none"
            run_well(experiments .. "make_adversarial.lua", attacks, "--out", none)
            fails(1, "genuine images, the set has 0; make it again with %-%-extra %d+", experiments
                .. "retraining.lua", "--set", none, training, "--out", base .. "/none-run")
            fails(1, "nowhere/run.json", experiments .. "retraining.lua", "--set", base .. "/nowhere",
                training, "--out", base .. "/nowhere-run")
            assert.is_false(support.exists(base .. "/nowhere-run"))
        end)

        it("and names a source net that changed since", function()
            local changed, weights = base .. "/changed", base .. "/source.safetensors"
            copy(system.options.root .. "/nets/fashion.safetensors", weights)
            run_well(experiments .. "make_adversarial.lua", attacks, "--weights", weights, "--out",
                changed)
            local f = assert(io.open(weights, "r+b"))
            f:seek("end", -1)
            f:write("?")
            f:close()
            fails(1, "source.safetensors: the source net changed since", experiments
                .. "retraining.lua", "--set", changed, training, "--out", base .. "/changed-run")
        end)

        it("and says how long it would take", function()
            local out = run_well(experiments .. "retraining.lua", "--set", set, training, "--dry-run")
            assert.matches("AlexNet     5 runs, [%d.e+]+ images in all: %d+ s\nin all ", out)
        end)
    end)
end)

describe("the split", function()
    local function a_set()
        local of, number = {genuine = {}, extra = {}, ce = {}, logit = {}}, -1
        for _, list in pairs(of) do list.number, list.file, list.label = {}, {}, {} end
        local function add(list, file, label)
            number = number + 1
            table.insert(list.number, number)
            table.insert(list.file, file)
            table.insert(list.label, label)
        end
        for i = 1, 100 do
            local file, label = ("%03d.png"):format(i), i % 5
            add(of.genuine, file, label)
            if i % 7 > 0 then add(of.ce, file, label) end
            if i % 3 > 0 then add(of.logit, file, label) end
        end
        for i = 1, 80 do add(of.extra, ("%03d.png"):format(i), i % 5) end
        return {of = of}
    end
    local o = {test_share = 0.3, validation_share = 0.2, seed = 1}

    it("is stratified by class and depends on the seed and the files alone", function()
        local set = a_set()
        local part_of = detect.split(set, o)
        local count = {}
        for k, file in ipairs(set.of.genuine.file) do
            local key = part_of[file] .. set.of.genuine.label[k]
            count[key] = (count[key] or 0) + 1
        end
        for label = 0, 4 do
            assert.equal(6, count["test" .. label])
            assert.equal(4, count["validation" .. label])
            assert.equal(10, count["train" .. label])
        end
        assert.are.same(part_of, detect.split(a_set(), o))
        assert.are_not.same(part_of, detect.split(set, {test_share = 0.3, validation_share = 0.2,
            seed = 2}))
    end)

    it("balances the classes of every part and has no source on two sides", function()
        local set = a_set()
        local part_of = detect.split(set, o)
        for _, losses in ipairs {{"ce"}, {"ce", "logit"}} do
            local cell, side = detect.images(set, part_of, losses, 1), {}
            for _, part in ipairs(detect.parts) do
                assert.equal(cell[part].genuine, cell[part].adversarial)
                assert.equal(#cell[part].numbers, 2 * cell[part].genuine)
                for i, n in ipairs(cell[part].numbers:totable()) do
                    assert.is_nil(side[n])
                    side[n] = part
                    assert.is_true(cell[part].loss[i] == "genuine" or cell[part].loss[i] == losses[1]
                        or cell[part].loss[i] == losses[2])
                end
            end
            for k, file in ipairs(set.of.ce.file) do
                assert.equal(part_of[file], side[set.of.ce.number[k]])
            end
        end
    end)

    it("raises where a source would be on both sides", function()
        local set = a_set()
        local parts, calls = detect.split(set, o), 0
        local moving = setmetatable({}, {__index = function(_, file)
            calls = calls + 1
            return file == "001.png" and detect.parts[calls % 3 + 1] or parts[file]
        end})
        assert.error_matches(function()
            for _ = 1, 3 do detect.images(set, moving, {"ce", "logit"}, 1) end
        end, "both sides of the split: 001.png")
    end)
end)
