--- Sets of adversarial examples on disk: a run of an experiment makes them, and a stream reads
-- them.
--
-- A set is a folder with run.json and
--
--   shard-NNNNN-L.safetensors   f32 "images" [M,C,H,W]: the examples of the L-th loss for a batch of
--                               images; if L is 0: u8, the genuine images of the batch
--   extra-NNNNN.safetensors     u8 "images" [M,C,H,W]: genuine images without an attack
--   records.msgpack             the index: a map for each image in the order of the shards
--
-- An image of the index has shard and row (from 0), sha256 of the shard, file (of its source
-- image), label, and loss: a loss's name, or "genuine" or "extra". An example also has target,
-- setting, iteration (at which it was taken), l2 and linf (distances from the source image). Its
-- survives_8bit says whether it is still classified as the target after rounding to 8 bits. Images
-- that are not classified as their target are not stored.
--
-- Reading verifies the checksum of every shard. The images come through a feed (advrt.core.feed),
-- which holds only a few batches in memory.

local arguments = require "advrt.support.check"
local attack = require "advrt.attack"
local core = require "advrt.core.record"
local data = require "advrt.data"
local dist = require "advrt.dist"
local experiment = require "advrt.run.experiment"
local fail = require "advrt.support.fail"
local feed = require "advrt.core.feed"
local json = require "advrt.support.json"
local keep = require "advrt.run.keep"
local lfs = require "lfs"
local progress = require "advrt.run.progress"
local record = require "advrt.record"
local results = require "advrt.results.finish"
local run_json = require "advrt.run.run_json"
local schema = require "advrt.run.schema"
local shards = require "advrt.run.shards"
local system = require "advrt.core.system"
local tensor = require "advrt.tensor"

local adversarial = {}

local EXTRA_SHARD = 1000 -- images

--- The options that determine the contents of a set, in the order of --help.
adversarial.options = {"net", "weights", "weights-key", "images", "resize", "crop", "mean", "std",
    "batch", "limit", "sample", "targets", "losses", "require", "setting", "iterations", "alpha",
    "magnitude", "norm", "kappa", "when", "extra", "extra-images", "seed"}

--- The flag for bad images when making a set, in the form of options.parse.
adversarial.skip_bad = experiment.skip_bad

-- Writing ---------------------------------------------------------------------

local Set = {}

--- Writes a shard and returns its checksum. The shard belongs to the folder once the unit that
-- names it is committed.
local function write_shard(out, name, images)
    local path = out:scratch(name)
    local done, message = tensor.save(path, {images = images})
    if not done then fail("%s", message) end
    local sum
    sum, message = system.sha256(path)
    if not sum then fail("%s", message) end
    return sum
end

local function levels_of(x, count)
    local list = {}
    for k = 1, count do list[k] = x:image_u8(k) end
    return tensor.stack(list)
end

--- Which images of a batch are examples, and which still are after rounding: arrays of booleans.
function Set:judge(queue, real, r)
    local good, survive = {}, {}
    if self.o.when == "first" then
        for k = 1, real do
            good[k], survive[k] = r.flip_iteration:get(k) >= 0, r.survives_8bit:get(k) == 1
        end
        return good, survive
    end
    local x = r.adversarial
    local function classes(images)
        local z = self.net:forward(images)
        arguments.logits(z, function(k) return queue.files[k] or queue.files[1] end)
        return z:argmax()
    end
    local plain, rounded = classes(x), classes(x:clone():quantize_(255))
    for k = 1, real do
        good[k] = plain:get(k) == queue.targets[k]
        survive[k] = good[k] and rounded:get(k) == queue.targets[k]
    end
    return good, survive
end

function Set:add(fields) self.journal:add("records", core.pack(fields)) end

function Set:genuine(queue, real, number)
    local name = ("shard-%05d-0.safetensors"):format(number)
    local sum = write_shard(self.out, name, levels_of(queue.x, real))
    for k = 1, real do
        self:add {{"file", queue.files[k]}, {"label", queue.labels[k]}, {"loss", "genuine"},
            {"shard", name}, {"row", k - 1}, {"sha256", sum}}
    end
end

