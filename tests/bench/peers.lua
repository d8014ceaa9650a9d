--- The attacks beside those of other libraries, on the bundled net and images: how many of the images
-- that the net gets right stay right, or how far the nearest examples are.
--
--     make bench-peers BENCH_PYTHON=torch/bin/python
--
-- The interpreter needs torch and any of torchattacks, pyautoattack and foolbox; without one, the
-- attacks stand alone. Numbers are over `seeds` seeds; the libraries' random numbers are not ours.

local attacks = require "advrt.attacks"
local data = require "advrt.data"
local fail = require "advrt.support.fail"
local json = require "dkjson"
local net = require "advrt.net"
local peer = require "peer"
local system = require "advrt.core.system"
local tables = require "advrt.results.tables"
local tensor = require "advrt.tensor"

local HERE = arg[0]:match("^(.*/)") or "./"

--- Our attack, as attacks.parse has it; the library's; seeds; targeted.
local list = {
    {"pgd:eps=0.015:steps=100:alpha=0.00375", "torchattacks pgd", eps = 0.015, steps = 100,
        alpha = 0.00375, seeds = 3},
    {"apgd:eps=0.015:steps=100", "pyautoattack apgd-ce", eps = 0.015, steps = 100, seeds = 3},
    {"apgd:eps=0.015:steps=100:loss=dlr", "pyautoattack apgd-dlr", eps = 0.015, steps = 100, seeds = 3},
    {"pgd:eps=0.02:steps=100:alpha=0.0005", "torchattacks pgd", eps = 0.02, steps = 100, alpha = 0.0005,
        seeds = 3},
    {"apgd:eps=0.02:steps=100", "pyautoattack apgd-ce", eps = 0.02, steps = 100, seeds = 3},
    {"apgd:eps=0.02:steps=100:loss=dlr", "pyautoattack apgd-dlr", eps = 0.02, steps = 100, seeds = 3},
    {"apgd:eps=0.02:steps=100:loss=dlr:classes=9", "pyautoattack apgd-t", eps = 0.02, steps = 100,
        seeds = 3},
    {"fab:eps=0.02:steps=100", "pyautoattack fab-t", eps = 0.02, steps = 100, seeds = 1},
    {"square:eps=0.02:queries=1000", "pyautoattack square", eps = 0.02, steps = 1000, rescale = true,
        seeds = 3},
    {"apgd:norm=2:eps=0.25:steps=100", "pyautoattack apgd-ce", norm = 2, eps = 0.25, steps = 100, seeds = 3},
    {"fab:norm=2:eps=0.25:steps=100", "pyautoattack fab-t", norm = 2, eps = 0.25, steps = 100, seeds = 1},
    {"square:norm=2:eps=0.5:queries=1000", "pyautoattack square", norm = 2, eps = 0.5, steps = 1000,
        rescale = true, seeds = 3},
    {"autoattack:eps=0.015", "pyautoattack standard", eps = 0.015, seeds = 1},
    {"autoattack:eps=0.02", "pyautoattack standard", eps = 0.02, seeds = 1},
    {"autoattack:norm=2:eps=0.25", "pyautoattack standard", norm = 2, eps = 0.25, seeds = 1},
    {"ddn:steps=100", "foolbox ddn", norm = 2, steps = 100, seeds = 1},
    {"ddn:steps=100", "foolbox ddn", norm = 2, steps = 100, seeds = 1, targeted = true},
    {"fmn:steps=100", "foolbox fmn", norm = 2, steps = 100, seeds = 1},
    {"fmn:norm=inf:steps=100", "foolbox fmn", steps = 100, seeds = 1},
    {"deepfool:steps=50", "foolbox deepfool", norm = 2, steps = 50, seeds = 1},
    {"deepfool:norm=inf:steps=50", "foolbox deepfool", steps = 50, seeds = 1},
}

