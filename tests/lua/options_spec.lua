-- The experiments' options: defaults, ranges, and one line for each mistake.

local options = require "advrt.support.options"

local SPEC = {
    name = "test.lua", description = "A test.",
    options = {"net", "weights", "images", "resize", "crop", "mean", "std", "batch", "limit",
        "targets", "losses", "require", "iterations", "alpha", "magnitude", "norm", "kappa", "seed",
        "save-adversarial", "out", "shard"},
    flags = {{"no-figures", "none"}},
}

local function parse(...) return options.parse({...}, SPEC) end

describe("options", function()
    it("have the defaults of the contract", function()
        local o = parse()
        assert.equal(250, o.iterations)
        assert.equal(32, o.batch)
        assert.equal(0, o.seed)
        assert.equal(2, o.norm)
        assert.equal(20, o.kappa)
        assert.equal("random", o.targets)
        assert.same({"ce", "ce_sign", "logit", "m_logit"}, o.losses)
        assert.same({1, 1}, o.shard)
        for _, name in ipairs {"weights", "resize", "crop", "mean", "limit", "alpha", "magnitude",
            "out", "save_adversarial", "no_figures"} do
            assert.is_nil(o[name], name)
        end
    end)

    it("are read by type, apart or with =", function()
        local o = parse("--iterations=60", "--alpha", "0.001", "--losses", "logit,ce", "--norm", "inf",
            "--mean", "0.5,0.25,0", "--std=1e-1,2,3", "--shard", "2/4", "--targets", "offset:500",
            "--save-adversarial", "last", "--kappa", "0", "--no-figures", "--out", "a b")
        assert.equal(60, o.iterations)
        assert.equal(0.001, o.alpha)
        assert.same({"logit", "ce"}, o.losses)
        assert.equal("inf", o.norm)
        assert.same({0.5, 0.25, 0}, o.mean)
        assert.same({0.1, 2, 3}, o.std)
        assert.same({2, 4}, o.shard)
        assert.equal("offset:500", o.targets)
        assert.equal("last", o.save_adversarial)
        assert.equal(0, o.kappa)
        assert.is_true(o.no_figures)
        assert.equal("a b", o.out)
    end)

    it("are refused in one line with what is wanted, status 2", function()
        for _, case in ipairs {
            {{"--iteratons", "5"}, "'--iteratons'; did you mean '--iterations'?"},
            {{"--loses=ce"}, "did you mean '--losses'?"},
            {{"--iterations", "0"}, "a whole number from 1 to 1000000, got '0'"},
            {{"--iterations", "2.5"}, "got '2.5'"},
            {{"--iterations", "-5"}, "got '-5'"},
            {{"--iterations", ""}, "got ''"},
            {{"--alpha", "0"}, "--alpha wants a number above 0"},
            {{"--alpha", "nan"}, "above 0"},
            {{"--alpha", "inf"}, "above 0"},
            {{"--magnitude", "-0.1"}, "--magnitude wants a number above 0, got '-0.1'"},
            {{"--kappa", "-1"}, "at least 0"},
            {{"--norm", "1"}, "2 or inf"},
            {{"--batch", "0"}, "--batch wants"},
            {{"--limit", "0"}, "--limit wants"},
            {{"--seed", "x"}, "--seed wants"},
            {{"--losses", "ce,cesign"}, "'cesign'; did you mean 'ce_sign'?"},
            {{"--losses", "ce,ce"}, "'ce' is given twice"},
            {{"--losses", ""}, "unknown loss ''"},
            {{"--targets", "offset:0"}, "is the label itself"},
            {{"--targets", "randon"}, "none of random"},
            {{"--targets", "class:99999999999999999999"}, "none of random"},
            {{"--targets", "offset:99999999999999999999"}, "none of random"},
            {{"--shard", "0/2"}, "--shard wants I/N"},
            {{"--shard", "3/2"}, "--shard wants I/N"},
            {{"--shard", "9223372036854775807/9223372036854775807"}, "--shard wants I/N"},
            {{"--resize", "65536"}, "a whole number from 1 to 65535, got '65536'"},
            {{"--crop", "65536"}, "a whole number from 1 to 65535, got '65536'"},
            {{"--save-adversarial", "lst"}, "did you mean 'last'?"},
            {{"--std", "1,0"}, "all above 0"},
            {{"--mean", "1,,2"}, "numbers"},
            {{"--out", ""}, "--out wants a path"},
            {{"--out"}, "requires an argument"},
            {{"--require"}, "requires an argument"},
            {{"--require="}, "--require wants a path"},
            {{"--no-figures=1"}, "does not take arguments"},
            {{"stray"}, "'stray' is not an option"},
            {{"--seed", "1", "stray"}, "'stray' is not an option"},
            {{"--threads", "2"}, "give it before the script"},
            {{"--device=cuda"}, "give it before the script"},
        } do
            local ok, problem = pcall(options.parse, case[1], SPEC)
            assert.is_false(ok, case[2])
            assert.equal("table", type(problem), tostring(problem))
            assert.equal(2, problem.status)
            assert.truthy(problem.message:find(case[2], 1, true), problem.message)
            assert.is_nil(problem.message:find("\n", 1, true))
        end
    end)

    it("run the files of --require before the losses are looked up, wherever they stand", function()
        local path = os.tmpname()
        local function write(text)
            local file = assert(io.open(path, "w"))
            file:write(text)
            file:close()
        end
        write "loss.define('options_margin', function(z, t) return z:gather(2, t) end)"
        local o = parse("--losses", "ce,options_margin,dlr", "--require", path, "--require=dlr")
        assert.same({"ce", "options_margin", "dlr"}, o.losses)
        assert.same({path, "dlr"}, o.require)
        assert.is_nil(parse().require)
        write "oops("
        local ok, problem = pcall(parse, "--require", path)
        assert.is_false(ok)
        assert.equal(1, problem.status)
        assert.matches("^%-%-require: [^\n]*:1: unexpected symbol", problem.message)
        os.remove(path)
        ok, problem = pcall(parse, "--require", path)
        assert.is_false(ok)
        assert.matches("no file of losses", problem.message)
    end)

    it("of another experiment are not taken", function()
        local ok, problem = pcall(options.parse, {"--alpha", "1"}, {name = "t", description = "",
            options = {"magnitude"}})
        assert.is_false(ok)
        assert.matches("no option '%-%-alpha'", problem.message)
    end)
end)
