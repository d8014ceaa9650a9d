--- Robust accuracy: the fraction of all images that the net classifies correctly before and after
-- attacks within eps, for a list of eps, untargeted.
--
-- The attacks of --attacks run one after another in the given order, each on the images that are
-- still classified correctly. An image that is broken at one eps is broken at every larger one. In
-- addition, --matrix selects a matrix of losses and attacks: PGD and Auto-PGD with each loss, each
-- pair separately.
--
-- An attack on the waiting images at one eps is a turn. The images that finish together in a turn
-- are a unit of the run; a resumed run does the missing units.

local attacks = require "advrt.attacks"
local experiment = require "advrt.run.experiment"
local range = require "advrt.support.range"
local report = require "advrt.results.robustness"
local schema = require "advrt.run.schema"
local units = require "advrt.run.units"
local waiting = require "advrt.run.waiting"
local weights = require "advrt.nets.weights"

local EPS = {inf = {"0", "1/255", "2/255", "4/255", "8/255"}, [2] = {"0", "0.1", "0.25", "0.5", "1"}}
local MATRIX = {"ce", "logit", "m_logit", "dlr"}

local Robust = waiting()

--- Initialises the run's state. tried[turn]: the images that had the turn, and their evaluations.
-- For the waiting images, by index: the frames of their records; done[turn]; broken[chain], where
-- a chain is the turns that skip each other's broken images; lost[chain], the number of broken
-- images; and met[turn], the images that had a started turn or were skipped.
function Robust:check()
    self.turns = report.turns(self.o, self.net)
    self.tried, self.evaluations, self.frames, self.under_way = {}, {}, {}, 0
    for t in ipairs(self.turns) do self.tried[t], self.evaluations[t] = 0, 0 end
    self:forget()
end

function Robust:forget()
    self.waiting, self.done, self.broken, self.met, self.lost = {}, {}, {}, {}, {}
    for t, turn in ipairs(self.turns) do
        self.done[t], self.broken[turn.chain], self.lost[turn.chain] = {}, {}, 0
    end
end

--- Updates the state with a committed unit.
function Robust:learn(unit)
    if unit.attacked then return self:close(unit.attacked) end
    local turn, k, broken = self.turns[unit.turn], 0, {}
    for place in unit.broken:gmatch("%d+") do broken[math.tointeger(tonumber(place))] = true end
    for word in unit.places:gmatch("%d+") do
        local place = math.tointeger(tonumber(word))
        k = k + 1
        self.done[unit.turn][place] = true
        if self.met[unit.turn] then self.met[unit.turn] = self.met[unit.turn] + 1 end
        self.waiting[place] = self.waiting[place] or {}
        table.insert(self.waiting[place], unit.frames.records[k])
        if broken[place] then
            self.broken[turn.chain][place], self.lost[turn.chain] = true, self.lost[turn.chain] + 1
        end
    end
    self.tried[unit.turn] = self.tried[unit.turn] + k
    self.evaluations[unit.turn] = self.evaluations[unit.turn] + unit.evaluations
end

