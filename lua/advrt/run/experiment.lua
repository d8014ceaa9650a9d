--- The common part of the experiments. A network classifies a folder of images, each correctly
-- classified image is attacked with each loss, and the run's folder gets records, tables and
-- figures. The scripts (experiments/*.lua) define the multiplier.
--
-- The work is divided into units: a batch of images and one loss. Each finished unit is committed to the
-- run's journal (advrt.run.journal). A resumed run starts at the first incomplete batch and skips its
-- committed units.

local arguments = require "advrt.support.check"
local attack = require "advrt.attack"
local count_of = require "advrt.support.count"
local data = require "advrt.data"
local dist = require "advrt.dist"
local examples = require "advrt.results.examples"
local fail = require "advrt.support.fail"
local folder = require "advrt.run.folder"
local keep = require "advrt.run.keep"
local loss = require "advrt.loss"
local net = require "advrt.net"
local options = require "advrt.support.options"
local plot = require "advrt.plot"
local progress = require "advrt.run.progress"
local record = require "advrt.record"
local results = require "advrt.results.finish"
local resume = require "advrt.run.resume"
local run_json = require "advrt.run.run_json"
local schema = require "advrt.run.schema"
local seeds = require "advrt.run.seeds"
local shards = require "advrt.run.shards"
local system = require "advrt.core.system"
local tables = require "advrt.results.tables"
local tensor = require "advrt.tensor"
local units = require "advrt.run.units"
local weights = require "advrt.nets.weights"

local experiment = {}

local CHECKPOINT_EVERY = 60 -- seconds between two checkpoints inside an attack
local AUTO_MOST = 512       -- the largest batch that --batch auto takes

--- Fails unless --mean and --std have one number, or one per channel of the net.
local function check_channels(o)
    local d = net.definition(o.net, {output = o.output, crop = o.crop})
    local channels = d and d.input[1]
    for _, name in ipairs {"mean", "std"} do
        local count = #(o[name] or {})
        if channels and count > 1 and count ~= channels then
            fail.option("--%s: %d numbers, but the images of %s have %d channel%s", name, count, o.net,
                channels, channels == 1 and "" or "s")
        end
    end
end

--- The network that the options name. A mismatch is a failure in one line.
function experiment.load_net(o)
    local g, message = net.load(o.net,
        {weights = o.weights, weights_key = o.weights_key, mean = o.mean, std = o.std, range = o.range,
            crop = o.crop, output = o.output})
    if not g then
        check_channels(o)
        fail("%s", message)
    end
    o.weights, o.weights_key, o.net = g.weights, g.weights_key, g.definition
    o.resize = o.resize or g.preprocess.resize
    o.crop = o.crop or g.preprocess.crop
    o.mean, o.std = o.mean or g.preprocess.mean, o.std or g.preprocess.std
    return g
end

--- Warns if a net without normalisation has an accuracy below twice chance.
function experiment.doubt(g, right, count)
    if g.unnormalised and count > 0 and right * g.classes < 2 * count then
        weights.say {("warning: %d of %d images are classified correctly, below twice chance (%d classes); "
            .. "%s"):format(
            right, count, g.classes, g.unnormalised)}
    end
end

--- Resolves --batch auto to a number, for `count` images.
function experiment.settle_batch(o, g, count)
    if o.batch ~= "auto" then return end
    o.batch = g:largest_batch(math.max(1, math.min(count, AUTO_MOST)))
end

--- The folder of images that the options name, with the net's preprocessing, and the number of
-- images after --limit and --sample.
function experiment.open_images(o, g)
    o.images = o.images or system.options.root .. "/nets/fashion-images"
    local images = data.folder(o.images, {classes = g.classes, input = g.input, range = g.range,
        resize = o.resize, crop = o.crop, class_names = g.class_names, unlabelled = o.write_labels and true})
    images:on_bad(o.skip_bad, "; replace the file, or skip it with --skip-bad")
    local count = images:choose(o)
    experiment.settle_batch(o, g, count)
    return images, count
end

--- A queue of correctly classified images that wait for an attack, up to a batch.
local function new_queue(B, input)
    return {x = tensor.new {B, table.unpack(input)}, files = {}, labels = {}, targets = {}, size = B}
end

local function push(queue, image, file, label, target)
    local k = #queue.files + 1
    queue.x[k]:copy(image)
    queue.files[k], queue.labels[k], queue.targets[k] = file, label, target
end

--- Pads the batch with the last image, so that every batch has the same shape and an image's
-- numbers do not depend on the batch. Returns the number of real images.
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

--- A point where a signal may end the run: all finished work is on disk.
local function stop_if_asked()
    if system.interrupted() then fail.interrupted() end
end

--- Saves the state of an attack from time to time, and before an interrupt. `more`: optional, a
-- function that returns further tensors of the state by name.
function Run:checkpoint(state, more)
    local asked = system.interrupted()
    if not asked and system.clock() - self.kept_at < CHECKPOINT_EVERY then return end
    local tensors = more and more() or {}
    for name, v in pairs(state.tensors) do tensors[name] = v end
    self.journal:save(tensors, {step = state.step, seconds = state.seconds})
    self.out:keep()
    self.kept_at = system.clock()
    stop_if_asked()
end

--- Adds the results of a batch and a loss to the journal: the records of its first `real` images and
-- the images of --save-adversarial. r is attack.run's result. The next commit includes them.
function Run:keep(queue, real, one, r)
    for k = 1, real do
        self.journal:add("records", record.pack({file = queue.files[k], label = queue.labels[k],
            target = queue.targets[k], loss = one.name, setting = self.setting}, r, k))
        local image = self.o.save_adversarial and keep.image(r, k, self.o.save_adversarial)
        if image then self.journal:add("bytes", image:bytes()) end
    end
    if self.net.range.picture then
        examples.add(self.out, self.counts.attacked + 1, queue.x:narrow(1, real), one.name, r)
    end
end

--- Why the saved state does not fit the current unit; nil if it fits.
function Run:problem_of_state(state)
    return attack.problem_of_state(state, self.net, self:room(), self.o.iterations)
end

--- The shape of a batch.
function Run:shape() return {self:room(), table.unpack(self.net.input)} end

--- The saved state of the current unit, as attack.run takes it. nil if there is none, or none that fits
-- (with a message).
function Run:saved()
    local tensors, numbers = self.journal:saved()
    if not tensors then return nil end
    local state = {tensors = tensors, step = math.tointeger(numbers.step) or numbers.step,
        seconds = numbers.seconds}
    local problem = self:problem_of_state(state)
    if problem then return self.journal:forget(problem) end
    return state
end

--- Progress units per image under the l-th loss.
function Run:unit_work() return self.o.iterations + 1 end

--- Progress units per image under all losses.
function Run:image_work()
    local work = 0
    for l = 1, #self.losses do work = work + self:unit_work(l) end
    return work
end

--- Reports `work` finished progress units; spare: units that are no longer needed.
function Run:advance(work, what)
    self.work = self.work + work
    self.progress:update(self.work, what)
end

function Run:spare(work) self.progress.total = self.progress.total - work end

--- Attacks a batch with the l-th loss, from a saved state if there is one, and keeps the results of its
-- first `real` images. Returns the seconds it took.
function Run:compute(queue, real, l, what)
    local one, from = self.losses[l], self:saved()
    self:spare(real * (from and from.step or 0))
    local r = attack.run {
        net = self.net, images = queue.x, labels = queue.labels, targets = queue.targets,
        names = queue.files, loss = one, multiplier = self.multiplier,
        iterations = self.o.iterations, workspace = self.workspace, from = from,
        checkpoint = function(state) self:checkpoint(state) end,
        progress = function() self:advance(real, what) end,
    }
    self:keep(queue, real, one, r)
    return r.seconds
end

--- Commits everything added since the last commit as a unit of `images` images under a loss. `note`:
-- more fields of its note. next_image: set if all images before this number are finished.
function Run:commit(images, name, note, next_image)
    table.move(note, 1, #note, 3, note)
    note[1], note[2] = {"loss", name}, {"images", images}
    if next_image then
        table.move({{"next", next_image}, {"found", self.counts.found}, {"wrong", self.counts.wrong},
            {"left_out", self.counts.left_out}, {"bad", self.counts.bad}, {"left", self.left}}, 1, 6,
            #note + 1, note)
    end
    self.journal:commit(note)
    self.out:keep()
    self.kept_at = system.clock()
    stop_if_asked()
end

--- Notes the contents of the images up to number `last` in the journal, unless already noted.
function Run:look(last)
    if last <= self.looked then return end
    self.journal:look(self.images:digest(self.looked + 1, last))
    self.looked = last
end

--- Fails if a committed unit does not belong to the images in the queue.
function Run:check_queue(queue, l)
    local unit = self.journal.units[self.units]
    local heads = self:heads_of_images(unit, l, units.heads(self.journal, unit), queue.batch)
    if l == 1 then queue.batch = heads end
    units.match(self.journal, self.units, queue, heads)
end

--- Attacks a batch of images with each loss that is not yet finished.
function Run:attack(queue)
    local real = pad(queue)
    self:look(queue.next - 1)
    for l, one in ipairs(self.losses) do
        self.units = self.units + 1
        if self.units > #self.journal.units then
            local seconds = self:compute(queue, real, l, ("%s, images %d to %d"):format(
                tables.title(one.name), self.counts.attacked + 1, self.counts.attacked + real))
            self:commit(real, one.name, {{"seconds", seconds}}, l == #self.losses and queue.next or nil)
        else
            self:check_queue(queue, l)
            self:spare(real * self:unit_work(l))
        end
    end
    self.counts.attacked = self.counts.attacked + real
    self.left = ""
    clear(queue)
end

--- The records of a unit, one per image, with their first fields `heads`; or nil and the problem. l: the
-- index of its loss.
function Run:heads_of_images(unit, _, heads)
    if #heads ~= unit.images then
        return nil, ("it has %d records, but its note says %d images"):format(#heads, unit.images)
    end
    local images, when = 0, self.o.save_adversarial
    for _, head in ipairs(heads) do
        if head.loss ~= unit.loss then return nil, "a record belongs to another loss" end
        if when == "last" or when and schema.count.is(head.flip_iteration) then images = images + 1 end
    end
    if #unit.frames.bytes ~= images then
        return nil, ("it has %d adversarial images, not %d"):format(#unit.frames.bytes, images)
    end
    return heads
end

--- The problem with the i-th unit of the journal (advrt.run.units), or nil; state: the totals of the units
-- before it.
function Run:problem_of_unit(unit, i, state)
    local l = (i - 1) % #self.losses + 1
    local last, name = l == #self.losses, self.losses[l].name
    local problem = schema.problem(unit, {
            {"loss", schema.only(name, ("'%s', whose turn it is"):format(name))},
            {"images", l == 1 and schema.whole(1, self:room()) or schema.only(state.images, "its batch's")},
            {"seconds", schema.amount}})
        or last and schema.problem(unit, units.closing(state, unit.images))
    if problem then return problem end
    local heads
    heads, problem = self:heads_of_images(unit, l, units.heads(self.journal, unit), state.batch)
    if problem then return problem end
    if l == 1 then
        state.images, state.batch = unit.images, heads
        problem = units.in_order(self, state, heads)
    end
    for k, head in ipairs(heads) do
        local first = state.batch[k]
        if not problem and (head.file ~= first.file or head.target ~= first.target) then
            problem = ("its record %d is of %s, not of %s"):format(k, schema.show(head.file),
                schema.show(first.file))
        end
    end
    return problem or last and units.close(state, unit, unit.images) or nil
end

--- Continues after the complete batches of the journal; returns the next image.
function Run:take_up(first)
    local done = self.journal.units
    for i = #self.losses, #done, #self.losses do
        local unit = done[i]
        self.units, first = i, unit.next
        self.counts.attacked = self.counts.attacked + unit.images
        self:take_counts(unit)
    end
    return first
end

--- Takes over the counts of images that a unit closes a batch with.
function Run:take_counts(unit)
    for _, name in ipairs {"found", "wrong", "left_out", "bad"} do self.counts[name] = unit[name] or 0 end
end

--- Leaves an image out and records the reason.
function Run:leave(file, label, prediction, reason)
    local name = reason == "wrong" and "wrong" or "left_out"
    self.counts[name] = self.counts[name] + 1
    self.left = self.left .. results.left_out_line(file, label, prediction, reason)
    self:spare(self:image_work())
end

--- The number of images attacked together.
function Run:room() return self.o.batch end

--- Leaves out image i, whose file is bad.
function Run:leave_bad(images, i, message)
    local path = ("%s/%s: "):format(images.dir, images.files[i])
    self.counts.bad = self.counts.bad + 1
    self.left = self.left .. results.left_out_line(images.files[i], images:label(i), -1, "bad: "
        .. (message:sub(1, #path) == path and message:sub(#path + 1) or message))
end

--- Classifies image i of a batch, with pixels x and logits z: queues it, or leaves it out.
function Run:sort(queue, i, x, z, prediction, target_of)
    local file, label = self.images.files[i], self.images:label(i)
    local target = prediction == label and target_of(file, label, z) or nil
    self.counts.found = self.counts.found + 1
    if target then
        push(queue, x, file, label, target)
    else
        self:leave(file, label, prediction, prediction == label and "target" or "wrong")
    end
end

--- Processes the images in sorted order. Attacks, in groups of self:room(), the correctly
-- classified images that get a target.
function Run:go(images, first, last, target_of)
    local queue = new_queue(self:room(), self.net.input)
    local z = tensor.new {self.o.batch, self.net.classes}
    for x, numbers, bad in images:batches(first, last, self.o.batch) do
        stop_if_asked()
        self.net:forward(x, z)
        arguments.logits(z, function(k)
            return ("%s/%s"):format(images.dir, images.files[numbers[math.min(k, #numbers)]])
        end)
        local predictions = z:argmax()
        for k, i in ipairs(numbers) do
            queue.next = i + 1
            if bad[i] then
                self:leave_bad(images, i, bad[i])
                self:spare(self:image_work())
            else
                self:sort(queue, i, x[k], z[k], predictions:get(k), target_of)
            end
            if #queue.files == queue.size then self:attack(queue) end
        end
    end
    if #queue.files > 0 then self:attack(queue) end
end

--- Upper bound of the run's bytes on disk: records and saved images, in the journal and in the final
-- files.
function Run:bytes()
    local pixels = 1
    for _, n in ipairs(self.net.input) do pixels = pixels * n end
    local of_record = 300 + 86 * ((self.o.iterations or 0) + 1)
    return 2 * self.count * #self.losses * (of_record + (self.o.save_adversarial and 4 * pixels or 0))
end

--- Warns if the disk may be too small.
function Run:look_at_room()
    local room, bytes = system.room(self.out.path), self:bytes()
    if not room or room >= bytes then return end
    io.stderr:write(("advrt: warning: the run may need up to %s in %s; %s are free\n")
        :format(folder.size(bytes),
        (self.out.path:gsub("%c", "?")), folder.size(room)))
end

--- Runs the remaining queue of an experiment with its own attack (spec.methods).
experiment.clear = clear

--- Fails early if the work cannot finish; spec.methods may replace it.
function Run:check() end

--- Checks or prints something when a finished run is resumed.
function Run:was_finished() end

--- The journal's record frames in the order of the finished file: by image, then by loss as given.
function Run:order()
    local order, done = {}, self.journal.units
    for i = 1, #done, #self.losses do
        for k = 1, done[i].images do
            for l = 0, #self.losses - 1 do order[#order + 1] = done[i + l].frames.records[k] end
        end
    end
    return order
end

--- An iterator over the images kept of the l-th loss.
function Run:pixels(l)
    return coroutine.wrap(function()
        for i = l, #self.journal.units, #self.losses do
            for _, frame in ipairs(self.journal.units[i].frames.bytes) do
                coroutine.yield(self.journal:bytes(frame))
            end
        end
    end)
end

--- Seconds per loss, and the lines of left_out.csv, over all units.
function Run:sums()
    local left, seconds = {}, {}
    for _, one in ipairs(self.losses) do seconds[one.name] = 0 end
    for _, unit in ipairs(self.journal.units) do
        seconds[unit.loss] = seconds[unit.loss] + unit.seconds
        left[#left + 1] = unit.left or ""
    end
    left[#left + 1] = self.left
    return seconds, table.concat(left)
end

--- Writes the records in order, and everything computed from them. Returns a function that prints
-- the results, to call after the journal is removed.
function Run:finish()
    local seconds, left = self:sums()
    self.journal:write(self.out:file("records.msgpack"), self:order())
    return results.of(self.setting).write(self.out, {
        about = self.about, counts = self.counts, seconds = seconds, left = left,
        figures = self.figures, no_figures = self.o.no_figures, form = plot.form(self.o), classes =
            self.classes,
        input = self.net.input, spent = self.spent,
        pixels = self.o.save_adversarial and function(l) return self:pixels(l) end,
    })
end

--- The losses of --losses. A loss that does not fit the net is a failure in one line.
function experiment.losses(o, g)
    local losses = {}
    for i, name in ipairs(o.losses) do
        losses[i] = loss.with_options(name, o)
        if g.classes < losses[i].min_classes then
            fail.option("--losses: %s needs %d classes, the net has %d", name,
                losses[i].min_classes, g.classes)
        end
    end
    return losses
end

--- The flag that skips bad files, and its help.
experiment.skip_bad = {"skip-bad", "skip images that cannot be read, and list them in left_out.csv"}

--- Reads the command line of an experiment.
local function options_of(spec, argv)
    local takes = table.move(options.of_images, 1, #options.of_images, 1, {})
    if spec.takes then
        table.move(spec.takes, 1, #spec.takes, #takes + 1, takes)
    else
        for _, name in ipairs {"targets", "losses", "require", "iterations", spec.step, "kappa", "seed",
            "save-adversarial"} do
            takes[#takes + 1] = name
            if name == spec.step and spec.norm then takes[#takes + 1] = "norm" end
        end
    end
    table.move({"out", "shard"}, 1, 2, #takes + 1, takes)
    local read = table.move(takes, 1, #takes, 1, {}) -- a run with one seed does not record --seeds
    if not spec.takes then read[#read + 1] = "seeds" end
    local flags = table.move(spec.flags or {}, 1, #(spec.flags or {}), 1, {})
    flags[#flags + 1] = experiment.skip_bad
    flags[#flags + 1] = {"resume", "continue the run in --out"}
    local o = options.parse(argv, {name = spec.setting .. ".lua", description = spec.description,
        uses = spec.uses, options = read, ranks = true, figures = true, bands = not spec.takes, flags = flags,
        either = spec.either, help = spec.help,
        defaults = spec.defaults})
    for _, flag in ipairs(spec.flags or {}) do
        takes[#takes + 1], o[flag[1]] = flag[1], o[flag[1]] or false
    end
    takes[#takes + 1], o.skip_bad = "skip-bad", o.skip_bad or false
    return o, takes
end

--- Runs an experiment from its command line to its last line of output.
--
-- spec.setting      the name of the setting: what records and tables call it
-- spec.description  one sentence for --help; spec.uses: as options.parse has it
-- spec.step         the option that sets the step's size: "alpha", or "magnitude", which attack.magnitude_of
--                   gives where it is left out; spec.default: alpha, where the net states none either
-- spec.norm         whether --norm makes sense
-- spec.multiplier   function(o) -> the multiplier of advrt.attack, o the options
-- spec.figures      array of {name, figure}: the name of the picture and the function of
--                   advrt.results.figures that draws it
-- spec.methods      optional: functions that stand in for Run's of their name
-- spec.takes        optional: the options of its own, in place of those of equal multiplier and equal
--                   perturbation; spec.flags, spec.either, spec.help,
--                   spec.defaults: as options.parse has them
-- spec.prepare      optional: function(o, net) that settles options by the net, and fails where they
--                   do not fit
-- spec.losses       optional: function(o, net) -> what images are attacked with in place of --losses, an
--                   array of anything that has a name; spec.what: the words for one of them
--                   and, where an s does not make it, for several; spec.unit: of progress
-- argv              the script's arguments
function experiment.run(spec, argv)
    local o, takes = options_of(spec, argv)
    if (o.seeds or 1) == 1 then return experiment.start(spec, o, takes) end
    seeds.run(spec.setting, o, function(one) experiment.start(spec, one, takes) end)
end

local function nothing_to_attack(o, counts)
    fail("nothing to attack: of %d images in %s, %d are classified wrongly and %d are left out by "
        .. "--targets%s; check the weights, the preprocessing and the labels (advrt evaluate)",
        counts.found, o.images, counts.wrong, counts.left_out,
        counts.bad > 0 and (", and %d files are bad"):format(counts.bad) or "")
end

--- Chooses an image's target: function(file, label, logits) -> class; nil leaves the image out, -1 is
-- untargeted.
local function rule_of(o, g)
    if o.untargeted then
        if g.classes < 2 then
            fail.option("--untargeted needs a net of at least 2 classes, this one has %s",
                count_of(g.classes, "class", "classes"))
        end
        return function() return -1 end
    end
    local target_of, message = data.targets(o.targets, g.classes, o.seed)
    if not target_of then fail.option("--targets: %s", message) end
    return target_of
end

--- Sets the default step size; returns a line about it, or nil if spec has no step.
local function settle_step(spec, o, g)
    if not spec.step then return nil end
    local key, from = spec.step, "as given"
    if not o[key] and key == "magnitude" then
        o[key], from = attack.magnitude_of(g, o.norm)
    elseif not o[key] then
        o[key], from = attack.alpha_of(g, spec.default)
    end
    local norm = key == "magnitude" and (" in the %s norm"):format(o.norm == "inf" and "Linf" or "L2") or ""
    return ("Steps: %s %.4g%s, %s"):format(key, o[key], norm, from)
end

--- Does the work, or one shard of it, in one process; returns the list of its images.
local function run_here(spec, o, takes)
    if not o.no_figures then plot.check() end
    local g = experiment.load_net(o)
    local step = settle_step(spec, o, g)
    if spec.prepare then spec.prepare(o, g) end
    local target_of = rule_of(o, g)
    local losses = (spec.losses or experiment.losses)(o, g)
    local images, listed = experiment.open_images(o, g)
    local first, last = data.shard(listed, table.unpack(o.shard))
    local run = setmetatable({o = o, setting = spec.setting, net = g, losses = losses, options = takes,
        multiplier = spec.multiplier and spec.multiplier(o), figures = spec.figures,
        images = images, listed = listed, count = math.max(0, last - first + 1),
        classes = images:class_names(), workspace = {}, units = 0, work = 0, left = "",
        kept_at = system.clock(), counts = {found = 0, wrong = 0, left_out = 0, bad = 0, attacked = 0}}, {
        __index = spec.methods and setmetatable(spec.methods, Run) or Run})
    run:check()
    run.labels_sha256 = images:labels_digest(listed)
    local about = run_json.start(run)
    if o.part_of then shards.agree(about) end
    local out <close> = folder.claim(o.out, spec.setting, o.resume)
    run.out, o.out, about.options.out = out, out.path, out.path
    local files = out.holds == "finished" and images:digest(first, last)
    about.images_sha256 = files and system.digest(files) or nil
    local kept <close> = resume.open(out, about, {names = images:names(first, last),
        digest = function(n) return images:digest(first, first + n - 1) end}, o.nested or o.part_of, o.whole)
    if not kept then
        if not o.part_of then run:was_finished() end
        return files
    end
    if not o.later and (not o.part_of or o.shard[1] == 1) then
        print(images:about(listed))
        if step then print(step) end
        if step and not g.range.picture then
            print(("Pictures: none, because the input is not an image (%s). fig5 and examples/ are left out; "
                .. "survives_8bit is -1"):format(g.range:no_picture()))
        end
    end
    run.journal, run.about = kept.journal, kept.about
    run:look_at_room()

    local _, looked = table.concat(run.journal.looked):gsub("\0", "")
    run.looked = first - 1 + looked
    local state = units.state(run, first, last)
    units.check(run.journal, out.path, function(unit, i) return run:problem_of_unit(unit, i, state) end)
    local from = run:take_up(first)
    do
        local _ <close> = system.hold_interrupts()
        local shown <close> = progress.start(spec.unit or "image steps", 0)
        run.progress = shown
        run:spare(-math.max(0, last - from + 1) * run:image_work())
        run:go(images, from, last, target_of)
        shown:finish(("%s attacked with %s"):format(count_of(run.counts.attacked, "image"),
            count_of(#losses, table.unpack(spec.what or {"loss", "losses"}))))
    end
    experiment.doubt(g, run.counts.found - run.counts.wrong, run.counts.found)
    if run.counts.attacked == 0 and o.shard[2] == 1 then nothing_to_attack(o, run.counts) end
    run:look(last)
    files = table.concat(run.journal.looked)
    run.about.images_sha256 = system.digest(files)
    -- An earlier process may have skipped bad files.
    if run.counts.bad > 0 then run.about.options.skip_bad = true end
    run.about.loaded_later = run.journal:loaded()
    local say = run:finish()
    run.journal:remove()
    if not o.part_of and not o.whole then say() end
    return files
end

--- Joins the folders `dirs` of the finished shards into the run's folder `out`.
local function join(o, out, dirs, files)
    local list = shards.read(dirs)
    local run = shards.sum(list)
    if run.counts.attacked == 0 then nothing_to_attack(run.about.options, run.counts) end
    run.no_figures, run.form = o.no_figures, plot.form(o)
    local say = shards.join(out, list, run, system.digest(files))
    return true, not o.whole and say or nil
end

--- Runs an experiment from parsed options. o: values by key; takes: the option names that run.json records;
-- o.whole: the parent folder of a run over seeds; o.later: whether this seed is not the first. spec.join:
-- optional, replaces the joining of records in shards.spread.
function experiment.start(spec, o, takes)
    if dist.size == 1 then return run_here(spec, o, takes) end
    if not o.no_figures then plot.check() end
    shards.spread(spec.setting, o, function(part) return run_here(spec, part, takes) end,
        spec.join or function(out, dirs, files) return join(o, out, dirs, files) end)
end

return experiment
