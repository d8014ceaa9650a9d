-- The bench as a user runs it, on the bundled net and for a moment; and with a stand-in for
-- PyTorch's process that answers as pytorch.py does, with times that are known.

local json = require "dkjson"
local support = require "tests.support"

if support.sanitized() then
    describe("the bench", function()
        pending("is left to the plain build: it measures", function() end)
    end)
    return
end

-- Multiply-adds of nets/fashion.lua for one image, layer by layer.
local FASHION = 144 * 28 * 28
    + (16 * 32 * 9 + 32 * 32 * 9 + 16 * 32) * 14 * 14
    + (32 * 64 * 9 + 64 * 64 * 9 + 32 * 64) * 7 * 7
    + 64 * 10
local WORKS = {
    {"fashion:4:forward", 4, 1}, {"fashion:3:gradient", 3, 2}, {"fashion:2:training", 2, 3},
    {"fashion:1:attack", 1, 23},
}

-- A second a step in one mode and half of one in the other; its best takes a gigabyte.
-- FOLDER and DIFFERENCE stand for what a test says.
local STAND_IN = [[#!/bin/sh
cp "$2" "FOLDER/task.json"
[ -e "FOLDER/first" ] || cp "$2" "FOLDER/first"
printf '{"version":"stand-in","threads":1,"modes":["eager","channels_last"],'
printf '"skipped":{"bf16":"no reason"},"flips":{"eager":{"ce":0}},'
echo '"difference":DIFFERENCE}'
while read -r what mode steps; do
    echo "$what $mode" >>"FOLDER/asked"
    case $what.$mode in
    run.eager) echo '{"seconds":1.0}' ;;
    run.channels_last) echo '{"seconds":0.5}' ;;
    peak.) echo '{"rss":1000000000}' ;;
    esac
done
]]

