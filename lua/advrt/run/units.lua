--- What a journal's units must be for a run to go on behind them: notes of the right types, as many frames
-- as the notes say, and each record of the image and loss whose turn it is. What passes here can be built
-- on without looking again.
--
-- A unit is the note of journal.units, with its frames. Each kind of run has a function of its own that
-- says what is wrong with the next unit; what they share is here.

local csv = require "advrt.support.csv"
local fail = require "advrt.support.fail"
local loaded = require "advrt.support.loaded"
local schema = require "advrt.run.schema"

local units = {}

--- Fails since the i-th unit of a journal is not what a run leaves.
function units.damaged(journal, i, problem, ...)
    fail("%s: unit %d: %s; the journal is damaged, give another --out", journal.path, i,
        select("#", ...) > 0 and problem:format(...) or problem)
end

--- What the units so far amount to, for a run over images first .. last.
function units.state(run, first, last)
    local place = {}
    for i = first, last do place[run.images.files[i]] = i end
    return {next = first, first = first, last = last, place = place, attacked = 0, found = 0, wrong = 0,
        left_out = 0, at = first - 1}
end

--- The fields of the note that closes a batch, of which `images` are attacked.
function units.closing(state, images)
    return {{"next", schema.whole(state.next + images, state.last + 1)},
        {"found", schema.whole(state.found + images, state.last + 1 - state.first)},
        {"wrong", schema.whole(state.wrong, state.last)},
        {"left_out", schema.whole(state.left_out, state.last)},
        {"bad", schema.whole(0, state.last), optional = true}, {"left", schema.text}}
end

--- What is wrong with the counts of a note that closes a batch; else they are taken over.
function units.close(state, unit, images)
    state.attacked = state.attacked + images
    if state.attacked + unit.wrong + unit.left_out ~= unit.found
        or unit.found + (unit.bad or 0) ~= unit.next - state.first then
        return ("the counts of images do not add up: %d found, %d wrong, %d left out, %d attacked"):format(
            unit.found, unit.wrong, unit.left_out, state.attacked)
    elseif state.at >= unit.next then
        return ("its images come after image %d, the first of the next batch"):format(unit.next)
    end
    local rows = csv.parse(unit.left)
    for _, row in ipairs(rows or {{}}) do
        if #row ~= 4 then return "its lines of left_out.csv are malformed" end
    end
    state.next, state.at = unit.next, unit.next - 1
    for _, name in ipairs {"found", "wrong", "left_out"} do state[name] = unit[name] end
end

--- What the records of a unit say of themselves, in order.
function units.heads(journal, unit)
    local heads = {}
    for k, frame in ipairs(unit.frames.records) do heads[k] = journal:head(frame) end
    return heads
end

--- What is wrong with the images of the first loss of a batch: each must be one of the run, with its class,
-- behind the one before it.
function units.in_order(run, state, heads)
    for _, head in ipairs(heads) do
        local i = state.place[head.file]
        if not i then
            return ("its record of %s belongs to no image of the run"):format(schema.show(head.file))
        end
        if i <= state.at then
            return ("its record of %s is duplicated or out of order"):format(schema.show(head.file))
        elseif head.label ~= run.images:label(i) then
            return ("its record of %s has class %s"):format(schema.show(head.file), schema.show(head.label))
        end
        state.at = i
    end
end

--- Fails unless the records of the i-th unit are of the images of a queue, each in its place.
function units.match(journal, i, queue, heads)
    for place, head in pairs(heads) do
        if head.file ~= queue.files[place] or head.label ~= queue.labels[place]
            or head.target and head.target ~= -1 and head.target ~= queue.targets[place] then
            units.damaged(journal, i, "its record of %s is of another image than the one attacked (%s)",
                schema.show(head.file), schema.show(queue.files[place]))
        end
    end
end

--- The places in a note's text, "1 4 2"; nil where it is none.
function units.places(text)
    local list = {}
    for place in text:gmatch("[^ ]+") do
        list[#list + 1] = place:find("^%d+$") and #place < 10 and math.tointeger(tonumber(place)) or nil
        if not list[#list] then return nil end
    end
    return list
end

--- Goes through the units of a journal: problem_of(unit, i) is nil or what is wrong with one. dir: the run's.
function units.check(journal, dir, problem_of)
    for i, unit in ipairs(journal.units) do
        local problem = schema.problem(unit, {{"loaded", schema.text, optional = true}})
            or problem_of(unit, i)
        local files = not problem and loaded.of_text(unit.loaded or "")
        if not files then units.damaged(journal, i, "%s", problem or "its list of files is malformed") end
        loaded.check(files, dir)
    end
end

return units