--- Moves past the `count` waiting images, which are all finished.
function Robust:close(count)
    self.counts.attacked = self.counts.attacked + count
    for place = 1, count do
        local frames = self.waiting[place] or {}
        table.move(frames, 1, #frames, #self.frames + 1, self.frames)
    end
    self:forget()
end

--- Returns what is wrong with the next unit of the journal, or nil. state: the totals of the
-- earlier units and, by turn and index, the contents of the waiting images' records.
function Robust:problem_of_unit(unit, _, state)
    state.done, state.heads = state.done or {}, state.heads or {}
    if unit.attacked ~= nil then return self:problem_of_closing(unit, state) end
    local problem = schema.problem(unit, {{"turn", schema.whole(1, #self.turns)}, {"places", schema.text},
        {"broken", schema.text}, {"images", schema.whole(1, self.o.batch)}, {"evaluations", schema.count},
        {"seconds", schema.number}})
    local turn = self.turns[unit.turn]
    problem = problem or schema.problem(unit, {{"loss", schema.only(turn.name, turn.name)}})
    if problem then return problem end
    local places, broken, heads = units.places(unit.places), units.places(unit.broken),
        units.heads(self.journal, unit)
    if not places or not broken or #places ~= unit.images or #heads ~= unit.images then
        return ("it has %d records, its note says %d images"):format(#heads, unit.images)
    end
    local done, here = state.done[unit.turn] or {}, {}
    state.done[unit.turn] = done
    for k, head in ipairs(heads) do
        local place = places[k]
        local first = state.heads[place]
        if place < 1 or place > self:room() or done[place] or first and first.file ~= head.file then
            return ("its image %d has a wrong or repeated number"):format(k)
        end
        done[place], here[place], state.heads[place] = true, true, first or head
    end
    for _, place in ipairs(broken) do
        if not here[place] then return "it counts an image as broken that it does not hold" end
    end
end

--- The same for a unit that finishes the waiting images.
function Robust:problem_of_closing(unit, state)
    local problem = schema.problem(unit, {{"attacked", schema.whole(1, self:room())},
        {"images", schema.whole(0, 0)}, {"seconds", schema.amount}, {"loss", schema.text},
        {"next", schema.count}})
    if problem then return problem end
    local heads = {}
    for place = 1, self:room() do
        local head = state.heads[place]
        if head and place > unit.attacked then return "it has records of too many images" end
        heads[#heads + 1] = head
    end
    state.done, state.heads = nil, nil
    return schema.problem(unit, units.closing(state, unit.attacked))
        or self.losses[1].name ~= unit.loss and "it belongs to another attack"
        or units.in_order(self, state, heads) or units.close(state, unit, unit.attacked)
end

function Robust:take_up(first)
    for _, unit in ipairs(self.journal.units) do
        self:learn(unit)
        if unit.next then
            first = unit.next
            self:take_counts(unit)
        end
    end
    return first
end

function Robust:order() return self.frames end

--- The mean evaluations per image of turn t: as measured; before the first, as at the previous eps,
-- or as the attack estimates.
function Robust:mean(t)
    if self.tried[t] > 0 then return self.evaluations[t] / self.tried[t] end
    for before = t - 1, 1, -1 do
        local one = self.turns[before]
        if one.chain == self.turns[t].chain and one.text == self.turns[t].text then
            return self:mean(before)
        end
    end
    return self.turns[t].attack:evaluations()
end

--- The number of images that still need turn t: of the waiting images, and of the `later` ones
-- after them.
function Robust:open(t, later)
    local count, chain = self.count_waiting, self.turns[t].chain
    local here = count - (self.met[t] or self.lost[chain])
    local seen = self.counts.attacked + (self.met[t] or 0)
    return math.max(0, here) + later * (seen > 0 and self.tried[t] / seen or 1 - self.lost[chain] / count)
end

--- Shows the progress in evaluations.
function Robust:show(what)
    local counts, left = self.counts, -self.under_way
    local later = self.count - counts.wrong - counts.left_out - counts.attacked - self.count_waiting
    for t in ipairs(self.turns) do left = left + self:open(t, math.max(0, later)) * self:mean(t) end
    self.progress.total = self.work + math.max(0, left)
    self.progress:update(self.work, what)
end

--- Runs turn t on the images of a queue that are still classified correctly and have not had it.
function Robust:take_turn(t, queue)
    local turn, place, before, results = self.turns[t], 0, self.work, {}
    local what = ("%s, eps %s, images %d to %d"):format(turn.text, turn.eps_text, self.counts.attacked + 1,
        self.counts.attacked + #queue.files)
    local told = {seconds = 0, finished = 0}

    local function next_item()
        repeat place = place + 1 until not (self.done[t][place] or self.broken[turn.chain][place])
        return queue.files[place] and {place = place, image = queue.x[place], name = queue.files[place],
            label = queue.labels[place]}
    end

    local function done(item, one)
        local broken = report.breaks(turn, one)
        results[#results + 1] = {place = item.place, evaluations = one.forward, broken = broken}
        self.journal:add("records", report.pack(turn, item, one, broken))
    end

    -- Commits the images that finished together, with the attack's cost since the last commit.
    local function measured(now)
        local places, broken, evaluations = {}, {}, 0
        for k, one in ipairs(results) do
            places[k], evaluations = one.place, evaluations + one.evaluations
            if one.broken then broken[#broken + 1] = one.place end
        end
        local seconds = now.seconds.forward + now.seconds.backward + now.seconds.step
        local note = {{"turn", t}, {"places", table.concat(places, " ")},
            {"broken", table.concat(broken, " ")}, {"evaluations", evaluations},
            {"seconds", seconds - told.seconds}}
        told.seconds, told.finished = seconds, told.finished + evaluations
        self.under_way, results = now.evaluations - told.finished, {}
        self:commit(#places, turn.name, note)
        self:learn(self.journal.units[#self.journal.units])
    end

    attacks.stream {
        attack = turn.attack, net = self.net, next = next_item, targeted = false, batch = self.o.batch,
        seed = self.o.seed, done = done, measured = measured,
        tick = function(batch)
            self.work = before + batch.evaluations
            self.under_way = batch.evaluations - told.finished
            self:show(what)
        end,
    }
    self.under_way = 0
end

function Robust:attack(queue)
    local count = #queue.files
    self.count_waiting = count
    self:look(queue.next - 1)
    local heads = {}
    for place, frames in pairs(self.waiting) do heads[place] = self.journal:head(frames[1]) end
    units.match(self.journal, #self.journal.units, queue, heads)
    for t, turn in ipairs(self.turns) do
        self.met[t] = 0
        for place = 1, count do
            if self.done[t][place] or self.broken[turn.chain][place] then self.met[t] = self.met[t] + 1 end
        end
        if self.met[t] < count then self:take_turn(t, queue) end
    end
    self:commit(0, self.losses[1].name, {{"attacked", count}, {"seconds", 0}}, queue.next)
    self:learn(self.journal.units[#self.journal.units])
    self.left = ""
    experiment.clear(queue)
end

experiment.run({
    setting = "robustness",
    description = "Measures robust accuracy over eps: images right before and after attacks.",
    uses = {
        {"", "robust accuracy of the bundled network in the Linf norm"},
        {"--net model.onnx --images photos --eps 0,2/255,8/255", "your own network and images, three radii"},
        {"--norm 2 --attacks apgd,square --matrix none",
            "in the L2 norm, two attacks, no comparison of losses"},
    },
    takes = {"eps", "norm", "attacks", "matrix", "require", "seed"},
    defaults = {norm = "inf", attacks = report.attacks},
    help = {
        norm = "norm of the ball: 2 or inf",
        attacks = "NAME or NAME:PARAMETER=VALUE:..., separated by commas; they run in this order",
    },
    prepare = function(o, net)
        o.untargeted = true
        o.eps = o.eps or EPS[o.norm]
        for _, text in ipairs(o.eps) do
            weights.say {range.of(net):doubt(attacks.number(text), o.norm == 2 and 2 or "inf")}
        end
        o.matrix = o.matrix or {}
        if #o.matrix == 0 then
            for _, name in ipairs(MATRIX) do
                if report.fewest_classes(name) <= net.classes then o.matrix[#o.matrix + 1] = name end
            end
        elseif o.matrix[1] == "none" then
            o.matrix = {}
        end
    end,
    losses = report.names, methods = Robust, what = {"attack"}, unit = "evaluations",
}, arg)
