--- Holds EfficientNet-Lite0 on twenty photographs against PyTorch's figures (tests/golden/
-- lite0_photos.json): 17 images kept, nine flips of ten at the same iteration but one, and each
-- loss's mean curves of z_target, l2 and grad_l2.
--
--     build/advrt tests/photos_check.lua                  runs both experiments with the reference's
--                                                         options first (minutes; after make photos)
--     build/advrt tests/photos_check.lua RUN_A RUN_B      compares two runs made with them
--
-- Prints every figure, and ends with status 1 where one is outside its tolerance.

local fail = require "advrt.support.fail"
local json = require "dkjson"
local record = require "advrt.core.record"
local support = require "support"
local system = require "advrt.core.system"
local tables = require "advrt.results.tables"

local PHOTOS = system.options.root .. "/build/photos"
local tolerances = {z_target = 0.05, l2 = 0.01, grad_l2 = 0.15}
local golden = json.decode(support.read(system.options.root .. "/tests/golden/lite0_photos.json"))
local losses = {"ce", "ce_sign", "logit", "m_logit"}

local function run_both()
    if not support.exists(PHOTOS .. "/images/labels.csv") then
        fail("the photographs are not there; make photos brings them")
    end
    local folder = support.folder()
    local runs = {}
    for i, case in ipairs {{"equal_multiplier", "--alpha", golden.alpha},
        {"equal_perturbation", "--magnitude", golden.magnitude}} do
        runs[i] = folder .. "/" .. case[1]
        local words = {support.quote(system.options.executable), "--plan", "direct",
            support.quote(system.options.root .. "/experiments/" .. case[1] .. ".lua"),
            "--net", "nets/efficientnet_lite0.lua",
            "--weights", support.quote(PHOTOS .. "/efficientnet_lite0.pth"),
            "--images", support.quote(PHOTOS .. "/images"), "--targets", "offset:500",
            "--iterations", golden.iterations, "--kappa", golden.kappa, case[2], case[3],
            "--batch", 17, "--out", support.quote(runs[i])}
        if not os.execute(table.concat(words, " ")) then fail("%s did not run", case[1]) end
    end
    return runs
end

--- Relative L2 distance of two curves [0 .. n] and [1 .. n + 1].
local function distance(ours, theirs)
    local difference, size = 0, 0
    for i, v in ipairs(theirs) do
        difference = difference + (ours[i - 1] - v) ^ 2
        size = size + v ^ 2
    end
    return math.sqrt(difference / size)
end

local good, flips, near, same = true, 0, 0, 0

local function check(condition, text)
    good = good and condition
    print((condition and "  ok    " or "  WRONG ") .. text)
end

--- Compares the flips of a run with the reference's, image by image.
local function compare_flips(dir, setting)
    local place, kept = {}, {}
    for i, number in ipairs(golden.images) do place[number] = i end
    for r in record.each(dir .. "/records.msgpack") do
        local i = place[tonumber(r.file:match("imagenet_(%d+)_"))]
        if not i then fail("%s: %s is not among the reference's images", dir, r.file) end
        kept[r.file] = true
        if r.label ~= golden.labels[i] or r.target ~= golden.targets[i] then
            fail("%s: %s has another label or target than the reference", dir, r.file)
        end
        local wanted = golden.runs[setting .. "/" .. r.loss].flip[i]
        flips = flips + 1
        if wanted == r.flip_iteration then same = same + 1 end
        if math.abs(wanted - r.flip_iteration) <= 1 and (wanted < 0) == (r.flip_iteration < 0) then
            near = near + 1
        else
            print(("        %s, %s, %s: flip at %d, the reference %d"):format(setting, r.loss, r.file,
                r.flip_iteration, wanted))
        end
    end
    local count = 0
    for _ in pairs(kept) do count = count + 1 end
    check(count == #golden.images, ("%s: %d images kept, wanted %d"):format(setting, count,
        #golden.images))
end

local runs = #arg == 2 and {arg[1], arg[2]} or run_both()
for _, dir in ipairs(runs) do
    local summary = tables.summarise(dir .. "/records.msgpack", losses, golden.iterations, 0)
    compare_flips(dir, summary.setting)
    for _, s in ipairs(summary.losses) do
        local reference = golden.runs[summary.setting .. "/" .. s.name]
        for _, series in ipairs {"z_target", "l2", "grad_l2"} do
            local d = distance(s.curves[series].mean, reference.mean[series])
            check(d <= tolerances[series], ("%s, %-8s mean %-8s within %5.2f %% (at most %g %%)")
                :format(summary.setting, s.name, series, 100 * d, 100 * tolerances[series]))
        end
    end
end
check(near >= 0.9 * flips, ("%d of %d flips within one iteration (%.1f %%, at least 90 %%), %d at "
    .. "the same"):format(near, flips, 100 * near / flips, same))
os.exit(good, true)
