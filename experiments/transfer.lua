--- Transfer: how many of each loss's adversarial examples also fool other nets than their own. The paper
-- expects the fewest for CE.
--
-- For each net and loss, over the examples whose genuine image the net classifies correctly, it
-- reports two fractions: classified as the target, and not classified as the label. Without --nets
-- the other net is nets/mlp.lua, trained here for an epoch on Fashion-MNIST.

local count_of = require "advrt.support.count"
local adversarial = require "advrt.paper.adversarial"
local arguments = require "advrt.support.check"
local csv = require "advrt.support.csv"
local experiment = require "advrt.run.experiment"
local fail = require "advrt.support.fail"
local folder = require "advrt.run.folder"
local image = require "advrt.core.image"
local latex = require "advrt.results.latex"
local net = require "advrt.net"
local options = require "advrt.support.options"
local lines_of = require "advrt.support.lines"
local plot = require "advrt.plot"
local progress = require "advrt.run.progress"
local run_json = require "advrt.run.run_json"
local system = require "advrt.core.system"
local tables = require "advrt.results.tables"
local train = require "advrt.train"

local FASHION = "/usr/share/datasets/fashion-mnist/train-"

local takes = table.move(adversarial.options, 1, #adversarial.options, 1, {})
table.move({"set", "nets", "out"}, 1, 3, #takes + 1, takes)
local o = options.parse(arg, {
    name = "transfer.lua",
    description = "Counts the adversarial examples that also fool other nets.",
    uses = {
        {"", "from the bundled network to a multilayer perceptron"},
        {"--net a.onnx --nets b.onnx,c.onnx --images photos", "from one network of your own to two others"},
        {"--set runs/examples --nets b.onnx", "examples that make_adversarial made"},
    },
    options = takes,
    flags = {adversarial.skip_bad}, figures = true,
})
if not o.no_figures then plot.check() end
local began = os.time()

--- A multilayer perceptron, trained for an epoch.
local function trained_mlp()
    local g, message = net.load("mlp", {init = "he", seed = o.seed})
    if not g then fail("%s", message) end
    local function read(what)
        local t, problem = image.idx(FASHION .. what)
        if not t then
            fail("%s (install Debian's package dataset-fashion-mnist, or give --nets)", problem)
        end
        return t
    end
    local images, labels = read "images-idx3-ubyte.gz", read "labels-idx1-ubyte.gz"
    local batch = 128
    local shown <close> = progress.start("images", #images // batch * batch)
    train.run {net = g, images = images:reshape {#images, 1, images:size(2), images:size(3)},
        labels = labels, epochs = 1, batch = batch, seed = o.seed,
        optimiser = train.adam {rate = 1e-3}, progress = function(step)
            shown:update(step * batch, "training mlp")
            if system.interrupted() then fail.interrupted() end
        end}
    shown:finish("mlp trained")
    return g
end

--- A net of --nets, checked against the source net.
local function other(text, source)
    local path, weights = text:match("^(.-)=(.+)$")
    local g, message = net.load(path or text, {weights = weights})
    if not g then fail("%s", message) end
    if g.classes ~= source.classes or table.concat(g.input, ",") ~= table.concat(source.input, ",") then
        fail("--nets: %s takes [%s] and has %d classes, the source net takes [%s] and has %d", g.name,
            table.concat(g.input, ","), g.classes, table.concat(source.input, ","), source.classes)
    end
    return g
end

-- Check requirements before making a set.
local set = o.set and adversarial.open(o.set)
local source = set and set:source() or experiment.load_net(o)
local nets = {source}
for i, text in ipairs(o.nets or {}) do nets[i + 1] = other(text, source) end
local out <close> = folder.claim(o.out, "transfer")
o.out = out.path
if not o.nets then nets[2] = trained_mlp() end
set = set or adversarial.open(adversarial.folders(o, out))
experiment.settle_batch(o, source, math.maxinteger)

local images = set:feed(false)

local shown, done -- progress over the nets

--- Records that a batch of images has passed through a net.
local function advance(g, places)
    done = done + #places
    shown:update(done, g.name)
    if system.interrupted() then fail.interrupted() end
end

--- The classes that a net predicts for the images of a list at the indices `places`.
local function classes_of(g, x, list, places)
    local z = g:forward(x)
    arguments.logits(z, function(k) return list.file[places[k] or places[1]] end, "in net " .. g.name)
    return z:argmax()
end

--- The genuine images that a net classifies correctly: file -> true.
local function right_files(g)
    local genuine, right = set.of.genuine, {}
    for x, places in set:batches(images, genuine, o.batch) do
        local classes = classes_of(g, x, genuine, places)
        for k, place in ipairs(places) do
            right[genuine.file[place]] = classes:get(k) == genuine.label[place] or nil
        end
        advance(g, places)
    end
    return right
end

--- {n, target, fooled}: counts over a loss's examples whose genuine image is classified correctly.
local function count(g, list, right)
    local n, target, fooled = 0, 0, 0
    for x, places in set:batches(images, list, o.batch) do
        local classes = classes_of(g, x, list, places)
        for k, place in ipairs(places) do
            if right[list.file[place]] then
                n = n + 1
                if classes:get(k) == list.target[place] then target = target + 1 end
                if classes:get(k) ~= list.label[place] then fooled = fooled + 1 end
            end
        end
        advance(g, places)
    end
    return {n = n, target = target, fooled = fooled}
end

local results = {}
do
    local each = #set.of.genuine.number
    for _, name in ipairs(set.losses) do each = each + #(set.of[name] or {number = {}}).number end
    local bar <close> = progress.start("images", #nets * each)
    shown, done = bar, 0
    for i, g in ipairs(nets) do
        local right, total = right_files(g), 0
        for _ in pairs(right) do total = total + 1 end
        results[i] = {net = g, right = total}
        for _, name in ipairs(set.losses) do
            results[i][name] = count(g, set.of[name] or {number = {}}, right)
        end
    end
    shown:finish(count_of(#nets, "net"))
end

-- The results ---------------------------------------------------------------------

local function title_of(i) return nets[i].name .. (i == 1 and " (source)" or "") end

local lines = {"net,role,genuine,genuine_right,loss,examples,target,target_share,target_low,target_high,"
    .. "fooled,fooled_share,fooled_low,fooled_high"}
local text = {"Examples that are seen as the target / as another class than the label (%), and their number"}
local cells = {{"Net", "genuine right"}}
for _, name in ipairs(set.losses) do table.insert(cells[1], tables.title(name)) end
for i, r in ipairs(results) do
    local all = #set.of.genuine.number
    local line = {title_of(i), ("%d of %d"):format(r.right, all)}
    for _, name in ipairs(set.losses) do
        local c = r[name]
        line[#line + 1] = c.n > 0 and ("%.1f / %.1f (%d)"):format(100 * c.target / c.n,
            100 * c.fooled / c.n, c.n) or "-"
        local fields = {csv.text(nets[i].name), i == 1 and "source" or "other", tables.number(all),
            tables.number(r.right), csv.field(name), tables.number(c.n)}
        for _, hits in ipairs {c.target, c.fooled} do
            local low, high = tables.interval(hits, c.n)
            for _, v in ipairs {hits, hits / c.n, low, high} do fields[#fields + 1] = tables.number(v) end
        end
        lines[#lines + 1] = table.concat(fields, ",")
    end
    cells[i + 1] = line
end
local columns = lines_of.columns(cells, 24)
table.move(columns, 1, #columns, 2, text)
latex.write(out, "transfer", table.concat(lines, "\n") .. "\n")
out:write("transfer.txt", table.concat(text, "\n") .. "\n")

if not o.no_figures then
    local styles, panels, groups = plot.styles(set.losses), {}, {}
    for i in ipairs(nets) do groups[i] = title_of(i) end
    for p, kind in ipairs {"target", "fooled"} do
        local series = {}
        for k, name in ipairs(set.losses) do
            series[k] = {title = tables.title(name), colour = styles[name].colour, rows = {}}
            for i, r in ipairs(results) do
                local c = r[name]
                series[k].rows[i] = c.n > 0 and {c[kind] / c.n, tables.interval(c[kind], c.n)}
            end
        end
        panels[p] = {groups = groups, series = series, title = kind == "target"
            and "seen as the target" or "not seen as the label"}
    end
    out:write("figtransfer.gp", plot.bars("figtransfer", "Transfer of adversarial examples",
        "examples (%), 95 % interval", panels, nil, plot.form(o)))
    plot.draw(out.path, {"figtransfer"})
end
run_json.write(out, run_json.ended {setting = "transfer", o = o, options = takes, net = source,
    began = began})
print(table.concat(text, "\n"))
print(("\nTables%s: %s/"):format(o.no_figures and "" or " and the picture", out.path))
