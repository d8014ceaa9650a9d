-- Weights on a command line: which of a checkpoint's a run takes, that its folder tells, and that it goes
-- on with the same.

local json = require "advrt.support.json"
local lfs = require "lfs"
local net = require "advrt.net"
local support = require "support"
local system = require "advrt.core.system"
local tensor = require "advrt.tensor"

local experiments = system.options.root .. "/experiments/"

describe("--weights-key", function()
    local base, weights
    setup(function()
        base = support.folder()
        weights = base .. "/two.safetensors"
        local all = {}
        for name, t in pairs(assert(net.load "fashion"):state()) do
            all["net." .. name], all["ema." .. name] = t, t:clone()
        end
        local bias = all["ema.fc.bias"]
        bias:set(bias:get(1) + 0.01, 1)
        assert(tensor.save(weights, all))
    end)
    teardown(function() support.remove(base) end)

    local function run(out, ...)
        return support.advrt {experiments .. "equal_perturbation.lua", "--no-figures", "--limit", "4",
            "--batch", "2", "--iterations", "3", "--losses", "ce", "--weights", weights, "--out",
            base .. "/" .. out, ...}
    end

    local function about(out) return json.decode(support.read(base .. "/" .. out .. "/run.json")).options end

    it("chooses, run.json says which, and what was chosen unasked is said", function()
        local took = ("advrt: %s: used 'net'; the file also has 'ema'. Choose with --weights-key\n")
            :format(weights)
        local status, _, err = run("raw")
        assert.equal(0, status, err)
        assert.truthy(err:find(took, 1, true), err)
        assert.equal("net", about("raw").weights_key)
        status, _, err = run("averaged", "--weights-key", "ema")
        assert.equal(0, status, err)
        assert.is_nil(err:find("took", 1, true))
        assert.equal("ema", about("averaged").weights_key)
        status, _, err = run("raw", "--weights-key", "net", "--resume") -- what was taken unasked
        assert.equal(0, status, err)
        status, _, err = run("raw", "--weights-key", "ema", "--resume")
        assert.equal(2, status)
        assert.truthy(err:find('was started with --weights-key "net", not "ema"', 1, true), err)
    end)

    it("names what there is, else one line and status 1", function()
        local status, out, err = run("none", "--weights-key", "emma")
        assert.equal(1, status)
        assert.equal("", out)
        assert.equal(("advrt: %s: has no weights 'emma', but net, ema; did you mean 'ema'?\n")
            :format(weights), err)
        assert.is_false(support.exists(base .. "/none"))
    end)

    it("is one line of a net that the files of an index changed under", function()
        local dir = base .. "/shards"
        assert(lfs.mkdir(dir))
        local parts, map, place = {{}, {}}, {}, 1
        for name, t in pairs(assert(net.load "fashion"):state()) do
            parts[place][name], map[#map + 1] = t, ('"%s": "%d.safetensors"'):format(name, place)
            place = 3 - place
        end
        for i, part in ipairs(parts) do assert(tensor.save(("%s/%d.safetensors"):format(dir, i), part)) end
        local index = support.write(dir .. "/index.json",
            '{"weight_map": {' .. table.concat(map, ",") .. "}}")
        local words = {experiments .. "equal_perturbation.lua", "--no-figures", "--limit", "4", "--batch",
            "2", "--iterations", "3", "--losses", "ce", "--weights", index, "--out", base .. "/index"}
        local status, _, err = support.advrt(words)
        assert.equal(0, status, err)
        local name, t = next(parts[2])
        parts[2][name] = t:clone():mul(0.5)
        assert(tensor.save(dir .. "/2.safetensors", parts[2]))
        words[#words + 1] = "--resume"
        status, _, err = support.advrt(words)
        assert.equal(1, status)
        assert.truthy(err:find(index .. ": the weights changed since the run in", 1, true), err)
    end)
end)