--- The bundled images that the net gets right.
local function right_images(g)
    local folder = data.folder(system.options.root .. "/nets/fashion-images",
        {classes = g.classes, input = g.input})
    local x, labels, targets, names = {}, {}, {}, {}
    for batch, numbers in folder:batches(1, #folder, 32) do
        local predictions = g:forward(batch):argmax()
        for k, i in ipairs(numbers) do
            if predictions:get(k) == folder:label(i) then
                local n = #x + 1
                x[n], labels[n], names[n] = batch[k]:clone(), folder:label(i), folder.files[i]
                targets[n] = (labels[n] + 1 + n % 9) % g.classes
            end
        end
    end
    return {x = tensor.stack(x), labels = labels, targets = targets, names = names, count = #x}
end

--- What an attack comes to: robust, distances, seconds.
local function ours(g, images, case)
    local attack, problem = attacks.parse(case[1])
    if not attack then fail("%s", problem) end
    local answer, began = {robust = 0, distances = {}}, system.clock()
    for seed = 0, case.seeds - 1 do
        local r = attacks.run {attack = attack, net = g, images = images.x, labels = images.labels,
            targets = case.targeted and images.targets or nil, names = images.names, seed = seed}
        for i = 1, images.count do
            if not r.success[i] then
                answer.robust = answer.robust + 1
            else
                table.insert(answer.distances, (case.norm == 2 and r.l2 or r.linf):get(i))
            end
        end
    end
    answer.seconds = system.clock() - began
    return answer
end

--- The library's process, whose lines are its answers; nil where there is no interpreter.
local function start(python, g, images, scratch)
    local task = {weights = g.weights, tensors = scratch .. "/x.safetensors", labels = images.labels,
        targets = images.targets, mean = g.preprocess.mean, std = g.preprocess.std,
        threads = system.options.threads, attacks = {}}
    for i, case in ipairs(list) do
        local library, kind = case[2]:match("^(%S+) (%S+)$")
        task.attacks[i] = {library = library, kind = kind, norm = case.norm or "inf", eps = case.eps,
            steps = case.steps, alpha = case.alpha, seeds = case.seeds, rescale = case.rescale,
            targeted = case.targeted}
    end
    assert(tensor.save(task.tensors, {x = images.x}))
    assert(system.write(scratch .. "/task.json", json.encode(task)))
    return assert(io.popen(("%s %s %s"):format(peer.quote(python), peer.quote(HERE .. "attacks.py"),
        peer.quote(scratch .. "/task.json"))))
end

local function answer_of(from)
    local line = from and from:read("l")
    return line and json.decode(line)
end

--- Robust images in per cent, or the median distance.
local function text_of(answer, case, count)
    if not answer then return "-" end
    if answer.missing then return answer.missing end
    if case.eps then return ("%.1f %%"):format(100 * answer.robust / (count * case.seeds)) end
    table.sort(answer.distances)
    return ("%.4f (%d)"):format(tables.quantile(answer.distances, 0.5), #answer.distances)
end

local words = table.concat(arg, " ")
for i = #list, 1, -1 do -- words choose the attacks whose texts hold one of them
    local wanted = words == ""
    for word in words:gmatch("%S+") do wanted = wanted or list[i][1]:find(word, 1, true) ~= nil end
    if not wanted then table.remove(list, i) end
end
local g = assert(net.load("fashion"))
local images = right_images(g)
local scratch = os.tmpname()
os.remove(scratch)
assert(require("lfs").mkdir(scratch))
local _ <close> = setmetatable({}, {__close = function()
    for _, name in ipairs {"x.safetensors", "task.json"} do os.remove(scratch .. "/" .. name) end
    os.remove(scratch)
end})
local python = os.getenv "BENCH_PYTHON"
local from = python and python ~= "" and start(python, g, images, scratch) or nil
local found = answer_of(from)
if python and python ~= "" and not found then fail("%s: attacks.py gave no answer", python) end
print(("%d images that the bundled net gets right; images still right, or the median distance (images)")
    :format(images.count))
local form = "%-46s %-14s %9s   %-22s %-14s %9s"
print(form:format("attack", "advrt", "seconds", "library", "", "seconds"))
for _, case in ipairs(list) do
    local theirs = answer_of(from)
    local own = ours(g, images, case)
    print(form:format(case[1] .. (case.targeted and ", targeted" or ""), text_of(own, case, images.count),
        ("%.1f"):format(own.seconds), case[2], text_of(theirs, case, images.count),
        theirs and theirs.seconds and ("%.1f"):format(theirs.seconds) or "-"))
end
for name, version in pairs(found or {}) do print(("%s %s"):format(name, version)) end
