--- run.json: what was run, with what, on what, and when; and whether two runs are one, gone on with.

local fail = require "advrt.fail"
local json = require "advrt.json"
local loss = require "advrt.loss"
local options = require "advrt.options"
local system = require "advrt.core.system"
local weights = require "advrt.weights"

local run_json = {}

--- The SHA-256 of a file that is a run's "net", "weights" or another; null where it has none.
function run_json.sha256(what, path)
    if not path then return json.null end
    if what == "weights" then return weights.sha256(path) end
    local sum, message = system.sha256(path)
    if not sum then fail("%s", message) end
    return sum
end

--- A list that is written as a JSON array even where it is empty, of numbers or names.
local function array(list) return setmetatable(table.move(list, 1, #list, 1, {}),
    {__jsontype = "array"}) end

local order = {"setting", "program", "script", "options", "figures", "advrt", "lua", "onednn", "device",
    "threads", "processes", "isa",
    "precision", "plan", "seed", "net", "net_sha256", "weights_sha256", "require_sha256", "images_in_folder",
    "images_listed", "classes_listed", "classes_told_by",
    "files_passed_over",
    "labels_sha256", "images_sha256", "images_found", "images_wrong", "images_left_out",
    "images_bad", "images_attacked", "clean_accuracy", "seconds", "start", "end"}
table.move(options.keys, 1, #options.keys, #order + 1, order)

--- The names of what a run's images were attacked with: losses, or attacks and the matrix.
function run_json.attacked_with(about)
    local o = about.options
    local names = o.losses or o.attacks or {}
    if type(o.matrix) ~= "table" or #o.matrix == 0 then return names end
    names = table.move(names, 1, #names, 1, {})
    names[#names + 1] = "matrix"
    return names
end

--- The JSON text of what describes a run. dkjson writes a key as often as its order names it.
function run_json.encode(about)
    local names, seen, flags = {}, {}, {}
    for key in pairs(about.options) do flags[#flags + 1] = key end
    table.sort(flags) -- the other options stand in `order` already
    for _, list in ipairs {order, run_json.attacked_with(about), flags} do
        for _, name in ipairs(list) do
            if not seen[name] then seen[name], names[#names + 1] = true, name end
        end
    end
    return json.encode(about, {indent = true, keyorder = names}) .. "\n"
end

--- A time as run.json has it, UTC.
function run_json.utc(time) return os.date("!%Y-%m-%dT%H:%M:%SZ", time) end

--- The SHA-256 of those of the files of --require; null where there are none.
local function required_sha256(paths)
    local sums = {}
    for i, path in ipairs(paths or {}) do
        local found, message = loss.find(path)
        if not found then fail("--require: %s", message) end
        sums[i] = run_json.sha256("require", found)
    end
    return #sums > 0 and system.digest(table.concat(sums, "\n")) or nil
end

--- What can be said of a run when it starts: options as used, null standing for what was not given and
-- has no default; versions; what its numbers depend on.
--
-- run.setting, run.options (names), run.o (values), run.net, run.figures ({name, function} pairs);
-- run.images (advrt.data) and run.listed, how many are chosen, before sharding; run.labels_sha256 of
-- their names and classes; run.images_sha256, where it is known yet, of the files of this shard, names,
-- classes and contents.
function run_json.start(run)
    local used = {}
    for _, name in ipairs(run.options) do
        local key = name:gsub("-", "_")
        local value = run.o[key]
        if type(value) == "table" then value = array(value) end
        used[key] = value == nil and json.null or value
    end
    local figures = array {}
    for i, figure in ipairs(run.figures or {}) do figures[i] = array(figure) end
    local about, first = system.options, 0
    while arg[first - 1] do first = first - 1 end
    return {
        setting = run.setting, program = arg[first], script = arg[0], options = used, figures = figures,
        advrt = about.version, lua = _VERSION, onednn = system.onednn_version,
        device = about.device, threads = about.threads, isa = about.isa,
        precision = about.precision, plan = about.plan, seed = run.o.seed,
        net = run.net.name, net_sha256 = run_json.sha256("net", run.net.definition),
        weights_sha256 = run_json.sha256("weights", run.net.weights),
        require_sha256 = required_sha256(run.o.require),
        images_in_folder = run.images and #run.images, images_listed = run.listed,
        classes_listed = run.images and run.images:classes(run.listed),
        classes_told_by = run.images and run.images.told_by,
        files_passed_over = run.images and run.images.others,
        labels_sha256 = run.labels_sha256, images_sha256 = run.images_sha256,
        start = run_json.utc(os.time()),
    }
end

--- Adds what is known at the end: the counts of images and the seconds that each loss took.
function run_json.finish(about, counts, seconds)
    about.images_found, about.images_wrong = counts.found, counts.wrong
    about.images_left_out, about.images_attacked = counts.left_out, counts.attacked
    about.images_bad = counts.bad
    about.clean_accuracy = counts.found > 0 and (counts.found - counts.wrong) / counts.found
        or json.null
    about.seconds = {}
    for _, name in ipairs(run_json.attacked_with(about)) do about.seconds[name] = seconds[name] end
    about["end"] = run_json.utc(os.time())
end

--- The text of run.json for a run that has just ended: what start and finish take, in one table, and
-- run.began, the time of its start. A run without images has no counts and no seconds.
function run_json.text(run)
    local about = run_json.start(run)
    about.start = run_json.utc(run.began)
    if run.found then
        run_json.finish(about, run, run.seconds)
    else
        about["end"] = run_json.utc(os.time())
    end
    return run_json.encode(about)
end

local function is_list(value, is_element)
    if type(value) ~= "table" then return false end
    for _, element in ipairs(value) do
        if not is_element(element) then return false end
    end
    return #value > 0 or next(value) == nil
end

local function is_text(value) return type(value) == "string" end

local function is_count(value) return math.type(value) == "integer" and value >= 0 end

--- The name of a picture's files and of the function that draws it; neither leads anywhere else.
local function is_figure(value)
    return type(value) == "table" and is_text(value[1]) and is_text(value[2])
        and value[1]:find("^fig%w*$") and value[2]:find("^%a%w*$")
end

--- Whether a table is what a finished run.json holds, as far as others build on it.
local function is_about(about)
    local o = type(about) == "table" and about.options
    if type(o) ~= "table" or type(about.seconds) ~= "table" then return false end
    for _, name in ipairs {"found", "wrong", "left_out", "attacked"} do
        if not is_count(about["images_" .. name]) then return false end
    end
    if not is_count(about.images_bad or 0) then return false end
    local names = run_json.attacked_with(about)
    if not is_list(names, is_text) then return false end
    for _, name in ipairs(names) do
        if type(about.seconds[name]) ~= "number" then return false end
    end
    return #names > 0 and (not o.losses or is_count(o.iterations)) and is_count(o.seed)
        and is_text(about.setting) and is_text(about.start) and is_list(about.figures or {}, is_figure)
end

--- Reads the run.json of a finished run's folder; nil and a message where it is none.
function run_json.read(dir)
    local path = dir .. "/run.json"
    local file <close>, message = io.open(path, "rb")
    if not file then return nil, message end
    local about = json.decode(file:read("a") or "")
    if not is_about(about) then return nil, path .. ": not a finished run's run.json" end
    return about
end

local function text_of(value) return value == nil and "null" or json.encode(value) end

-- Where a run takes them from is no part of what it computes; what they hold is compared.
local places = {net = "net_sha256", weights = "weights_sha256", images = "labels_sha256",
    require = "require_sha256"}
local of_advrt = {"device", "threads", "precision", "plan"}
local of_program = {{"advrt", "advrt"}, {"onednn", "oneDNN"}, {"isa", "the instruction set"}}

--- The keys of options that either of two runs tells: those of advrt.options in its order, then flags.
local function told_keys(old, new)
    local keys, known, flags = table.move(options.keys, 1, #options.keys, 1, {}), {}, {}
    for _, key in ipairs(keys) do known[key] = true end
    for _, about in ipairs {old, new} do
        for key in pairs(about.options) do
            if not known[key] then known[key], flags[#flags + 1] = true, key end
        end
    end
    table.sort(flags)
    return table.move(flags, 1, #flags, #keys + 1, keys)
end

--- The options in which the runs `old` and `new` (tables as run.json's) differ, each as text
-- "--name A, not B", A the old one's; and whether anything else is in the way, as one text or nil.
-- `but`: keys of options that may differ.
function run_json.differences(old, new, but)
    local list = {}
    local function compare(name, a, b)
        a, b = text_of(a), text_of(b)
        if a ~= b then
            list[#list + 1] = ("%s %s, not %s"):format(name, a == "null" and "left out" or a,
                b == "null" and "left out" or b)
        end
    end
    if old.setting ~= new.setting then return {}, ("of %s, not %s"):format(old.setting, new.setting) end
    for _, key in ipairs(told_keys(old, new)) do
        local same = places[key] and old[places[key]] == new[places[key]]
        if not same and not (but and but[key]) then
            compare("--" .. key:gsub("_", "-"), old.options[key], new.options[key])
        end
    end
    for _, name in ipairs(of_advrt) do compare("--" .. name, old[name], new[name]) end
    for _, one in ipairs(of_program) do
        if old[one[1]] ~= new[one[1]] then
            return list, ("with %s %s, not %s"):format(one[2], old[one[1]], new[one[1]])
        end
    end
    return list
end

return run_json
