-- "Run it again" in report.html: every option that changes what comes out is in the command, and the command
-- makes the same records. An option that is added is to be added here, too.

local json = require "dkjson"
local support = require "support"
local system = require "advrt.core.system"

local root = system.options.root
local experiments = root .. "/experiments/"

-- Those of advrt itself: a value other than the default, or why it needs none.
local of_advrt = {
    ["--device"] = {"cpu"}, ["--threads"] = {"1"}, ["--precision"] = {"mixed"}, ["--plan"] = {"direct"},
    ["-e"] = "not with a script", ["-i"] = "not with a script", ["-q"] = "not with a script",
    ["--version"] = "ends at once", ["--help"] = "ends at once",
}

-- Those of the experiments. What --resume goes on with is the same run, and pictures are no part of it.
local of_experiments = {
    ["--weights"] = {root .. "/nets/fashion.safetensors"}, ["--resize"] = {"30"}, ["--crop"] = {"28"},
    ["--mean"] = {"-0.1"}, ["--std"] = {"0.41234567890123456"}, ["--batch"] = {"5"}, ["--limit"] = {"40"},
    ["--sample"] = {"20"}, ["--targets"] = {"offset:3"}, ["--losses"] = {"m_logit,dlr,mine"},
    ["--iterations"] = {"7"}, ["--magnitude"] = {"0.12345678901234567"},
    ["--alpha"] = {"0.031372549019607843"}, ["--norm"] = {"inf"}, ["--kappa"] = {"1.5"}, ["--seed"] = {"11"},
    ["--save-adversarial"] = {"last"}, ["--shard"] = {"1/2"}, ["--skip-bad"] = {true},
    ["--out"] = "the place is free", ["--resume"] = "goes on with the same run",
    ["--seeds"] = "makes a run of each seed, whose command has its --targets",
    ["--no-figures"] = "changes no number", ["--figure-size"] = "changes no number",
    ["--bands"] = "changes no number", ["--no-titles"] = "changes no number", ["--help"] = "ends at once",
    ["--weights-key"] = "chooses among the weights of a checkpoint that has several",
    ["--range"] = {"-0.25,1.5"},
    ["--output"] = "chooses among the outputs of an ONNX model that has several",
}

describe("the command of a report", function()
    local base
    setup(function()
        base = support.folder()
        -- Places that a shell would take apart.
        local there = base .. "/it's here"
        assert(require "lfs".mkdir(there))
        support.images(there .. "/a b", 60)
        support.write(there .. "/mine.lua", 'loss.define("mine", function(z, t) return z:gather(2, t) end)')
        support.write(there .. "/net.lua", support.read(root .. "/nets/fashion.lua"))
        of_experiments["--net"] = {there .. "/net.lua"}
        of_experiments["--images"] = {there .. "/a b"}
        of_experiments["--require"] = {there .. "/mine.lua", "dlr"}
    end)
    teardown(function() support.remove(base) end)

    -- The options that a help text lists, each with the words that give it another value than the default.
    local function words_of(help, known)
        local words, count = {}, 0
        for names in ("\n" .. help):gmatch("\n +(%-[%w,%- ]*)") do
            local name = names:match("%-%-[%l-]+") or names:match("%-%l")
            local given = known[name]
            assert.truthy(given, name .. " is not known here: does it change what comes out?")
            for _, value in ipairs(type(given) == "table" and given or {}) do
                words[#words + 1] = name
                words[#words + 1] = value ~= true and value or nil -- a flag has none
            end
            count = count + 1
        end
        assert.is_true(count >= 8, help)
        return words
    end

    local function unescape(text)
        local of = {["&lt;"] = "<", ["&gt;"] = ">", ["&quot;"] = '"', ["&#39;"] = "'", ["&amp;"] = "&"}
        return (text:gsub("&#?%w+;", of))
    end

    local function command_of(dir)
        local page = support.read(dir .. "/report.html")
        return unescape(assert(page:match('<pre [^>]*id="[^"]*command"><code>(.-)</code>')))
    end

    for _, name in ipairs {"equal_perturbation", "equal_multiplier"} do
        it("has every option of " .. name .. ".lua and of advrt", function()
            local _, advrts = support.advrt {"--help"}
            local _, help = support.advrt {experiments .. name .. ".lua", "--help"}
            local dir, again = ("%s/%s"):format(base, name), ("%s/%s again"):format(base, name)
            local words = words_of(advrts:match("\n\n(.-)\n\n"), of_advrt)
            words[#words + 1] = experiments .. name .. ".lua"
            local own = words_of(help:match("\nOptions:\n(.*)$"), of_experiments)
            table.move(own, 1, #own, #words + 1, words)
            words[#words + 1], words[#words + 2], words[#words + 3] = "--no-figures", "--out", dir
            local status, _, err = support.advrt(words)
            assert.equal(0, status, err)
            local command = command_of(dir)
            for i = 1, #words - 3 do
                if words[i]:find("^%-%a") or words[i]:find("^%-%-%a") then
                    assert.truthy(command:find(" " .. words[i] .. " ", 1, true),
                        words[i] .. " in " .. command)
                end
            end
            local before = support.read(dir .. "/records.msgpack")
            assert.is_true(#before > 1000)
            assert.is_true(os.execute(("%s --no-figures --out %s >/dev/null 2>&1"):format(command,
                support.quote(again))))
            assert.equal(system.digest(before), system.digest(support.read(again .. "/records.msgpack")))
            -- And run.json tells the same run: all but its place and its times.
            local one = json.decode(support.read(dir .. "/run.json"))
            local two = json.decode(support.read(again .. "/run.json"))
            for _, about in ipairs {one, two} do
                about.options.out, about.start, about["end"], about.seconds = nil, nil, nil, nil
                about.sha256, about.files["table1.csv"], about.files["table1.tex"] = nil, nil, nil
            end
            assert.same(one, two)
        end)
    end
end)
