--- The shards of a run (--shard 1/N ... N/N), each in a folder of its own: joined into the folder that
-- one run of the whole work leaves; and the run as the work of mpirun's processes, a shard each.

local csv = require "advrt.support.csv"
local dist = require "advrt.dist"
local examples = require "advrt.results.examples"
local fail = require "advrt.support.fail"
local folder = require "advrt.run.folder"
local json = require "advrt.support.json"
local keep = require "advrt.run.keep"
local lfs = require "lfs"
local loaded = require "advrt.support.loaded"
local results = require "advrt.results.finish"
local resume = require "advrt.run.resume"
local run_json = require "advrt.run.run_json"
local system = require "advrt.core.system"

local shards = {}

local CHUNK = 1 << 20 -- bytes copied at a time

--- A folder of a finished shard: {dir, about, number, of}.
local function read_shard(dir)
    if lfs.attributes(dir .. "/" .. folder.journal, "mode") then
        fail("%s: the run is not finished; resume it with --resume", dir)
    end
    local about, message = run_json.read(dir)
    if not about then fail("%s", message) end
    local shard = about.options.shard
    if type(shard) ~= "table" or math.type(shard[1]) ~= "integer" or math.type(shard[2]) ~= "integer"
    then
        fail("%s: is not a shard of a run (run.json has no shard)", dir)
    end
    run_json.check_files(dir, about)
    return {dir = dir, about = about, number = shard[1], of = shard[2]}
end

