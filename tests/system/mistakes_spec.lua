-- What advrt answers to mistakes that anybody makes on the command line and in a session: one line that
-- says what was wrong and what there is instead.

local lfs = require "lfs"
local support = require "tests.support"
local system = require "advrt.core.system"

local advrt, quote = support.advrt, support.quote
local root = system.options.root
local folder

-- Fails unless the command ended so, with one line that is or begins with `wanted`.
local function refused(status, wanted, words, environment)
    local ended, out, err = advrt(words, environment)
    assert.equal(wanted, (err:match("^advrt: ([^\n]+)\n$") or err):sub(1, #wanted))
    assert.equal(status, ended)
    assert.equal("", out)
end

describe("a mistake on the command line", function()
    setup(function() folder = support.folder() end)
    teardown(function() support.remove(folder) end)

    it("is answered with a name that is near, else with those that there are", function()
        local options = "; there are "
            .. "--device, --threads, --precision, --plan, --version, --help, -e, -i and -q"
        for given, wanted in pairs {
            ["--thraeds=2"] = "; did you mean '--threads'?", ["--Device"] = "; did you mean '--device'?",
            ["--dilation"] = options, ["--eps"] = options, ["-x"] = options,
        } do
            refused(2, ("there is no option '%s'%s"):format(given:match("^[^=]*"), wanted), {given, "x.lua"})
        end
        refused(2, "--precision has no 'half'; there are f32, mixed, bf16 and tf32", {"--precision", "half"})
        refused(2, "there is no option '--eps' (there are --batch, --crop, ", {"evaluate", "--eps", "1"})
        refused(2, "there is no option '--imgaes'; did you mean '--images'?", {"evaluate", "--imgaes=x"})
        refused(2, "--losses: unknown loss 'focal' (losses: ce, ce_sign, logit, m_logit; a file of "
            .. "--require or loss.load adds others)", {"equal_multiplier", "--losses", "ce, focal"})
        refused(2, "--attacks: unknown attack 'deepfool' (attacks: fgs, ifgs, pgd, lbfgs, cw",
            {"attacks", "--attacks", "fgs, deepfool"})
    end)

    it("in the name of a script is answered with advrt's own", function()
        local missing = ": No such file or directory"
        for given, near in pairs {
            ["equal-perturbation"] = "equal_perturbation", ["equal_multplier.lua"] = "equal_multiplier",
            ["experiments/evalaute.lua"] = "evaluate", ["Train"] = "train",
        } do
            refused(1, ("cannot open '%s'%s; did you mean '%s'?"):format(given, missing, near), {given})
        end
        local own = {}
        for name in lfs.dir(root .. "/experiments") do own[#own + 1] = name:match("^(.*)%.lua$") end
        table.sort(own)
        refused(1, ("cannot open 'nothing'%s; there are %s and %s"):format(missing,
            table.concat(own, ", ", 1, #own - 1), own[#own]), {"nothing"})
        refused(1, "cannot open ''" .. missing, {""})
        refused(1, ("cannot open '%s/none.lua'%s"):format(folder, missing), {folder .. "/none.lua"})
    end)

    it("in a script's kind is answered with what it is", function()
        local weights = root .. "/nets/fashion.safetensors"
        refused(1, weights .. ": is no text, so no Lua", {weights})
        refused(1, "cannot read " .. folder, {folder})
        local zeros = support.write(folder .. "/zeros", "\0\0")
        refused(1, zeros .. ": is no text, so no Lua", {zeros})
        refused(1, "/dev/zero:1: ", {"/dev/zero"}, "timeout 20")
        refused(1, weights .. ": is no text, so no Lua", {"-e", "1"}, "LUA_INIT=@" .. quote(weights))
        refused(1, "--require: " .. weights .. ": is no text, so no Lua", {"theorem", "--require", weights})
        refused(1, weights .. ": is no text, so no network definition", {"evaluate", "--net", weights})
        assert.equal(0, (advrt {support.write(folder .. "/empty.lua", "")}))
    end)
end)
