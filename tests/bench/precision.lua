--- What --precision mixed and bf16 do to an experiment's figures, beside f32: the cosine of each
-- image's gradient to f32's, and which flips move, by loss.
--
--     build/advrt tests/bench/precision.lua [--net FILE --weights FILE --images DIR] [--out DIR]
--
-- Images that the net gets right are taken, as the experiments take them, and attacked under equal
-- perturbation in each precision. With BENCH_PYTHON, the path of an interpreter that has torch,
-- PyTorch's bf16 autocast on the same weights, images and targets stands beside them. Leaves
-- precision.json, with every image's cosines, in the folder.

local attack = require "advrt.attack"
local experiment = require "advrt.run.experiment"
local fail = require "advrt.support.fail"
local folder = require "advrt.run.folder"
local images = require "images"
local json = require "dkjson"
local lfs = require "lfs"
local loss = require "advrt.loss"
local net = require "advrt.net"
local options = require "advrt.support.options"
local peer = require "peer"
local system = require "advrt.core.system"
local tensor = require "advrt.tensor"
local weights = require "advrt.core.weights"
local work = require "work"

local PRECISIONS = {"mixed", "bf16"}
-- PyTorch's f32 gradients and ours are the same work where images agree to this, 1 - cosine.
local AGREEMENT = 1e-3

--- The cosine of each image of a and b, and the share of elements of the same sign, from norms: the
-- difference of what is nearly the same is exact.
local function compare(a, b)
    local l2_a, l2_b, l2_d = a:norms(), b:norms(), (a - b):norms()
    local _, _, same = (a:clone():sign_() - b:clone():sign_()):norms()
    local cosines = {}
    for i = 1, #l2_a do
        local p, q, d = l2_a:get(i), l2_b:get(i), l2_d:get(i)
        cosines[i] = (p * p + q * q - d * d) / (2 * p * q)
    end
    return cosines, same:totable()
end

--- Gradients and attacks of one batch in one precision.
local function run(g, one, o, x, labels, targets)
    local z, q = g:gradient(x, one, targets)
    local r = attack.run {net = g, images = x, labels = labels, targets = targets, loss = one,
        multiplier = attack.equal_perturbation(o.magnitude), iterations = o.iterations}
    return {z = z, q = q, flips = r.flip_iteration, seconds = r.seconds}
end