--- In what another run is than a run of which `first` tells (tables as run.json's), if both were shards of
-- one; nil where they could be.
local function other_run(first, one)
    local list, problem = run_json.differences(first, one, {out = true, shard = true,
        skip_bad = true})
    if #list > 0 then return "run with different options: " .. table.concat(list, "; ") end
    local what = {labels = "images", require = "losses"}
    for _, name in ipairs {"net", "weights", "labels", "require"} do
        if first[name .. "_sha256"] ~= one[name .. "_sha256"] then
            problem = problem or ("with different %s (another SHA-256)"):format(what[name] or name)
        end
    end
    local file = loaded.difference(first.loaded, one.loaded)
        or loaded.conflict(first.loaded_later, one.loaded_later)
    return problem or file and ("%s (another SHA-256)"):format(file)
end

--- Fails unless every rank is about to start the same run: `about` tells of this one's (run_json.start).
function shards.agree(about)
    local mine = json.decode(json.encode(about))
    for i, text in ipairs(dist.gather(json.encode(about)) or {}) do
        local problem = other_run(json.decode(text), mine)
        if problem then
            fail("rank %d of %d has a different run than rank 0: %s", i - 1, dist.size, problem)
        end
    end
    dist.wait()
end

--- Fails unless `one` is a shard of the run of which `first` is one.
local function check_kin(first, one)
    local problem = other_run(first.about, one.about)
    if one.of ~= first.of then
        problem = ("it is one of %d shards, not of %d"):format(one.of, first.of)
    end
    if problem then fail("%s is not a shard of the same run as %s: %s", one.dir, first.dir, problem) end
end

--- The folders of all shards of one run, in order: array of {dir, about, number, of}. Fails where one is
-- missing, there twice, not finished, or of another run.
function shards.read(dirs)
    local list, first = {}, nil
    for _, dir in ipairs(dirs) do
        local one = read_shard(dir)
        first = first or one
        check_kin(first, one)
        local twin = list[one.number]
        if twin then
            fail("%s and %s are both shard %d/%d", twin.dir, dir, one.number, one.of)
        end
        list[one.number] = one
    end
    local missing = {}
    for i = 1, first.of do
        if not list[i] then missing[#missing + 1] = ("%d/%d"):format(i, first.of) end
    end
    if #missing > 0 then fail("shard %s is missing", table.concat(missing, ", ")) end
    return list
end

--- Writes the records of all shards, one after another.
local function join_records(out, list)
    local path = out:scratch("records.msgpack.part")
    local function check(done, message)
        if not done then fail("cannot write %s: %s", path, message) end
        return done
    end
    local file <close> = check(io.open(path, "wb"))
    for _, one in ipairs(list) do
        local from <close>, message = io.open(one.dir .. "/records.msgpack", "rb")
        if not from then fail("%s", message) end
        local bytes, problem = from:read(CHUNK)
        while bytes do
            check(file:write(bytes))
            bytes, problem = from:read(CHUNK)
        end
        if problem then fail("cannot read %s/records.msgpack: %s", one.dir, problem) end
    end
    check(file:close())
    check(system.replace(path, out:scratch("records.msgpack")))
end

--- An iterator over the images of a loss that the shards kept, in order; and the shape of all.
local function pixels_of(list, name)
    return coroutine.wrap(function()
        for _, one in ipairs(list) do
            for bytes in keep.pixels(one.dir, name) do coroutine.yield(bytes) end
        end
    end)
end

--- What results.write takes, from the shards' folders.
function shards.sum(list)
    local first = list[1].about
    local losses = run_json.attacked_with(first)
    local run = {about = first, seconds = {}, left = "", figures = first.figures or {},
        counts = {found = 0, wrong = 0, left_out = 0, bad = 0, attacked = 0}}
    for _, name in ipairs(losses) do run.seconds[name] = 0 end
    for _, one in ipairs(list) do
        for name in pairs(run.counts) do
            run.counts[name] = run.counts[name] + (one.about["images_" .. name] or 0)
        end
        first.options.skip_bad = first.options.skip_bad or one.about.options.skip_bad
        for _, name in ipairs(losses) do
            run.seconds[name] = run.seconds[name] + one.about.seconds[name]
        end
        local left, message = csv.read(one.dir .. "/left_out.csv")
        if not left then fail("%s", message) end
        run.left = run.left .. left:gsub("^[^\n]*\n", "", 1)
        if one.about.start < first.start then first.start = one.about.start end
    end
    run.classes = csv.read_optional(list[1].dir .. "/classes.txt")
    local sum = results.of(first.setting).sum
    if sum then sum(run, list) end
    if first.options.save_adversarial == "first" or first.options.save_adversarial == "last" then
        local _, shape = keep.pixels(list[1].dir, losses[1])
        run.input = {shape[2], shape[3], shape[4]}
        run.pixels = function(l) return pixels_of(list, losses[l]) end
    end
    return run
end

--- Fills the folder `out` (folder.claim) with what one run leaves: the shards' records one after
-- another, and tables and figures of them. list: shards.read's; run: what shards.sum made of it, with
-- no_figures. images_sha256: of the whole run's images, where it is known. Returns a function that says
-- what came out. Where it fails the records and the examples that it copied do not stay.
function shards.join(out, list, run, images_sha256)
    join_records(out, list)
    local copied = 0
    for _, one in ipairs(list) do copied = copied + examples.copy(out, copied + 1, one.dir) end
    run.about.options.shard, run.about.options.out = {1, 1}, out.path
    run.about.images_sha256 = images_sha256
    local say = results.of(run.about.setting).write(out, run)
    out:keep()
    return say
end

--- The folders of the shards that mpirun's processes make of the run in the folder `path`.
function shards.folders(path)
    local dirs = {}
    for i = 1, dist.size do
        dirs[i] = ("%s/%s/%d-of-%d"):format(path, folder.shards, i, dist.size)
    end
    return dirs
end

--- Whether one of the shards' folders holds more than nothing.
local function is_begun(dirs)
    for _, dir in ipairs(dirs) do
        for _, name in ipairs {folder.journal, "run.json"} do
            if lfs.attributes(dir .. "/" .. name, "mode") then return true end
        end
    end
    return false
end

--- A run as the work of mpirun's processes: each does a shard, in a folder of its own below the run's,
-- which all of them must see, and rank 0 joins them.
--
-- name: of the experiment, for a default folder; o: its options
-- part: function(o) that does the shard o.shard in the folder o.out, or goes on with it (o.resume), and
--       returns the list of its images, as Folder:digest has it; also where the shard is finished
-- whole: function(out, dirs, files) for rank 0: what is left to do in the run's folder `out` when the
--       shards' folders `dirs` are finished; files: the list of all images. It returns whether the
--       shards' folders have had their day, and what is to be called once they are gone
-- With o.nested the run is a part of another, which says how to go on; with o.whole it is that of one seed
-- in that folder (advrt.run.seeds).
function shards.spread(name, o, part, whole)
    if o.shard[2] > 1 then fail.option("--shard: mpirun already distributes the work; omit --shard") end
    local out <close> = dist.rank == 0 and folder.claim(o.out, name, o.resume) or nil
    local shared = folder.share(out)
    local path, holds = shared.path, shared.holds
    if holds == "unfinished" then
        fail.option("--out %s: one process started the run; resume it without mpirun", path)
    elseif holds == "finished" then
        if out then
            out:sweep()
            part(setmetatable({out = path}, {__index = o}))
        end
        return dist.wait()
    end
    local dirs = shards.folders(path)
    local _ <close> = resume.hint(o.whole or path, function() return not o.nested and is_begun(dirs) end)
    local files = part(setmetatable({out = dirs[dist.rank + 1], shard = {dist.rank + 1, dist.size},
        no_figures = true, part_of = path}, {__index = o}))
    dist.wait()
    local all = dist.gather(files)
    if out then
        local joined, say = whole(out, dirs, table.concat(all))
        if joined then out:forget_shards() end
        if say then say() end
    end
    dist.wait()
end

return shards
