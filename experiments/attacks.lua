--- Full attacks (the paper's Section III) side by side: FGS, IFGS, PGD, L-BFGS, Carlini & Wagner.
--
-- The images that the net gets right are attacked with each attack of a list, NAME or
-- NAME:PARAMETER=VALUE:... as advrt.attacks has them. What is written is measured from the finished
-- images: success, L2, Linf, the evaluations and gradients an image took, and the time.

local attacks = require "advrt.attacks"
local data = require "advrt.data"
local experiment = require "advrt.experiment"
local fail = require "advrt.fail"
local folder = require "advrt.folder"
local options = require "advrt.options"
local plot = require "advrt.plot"
local progress = require "advrt.progress"
local report = require "advrt.attacks.report"
local run_json = require "advrt.run_json"
local tensor = require "advrt.tensor"

local takes = table.move(options.of_images, 1, #options.of_images, 1, {})
for _, name in ipairs {"attacks", "require", "targets", "seed", "out", "shard"} do
    takes[#takes + 1] = name
end
local o = options.parse(arg, {
    name = "attacks.lua",
    description = "Attacks images with each attack of a list: success, distances, counts and time.",
    options = takes,
    flags = {{"untargeted", "away from the label, not towards a target"},
        {"no-figures", "leave the picture out"}},
    either = {{"targets", "untargeted"}},
})
if not o.no_figures then plot.check() end
local began = os.time()
local g = experiment.load_net(o)
local target_of, message = data.targets(o.targets, g.classes, o.seed)
if not target_of then fail.option("--targets: %s", message) end
if o.untargeted then target_of = function() return nil end end
local list = {}
for i, text in ipairs(o.attacks) do
    list[i] = attacks.parse(text)
    if g.classes < list[i].loss.min_classes then
        fail.option("--attacks: %s needs %d classes, the net has %d", text,
            list[i].loss.min_classes, g.classes)
    end
end
local images, listed = experiment.open_images(o, g)
local first, last = data.shard(listed, table.unpack(o.shard))
local out <close> = folder.claim(o.out, "attacks")
o.out, o.untargeted = out.path, o.untargeted or false
print(images:about(listed))

local run = {images = images, listed = listed,
    o = o, setting = "attacks", options = takes, net = g, began = began, seconds = {}}
takes[#takes + 1] = "untargeted"

--- An iterator over the images that are attacked, in order; counts them in `run`.
local function right_images()
    run.found, run.wrong, run.left_out, run.attacked = 0, 0, 0, 0
    local z = tensor.new {o.batch, g.classes}
    return coroutine.wrap(function()
        for x, numbers in images:batches(first, last, o.batch) do
            local predictions = g:forward(x, z):argmax()
            for k, i in ipairs(numbers) do
                local file, label, prediction = images.files[i], images:label(i), predictions:get(k)
                if prediction < 0 then
                    fail("%s/%s: the net's logits are not finite; check the weights and the "
                        .. "preprocessing", images.dir, file)
                end
                local target = target_of(file, label, z[k])
                run.found = run.found + 1
                if prediction ~= label then
                    run.wrong = run.wrong + 1
                elseif not (target or o.untargeted) then
                    run.left_out = run.left_out + 1
                else
                    run.attacked = run.attacked + 1
                    coroutine.yield {number = run.attacked, image = x[k]:clone(), name = file,
                        label = label, target = target}
                end
            end
        end
    end)
end

local shown <close> = progress.start("images", #list * math.max(0, last - first + 1))
local rows, results, done = {}, {}, 0
for a, attack in ipairs(list) do
    local about = attacks.stream {
        attack = attack, net = g, next = right_images(), targeted = not o.untargeted,
        batch = o.batch, seed = o.seed,
        done = function(item, one)
            results[item.number] = results[item.number] or {}
            results[item.number][a] = {attack = attack.name, file = item.name, label = item.label,
                target = item.target or -1, prediction = one.prediction, success = one.success,
                l2 = one.l2, linf = one.linf, forward = one.forward, backward = one.backward}
            done = done + 1
        end,
        tick = function() shown:update(done, attack.name) end,
    }
    if a == 1 and run.attacked == 0 and o.shard[2] == 1 then
        fail("nothing to attack: of %d images in %s the net gets %d wrong and %d are left out by "
            .. "--targets; check the weights, the preprocessing and the labels "
            .. "(experiments/evaluate.lua)", run.found, o.images, run.wrong, run.left_out)
    end
    shown.total = #list * run.attacked
    rows[a] = report.row(attack.name, not o.untargeted, results, a, about)
    run.seconds[attack.name] = rows[a].seconds
end
shown:finish(("%d images attacked with %d attacks"):format(run.attacked, #list))

report.save(out, results)
out:write("attacks.csv", report.csv(rows))
out:write("perturbations.csv", report.images_csv(results))
out:write("run.json", run_json.text(run))
if not o.no_figures and run.attacked > 0 then
    out:write("fig_attacks.gp", report.figure("fig_attacks", rows, results, o.untargeted))
    plot.draw(out.path, {"fig_attacks"})
end
print(("%d images, %d right on the clean image (%.2f %%), %d attacked, %s\n"):format(run.found,
    run.found - run.wrong, 100 * (run.found - run.wrong) / math.max(1, run.found), run.attacked,
    o.untargeted and "untargeted" or "towards targets"))
print(report.text(rows))
print(("Tables%s: %s/"):format(o.no_figures and "" or " and the picture", out.path))
