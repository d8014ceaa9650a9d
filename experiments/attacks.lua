--- Full attacks (the paper's Section III) side by side: FGS, IFGS, PGD, L-BFGS, Carlini & Wagner.
--
-- Each attack of a list, NAME or NAME:PARAMETER=VALUE:... as in advrt.attacks, attacks the images
-- that the net classifies correctly. The results are measured on the finished images: success, L2,
-- Linf, evaluations and gradients per image, and time.
--
-- Several batches of images wait together; an image that finishes makes room for another
-- (advrt.attacks.stream). The images that finish together, at most a batch, and their attack are a
-- unit of the run. A resumed run attacks unfinished images again from the start.

local attacks = require "advrt.attacks"
local experiment = require "advrt.run.experiment"
local fail = require "advrt.support.fail"
local range = require "advrt.support.range"
local report = require "advrt.results.attacks"
local schema = require "advrt.run.schema"
local units = require "advrt.run.units"
local waiting = require "advrt.run.waiting"
local weights = require "advrt.nets.weights"

local Attacks = waiting()

--- Initialises the run's state. spent: by name, the cost of each attack. known: the images that it
-- finished, and their evaluations. For the images that wait, by index: partial[a][place], the
-- frames of their records and their kept images. For finished images: frames and kept[a].
function Attacks:check()
    self.spent, self.known, self.partial, self.frames, self.under_way = {}, {}, {}, {}, 0
    self.kept = {}
    for a, attack in ipairs(self.losses) do
        self.kept[a] = {}
        self.spent[attack.name], self.known[a] = {}, {images = 0, evaluations = 0}
        for _, key in ipairs(report.costs) do self.spent[attack.name][key] = 0 end
        self.partial[a] = {}
    end
end

--- Updates the state with a committed unit.
function Attacks:learn(unit)
    local a, k = 1, 0
    while self.losses[a].name ~= unit.loss do a = a + 1 end
    for place in unit.places:gmatch("%d+") do
        k = k + 1
        self.partial[a][math.tointeger(tonumber(place))] = {record = unit.frames.records[k],
            image = unit.frames.bytes[k]}
    end
    local known, spent = self.known[a], self.spent[unit.loss]
    known.images, known.evaluations = known.images + unit.images, known.evaluations + unit.evaluations
    for key, sum in pairs(spent) do spent[key] = sum + unit[key] end
end

--- Moves past the waiting images, which are all finished.
function Attacks:close()
    self.counts.attacked = self.counts.attacked + #self.partial[1]
    for place = 1, #self.partial[1] do
        for a in ipairs(self.losses) do
            local one = self.partial[a][place]
            self.frames[#self.frames + 1] = one.record
            self.kept[a][#self.kept[a] + 1] = one.image
        end
    end
    for a in ipairs(self.losses) do self.partial[a] = {} end
end

--- Returns what is wrong with the next unit of the journal, or nil. state: the totals of the
-- earlier units.
function Attacks:problem_of_unit(unit, _, state)
    local names, fields = {}, {{"images", schema.whole(1, self.o.batch)}, {"seconds", schema.number},
        {"places", schema.text}, {"evaluations", schema.count}}
    for a, attack in ipairs(self.losses) do names[a] = attack.name end
    fields[#fields + 1] = {"loss", schema.one_of(names)}
    for _, key in ipairs(report.costs) do fields[#fields + 1] = {key, schema.number} end
    local problem = schema.problem(unit, fields)
    if problem then return problem end
    local places, heads = units.places(unit.places), units.heads(self.journal, unit)
    if not places or #places ~= unit.images or #heads ~= unit.images then
        return ("it has %d records, its note says %d images"):format(#heads, unit.images)
    end
    if #unit.frames.bytes ~= (self.o.save_adversarial and #heads or 0) then
        return ("it keeps %d adversarial images of %d"):format(#unit.frames.bytes, #heads)
    end
    state.done = state.done or {} -- by attack and index: the file
    local done = state.done[unit.loss] or {count = 0}
    state.done[unit.loss], done.count = done, done.count + #places
    for k, head in ipairs(heads) do
        local place = places[k]
        if place < 1 or place > self:room() or done[place] then
            return ("its image %d has a wrong or repeated number"):format(k)
        elseif done[head.file or ""] then
            return ("it has two records of %s"):format(schema.show(head.file))
        elseif head.attack ~= unit.loss then
            return "a record belongs to another attack"
        end
        done[place], done[head.file or ""] = head, true
    end
    return unit.next ~= nil and self:problem_of_closing(unit, state) or nil
end

--- The same for a unit that finishes the waiting images.
function Attacks:problem_of_closing(unit, state)
    local first = state.done[self.losses[1].name] or {count = 0}
    for _, attack in ipairs(self.losses) do
        local done = state.done[attack.name] or {count = 0}
        if done.count ~= first.count then return "the previous batch is not finished for all attacks" end
        for place = 1, first.count do
            local a, b = done[place], first[place]
            if not (a and b and a.file == b.file and a.target == b.target) then
                return ("the records of image %d belong to different images"):format(place)
            end
        end
    end
    state.done = nil
    return schema.problem(unit, units.closing(state, first.count))
        or units.in_order(self, state, first) or units.close(state, unit, first.count)
end

function Attacks:take_up(first)
    for _, unit in ipairs(self.journal.units) do
        self:learn(unit)
        if unit.next then
            first = unit.next
            self:take_counts(unit)
            self:close()
        end
    end
    return first
end

function Attacks:order() return self.frames end

function Attacks:pixels(a)
    local i = 0
    return function()
        i = i + 1
        return self.kept[a][i] and self.journal:bytes(self.kept[a][i])
    end
end

--- Shows the progress in evaluations. An attack's evaluations per image are its mean so far or,
-- before any image is finished, the attack's own estimate.
function Attacks:show(what)
    local images, left = self.count - self.counts.wrong - self.counts.left_out
        - self.counts.bad, -self.under_way
    for a, attack in ipairs(self.losses) do
        local known = self.known[a]
        local mean = known.images > 0 and known.evaluations / known.images or attack:evaluations()
        left = left + math.max(0, images - known.images) * mean
    end
    self.progress.total = self.work + math.max(0, left)
    self.progress:update(self.work, what)
end

--- Runs the a-th attack on the images of a queue that it has not finished.
function Attacks:attack_with(a, queue)
    local attack, place, before, results = self.losses[a], 0, self.work, {}
    local what = ("%s, images %d to %d"):format(attack.name, self.counts.attacked + 1,
        self.counts.attacked + #queue.files)
    local told = {passes = 0, forward = 0, backward = 0, step = 0, finished = 0}

    local function next_item()
        repeat place = place + 1 until not self.partial[a][place]
        return queue.files[place] and {place = place, image = queue.x[place], name = queue.files[place],
            label = queue.labels[place], target = not self.o.untargeted and queue.targets[place] or nil}
    end

    local function done(item, one)
        results[#results + 1] = {place = item.place, evaluations = one.forward}
        self.journal:add("records", report.pack {file = item.name, label = item.label,
            target = item.target or -1, attack = attack.name, success = one.success,
            prediction = one.prediction, l2 = one.l2, linf = one.linf, forward = one.forward,
            backward = one.backward, zero_gradients = one.zero_gradients, unmoved = one.unmoved,
            not_finite = one.not_finite or ""})
        if self.o.save_adversarial then self.journal:add("bytes", one.x:bytes()) end
    end

    -- Commits the images that finished together, with the attack's cost since the last commit.
    local function measured(now)
        local places, evaluations, seconds = {}, 0, now.seconds
        for k, one in ipairs(results) do
            places[k], evaluations = one.place, evaluations + one.evaluations
        end
        local note = {{"places", table.concat(places, " ")}, {"evaluations", evaluations},
            {"passes", now.passes - told.passes},
            {"seconds", seconds.forward + seconds.backward + seconds.step - told.forward
                - told.backward - told.step}}
        for name, sum in pairs(seconds) do
            note[#note + 1] = {"seconds_" .. name, sum - told[name]}
            told[name] = sum
        end
        told.passes, told.finished = now.passes, told.finished + evaluations
        local count, whole = #places, a == #self.losses
        for _ in pairs(self.partial[a]) do count = count + 1 end
        self.under_way, results = now.evaluations - told.finished, {}
        self:commit(#places, attack.name, note, whole and count == #queue.files and queue.next or nil)
        self:learn(self.journal.units[#self.journal.units])
    end

    attacks.stream {
        attack = attack, net = self.net, next = next_item, targeted = not self.o.untargeted,
        batch = self.o.batch, seed = self.o.seed, done = done, measured = measured,
        tick = function(batch)
            self.work = before + batch.evaluations
            self.under_way = batch.evaluations - told.finished
            self:show(what)
        end,
    }
    self.under_way = 0
end

function Attacks:attack(queue)
    self:look(queue.next - 1)
    for a in ipairs(self.losses) do
        local heads = {}
        for place, one in pairs(self.partial[a]) do heads[place] = self.journal:head(one.record) end
        units.match(self.journal, #self.journal.units, queue, heads)
    end
    for a in ipairs(self.losses) do
        local count = 0
        for _ in pairs(self.partial[a]) do count = count + 1 end
        if count < #queue.files then self:attack_with(a, queue) end
    end
    self:close()
    self.left = ""
    experiment.clear(queue)
end

local function list_of(o, net)
    local list = {}
    for i, text in ipairs(o.attacks) do
        list[i] = attacks.parse(text)
        local fewest = list[i]:ascends(not o.untargeted).min_classes
        if net.classes < fewest then
            fail.option("--attacks: %s needs %d classes, the net has %d", text, fewest, net.classes)
        end
        weights.say {list[i].eps and range.of(net):doubt(list[i].eps, list[i].norm)}
    end
    return list
end

experiment.run({
    setting = "attacks",
    description = "Attacks images with each attack of a list: success, distances, counts and time.",
    uses = {
        {"", "the default attacks on the bundled network and images"},
        {"--attacks apgd:eps=8/255,cw --net model.onnx --images photos",
            "two attacks on your own network and images"},
        {"--untargeted --attacks deepfool,fab:norm=2 --limit 50",
            "away from the label, on the first 50 images"},
    },
    takes = {"attacks", "require", "targets", "seed", "save-adversarial"},
    help = {["save-adversarial"] = "last: keep the final float32 image of each attack"},
    prepare = function(o)
        if o.save_adversarial == "first" then
            fail.option("--save-adversarial first: attacks keep only the final image; give last")
        end
    end,
    flags = {{"untargeted", "attack away from the label instead of towards a target"}},
    either = {{"targets", "untargeted"}},
    losses = list_of, methods = Attacks, what = {"attack"}, unit = "evaluations",
}, arg)
