--- A device other than the CPU: the experiments' records against the CPU's. Run by advrt on that device.
local json = require "dkjson"
local record = require "advrt.record"
local support = require "support"
local system = require "advrt.core.system"

local STEPS = 12
-- How far numbers may lie apart, relative to the larger of 1 and the CPU's: sums are made in another
-- order, and where a ReLU on the fence opens for one and not for the other, an image goes its own way
-- from there, by percents.
local CLOSE, APART, MOST_CLOSE = 1e-4, 0.2, 2 / 3

local function run(device, setting, folder)
    local status, _, err = support.advrt {
        "--device", device, "--plan", "direct", "experiments/" .. setting .. ".lua",
        "--limit", "6", "--batch", "3",
        "--iterations", tostring(STEPS), "--no-figures", "--out", folder,
    }
    assert.are.equal(0, status, err)
    local records = {}
    for r in record.each(folder .. "/records.msgpack") do records[#records + 1] = r end
    return records
end

-- The largest such distance between two records' numbers; what they are about must be the same.
local function distance(a, b, what)
    assert.are.equal(type(b), type(a), what)
    if type(b) == "number" then
        if a == b or (a ~= a and b ~= b) then return 0 end
        return math.abs(a - b) / math.max(1, math.abs(b))
    elseif type(b) == "table" then
        local most = 0
        for key, value in pairs(b) do
            most = math.max(most, distance(a[key], value, what .. "." .. tostring(key)))
        end
        return most
    end
    return a == b and 0 or 1 -- names, and whether the flip survives 8 bits
end

local function first_step(r)
    local first = {}
    for key, value in pairs(r) do first[key] = type(value) == "table" and value[1] or nil end
    return first
end

local function compare(got, wanted)
    local close = 0
    for i, r in ipairs(wanted) do
        local what = r.file .. ", " .. r.loss
        local d = distance(first_step(got[i]), first_step(r), what)
        assert.is_true(d <= 1e-5, ("%s: %g apart at the first step"):format(what, d))
        d = distance(got[i].z_target, r.z_target, what)
        assert.is_true(d <= APART, ("%s: %g apart"):format(what, d))
        if distance(got[i], r, what) <= CLOSE then close = close + 1 end
    end
    assert.is_true(close >= MOST_CLOSE * #wanted, ("%d of %d are close"):format(close, #wanted))
end

-- The stand-in counts; a GPU does not.
local STANDIN = system.options.executable:find("standin", 1, true)

describe("on " .. system.options.device, function()
    for _, setting in ipairs {"equal_perturbation", "equal_multiplier"} do
        it("the records of " .. setting .. " are the CPU's", function()
            local folder <close> = setmetatable({path = support.folder()},
                {__close = function(self) support.remove(self.path) end})
            local wanted = run("cpu", setting, folder.path .. "/cpu")
            local got = run(system.options.device, setting, folder.path .. "/device")
            assert.is_true(#wanted >= 4 * 4)
            compare(got, wanted)
        end)
    end

    it("the steps of an attack come from one captured graph, but the first", function()
        if not STANDIN then return pending("nothing counts here") end
        local code = [[local net, tensor, loss, attack = require "advrt.net", require "advrt.tensor",
                require "advrt.loss", require "advrt.attack"
            local g = assert(net.load "nets/fashion.lua")
            local x = tensor.uniform("x", {2, 1, 28, 28})
            attack.run {net = g, images = x, labels = {0, 0}, targets = {1, 2}, loss = loss.ce_sign,
                multiplier = attack.equal_perturbation(0.05), iterations = 30}]]
        local status, _, err = support.advrt({"--device", system.options.device, "-e", code},
            "STANDIN_COUNT=1")
        assert.are.equal(0, status, err)
        assert.are.equal(30, tonumber(err:match(" (%d+) graphs")), err) -- the first step runs alone
    end)

    -- The sums' scratch memory moves where more images come, and a captured step knew where it was.
    it("a captured step does not touch memory that has gone to others", function()
        local code = [[local net, tensor, loss, attack = require "advrt.net", require "advrt.tensor",
                require "advrt.loss", require "advrt.attack"
            local g, kept = assert(net.load "nets/fashion.lua"), {}
            local function run(progress)
                return attack.run({net = g, images = tensor.uniform("x", {1, 1, 28, 28}), labels = {0},
                    targets = {1}, loss = loss.ce, multiplier = attack.equal_perturbation(0.05),
                    iterations = 30, progress = progress}).adversarial:totable()
            end
            local disturbed = run(function(n)
                if n ~= 10 then return end
                tensor.uniform("q", {64, 30000}):norms()
                for i = 1, 4 do kept[i] = tensor.new({100}):fill(7) end
            end)
            for _, t in ipairs(kept) do assert(t:minimum() == 7 and t:maximum() == 7) end
            local plain = run()
            for i, v in ipairs(disturbed[1][1][1]) do assert(v == plain[1][1][1][i]) end
            print(#kept)]]
        local status, out, err = support.advrt {"--device", system.options.device, "-e", code}
        assert.are.equal(0, status, err)
        assert.are.equal("4\n", out)
    end)

    it("--batch auto takes what fits, and a batch that does not says what would", function()
        if not STANDIN then return pending("no memory to be bounded here") end
        local folder <close> = setmetatable({path = support.folder()},
            {__close = function(self) support.remove(self.path) end})
        local function attempt(batch, out)
            return support.advrt({
                "--device", system.options.device, "experiments/equal_perturbation.lua", "--limit", "40",
                "--losses", "ce", "--iterations", "1", "--no-figures", "--batch", batch, "--out", out,
            }, "STANDIN_MEMORY=60000000")
        end
        local status, _, err = attempt("auto", folder.path .. "/auto")
        assert.are.equal(0, status, err)
        local B = json.decode(support.read(folder.path .. "/auto/run.json")).options.batch
        assert.is_true(B >= 8 and B < 40, tostring(B))
        status, _, err = attempt("400", folder.path .. "/many")
        assert.are.equal(1, status)
        local fits = tonumber(err:match("^advrt: cuda:0: out of memory: [^\n]+ are free; "
            .. "a batch of (%d+) fits\n$"))
        assert.is_true(fits and fits >= B and fits < 400, err)
    end)

    it("--plan direct takes no algorithm that transforms", function()
        if not STANDIN then return pending("no algorithm is told of here") end
        local code = [[local g = assert(require "advrt.net".load "nets/fashion.lua")
            g:trace(require "advrt.tensor".uniform("x", {1, 1, 28, 28}))
            g:backward(require "advrt.tensor".uniform("dz", {1, 10})):totable()]]
        for plan, wanted in pairs {direct = 0, fast = 134} do -- 134: the stand-in aborts
            local status, _, err = support.advrt({"--device", system.options.device, "--plan", plan,
                "-e", code}, "STANDIN_DIRECT=1")
            assert.are.equal(wanted, status, err)
        end
    end)

    it("a layer that cuDNN lists no deterministic algorithm for runs, and says so if it must", function()
        if not STANDIN then return pending("a GPU's heuristics are its own") end
        local code = [[local g = assert(require "advrt.net".load "nets/fashion.lua")
            local tensor = require "advrt.tensor"
            g:trace(tensor.uniform("x", {2, 1, 28, 28}))
            local l2 = g:backward(tensor.uniform("dz", {2, 10})):norms()
            print(l2:totable()[1])]]
        local function attempt(heuristics)
            local status, out, err = support.advrt({"--device", system.options.device, "-e", code},
                "STANDIN_HEURISTICS=" .. heuristics)
            assert.are.equal(0, status, err)
            return tonumber(out), err
        end
        local usual, err = attempt("")
        assert.are.equal("", err)
        local named
        named, err = attempt("none")
        assert.are.equal("", err)
        assert.near(usual, named, 1e-5 * usual)
        local chance
        chance, err = attempt("chance")
        assert.is_truthy(err:match("^advrt: cuda:0: layer '[^']+', conv back: cuDNN has no deterministic "
            .. "algorithm for x %[2,[^\n]+: results may differ in their last bits from run to run\n$"), err)
        assert.near(usual, chance, 1e-5 * usual)
    end)

    it("a convolution at a net's end takes a gradient from anywhere in memory", function()
        local folder <close> = setmetatable({path = support.folder()},
            {__close = function(self) support.remove(self.path) end})
        support.write(folder.path .. "/ends.lua", [[return {
            name = "ends", classes = 5, input = {3, 4, 4}, preprocess = {}, mean = {0, 0, 0},
            std = {1, 1, 1},
            build = function(b, x)
                return b:conv(x, "c", {out = 5, kernel = 4})
            end,
        }]])
        local code = [[local tensor = require "advrt.tensor"
            local path, precision = ...
            local g = assert(require "advrt.net".load(path, {init = "golden", precision = precision}))
            local x, dz = tensor.uniform("x", {3, 3, 4, 4}), tensor.uniform("dz", {3, 5})
            local part = dz:narrow(2, 2) -- begins 20 bytes into its memory
            g:trace(x:narrow(2, 2))
            local q = g:backward(part):totable()
            g:trace(x:narrow(2, 2))
            local same = g:backward(part:clone()):totable()
            for n = 1, 2 do
                for i = 1, 3 do
                    for j = 1, 4 do
                        for k = 1, 4 do assert(q[n][i][j][k] == same[n][i][j][k]) end
                    end
                end
            end
            print(q[1][1][1][1])]]
        support.write(folder.path .. "/code.lua", code)
        for _, precision in ipairs {"f32", "bf16"} do
            local found = {}
            for _, device in ipairs {system.options.device, "cpu"} do
                local status, out, err = support.advrt {"--device", device, folder.path .. "/code.lua",
                    folder.path .. "/ends.lua", precision}
                assert.are.equal(0, status, err)
                found[#found + 1] = tonumber(out)
            end
            assert.near(found[2], found[1], precision == "f32" and 1e-5 or 2e-2)
        end
    end)

    it("the bench times it", function()
        local folder <close> = setmetatable({path = support.folder()},
            {__close = function(self) support.remove(self.path) end})
        local out = folder.path .. "/bench.json"
        local status, head, err = support.advrt({"--device", system.options.device,
            "tests/bench/bench.lua", "--works", "fashion:2:gradient", "--rounds", "1",
            "--round-seconds", "0", "--out", out}, "env -u BENCH_PYTHON")
        assert.are.equal(0, status, err)
        assert.are.equal(system.options.device .. ": ", head:sub(1, #system.options.device + 2))
        local found = json.decode(support.read(out))
        assert.are.equal(system.options.device, found.device)
        assert.is_true(found.works[1].advrt.images_per_second > 0)
        assert.is_true(found.peak.flops_per_second > 0)
    end)

    it("a GPU that is not there is named in one line", function()
        if not STANDIN then return pending("as many GPUs as there are") end
        local function run_on(name, gpus)
            return support.advrt({"--device", name, "-e", "print(require 'advrt.device'.name)"},
                "STANDIN_GPUS=" .. gpus)
        end
        local status, _, err = run_on("cuda:2", 2)
        assert.are.equal(1, status)
        assert.are.equal("advrt: --device cuda:2: this machine has 2 GPUs, counted from 0\n", err)
        status, _, err = run_on("cuda", 0)
        assert.are.equal(1, status)
        assert.are.equal("advrt: --device cuda: the NVIDIA driver finds no GPU: use --device cpu\n", err)
        local out
        status, out, err = run_on("cuda:1", 2)
        assert.are.equal(0, status, err)
        assert.are.equal("cuda:1\n", out)
    end)

    it("of several processes on a machine each takes the GPU of its place", function()
        if not STANDIN then return pending("as many GPUs as there are") end
        for place, name in pairs {["OMPI_COMM_WORLD_LOCAL_RANK=1"] = "cuda:1", ["SLURM_LOCALID=1"] = "cuda:1",
            ["SLURM_LOCALID=2"] = "cuda:0"} do
            local status, out, err = support.advrt({"--device", "cuda", "-e",
                "print(require 'advrt.device'.name)"}, "STANDIN_GPUS=2 " .. place)
            assert.are.equal(0, status, err)
            assert.are.equal(name .. "\n", out, place)
        end
    end)

    it("a run that meets an error of the device ends with one line, what was finished on disk", function()
        if not STANDIN then return pending("no error to be had here") end
        local folder <close> = setmetatable({path = support.folder()},
            {__close = function(self) support.remove(self.path) end})
        local status, _, err = support.advrt({
            "--device", system.options.device, "experiments/equal_perturbation.lua", "--limit", "4",
            "--batch", "2", "--iterations", "3", "--no-figures", "--out", folder.path .. "/run",
        }, "STANDIN_FAIL=cudaGraphLaunch@14")
        assert.are.equal(1, status)
        assert.is_truthy(err:find("cudaGraphLaunch", 1, true), err)
        assert.is_truthy(support.exists(folder.path .. "/run/records.part"))
    end)
end)
