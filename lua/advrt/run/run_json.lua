--- run.json: what was run, with what, on what, and when; and whether two runs are one, gone on with.

local fail = require "advrt.support.fail"
local json = require "advrt.support.json"
local lfs = require "lfs"
local loaded = require "advrt.support.loaded"
local loss = require "advrt.loss"
local options = require "advrt.support.options"
local range = require "advrt.support.range"
local schema = require "advrt.run.schema"
local system = require "advrt.core.system"
local weights = require "advrt.nets.weights"

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
    "precision", "plan", "seed", "net", "net_sha256", "weights_sha256", "picture", "require_sha256", "loaded",
    "loaded_later", "images_in_folder",
    "images_listed", "classes_listed", "classes_told_by",
    "files_passed_over",
    "labels_sha256", "images_sha256", "images_found", "images_wrong", "images_left_out",
    "images_bad", "images_attacked", "clean_accuracy", "seconds", "start", "end", "files"}
table.move(options.keys, 1, #options.keys, #order + 1, order)

-- The keys of advrt's own options that a run keeps.
local of_advrt = {}
for _, option in ipairs(system.program_options) do
    if option.recorded then of_advrt[#of_advrt + 1] = option.key end
end

--- The names of what a run's images were attacked with: losses, or attacks and the matrix.
function run_json.attacked_with(about)
    local o = about.options
    local names = o.losses ~= json.null and o.losses or o.attacks
    if type(names) ~= "table" then names = {} end
    if type(o.matrix) ~= "table" or #o.matrix == 0 then return names end
    names = table.move(names, 1, #names, 1, {})
    names[#names + 1] = "matrix"
    return names
end

--- The JSON text of what describes a run. dkjson writes a key as often as its order names it.
function run_json.encode(about)
    local names, seen, flags, files = {}, {}, {}, {}
    for key in pairs(about.options) do flags[#flags + 1] = key end
    for name in pairs(about.files or {}) do files[#files + 1] = name end
    table.sort(flags) -- the other options stand in `order` already
    table.sort(files)
    for _, list in ipairs {order, run_json.attacked_with(about), flags, files} do
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
    local own, first = system.options, 0
    while arg[first - 1] do first = first - 1 end
    local about = {
        setting = run.setting, program = arg[first], script = arg[0], options = used, figures = figures,
        advrt = own.version, lua = _VERSION, onednn = system.onednn_version,
        isa = own.isa, seed = run.o.seed,
        net = run.net.name, net_sha256 = run_json.sha256("net", run.net.definition),
        weights_sha256 = run_json.sha256("weights", run.net.weights),
        picture = run.net.input and range.of(run.net).picture or false,
        require_sha256 = required_sha256(run.o.require),
        loaded = loaded.list(),
        images_in_folder = run.images and #run.images, images_listed = run.listed,
        classes_listed = run.images and run.images:classes(run.listed),
        classes_told_by = run.images and run.images.told_by,
        files_passed_over = run.images and run.images.others,
        labels_sha256 = run.labels_sha256, images_sha256 = run.images_sha256,
        start = run_json.utc(os.time()),
    }
    for _, key in ipairs(of_advrt) do about[key] = own[key] end
    return about
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

--- Makes the table of a run that has just ended, for write: what start and finish take, in one table, and
-- run.began, the time of its start. A run without images has no counts and no seconds.
function run_json.ended(run)
    local about = run_json.start(run)
    about.start = run_json.utc(run.began)
    if run.found then
        run_json.finish(about, run, run.seconds)
    else
        about["end"] = run_json.utc(os.time())
    end
    return about
end

-- The file itself ---------------------------------------------------------------

local SUM = ',\n  "sha256":"%s"\n}\n' -- its last lines: the sum of all before them

--- Files that can be made again from the others, and are not vouched for; the figures are, so that a report
-- can say which was changed.
local function is_vouched(name)
    return name:sub(1, 1) ~= "." and name ~= "run.json" and name ~= "report.html"
        and not name:find("%.part$") and not name:find("%.gp$")
end

--- The names of the files in a run's folder, and in its examples/, that run.json has the sums of.
local function vouched(dir)
    local names = {}
    for _, below in ipairs {"", "examples/"} do
        local there = lfs.attributes(dir .. "/" .. below, "mode") == "directory"
        for name in lfs.dir(there and dir .. "/" .. below or dir) do
            local path = below .. name
            if there and is_vouched(name) and lfs.attributes(dir .. "/" .. path, "mode") == "file" then
                names[#names + 1] = path
            end
        end
    end
    table.sort(names)
    return names
end

--- Writes the run.json of a run's folder `out`, the last of its files but for the report: with the sums of
-- the others, and one of its own. but: optional, a pattern of names whose sums something else has.
function run_json.write(out, about, but)
    about.files = {}
    for _, name in ipairs(vouched(out.path)) do
        if not (but and name:find(but)) then
            about.files[json.utf8(name)] = run_json.sha256("file", out:file(name))
        end
    end
    local body = run_json.encode(about):gsub("\n}\n$", "")
    out:write("run.json", body .. SUM:format(system.digest(body)))
end

local figure_names = {svg = true, png = true, pdf = true}

--- Whether a file of a run is as run.json has it: true; nil where run.json does not tell; or false and what
-- is wrong.
function run_json.is_file(dir, about, name)
    local wanted = about.files[json.utf8(name)]
    if not wanted then return nil end
    local path = dir .. "/" .. name
    if not lfs.symlinkattributes(path, "mode") then
        return false, path .. ": is missing; put it back, or run again"
    end
    local sum, message = system.sha256(path)
    if not sum then return false, message end
    if sum ~= wanted then
        return false, path .. ": was changed after the run (its SHA-256 is not the one in run.json); put it "
            .. "back, or run again"
    end
    return true
end

--- Fails where a file of the finished run in `dir` is not the one that the run has left: those of `names`,
-- which must be there, or where it is nil all but the figures; but: optional, the name of another.
function run_json.check_files(dir, about, names, but)
    if not names then
        names = {}
        for name in pairs(about.files) do
            local kind = name:match("^fig[^/]*%.(%a+)$")
            if not figure_names[kind] and name ~= but then names[#names + 1] = name end
        end
        table.sort(names)
    end
    for _, name in ipairs(names) do
        local ok, message = run_json.is_file(dir, about, name)
        if ok == nil then message = ("%s/run.json: has no SHA-256 of %s"):format(dir, name) end
        if not ok then fail("%s", message) end
    end
end

local function nullable(kind) return schema.any(kind, schema.only(json.null, "null")) end

local file_list = schema.kind("a list of files with their SHA-256", function(v)
    if type(v) ~= "table" then return false end
    for key, one in pairs(v) do
        if math.type(key) ~= "integer" or type(one) ~= "table" or not schema.text.is(one[1])
            or not schema.sum.is(one[2]) then
            return false
        end
    end
    return #v > 0 or next(v) == nil
end)

--- Options: text to anything that JSON holds.
local options_table = schema.kind("options by name", function(v)
    if type(v) ~= "table" then return false end
    for key in pairs(v) do
        if type(key) ~= "string" then return false end
    end
    for _, key in ipairs {"losses", "attacks", "require"} do
        local list = v[key]
        if list ~= nil and list ~= json.null and not schema.list(schema.text).is(list) then return false end
    end
    return true
end)

local begun = {
    {"picture", schema.boolean, optional = true},
    {"setting", schema.text}, {"options", options_table}, {"start", schema.text},
    {"advrt", schema.text}, {"onednn", schema.text}, {"isa", schema.text},
    {"processes", schema.whole(1, 1 << 30), optional = true},
    {"net_sha256", nullable(schema.sum), optional = true},
    {"weights_sha256", nullable(schema.sum), optional = true}, {"loaded", file_list},
    {"require_sha256", nullable(schema.sum), optional = true},
    {"labels_sha256", schema.sum, optional = true}, {"images_sha256", schema.sum, optional = true},
}

for _, key in ipairs(of_advrt) do
    local number = math.type(system.options[key])
    begun[#begun + 1] = {key, number and schema.whole(1, 1 << 20) or schema.text}
end

--- What is wrong with what run_json.start made and JSON has kept; nil where nothing is.
function run_json.problem_of_start(about) return schema.problem(about, begun) end

--- The name of a picture's files and of the function that draws it; neither leads anywhere else.
local figure_list = schema.list(schema.kind("a figure", function(v)
    return type(v) == "table" and schema.text.is(v[1]) and schema.text.is(v[2])
        and v[1]:find("^fig%w*$") ~= nil and v[2]:find("^%a%w*$") ~= nil
end))

local finished = {
    {"seconds", schema.kind("a table", function(v) return type(v) == "table" end)},
    {"images_found", schema.count}, {"images_wrong", schema.count}, {"images_left_out", schema.count},
    {"images_attacked", schema.count}, {"images_bad", schema.count, optional = true},
    {"figures", figure_list, optional = true},
    {"loaded_later", file_list, optional = true},
    {"files", schema.kind("files with their SHA-256", function(v)
        if type(v) ~= "table" then return false end
        for name, sum in pairs(v) do
            if type(name) ~= "string" or not schema.sum.is(sum) then return false end
        end
        return true
    end)},
}

--- What is wrong with a finished run.json, as far as others build on it.
local function problem_of(about)
    local problem = run_json.problem_of_start(about) or schema.problem(about, finished)
    if problem then return problem end
    local o, names = about.options, run_json.attacked_with(about)
    if names == json.null or #names == 0 then return "it names no losses and no attacks" end
    for _, name in ipairs(names) do
        problem = problem or schema.problem(about.seconds, {{name, schema.amount}})
    end
    return problem or schema.problem(o, {{"seed", schema.count},
        {"iterations", schema.whole(1, 1 << 30), optional = not o.losses or o.losses == json.null}})
end

--- Reads the run.json of a finished run's folder; nil and a message where it is none, or was changed.
function run_json.read(dir)
    local path = dir .. "/run.json"
    local file <close>, message = io.open(path, "rb")
    if not file and lfs.attributes(dir .. "/seeds.csv", "mode") then
        return nil, ("%s: holds a run for each seed; give one of its folders seed-N"):format(dir)
    elseif not file then
        return nil, message
    end
    local text
    text, message = file:read("a")
    if not text then return nil, ("%s: %s"):format(path, message) end
    local body, sum = text:sub(1, -#SUM:format(("0"):rep(64)) - 1), text:sub(-#SUM:format(("0"):rep(64)))
    sum = sum:match('^,\n  "sha256":"(%x+)"\n}\n$')
    local about = json.decode(text)
    local problem = not sum and "it ends without its SHA-256"
        or sum ~= system.digest(body) and "it was changed after the run (its SHA-256 is another one)"
        or problem_of(about)
    if problem then return nil, ("%s: not a finished run's run.json: %s"):format(path, problem) end
    about.sha256 = nil
    return about
end

local function text_of(value) return value == nil and "null" or json.encode(value) end

-- Where a run takes them from is no part of what it computes; what they hold is compared.
local places = {net = "net_sha256", weights = "weights_sha256", images = "labels_sha256",
    require = "require_sha256"}
local of_program = {{"advrt", "advrt"}, {"onednn", "oneDNN"}, {"isa", "the instruction set"}}

--- The keys of options that either of two runs has: first in the order of advrt.support.options, then flags.
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