local function append(to, from, n) table.move(from, 1, n, #to + 1, to) end

--- precision -> loss -> {cosines, same_sign, flips}, an entry per image, and f32's flips; and the
-- attacks' seconds by precision.
local function measure(o, nets, losses, taken)
    local found, seconds = {f32 = {}}, {f32 = 0, mixed = 0, bf16 = 0}
    for _, p in ipairs(PRECISIONS) do found[p] = {} end
    for _, one in ipairs(losses) do
        found.f32[one.name] = {flips = {}}
        for _, p in ipairs(PRECISIONS) do
            found[p][one.name] = {cosines = {}, same_sign = {}, flips = {}}
        end
        for x, labels, targets, real in images.batches(taken, o.batch) do
            -- The gradient's cosine is what is asked for; of signs the share that is the same.
            local plain = one.signed and loss.ce or one
            local exact = run(nets.f32, one, o, x, labels, targets)
            local _, q32 = nets.f32:gradient(x, plain, targets)
            append(found.f32[one.name].flips, exact.flips:totable(), real)
            seconds.f32 = seconds.f32 + exact.seconds
            for _, p in ipairs(PRECISIONS) do
                local other, into = run(nets[p], one, o, x, labels, targets), found[p][one.name]
                local _, q = nets[p]:gradient(x, plain, targets)
                local cosines, same = compare(q, q32)
                append(into.cosines, cosines, real)
                append(into.same_sign, same, real)
                append(into.flips, other.flips:totable(), real)
                seconds[p] = seconds[p] + other.seconds
                assert(p ~= "mixed" or other.z:equal(exact.z), "mixed moved the logits")
            end
        end
    end
    return found, seconds
end

--- PyTorch's autocast on the same: {loss -> cosines}, or nil and why not.
local function measure_peer(o, g, losses, taken, scratch)
    local python = os.getenv("BENCH_PYTHON")
    if not python or python == "" then return nil, "BENCH_PYTHON names no interpreter" end
    local names = {}
    for i, one in ipairs(losses) do names[i] = one.name end
    local n = #taken.files
    local t = {x = taken.x, dz = tensor.new {n, g.classes}, z = tensor.new {n, g.classes},
        q = tensor.new(taken.x:shape())}
    local first = 1
    for x, _, targets, real in images.batches(taken, o.batch) do
        local z = g:trace(x)
        local _, dz = loss.ce:evaluate(z, targets)
        local q = g:backward(dz)
        for k = 1, real do
            t.z[first]:copy(z[k])
            t.dz[first]:copy(dz[k])
            t.q[first]:copy(q[k])
            first = first + 1
        end
    end
    assert(g:save(scratch .. "/weights.safetensors"))
    assert(weights.save(scratch .. "/tensors.safetensors", t))
    local other <close> = peer.start({
        name = g.name, net = g.name, what = "gradient", python = python, scratch = scratch,
        task = {labels = taken.labels, targets = taken.targets, mean = g.preprocess.mean,
            std = g.preprocess.std, experiment = {losses = names, kappa = o.kappa, batch = o.batch}},
    }, {"eager", "bf16"})
    if other.missing then return nil, other.missing end
    if #other.modes < 2 then return nil, (select(2, next(other.skipped))) end
    if other.difference.eager.cosine > AGREEMENT then
        fail("PyTorch's f32 gradients differ from ours by %g (1 - cosine): not the same work",
            other.difference.eager.cosine)
    end
    return other:ask("cosines", "bf16")
end

-- The table --------------------------------------------------------------------

--- Of flips in f32 and in another precision: how many moved (or came or went), and the mean shift
-- in iterations of those that flipped in both.
local function moved(exact, other)
    local count, sum, both = 0, 0, 0
    for i = 1, #exact do
        if exact[i] ~= other[i] then count = count + 1 end
        if exact[i] >= 0 and other[i] >= 0 then
            sum, both = sum + other[i] - exact[i], both + 1
        end
    end
    return count, both > 0 and sum / both or 0 / 0
end

local function flipped(flips)
    local n = 0
    for _, f in ipairs(flips) do n = n + (f >= 0 and 1 or 0) end
    return n
end

local function print_table(losses, found, theirs)
    print(("%-16s %-8s %11s %11s %11s %13s %15s %11s"):format("precision", "loss", "cosine min",
        "median", "same sign", "flips (f32)", "flips that move", "mean shift"))
    for _, p in ipairs(PRECISIONS) do
        for _, one in ipairs(losses) do
            local r, exact = found[p][one.name], found.f32[one.name]
            local median, least = work.median(r.cosines)
            local count, shift = moved(exact.flips, r.flips)
            print(("%-16s %-8s %11.7f %11.7f %9.2f %% %6d (%4d) %15d %11.2f"):format(p, one.name, least,
                median, 100 * work.median(r.same_sign), flipped(r.flips), flipped(exact.flips), count,
                shift))
        end
    end
    for _, one in ipairs(theirs and losses or {}) do
        local median, least = work.median(theirs[one.name])
        print(("%-16s %-8s %11.7f %11.7f"):format("PyTorch autocast", one.name, least, median))
    end
end

local function main(argv)
    local takes = table.move(options.of_images, 1, #options.of_images, 1, {})
    for _, name in ipairs {"targets", "losses", "iterations", "magnitude", "kappa", "seed", "out"} do
        takes[#takes + 1] = name
    end
    local o = options.parse(argv, {name = "precision.lua", options = takes,
        description = "Sets gradients and flips in mixed and bf16 beside those in f32."})
    local g = experiment.load_net(o)
    o.magnitude = o.magnitude or g.defaults.magnitude or 0.05
    local nets, losses = {f32 = g}, {}
    for _, p in ipairs {"f32", "mixed", "bf16"} do
        nets[p] = assert(net.load(o.net, {weights = o.weights, mean = o.mean, std = o.std,
            crop = o.crop, precision = p}))
    end
    for i, name in ipairs(o.losses) do
        losses[i] = loss.with_options(name, o)
    end
    local taken = images.right(o, nets.f32, experiment.open_images(o, nets.f32))
    local out <close> = folder.claim(o.out, "precision")
    local scratch = out:file("scratch")
    assert(lfs.mkdir(scratch))
    local remove <close> = setmetatable({}, {__close = function() -- luacheck: ignore
        os.execute("rm -rf " .. peer.quote(scratch))
    end})
    print(("%s, %d images right in f32, %s plan, %d iterations of norm %g"):format(g.name, #taken.files,
        system.options.plan, o.iterations, o.magnitude))
    local found, seconds = measure(o, nets, losses, taken)
    local theirs, why = measure_peer(o, nets.f32, losses, taken, scratch)
    print_table(losses, found, theirs)
    if not theirs then print("PyTorch autocast: " .. why) end
    for _, p in ipairs(PRECISIONS) do
        print(("%s takes %.2f of the time of f32"):format(p, seconds[p] / seconds.f32))
    end
    found.pytorch_autocast = theirs
    out:write("precision.json", json.encode({
        net = g.name, files = taken.files, labels = taken.labels, targets = taken.targets,
        iterations = o.iterations, magnitude = o.magnitude, plan = system.options.plan,
        isa = system.options.isa, precisions = found, seconds = seconds,
    }, {indent = true}) .. "\n")
    print("results: " .. out.path .. "/precision.json")
end

main(arg)
