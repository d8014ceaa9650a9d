--- What the experiments have in common: a folder of images meets a network, the images that it
-- gets right are attacked with each loss, and a run's folder is filled with records, tables and
-- figures. The experiments themselves (experiments/*.lua) say what the multiplier is.

local attack = require "advrt.attack"
local data = require "advrt.data"
local examples = require "advrt.examples"
local fail = require "advrt.fail"
local figures = require "advrt.figures"
local folder = require "advrt.folder"
local keep = require "advrt.keep"
local loss = require "advrt.loss"
local net = require "advrt.net"
local options = require "advrt.options"
local plot = require "advrt.plot"
local progress = require "advrt.progress"
local record = require "advrt.record"
local run_json = require "advrt.run_json"
local system = require "advrt.core.system"
local tables = require "advrt.tables"
local tensor = require "advrt.tensor"

local experiment = {}

--- The network that the options name. What does not fit is a failure in one line.
function experiment.load_net(o)
    local g, message = net.load(o.net,
        {weights = o.weights, mean = o.mean, std = o.std, crop = o.crop})
    if not g then fail("%s", message) end
    o.weights, o.net = g.weights, g.definition
    o.resize = o.resize or g.preprocess.resize
    o.crop = o.crop or g.preprocess.crop
    o.mean, o.std = o.mean or g.preprocess.mean, o.std or g.preprocess.std
    return g
end

--- The folder of images that the options name, seen through the net's preprocessing.
function experiment.open_images(o, g)
    o.images = o.images or system.options.root .. "/nets/fashion-images"
    return data.folder(o.images, {classes = g.classes, input = g.input, resize = o.resize,
        crop = o.crop})
end

--- Images that were classified correctly and wait for their attack, up to a batch.
local function new_queue(B, input)
    return {x = tensor.new {B, table.unpack(input)}, files = {}, labels = {}, targets = {}, size = B}
end

local function push(queue, image, file, label, target)
    local k = #queue.files + 1
    queue.x[k]:copy(image)
    queue.files[k], queue.labels[k], queue.targets[k] = file, label, target
end

--- Fills the places that are left with the last image, so that every batch has the same shape and
-- an image's numbers do not depend on how many there are. Returns how many are real.
local function pad(queue)
    local real = #queue.files
    for k = real + 1, queue.size do
        queue.x[k]:copy(queue.x[real])
        queue.files[k], queue.labels[k] = queue.files[real], queue.labels[real]
        queue.targets[k] = queue.targets[real]
    end
    return real
end

local function clear(queue) queue.files, queue.labels, queue.targets = {}, {}, {} end

local Run = {}
Run.__index = Run

--- Appends an image's records, one for each loss. From the first image on records.part is worth
-- keeping, whatever comes.
function Run:append(records)
    local done, message = self.part:append(table.concat(records))
    if not done then fail("%s", message) end
    self.out:keep("records.part")
end

--- Attacks a batch of images with each loss; records are appended image by image.
function Run:attack(queue)
    local real, packed = pad(queue), {}
    for k = 1, real do packed[k] = {} end
    local steps = self.o.iterations + 1
    for l, one in ipairs(self.losses) do
        local what = ("%s, images %d to %d"):format(tables.title(one.name), self.attacked + 1,
            self.attacked + real)
        local r = attack.run {
            net = self.net, images = queue.x, labels = queue.labels, targets = queue.targets,
            names = queue.files, loss = one, multiplier = self.multiplier,
            iterations = self.o.iterations, workspace = self.workspace,
            progress = function(n)
                self.progress:update(self.work + real * (n + 1), what)
            end,
        }
        self.work = self.work + real * steps
        self.seconds[one.name] = self.seconds[one.name] + r.seconds
        for k = 1, real do
            packed[k][l] = record.pack({file = queue.files[k], label = queue.labels[k],
                target = queue.targets[k], loss = one.name, setting = self.setting}, r, k)
        end
        self.examples:add(queue, real, one.name, r)
        if self.keep then self.keep:add(queue, real, one.name, r) end
    end
    for k = 1, real do self:append(packed[k]) end
    self.attacked = self.attacked + real
    clear(queue)
end

--- Goes through the images: those that are right on the clean image and get a target are attacked,
-- B at a time, in sorted order.
function Run:go(images, first, last, target_of)
    local queue = new_queue(self.o.batch, self.net.input)
    local z = tensor.new {self.o.batch, self.net.classes}
    for x, numbers in images:batches(first, last, self.o.batch) do
        self.net:forward(x, z)
        local predictions = z:argmax()
        for k, i in ipairs(numbers) do
            local file, label = images.files[i], images:label(i)
            if predictions:get(k) < 0 then
                fail("%s/%s: the net's logits are not finite; check the weights and the preprocessing",
                    images.dir, file)
            end
            local right = predictions:get(k) == label
            local target = right and target_of(file, label, z[k]) or nil
            self.found = self.found + 1
            if not right then
                self.wrong = self.wrong + 1
            elseif not target then
                self.left_out = self.left_out + 1
            else
                push(queue, x[k], file, label, target)
            end
            if not target then self:less_work() end
            if #queue.files == self.o.batch then self:attack(queue) end
        end
    end
    if #queue.files > 0 then self:attack(queue) end
end

function Run:less_work()
    self.progress.total = self.progress.total - #self.losses * (self.o.iterations + 1)
end

--- What Table I's rows on the terminal say about the images.
function Run:about_images()
    local text = ("%d images, %d right on the clean image (%.2f %%), %d attacked"):format(self.found,
        self.found - self.wrong, 100 * (self.found - self.wrong) / math.max(1, self.found),
        self.attacked)
    if self.left_out > 0 then text = text .. (", %d of the target class left out"):format(self.left_out) end
    return text
end

--- Writes everything that is computed from the records.
function Run:finish(out)
    local o = self.o
    local done, message = self.part:finish(out:file("records.msgpack"))
    if not done then fail("%s", message) end
    local summary = tables.summarise(out:file("records.msgpack"), o.losses, o.iterations, o.seed)
    summary.setting = self.setting
    local rows = tables.table1(summary, self.setting, self.seconds)
    out:write("table1.csv", tables.table1_csv(rows))
    out:write("curves.csv", tables.curves_csv(summary))
    out:write("least_perturbation.csv", tables.least_perturbation_csv(summary))
    local shown = self.examples:save(out)
    if self.keep then self.keep:save(out) end
    out:write("run.json", run_json.text(self))
    if not o.no_figures and self.attacked > 0 then
        local names = {}
        for i, figure in ipairs(self.figures) do
            names[i] = figure[1]
            out:write(figure[1] .. ".gp", figures[figure[2]](figure[1], summary, shown))
        end
        plot.draw(out.path, names)
        self.pictures = names
    end
    return rows
end

local function say(self, rows, out)
    print(self:about_images() .. "\n")
    print(tables.table1_text {rows})
    if self.pictures then
        print(("Pictures: %s/{%s}.{svg,png} and %s/examples/"):format(out.path,
            table.concat(self.pictures, ","), out.path))
    end
    print(("Records and tables: %s/"):format(out.path))
end

--- Runs an experiment from its command line to its last line of output.
--
-- spec.setting      the name of the setting: what records and tables call it
-- spec.description  one sentence for --help
-- spec.step         the option that sets the step's size: "alpha" or "magnitude"; spec.default:
--                   its value where neither the command line nor the net states one
-- spec.norm         whether --norm makes sense
-- spec.multiplier   function(o) -> the multiplier of advrt.attack, o the options
-- spec.figures      array of {name, figure}: the name of the picture and the function of
--                   advrt.figures that draws it
-- argv              the script's arguments
function experiment.run(spec, argv)
    local takes = table.move(options.of_images, 1, #options.of_images, 1, {})
    for _, name in ipairs {"targets", "losses", "iterations", spec.step, "kappa", "seed",
        "save-adversarial", "out", "shard"} do
        takes[#takes + 1] = name
        if name == spec.step and spec.norm then takes[#takes + 1] = "norm" end
    end
    local o = options.parse(argv, {name = spec.setting .. ".lua", description = spec.description,
        options = takes, flags = {{"no-figures", "leave the pictures out"}}})
    if not o.no_figures then plot.check() end
    local began = os.time()
    local g = experiment.load_net(o)
    o[spec.step] = o[spec.step] or g.defaults[spec.step] or spec.default
    local target_of, message = data.targets(o.targets, g.classes, o.seed)
    if not target_of then fail.option("--targets: %s", message) end
    local losses = {}
    for i, name in ipairs(o.losses) do
        losses[i] = name == "m_logit" and loss.m_logit {kappa = o.kappa} or loss.get(name)
        if g.classes < losses[i].min_classes then
            fail.option("--losses: %s needs %d classes, the net has %d", name,
                losses[i].min_classes, g.classes)
        end
    end
    local images = experiment.open_images(o, g)
    local listed = math.min(#images, o.limit or #images)
    local first, last = data.shard(listed, table.unpack(o.shard))
    local out <close> = folder.claim(o.out, spec.setting)
    o.out = out.path

    local part, problem = record.part(out:scratch("records.part"))
    if not part then fail("%s", problem) end
    local run = setmetatable({o = o, setting = spec.setting, net = g, losses = losses, options = takes,
        multiplier = spec.multiplier(o), figures = spec.figures, part = part, out = out,
        workspace = {}, seconds = {}, began = began, found = 0, wrong = 0, left_out = 0, attacked = 0,
        work = 0}, Run)
    for _, name in ipairs(o.losses) do run.seconds[name] = 0 end
    run.examples = examples.new()
    run.keep = o.save_adversarial and keep.new(out, o.losses, o.save_adversarial, g.input) or nil
    local shown <close> = progress.start("image steps",
        math.max(0, last - first + 1) * #losses * (o.iterations + 1))
    run.progress = shown
    run:go(images, first, last, target_of)
    shown:finish(("%d images attacked with %d losses"):format(run.attacked, #losses))
    if run.attacked == 0 and o.shard[2] == 1 then
        fail("nothing to attack: of %d images in %s the net gets %d wrong and %d are left out by "
            .. "--targets; check the weights, the preprocessing and the labels "
            .. "(experiments/evaluate.lua)", run.found, o.images, run.wrong, run.left_out)
    end
    say(run, run:finish(out), out)
end

return experiment