describe("the bench", function()
    local folder, out
    before_each(function()
        folder = support.folder()
        out = folder .. "/bench.json"
    end)
    after_each(function() support.remove(folder) end)

    local function bench(works, environment, ...)
        return support.advrt({"--threads", "1", "tests/bench/bench.lua", "--works", works,
            "--rounds", "3", "--round-seconds", "0", "--out", out, ...},
            environment or "env -u BENCH_PYTHON")
    end

    local function results()
        local document = assert(json.decode(support.read(out)))
        return document, document.works
    end

    local function stand_in(difference)
        local path = support.write(folder .. "/python", (STAND_IN:gsub("%u%u%u%u%u%u+",
            {FOLDER = folder, DIFFERENCE = difference})))
        assert(os.execute("chmod +x " .. support.quote(path)))
        return "BENCH_PYTHON=" .. support.quote(path)
    end

    it("measures what it is asked to, in a table and in JSON", function()
        local names = {}
        for i, work in ipairs(WORKS) do names[i] = work[1] end
        local status, table_text, err = bench(table.concat(names, ","))
        assert.equal("", err)
        assert.equal(0, status)
        local document, works = results()
        local peak = document.peak.flops_per_second
        assert.equal(1, document.threads)
        assert.is_true(peak > 1e8 and peak < 1e13)
        assert.equal(#WORKS, #works)
        for i, work in ipairs(WORKS) do
            local r, a = works[i], works[i].advrt
            assert.equal(work[1], r.work)
            assert.equal(2 * FASHION * work[2] * work[3], r.flops)
            assert.equal(3, #a.rounds)
            table.sort(a.rounds)
            assert.same({a.rounds[1], a.rounds[2], a.rounds[3]}, {a.min, a.median, a.max})
            assert.is_true(a.min > 0 and a.min < 100)
            assert.near(work[2] / a.median, a.images_per_second, 1e-6 * a.images_per_second)
            assert.near(r.flops / a.median, a.flops_per_second, 1e-6 * a.flops_per_second)
            assert.near(a.flops_per_second / peak, a.share_of_peak, 1e-6)
            -- The weights alone are 0.3 MB, and no process with oneDNN in it is under 4.
            assert.is_true(a.counted_peak > 3e5 and a.counted_peak < a.peak_rss)
            assert.is_true(a.peak_rss > 4e6)
            if r.what ~= "attack" then assert.equal(0, a.takes_per_step) end
            assert.is_nil(r.pytorch)
            local line = table_text:match("\n(" .. work[1] .. "[^\n]+)")
            assert.truthy(line, table_text)
            assert.truthy(line:find((" %.4g "):format(a.median), 1, true), line)
        end
        assert.is_nil(table_text:find("PyTorch", 1, true))
        assert.is_false(support.exists(out .. ".work"))
    end)

    it("profiles a plan, every step beside its budget", function()
        local p, text
        local function sum_of_rows()
            local status, out_text, err = bench("fashion:2:gradient", nil, "--profile")
            assert.equal("", err)
            assert.equal(0, status)
            text, p = out_text, results().profiles[1]
            local sum = 0
            for _, row in ipairs(p.rows) do sum = sum + row.seconds end
            return sum
        end
        -- The steps take about as long as all of them together; a busy machine may stop either for a while.
        local seconds, tries = sum_of_rows(), 1
        while not (seconds > 0.1 * p.seconds and seconds < 10 * p.seconds) and tries < 5 do
            seconds, tries = sum_of_rows(), tries + 1
        end
        assert.is_true(seconds > 0.1 * p.seconds and seconds < 10 * p.seconds)
        local flops, kinds = {[false] = 0, [true] = 0}, {}
        for _, row in ipairs(p.rows) do
            local amount = row.flops or row.bytes
            flops[row.backward] = flops[row.backward] + (row.flops or 0)
            kinds[row.kind] = true
            assert.is_true(row.seconds > 0 and amount > 0 and not (row.flops and row.bytes))
            assert.near(amount / p.rates[row.kind], row.budget, 1e-9 * row.budget)
        end
        -- Every multiply-add of the net is some row's, once in each direction.
        assert.equal(2 * 2 * FASHION, flops[false])
        assert.equal(2 * 2 * FASHION, flops[true])
        assert.same({["1x1"] = true, ["3x3"] = true, other = true, linear = true, memory = true}, kinds)
        -- The strided convolution has its row, with its time and its budget.
        for _, row in ipairs(p.rows) do
            if row.kind == "other" then
                local wanted = ("layer2.conv1 +%s +winograd[ a-z]+other +%.3f +%.3f "):format(
                    row.backward and "back" or "forw", 1e3 * row.seconds, 1e3 * row.budget)
                assert.truthy(text:find((wanted:gsub("%.(%d)", "%%.%1"))), text)
            end
        end
        assert.truthy(text:find("furthest above budget", 1, true))
    end)

    it("takes PyTorch in turns, and shows the ratios to its best mode", function()
        local status, table_text, err = bench("fashion:4:gradient",
            stand_in '{"eager":{"logits":1e-6,"cosine":1e-9}}')
        assert.equal("", err)
        assert.equal(0, status)
        local _, works = results()
        local r = works[1]
        assert.equal("channels_last", r.pytorch.best)
        assert.equal(1.0, r.pytorch.modes.eager.median)
        assert.near(r.advrt.median / 0.5, r.ratio.seconds, 1e-9)
        assert.near(r.advrt.peak_rss / 1e9, r.ratio.peak_rss, 1e-9)
        assert.truthy(table_text:find("channels_last", 1, true))
        -- A row for each mode, with the ratio to it, and why a mode is missing.
        assert.near(r.advrt.median / 1.0, r.pytorch.modes.eager.ratio, 1e-9)
        assert.truthy(table_text:find(("\n  eager +1 +1 +1 +4 +%.2f\n"):format(
            r.advrt.median):gsub("%.", "%%."):gsub(" %+4 ", " +4 ")), table_text)
        assert.truthy(table_text:find("\n  bf16 is left out: no reason\n", 1, true), table_text)
        local turn = "run eager\nrun channels_last\n"
        assert.equal(turn:rep(4) .. "peak \n", support.read(folder .. "/asked"))
        -- The last process started is the one for memory, of the best mode alone.
        local task = json.decode(support.read(folder .. "/task.json"))
        assert.same({"fashion", "gradient", 1}, {task.net, task.what, task.threads})
        assert.same({"channels_last"}, {task.modes[1], task.modes[2]})
    end)

    it("goes on without PyTorch for a net that it has not", function()
        local path = support.write(folder .. "/python", "#!/bin/sh\necho '{\"missing\":\"no such net\"}'\n")
        assert(os.execute("chmod +x " .. support.quote(path)))
        local status, table_text, err = bench("fashion:2:forward",
            "BENCH_PYTHON=" .. support.quote(path))
        assert.equal("", err)
        assert.equal(0, status)
        local _, works = results()
        assert.equal(3, #works[1].advrt.rounds)
        assert.equal("no such net", works[1].pytorch.missing)
        assert.is_nil(works[1].ratio)
        assert.truthy(table_text:find("no such net", 1, true))
    end)

    it("times attacks beside the libraries that have them", function()
        local status, _, err = bench("fashion:4:attack", stand_in "{}")
        assert.equal("", err)
        assert.equal(0, status)
        local task = support.read(folder .. "/asked")
        assert.truthy(task:find("run channels_last", 1, true))
        local asked = json.decode(support.read(folder .. "/first"))
        assert.same({"eager", "channels_last", "channels_last_folded", "torchattacks", "foolbox"},
            asked.modes)
    end)

    it("runs a whole experiment, and holds PyTorch's to its flips", function()
        local status, _, err = bench("fashion:32:experiment", nil, "--rounds", "1")
        local steps = 25
        assert.equal("", err)
        assert.equal(0, status)
        local _, works = results()
        local r = works[1]
        -- As many as the bundled net gets right, whose weights `make weights` may have trained anew.
        local said = select(2, support.advrt {"evaluate"})
        local right = tonumber(said:match("top%-1 [^(]*%((%d+) right%)"))
        assert.is_true(right > 80)
        assert.equal(right, r.images)
        assert.equal(2 * FASHION * right * (1 + 4 * (2 * (steps + 1) + 1)), r.flops)
        assert.equal(1, #r.advrt.rounds)
        assert.is_true(r.advrt.peak_rss > 1e7 and r.advrt.counted_peak > 3e6)
        for _, name in ipairs {"ce", "ce_sign", "logit", "m_logit"} do
            assert.is_true(r.flips[name] > 3 and r.flips[name] < 60, name)
        end
        status, _, err = bench("fashion:32:experiment", stand_in "{}", "--rounds", "1")
        assert.equal(1, status)
        assert.truthy(err:find("ce flips", 1, true) and err:find("not the same work", 1, true), err)
    end)

    it("measures a work in its own precision", function()
        local status, text, err = bench("fashion:2:gradient:mixed,fashion:2:gradient")
        assert.equal("", err)
        assert.equal(0, status)
        local document, works = results()
        assert.same({"f32", "mixed"}, {document.precision, works[1].precision})
        assert.is_nil(works[2].precision)
        assert.truthy(text:find("fashion:2:gradient:mixed", 1, true))
    end)

    it("tables what mixed and bf16 do to gradients and flips", function()
        local dir, cosines = folder .. "/precision", '{"ce":[0.5,0.7,0.9,0.8],"logit":[0.9,0.9,0.9,1]}'
        local path = support.write(folder .. "/python", ([[#!/bin/sh
cp "$2" "%s/task.json"
echo '{"modes":["eager","bf16"],"skipped":{},"difference":{"eager":{"cosine":1e-9}}}'
read -r what mode
echo "$what $mode" >"%s/asked"
echo '%s']]):format(folder, folder, cosines))
        assert(os.execute("chmod +x " .. support.quote(path)))
        local status, text, err = support.advrt({"tests/bench/precision.lua", "--losses", "ce,logit",
            "--limit", "4", "--batch", "3", "--iterations", "60", "--out", dir},
            "BENCH_PYTHON=" .. support.quote(path))
        assert.equal("", err)
        assert.equal(0, status)
        local found = json.decode(support.read(dir .. "/precision.json"))
        assert.equal(4, #found.files)
        for _, name in ipairs {"ce", "logit"} do
            local exact, mixed, bf16 = found.precisions.f32[name], found.precisions.mixed[name],
                found.precisions.bf16[name]
            assert.same({4, 4, 4}, {#exact.flips, #mixed.flips, #bf16.flips})
            for i = 1, 4 do
                assert.is_true(mixed.cosines[i] > 0.9999 and mixed.cosines[i] < 1 - 1e-8)
                assert.is_true(bf16.cosines[i] > 0.8 and bf16.cosines[i] < 0.9999)
                assert.is_true(mixed.same_sign[i] > bf16.same_sign[i])
                assert.is_true(math.abs(mixed.flips[i] - exact.flips[i]) <= 2)
            end
        end
        assert.same(json.decode(cosines), found.precisions.pytorch_autocast)
        assert.equal("cosines bf16\n", support.read(folder .. "/asked"))
        local task = json.decode(support.read(folder .. "/task.json"))
        assert.same(found.targets, task.targets)
        assert.truthy(text:find("PyTorch autocast ce         0.5000000   0.7500000", 1, true), text)
        assert.same({"precision.json"}, support.list(dir))
    end)

    it("refuses to compare with another work, and tells of a process that ends", function()
        local status, _, err = bench("fashion:4:gradient", stand_in '{"eager":{"logits":0.5}}')
        assert.equal(1, status)
        assert.truthy(err:find("not the same work", 1, true), err)
        status, _, err = bench("fashion:4:forward", "BENCH_PYTHON=/bin/true")
        assert.equal(1, status)
        assert.truthy(err:find("no answer", 1, true), err)
        assert.is_false(support.exists(out))
        assert.is_false(support.exists(out .. ".work"))
    end)

    it("refuses works and numbers that make no sense", function()
        for _, works in ipairs {"fashion:4", "fashion:0:forward", "fashion:4:dance", "nonesuch:1:forward",
            "", "fashion:4:forward:f16", "fashion:4:training:bf16", "resnet18:4:experiment"} do
            local status, _, err = bench(works)
            assert.equal(2, status, works)
            assert.matches("^advrt: [^\n]+\n$", err)
        end
        local status, _, err = bench("fashion:1:attack", nil, "--profile")
        assert.equal(2, status)
        assert.truthy(err:find("one run of a plan", 1, true), err)
        status, _, err = bench("fashion:1:forward", nil, "--rounds", "0")
        assert.equal(2, status)
        assert.truthy(err:find("--rounds wants", 1, true), err)
    end)

    it("times two trees in turns, a row each work, and takes no folder without a binary", function()
        local function turns(...)
            return support.advrt {"--threads", "1", "tests/bench/turns.lua", "--rounds", "3", "--out",
                out, ...}
        end
        local status, said, err = turns("--works", "fashion:2:forward", ".")
        assert.equal(0, status, err)
        assert.matches("fashion:2:forward +%S+ +%S+ +%S+ +%S+ %.%. %S+ +1%.000 +%S+\n", said)
        local _, works = results()
        local row = works[1]
        assert.same({3, 3}, {#row.rounds.before, #row.rounds.now})
        assert.is_true(row.low <= row.ratio and row.ratio <= row.high and row.low > 0)
        status, _, err = turns(folder)
        assert.equal(2, status)
        assert.equal(("advrt: %s has no build/advrt; build it by make\n"):format(folder), err)
        status, _, err = turns("--works", "nonsense", ".")
        assert.equal(2, status)
        assert.equal("advrt: --works wants NET:BATCH:WHAT[:PRECISION], got 'nonsense'\n", err)
    end)
end)

describe("the comparison with other libraries' attacks", function()
    local folder
    before_each(function() folder = support.folder() end)
    after_each(function() support.remove(folder) end)

    -- Answers the versions, then that one image of 89 is robust, then that it cannot go on.
    local PYTHON = [[#!/bin/sh
cp "$2" "FOLDER/task.json"
echo '{"foolbox":"3"}'
echo '{"robust":0,"distances":[0.5,0.25,0.75],"seconds":2.5}'
echo '{"missing":"ImportError: no foolbox"}'
]]

    local function peers(environment, word)
        return support.advrt({"tests/bench/peers.lua", word or "deepfool:norm=inf"}, environment)
    end

    it("prints one table, with the libraries' answers where there is an interpreter", function()
        local path = support.write(folder .. "/python", (PYTHON:gsub("FOLDER", folder)))
        assert(os.execute("chmod +x " .. support.quote(path)))
        local status, out, err = peers("BENCH_PYTHON=" .. support.quote(path), "deepfool")
        assert.same({0, ""}, {status, err})
        assert.matches("^89 images that the bundled net gets right", out)
        assert.matches("\ndeepfool:steps=50 +0%.%d+ %(89%) +[%d.]+ +foolbox deepfool +0.5000 %(3%) "
            .. "+2.5\n", out)
        assert.matches("\ndeepfool:norm=inf:steps=50 +0%.%d+ %(89%) .*ImportError: no foolbox +%-\n", out)
        assert.matches("\nfoolbox 3\n", out)
        local task = assert(json.decode(support.read(folder .. "/task.json")))
        assert.same({2, 89, 89, "foolbox", 2, "inf"}, {#task.attacks, #task.labels, #task.targets,
            task.attacks[1].library, task.attacks[1].norm, task.attacks[2].norm})
        assert.is_false(support.exists(task.tensors)) -- it leaves nothing
    end)

    it("stands alone without one, and fails of one that gives no answer", function()
        local status, out = peers("env -u BENCH_PYTHON")
        assert.equal(0, status)
        assert.matches("\ndeepfool:norm=inf:steps=50 +0%.%d+ %(89%) +[%d.]+ +foolbox deepfool +%- +%-\n",
            out)
        local failed, _, err = peers("BENCH_PYTHON=/bin/true")
        assert.equal(1, failed)
        assert.matches("^advrt: /bin/true: attacks.py gave no answer\n$", err)
    end)
end)
