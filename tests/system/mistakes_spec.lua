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
            .. "--device, --threads, --precision, --plan, -e, -i, -q, --version and --help"
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
        refused(2, "--attacks: unknown attack 'jsma' (attacks: fgs, ifgs, pgd, ",
            {"attacks", "--attacks", "fgs, jsma"})
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

    it("in a net's name is answered with one of nets/", function()
        local looked = ("' (looked there and in %s/nets/)"):format(root)
        for given, near in pairs {mobilnet_v2 = "mobilenet_v2", ["nets/fashoin.lua"] = "fashion",
            ["vgg-16"] = "vgg16", resnet = "resnet101"} do
            refused(1, ("no network definition '%s%s; did you mean '%s'?"):format(given, looked, near),
                {"evaluate", "--net", given})
        end
        refused(1, ("no network definition 'yolo%s; there are alexnet, convnext_tiny, "):format(looked),
            {"evaluate", "--net", "yolo"})
        refused(1, ("no network definition '%s/fashoin.lua%s"):format(folder, looked),
            {"evaluate", "--net", folder .. "/fashoin.lua"})
    end)

    it("in a script's kind is answered with what it is", function()
        local weights = root .. "/nets/fashion.safetensors"
        local binary = ": is a binary file, not Lua source"
        refused(1, weights .. binary, {weights})
        refused(1, "cannot read " .. folder, {folder})
        local zeros = support.write(folder .. "/zeros", "\0\0")
        refused(1, zeros .. binary, {zeros})
        refused(1, "/dev/zero:1: ", {"/dev/zero"}, "timeout 20")
        refused(1, weights .. binary, {"-e", "1"}, "LUA_INIT=@" .. quote(weights))
        refused(1, "--require: " .. weights .. binary, {"theorem", "--require", weights})
        refused(1, weights .. ": is a binary file; a net is a Lua file such as nets/mlp.lua, or an ONNX ",
            {"evaluate", "--net", weights})
        assert.equal(0, (advrt {support.write(folder .. "/empty.lua", "")}))
    end)
end)

describe("a mistake in a session", function()
    -- What a session says on standard error, of each line of input a line; and on standard output.
    local function session(lines)
        local _, out, err = support.shell(("printf '%%s\\n' %s | %s"):format(
            quote(table.concat(lines, "\n")), quote(system.options.executable)))
        local said = {}
        for line in err:gmatch("[^\n]+") do said[#said + 1] = line:match("^advrt: (.*)$") or line end
        return said, out
    end

    it("is one line, unless the user's own functions led to it", function()
        assert.same({
            "stdin:1: loss 'bad' is rejected: with 2 classes it returns a number, which was not computed "
                .. "from the logits",
            "stdin:1: bad argument #1 to 'evaluate' (advrt.tensor expected, got number)",
            "stdin:1: loss.ce has no parameter 'kappa' (it has none)", "stdin:1: mine",
            "stdin:1: pgd: eps must be a number above 0, got -1",
            "stdin:1: bad argument #1 to 'get' (index must be in 1 .. 2, got 3)",
            "stdin:1: bad argument #1 to 'evaluate' (advrt.tensor expected, got nil)", "stack traceback:",
            "\tstdin:1: in function 'mine'", "\tstdin:1: in main chunk",
        }, (session {"loss.define('bad', function() return 3 end)", "loss.ce:evaluate(3)",
            "loss.ce {kappa = 1}",
            "error 'mine'", "attacks.pgd {eps = -1}", "tensor.new {2}:get(3)",
            "function mine() loss.ce:evaluate() end", "mine()"}))
    end)

    it("in the name of a method or function is answered with one that is near", function()
        assert.same({
            "stdin:1: attempt to call a nil value (method 'sise'); did you mean 'size'?",
            "stdin:1: attempt to call a nil value (method 'forwrd'); did you mean 'forward'?",
            "stdin:1: attempt to call a nil value (field 'lod'); did you mean 'load'?",
            "stdin:1: attempt to call a nil value (method 'nonsense')",
            "stdin:1: attempt to call a nil value (global 'lod')",
            "stdin:1: attempt to call a nil value (field 'lod'); did you mean 'load'?", "stack traceback:",
            "\tstdin:1: in function 'mine'", "\tstdin:1: in main chunk",
        }, (session {"tensor.new {2}:sise()", "net.load 'fashion':forwrd()", "tensor.lod 'x'",
            "tensor.new {2}:nonsense()", "lod()", "function mine() tensor.lod 'x' return 1 end", "mine()"}))
    end)

    it("in what ? asks for is answered with a name that is near", function()
        local function unknown(name, near)
            return ("there is no documentation of '%s'; %s"):format(name,
                near and ("did you mean '%s'?"):format(near) or "? lists what there is")
        end
        assert.same({unknown("net.lod", "net.load"), unknown("experiments.atacks", "experiments.attacks"),
            unknown("attacks.pdg", "attacks.pgd"), unknown("equal-perturbation", "equal_perturbation"),
            unknown("tensors", "tensor"), unknown "weather", unknown "experiments.weather"},
            (session {"? net.lod", "? experiments.atacks", "? attacks.pdg", "? equal-perturbation",
                "? tensors", "? weather", "? experiments.weather"}))
    end)

    it("is avoided by the options that ? shows of an experiment, and the parameters of an attack", function()
        local said, out = session {"? experiments.attacks", "? attacks.pgd", "? experiments/theorem.lua"}
        assert.same({}, said)
        for _, wanted in ipairs {"\nadvrt attacks, or advrt experiments/attacks.lua:\n\nAttacks images with ",
            "\n   --untargeted  ", "attacks.pgd {norm = \"inf\"", "\n   --margin-step M "} do
            assert.truthy(out:find(wanted, 1, true), wanted)
        end
    end)
end)
