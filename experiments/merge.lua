--- Joins the folders of the runs of all N shards (--shard 1/N ... N/N) into the folder that one run
-- of the whole work leaves: the same records, tables and figures, and of the times their sum.
--
--     advrt experiments/merge.lua shards/1 shards/2 shards/3 --out runs/whole

local csv = require "advrt.csv"
local examples = require "advrt.examples"
local fail = require "advrt.fail"
local folder = require "advrt.folder"
local keep = require "advrt.keep"
local lfs = require "lfs"
local options = require "advrt.options"
local plot = require "advrt.plot"
local results = require "advrt.results"
local run_json = require "advrt.run_json"
local system = require "advrt.core.system"

local CHUNK = 1 << 20 -- bytes copied at a time

--- A folder of a finished shard: {dir, about, number, of}.
local function read_shard(dir)
    if lfs.attributes(dir .. "/" .. folder.journal, "mode") then
        fail("%s: the run is not finished; go on with it by --resume", dir)
    end
    local about, message = run_json.read(dir)
    if not about then fail("%s", message) end
    local shard = about.options.shard
    if type(shard) ~= "table" or math.type(shard[1]) ~= "integer" or math.type(shard[2]) ~= "integer"
    then
        fail("%s: is no shard of a run (its run.json has no shard)", dir)
    end
    return {dir = dir, about = about, number = shard[1], of = shard[2]}
end

--- Fails unless `one` is a shard of the run of which `first` is one.
local function check_kin(first, one)
    local list, problem = run_json.differences(first.about, one.about, {out = true, shard = true})
    if one.of ~= first.of then
        problem = ("one of %d shards, not of %d"):format(one.of, first.of)
    elseif #list > 0 then
        problem = "run with other options: " .. table.concat(list, "; ")
    elseif not problem then
        local what = {labels = "images", require = "losses"}
        for _, name in ipairs {"net", "weights", "labels", "require"} do
            if first.about[name .. "_sha256"] ~= one.about[name .. "_sha256"] then
                problem = ("of other %s (another SHA-256)"):format(what[name] or name)
            end
        end
    end
    if problem then fail("%s is no shard of the run of %s: %s", one.dir, first.dir, problem) end
end

--- The shards in order, each once.
local function read_shards(dirs)
    local shards, first = {}, nil
    for _, dir in ipairs(dirs) do
        local one = read_shard(dir)
        first = first or one
        check_kin(first, one)
        local twin = shards[one.number]
        if twin then
            fail("%s and %s are both shard %d/%d", twin.dir, dir, one.number, one.of)
        end
        shards[one.number] = one
    end
    local missing = {}
    for i = 1, first.of do
        if not shards[i] then missing[#missing + 1] = ("%d/%d"):format(i, first.of) end
    end
    if #missing > 0 then fail("shard %s is missing", table.concat(missing, ", ")) end
    return shards
end

--- Writes the records of all shards, one after another.
local function join_records(out, shards)
    local path = out:scratch("records.msgpack.part")
    local function check(done, message)
        if not done then fail("cannot write %s: %s", path, message) end
        return done
    end
    local file <close> = check(io.open(path, "wb"))
    for _, one in ipairs(shards) do
        local from <close>, message = io.open(one.dir .. "/records.msgpack", "rb")
        if not from then fail("%s", message) end
        for bytes in function() return from:read(CHUNK) end do check(file:write(bytes)) end
    end
    check(file:close())
    check(system.replace(path, out:file("records.msgpack")))
end

--- An iterator over the images of a loss that the shards kept, in order; and the shape of all.
local function pixels_of(shards, name)
    return coroutine.wrap(function()
        for _, one in ipairs(shards) do
            for bytes in keep.pixels(one.dir, name) do coroutine.yield(bytes) end
        end
    end)
end

--- What results.write takes, from the shards' folders.
local function join(shards)
    local first = shards[1].about
    local losses = first.options.losses
    local run = {about = first, seconds = {}, left = "", figures = first.figures or {},
        counts = {found = 0, wrong = 0, left_out = 0, attacked = 0}}
    for _, name in ipairs(losses) do run.seconds[name] = 0 end
    for _, one in ipairs(shards) do
        for name in pairs(run.counts) do
            run.counts[name] = run.counts[name] + one.about["images_" .. name]
        end
        for _, name in ipairs(losses) do
            run.seconds[name] = run.seconds[name] + one.about.seconds[name]
        end
        local left, message = csv.read(one.dir .. "/left_out.csv")
        if not left then fail("%s", message) end
        run.left = run.left .. left:gsub("^[^\n]*\n", "", 1)
        if one.about.start < first.start then first.start = one.about.start end
    end
    run.classes = csv.read(shards[1].dir .. "/classes.txt")
    if first.options.save_adversarial == "first" or first.options.save_adversarial == "last" then
        local _, shape = keep.pixels(shards[1].dir, losses[1])
        run.input = {shape[2], shape[3], shape[4]}
        run.pixels = function(l) return pixels_of(shards, losses[l]) end
    end
    return run
end

local o = options.parse(arg, {
    name = "merge.lua",
    description = "Joins the runs of all shards into the folder that one run leaves.",
    options = {"out"},
    flags = {{"no-figures", "leave the pictures out"}},
    arguments = {{"shard", "folder of a run with --shard I/N, for each I", "+"}},
})
local shards = read_shards(o.shard)
if not o.no_figures then plot.check() end
local run = join(shards)
local out <close> = folder.claim(o.out, run.about.setting)
join_records(out, shards)
local copied = 0
for _, one in ipairs(shards) do copied = copied + examples.copy(out, copied + 1, one.dir) end
run.no_figures = o.no_figures
run.about.options.shard, run.about.options.out = {1, 1}, out.path
run.about.images_sha256 = nil
local rows, pictures = results.write(out, run)
results.say(out, run.counts, rows, pictures)
