--- Adversarial retraining (the paper's Section V-C): Tables II and III.
--
-- It makes a set of adversarial examples, or uses one of make_adversarial.lua. For each net, it
-- trains detectors with two classes, genuine and adversarial: on the examples of one attack (Table
-- II) and of all attacks (Table III), on float32 values and on values rounded to 8 bits. No source
-- image is on both sides of the split. With --search, each cell is trained with its paper's own
-- hyperparameters and with Adam at several rates. The tables then show the run that is best on the
-- test images, as in the paper, and the one chosen on validation images. Under mpirun, the
-- processes make the set in parts and share every batch of the trainings: the same results except
-- for the order of sums. Rank 0 keeps the journal and writes the results.

local count_of = require "advrt.support.count"
local adversarial = require "advrt.paper.adversarial"
local detect = require "advrt.paper.detect"
local detect_tables = require "advrt.paper.detect_tables"
local dist = require "advrt.dist"
local experiment = require "advrt.run.experiment"
local fail = require "advrt.support.fail"
local folder = require "advrt.run.folder"
local core = require "advrt.core.record"
local latex = require "advrt.results.latex"
local lfs = require "lfs"
local options = require "advrt.support.options"
local plot = require "advrt.plot"
local progress = require "advrt.run.progress"
local resume = require "advrt.run.resume"
local run_json = require "advrt.run.run_json"
local shards = require "advrt.run.shards"
local system = require "advrt.core.system"
local tensor = require "advrt.core.tensor"

local FASHION = "/usr/share/datasets/fashion-mnist/t10k-images-idx3-ubyte.gz"

local takes = table.move(adversarial.options, 1, #adversarial.options, 1, {})
for _, name in ipairs {"set", "detectors", "pretrained", "stem", "values", "epochs", "recipe", "rates",
    "weight-decay", "train-batch", "test-share", "validation-share", "out"} do
    takes[#takes + 1] = name
end

local function read_options()
    local o = options.parse(arg, {
        name = "retraining.lua",
        description = "Trains detectors of adversarial examples: Tables II and III.",
        uses = {
            {"--dry-run", "print the expected time and disk space only"},
            {"", "Tables II and III on Fashion-MNIST"},
            {"--set runs/examples --detectors resnet18 --epochs 5",
                "one detector on examples that make_adversarial made"},
        },
        options = takes,
        ranks = true,
        defaults = {limit = 800, epochs = 12,
            images = "Fashion-MNIST's test images", extra = "three for each of --limit"},
        flags = {{"search", "train each cell with every recipe, not only with --recipe"},
            {"augment", "flip and shift the training images at random"},
            adversarial.skip_bad,
            {"resume", "continue the run in --out"},
            {"dry-run", "print the expected time and disk space, and exit"}},
        figures = true,
    })
    if o.images == "Fashion-MNIST's test images" then
        o.images = FASHION
        if not o.set and not lfs.attributes(FASHION, "mode") then
            fail("%s is missing; install Debian's package dataset-fashion-mnist, or give --images or --set",
                FASHION)
        end
    end
    if type(o.extra) == "string" then o.extra = (#o.losses - 1) * math.min(o.limit, o.sample or o.limit) end
    if o.dry_run and dist.size > 1 then
        fail.option("--dry-run runs in one process; start it without mpirun")
    end
    if o.test_share + o.validation_share >= 1 then
        fail.option("--test-share and --validation-share leave nothing to train on")
    end
    o.shard, o.weights_of = {1, 1}, {}
    for _, text in ipairs(o.pretrained or {}) do
        local name, file = text:match("^(%w+)=(.+)$")
        o.weights_of[name] = file
    end
    return o
end

-- The set -----------------------------------------------------------------------

--- One checksum over the indices of a set's folders.
local function set_sum(dirs)
    local sums = {}
    for i, dir in ipairs(dirs) do
        local sum, message = system.sha256(dir .. "/records.msgpack")
        if not sum then fail("%s", message) end
        sums[i] = sum
    end
    return system.digest(table.concat(sums))
end

-- The cells ---------------------------------------------------------------------

--- All runs in order: {table, values, loss, net, recipe, key}.
local function list_runs(o, losses, recipes)
    local list = {}
    for _, values in ipairs(o.values) do
        for _, number in ipairs {2, 3} do
            for _, loss in ipairs(number == 2 and losses or {"all"}) do
                for _, name in ipairs(o.detectors) do
                    for _, recipe in ipairs(recipes) do
                        list[#list + 1] = {table = number, values = values, loss = loss, net = name,
                            recipe = recipe.name, with = recipe, key = ("%s-%s-%s-%s"):format(values,
                                loss, name, recipe.name):gsub("[^%w_.-]", "_")}
                    end
                end
            end
        end
    end
    return list
end

--- A run's results as the fields of a journal's note, and back. Counts are lines "NAME RIGHT
-- IMAGES".
local function note_of(run)
    local lines = {}
    local function add(name, count)
        lines[#lines + 1] = ("%d %d %s\n"):format(count[1], count[2], name)
    end
    if run.counts then
        local names = {}
        for name in pairs(run.counts) do names[#names + 1] = name end
        table.sort(names)
        for _, name in ipairs(names) do add(name, run.counts[name]) end
        add("validation.", run.validation)
    end
    return {{"key", run.key}, {"table", run.table}, {"values", run.values}, {"loss", run.loss},
        {"net", run.net}, {"recipe", run.recipe}, {"counts", table.concat(lines)},
        {"diverged", run.diverged or ""}}
end

local function read_note(note, run)
    if note.diverged ~= "" then
        run.diverged = note.diverged
        return
    end
    run.counts = {}
    for right, images, name in note.counts:gmatch("(%d+) (%d+) ([^\n]*)\n") do
        local count = {math.tointeger(tonumber(right)), math.tointeger(tonumber(images))}
        if name == "validation." then run.validation = count else run.counts[name] = count end
    end
end

local Work = {}
Work.__index = Work

--- The images of a run's cell. In a cell of all losses, they are the same for both kinds of values.
function Work:images(run)
    self.cells[run.loss] = self.cells[run.loss] or detect.images(self.set, self.part_of,
        run.loss == "all" and self.set.losses or {run.loss}, self.o.seed)
    return self.cells[run.loss]
end

function Work:feed(values)
    self.feeds[values] = self.feeds[values] or self.set:feed(values == "8bit")
    return self.feeds[values]
end

--- The checkpoint of a run's training.
function Work:checkpoint(run)
    return self.out:file(("checkpoint-%s.safetensors"):format(run.key))
end

--- Trains one run, and commits its results.
function Work:one(run, shown)
    local images = self:images(run)
    local what = ("%s on %s, %s, %s"):format(detect.titles[run.net], run.loss, run.values, run.recipe)
    local checkpoint = self:checkpoint(run)
    local o, per_run, before = self.o, #images.train.numbers * self.o.epochs, self.done
    local result = detect.train {
        name = run.net, set = self.set, data = self:feed(run.values), images = images,
        recipe = run.with, o = o, key = run.key, checkpoint = checkpoint,
        csv = self.out:file(("logs/%s.csv"):format(run.key)),
        progress = function(step, steps, loss, accuracy)
            shown:update(before + per_run * step // steps, ("%s: loss %.3f, %.1f %%"):format(what, loss,
                100 * accuracy))
            if system.interrupted() then fail.interrupted() end
        end,
    }
    run.counts, run.validation, run.diverged = result.counts, result.validation, result.diverged
    self.done = before + per_run
    if dist.rank > 0 then return end
    if run.diverged then io.stderr:write("advrt: ", run.diverged, "; this run is left out\n") end
    self.journal:add("records", core.pack(note_of(run)))
    self.journal:commit(note_of(run))
    os.remove(checkpoint)
    self.out:keep()
end

function Work:go()
    local total = 0
    for i, run in ipairs(self.runs) do
        if i > self.skip then total = total + #self:images(run).train.numbers * self.o.epochs end
    end
    local shown <close> = progress.start("images", total)
    for i, run in ipairs(self.runs) do
        if i > self.skip then self:one(run, shown) end
    end
    shown:finish(count_of(#self.runs - self.skip, "detector") .. " trained")
end

-- The results ---------------------------------------------------------------------

local function write_results(self)
    local o, out, losses = self.o, self.out, self.set.losses
    local lines, texts, drawn = {detect_tables.header}, {}, {}
    local choices = #self.recipes > 1 and detect_tables.choices or {detect_tables.choices[2]}
    for _, number in ipairs {2, 3} do
        local groups = {}
        for _, choice in ipairs(choices) do
            for _, values in ipairs(o.values) do
                local rows = detect_tables.cells(self.runs, number, values, choice, losses, o.detectors)
                texts[#texts + 1] = detect_tables.text(rows, number, values, choice, o.detectors)
                lines[#lines + 1] = detect_tables.csv(rows, number, values, choice, o.detectors)
                if choice == choices[#choices] then groups[#groups + 1] = {values, rows} end
            end
        end
        local name = "figtable" .. number
        if not o.no_figures then
            out:write(name .. ".gp", detect_tables.figure(name, number, groups, o.detectors,
                plot.form(o)))
            drawn[#drawn + 1] = name
        end
        local part = table.concat(lines)
        latex.write(out, ("table%d"):format(number), part)
        lines = {detect_tables.header}
    end
    latex.write(out, "runs", detect_tables.runs_csv(self.runs))
    local text = table.concat(texts, "\n")
    out:write("tables.txt", text)
    plot.draw(out.path, drawn)
    return text
end

--- Completes run.json: the images and seconds of all parts of the set, summed.
local function finish_about(about, set)
    local counts, seconds = {found = 0, wrong = 0, left_out = 0, attacked = 0}, {}
    for _, one in ipairs(set.about) do
        for name in pairs(counts) do counts[name] = counts[name] + one["images_" .. name] end
        for name, value in pairs(one.seconds) do seconds[name] = (seconds[name] or 0) + value end
    end
    about.options.losses = set.losses
    run_json.finish(about, counts, seconds)
end

-- --dry-run -----------------------------------------------------------------------

--- Seconds of a training step of a detector, the smaller of two; and its batch.
local function step_seconds(name, recipe, o, input)
    local given = {input = input, about = {{options = {}}}}
    local mean, std = {}, {}
    for c = 1, input[1] do mean[c], std[c] = 0.5, 0.25 end
    given.about[1].options.mean, given.about[1].options.std = mean, std
    local g, how = detect.net(name, given, setmetatable({weights_of = {}}, {__index = o})),
        recipe.of(name)
    local B, labels = how.batch, {}
    for k = 1, B do labels[k] = k % 2 end
    local plan, x = g:training_plan(B, 0), tensor.uniform("dry", {B, table.unpack(input)})
    local dz, best = tensor.new {B, 2}, math.huge
    for _ = 1, 3 do
        local from = system.clock()
        tensor.cross_entropy(plan:forward(x), labels, dz)
        plan:train_backward(dz)
        how.optimiser:step(g, plan)
        best = math.min(best, system.clock() - from)
    end
    return best, B
end

local function dry_run(o, recipes)
    local e
    if o.set then
        local set = adversarial.open(o.set)
        e = {images = #set.of.genuine.number, input = set.input, seconds = 0, bytes = 0}
    else
        e = adversarial.estimate(o)
        print(("examples    %s, %s, %s: %s, %s on the disk"):format(count_of(e.images, "image"),
            count_of(#o.losses, "loss", "losses"), count_of(o.iterations, "iteration"),
            progress.duration(e.seconds), folder.size(e.bytes)))
    end
    o.stem = o.stem or (e.input[2] < 64 and "small" or "full")
    local L, share = #o.losses, 1 - o.test_share - o.validation_share
    -- Table II: an example and its source, for each loss; Table III: twice the examples of all.
    local images = (2 * L + 2 * L) * e.images * share * o.epochs * #o.values
    local total = e.seconds
    for _, name in ipairs(o.detectors) do
        local seconds = 0
        for _, recipe in ipairs(recipes) do
            local step, B = step_seconds(name, recipe, o, e.input)
            seconds = seconds + step * images / B
        end
        -- Evaluating an image takes a third of the time of a training step on it.
        seconds = seconds * (1 + (o.validation_share / share) / 3)
        print(("%-11s %s, %.3g images in all: %s"):format(detect.titles[name],
            count_of(#recipes * (L + 1) * #o.values, "run"), images * #recipes, progress.duration(seconds)))
        total = total + seconds
        collectgarbage()
    end
    print(("in all      %s, %s on the disk"):format(progress.duration(total),
        folder.size(e.bytes + 2e6)))
end

-- ----------------------------------------------------------------------------------

local o = read_options()
local recipes = detect.recipes(o, o.search)
if o.dry_run then return dry_run(o, recipes) end
if not o.no_figures then plot.check() end
local g = not o.set and experiment.load_net(o) or {name = "of the set"}
-- Check requirements before making a folder and a set.
local given = o.set and adversarial.open(o.set)
detect.check_weights(o, given and given.input or g.input)
local claimed <close> = dist.rank == 0 and folder.claim(o.out, "retraining", o.resume) or nil
local out = folder.share(claimed)
o.out = out.path
local about = run_json.start {o = o, options = takes, net = g, setting = "retraining"
    .. (o.search and ", search" or "") .. (o.augment and ", augmented" or "")}
about.processes = dist.size > 1 and dist.size or nil
shards.agree(about)
local kept <close> = claimed and resume.open(out, about, {names = ""}) or nil
if out.holds == "finished" then return end
local _ <close> = resume.hint(out.path, function() return not kept end)
out:keep()

local self = setmetatable({o = o, out = out, recipes = recipes, journal = kept and kept.journal, cells = {},
    feeds = {}, done = 0, skip = 0}, Work)
local units = kept and self.journal.units or {}
if kept and #units == 0 then self.journal:commit {{"begun", true}} end
local dirs = adversarial.folders(o, out)
self.set = given or adversarial.open(dirs)
self.set:check_source()
local sum = set_sum(dirs)
dist.agree(sum, "reads a different set of adversarial examples than rank 0")
if kept and #units == 1 then
    self.journal:commit {{"set", sum}}
elseif kept and units[2].set ~= sum then
    fail("%s: the set of adversarial examples changed since the run in %s was started; give another --out",
        dirs[1], out.path)
end
o.stem = o.stem or (self.set.input[2] < 64 and "small" or "full")
self.part_of = detect.split(self.set, o)
self.runs = list_runs(o, self.set.losses, recipes)
for i = 3, #units do
    if units[i].key ~= self.runs[i - 2].key then fail("%s: the run is another one", out.path) end
    read_note(units[i], self.runs[i - 2])
    os.remove(self:checkpoint(self.runs[i - 2])) -- if a process was killed just after its commit
end
self.skip = math.tointeger(tonumber(dist.broadcast(tostring(math.max(0, #units - 2)))))
out:folder("logs")
do
    local _ <close> = system.hold_interrupts()
    self:go()
end
if not kept then return dist.wait() end
local order = {}
for _, unit in ipairs(self.journal.units) do
    table.move(unit.frames.records, 1, #unit.frames.records, #order + 1, order)
end
local text = write_results(self)
finish_about(kept.about, self.set)
self.journal:write(out:file("records.msgpack"), order)
kept.about.loaded_later = self.journal:loaded()
run_json.write(out, kept.about)
self.journal:remove()
print(text)
print("Accuracy on the test images, its 95 % interval (Wilson), and their number.")
print(("Tables, every run and the pictures: %s/"):format(out.path))
dist.wait()