function Set:keep(queue, real, one, r)
    local number, l = (self.units - 1) // #self.losses + 1, (self.units - 1) % #self.losses + 1
    if l == 1 then self:genuine(queue, real, number) end
    local first = self.o.when == "first"
    local good, survive = self:judge(queue, real, r)
    local x, kept = first and r.first or r.adversarial, {}
    for k = 1, real do
        if good[k] then kept[#kept + 1] = x[k] end
    end
    if #kept == 0 then return end
    local name = ("shard-%05d-%d.safetensors"):format(number, l)
    local sum, row, n = write_shard(self.out, name, tensor.stack(kept)), 0, self.o.iterations
    for k = 1, real do
        if good[k] then
            self:add {{"file", queue.files[k]}, {"label", queue.labels[k]}, {"loss", one.name},
                {"shard", name}, {"row", row}, {"sha256", sum}, {"target", queue.targets[k]},
                {"setting", self.setting},
                {"iteration", first and r.flip_iteration:get(k) or n},
                {"l2", first and r.flip_l2:get(k) or r.series.l2:get(n + 1, k)},
                {"linf", first and r.flip_linf:get(k) or r.series.linf:get(n + 1, k)},
                {"survives_8bit", survive[k]}}
            row = row + 1
        end
    end
end

--- The source of the genuine images without an attack: a folder, and how many of its images to
-- skip. Fails if the folder has too few.
local function extra_images(o, g, images, listed)
    if o.extra_images then
        images, listed = data.folder(o.extra_images, {classes = g.classes, input = g.input,
            resize = o.resize, crop = o.crop}), 0
    end
    if listed + o.extra > #images then
        local limit = o.sample and "sample" or "limit"
        fail.again("--extra %d: %s has %d images%s", o.extra, images.dir, #images,
            listed > 0 and (", and --%s leaves %d for it; lower --%s, or give --extra-images")
                :format(limit, #images - listed, limit) or "")
    end
    return images, listed
end

function Set:check() extra_images(self.o, self.net, self.images, self.listed) end

--- Reads into x the first readable image from number i on; returns its number.
function Set:next_good(images, i, x)
    while true do
        if i > #images then
            fail.again("--extra %d: %s has too few images that can be read", self.o.extra, images.dir)
        end
        local done, message = images:try(i, x, 1)
        if done then return i end
        if not images.skip_bad then fail("%s%s", message, images.way_out) end
        self:leave_bad(images, i, message)
        i = i + 1
    end
end

--- In the first loss's unit the genuine images come first. Examples are only of images of the
-- batch.
function Set:heads_of_images(unit, l, heads, batch)
    local images = {}
    if l == 1 then
        images = table.move(heads, 1, math.min(#heads, unit.images), 1, {})
        batch = images
    end
    for _, head in ipairs(images) do
        if head.loss ~= "genuine" then return nil, "a genuine image is missing" end
    end
    if #images < (l == 1 and unit.images or 0) then return nil, "a genuine image is missing" end
    local at = 0
    for k = #images + 1, #heads do
        local head = heads[k]
        if head.loss ~= unit.loss then return nil, "a record belongs to another loss" end
        repeat at = at + 1 until not batch[at] or batch[at].file == head.file
        if not batch[at] then
            return nil, ("its record of %s is duplicated or belongs to no image of the batch"):format(
                schema.show(head.file))
        end
    end
    return images
end

function Set:bytes()
    local pixels = 1
    for _, n in ipairs(self.net.input) do pixels = pixels * n end
    return pixels * (self.count * (1 + 4 * #self.losses) + self.o.extra)
end

--- Writes the genuine images without an attack: shards, and the records of a last unit.
function Set:extra()
    local o = self.o
    if o.shard[1] > 1 then return end -- the first part of a set has them
    local images, from = extra_images(o, self.net, self.images, self.listed)
    local x = tensor.new {1, table.unpack(self.net.input)}
    local shown <close> = progress.start("images", o.extra)
    images:on_bad(self.images.skip_bad, self.images.way_out)
    for start = 1, o.extra, EXTRA_SHARD do
        local name = ("extra-%05d.safetensors"):format(start // EXTRA_SHARD + 1)
        local list, numbers = {}, {}
        for i = start, math.min(o.extra, start + EXTRA_SHARD - 1) do
            from = self:next_good(images, from + 1, x)
            list[#list + 1], numbers[#numbers + 1] = x:image_u8(1), from
            shown:update(i, "genuine images")
            if system.interrupted() then fail.interrupted() end
        end
        local sum = write_shard(self.out, name, tensor.stack(list))
        for row, i in ipairs(numbers) do
            self:add {{"file", images.files[i]}, {"label", images:label(i)}, {"loss", "extra"},
                {"shard", name}, {"row", row - 1}, {"sha256", sum}}
        end
    end
end

--- Units hold their images' records in order; the unit of images without an attack comes last.
function Set:order()
    local order, units = {}, self.journal.units
    for i = 1, #units do table.move(units[i].frames.records, 1, #units[i].frames.records,
        #order + 1, order) end
    return table.move(self.journal.pending.records, 1, #self.journal.pending.records, #order + 1,
        order)
end

function Set:finish()
    self:extra()
    local seconds, left = self:sums()
    self.journal:write(self.out:file("records.msgpack"), self:order())
    self.out:write("left_out.csv", results.left_out_csv(left))
    run_json.finish(self.about, self.counts, seconds)
    run_json.write(self.out, self.about, "%.safetensors$") -- the index has the shards' checksums
    self.out:keep()
    return function() print(("The set of adversarial examples is in %s/"):format(self.out.path)) end
end

--- The option for the step size in each setting.
local steps = {equal_multiplier = "alpha", equal_perturbation = "magnitude"}

--- Makes a set in the folder o.out, or resumes it (o.resume). o: the values of adversarial.options,
-- and out, resume, shard. takes: the names of the options that run.json records.
function adversarial.make(o, takes)
    takes = table.move(takes, 1, #takes, 1, {})
    takes[#takes + 1], o.skip_bad = "skip-bad", o.skip_bad or false
    o.no_figures = true
    experiment.start({
        setting = o.setting, step = steps[o.setting], default = 0.01, methods = Set,
        join = function(_, dirs) -- the shards' folders together are the set
            if not o.nested then
                print(("The set of adversarial examples is in several folders; use it by --set %s"):format(
                    table.concat(dirs, ",")))
            end
            return false
        end,
        multiplier = function(options)
            if o.setting == "equal_multiplier" then return attack.equal_multiplier(options.alpha) end
            return attack.equal_perturbation(options.magnitude, {norm = options.norm})
        end,
    }, o, takes)
end

--- The cost of a set: {images, seconds, bytes}, estimated from a few steps of the first loss on
-- synthetic images. It assumes that all images are classified correctly.
function adversarial.estimate(o)
    local g = experiment.load_net(o)
    local images, listed = experiment.open_images(o, g)
    extra_images(o, g, images, listed)
    local first, last = data.shard(listed, table.unpack(o.shard))
    local count, B, tries = math.max(0, last - first + 1), o.batch, 3
    local x, labels, targets = tensor.uniform("estimate", {B, table.unpack(g.input)}), {}, {}
    for k = 1, B do labels[k], targets[k] = 0, 1 end
    local workspace, best = {}, math.huge
    for _ = 1, tries do
        best = math.min(best, attack.run({net = g, images = x, labels = labels, targets = targets,
            loss = experiment.losses(o, g)[1], iterations = 2, workspace = workspace,
            multiplier = attack.equal_multiplier(1e-6)}).seconds / 3)
    end
    local pixels = g.input[1] * g.input[2] * g.input[3]
    return {images = count, input = g.input,
        seconds = (count + B - 1) // B * #o.losses * (o.iterations + 1) * best,
        bytes = (count * (1 + 4 * #o.losses) + o.extra) * pixels}
end

--- The folders of the set that o.set names. If it names none: makes or resumes a set, with all
-- ranks (advrt.dist), in the folder `out` of a run, and returns its folders.
function adversarial.folders(o, out)
    if o.set then return o.set end
    local dir, copy, whole = out:file("set"), {}, true
    local dirs = dist.size > 1 and shards.folders(dir) or {dir}
    for _, one in ipairs(dirs) do whole = whole and lfs.attributes(one .. "/run.json", "mode") end
    if dist.broadcast(whole and "whole" or "") == "" then
        for key, value in pairs(o) do copy[key] = value end
        copy.out, copy.resume, copy.shard, copy.nested = dir, true, {1, 1}, true
        adversarial.make(copy, adversarial.options)
    end
    return dirs
end

-- Reading ---------------------------------------------------------------------

local Reader = {}
Reader.__index = Reader

--- Verifies a shard when the index names it for the first time, and adds it to the feed. Returns
-- {first, count}: the numbers of its images in the feed.
function Reader:shard(dir, r)
    local path = dir .. "/" .. r.shard
    local sum, message = system.sha256(path)
    if not sum then fail("%s", message) end
    if sum ~= r.sha256 then
        fail("%s: the shard is damaged: its SHA-256 is not the index's", path)
    end
    local file <close>, problem = io.open(path, "rb")
    if not file then fail("%s", problem) end
    local place = keep.place(file, "images")
    if not place then fail("%s: holds no images [M,C,H,W]", path) end
    local count, input = place.shape[1], {table.unpack(place.shape, 2)}
    if not self.input then self.input = input end
    if table.concat(input, ",") ~= table.concat(self.input, ",") then
        fail("%s: images [%s], those before it are [%s]", path, table.concat(input, ","),
            table.concat(self.input, ","))
    end
    local first = self.total
    self.total = first + count
    self.shards[#self.shards + 1] = {path = path, dtype = place.dtype, offset = place.from, count = count,
        label = place.dtype == "f32" and 1 or 0}
    return {first = first, count = count}
end

function Reader:read(dir)
    local about, message = run_json.read(dir)
    if not about then fail("%s", message) end
    run_json.check_files(dir, about, {"records.msgpack"})
    self.about[#self.about + 1] = about
    local of_shard, named, genuine, before = {}, 0, 0, self.total
    for r in record.each(dir .. "/records.msgpack") do
        if type(r.shard) ~= "string" or math.type(r.row) ~= "integer" then
            fail("%s: not a set of adversarial examples", dir)
        end
        local shard = of_shard[r.shard] or self:shard(dir, r)
        of_shard[r.shard] = shard
        if r.row < 0 or r.row >= shard.count then fail("%s/%s: has no row %d", dir, r.shard, r.row) end
        named, genuine = named + 1, genuine + (r.loss == "genuine" and 1 or 0)
        local i, list = shard.first + r.row, self.of[r.loss]
        if not list then
            list = {number = {}, file = {}, label = {}, target = {}, survives = {}}
            self.of[r.loss] = list
        end
        local k = #list.number + 1
        list.number[k], list.file[k], list.label[k] = i, r.file, r.label
        list.target[k], list.survives[k] = r.target or -1, r.survives_8bit == true and 1 or 0
    end
    if named ~= self.total - before or genuine ~= about.images_attacked then
        fail("%s/records.msgpack: the index is damaged: images of the set are missing", dir)
    end
end

--- Opens a set, or several folders (an array) that are the shards of one set. Verifies every shard.
--
-- Returns a table. input: {C,H,W}. losses: the names of the losses in the order of the set's runs.
-- of: by a loss's name, "genuine" or "extra", {number, file, label, target, survives}, all arrays;
-- number is the image's number in the feed. about: the run.json of each folder.
function adversarial.open(dirs)
    local self = setmetatable({total = 0, shards = {}, of = {}, about = {}}, Reader)
    for _, dir in ipairs(dirs) do self:read(dir) end
    self.losses = self.about[1].options.losses
    for i, about in ipairs(self.about) do
        for _, sum in ipairs {"net_sha256", "weights_sha256"} do
            if about[sum] ~= self.about[1][sum] then
                fail("%s: made with a different source net than %s (%s differs)", dirs[i], dirs[1], sum)
            end
        end
    end
    return self
end

--- Fails if the source net that the set names exists but has changed.
function Reader:check_source()
    local about = self.about[1]
    for _, name in ipairs {"net", "weights"} do
        local path = about.options[name]
        if type(path) == "string" and lfs.attributes(path, "mode") == "file" then
            local sum = run_json.sha256(name, path)
            if sum ~= about[name .. "_sha256"] then
                fail("%s: the source net changed since the adversarial examples were made (another "
                    .. "SHA-256); make them again, or put the file back", path)
            end
        end
    end
end

--- The source net, loaded from the place that the set names. Fails if it has changed.
function Reader:source()
    self:check_source()
    local o = self.about[1].options
    local given = {}
    for _, name in ipairs {"net", "weights", "weights_key", "crop", "mean", "std"} do
        if o[name] ~= json.null then given[name] = o[name] end
    end
    return experiment.load_net(given)
end

--- Iterates over a list of the set's images (self.of), B at a time. Yields x [B,C,H,W], its rows,
-- and their indices in the list. A short last batch is filled with the first images. images: a
-- feed of the set.
function Reader:batches(images, list, B)
    local x, y = tensor.new {B, table.unpack(self.input)}, tensor.new({B}, "i64")
    local count, order, done = #list.number, {}, 0
    for i = 1, (count + B - 1) // B * B do order[i] = list.number[(i - 1) % count + 1] end
    images:start {order = tensor.from(order, "i64"), batch = B}
    return function()
        if not images:next(x, y) then return nil end
        local places = {}
        for k = 1, math.min(B, count - done) do places[k] = done + k end
        done = done + B
        return x, places
    end
end

--- A feed of all images of the set, numbered as in `of`. The label is 0 for genuine and 1 for
-- adversarial images. round: rounds every value to the nearest 8-bit level.
function Reader:feed(round)
    local f = feed.new {shape = self.input, round = round}
    for _, s in ipairs(self.shards) do f:raw(s.path, s.dtype, s.offset, s.count, s.label) end
    return f
end

return adversarial
