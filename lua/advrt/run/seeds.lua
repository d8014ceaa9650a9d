--- A run repeated with several choices of random targets (--seeds N). Each choice is a run of its own,
-- --targets random:SEED, in the folder seed-SEED below the run's; so it is resumed, shared out and merged
-- as any run is.

local dist = require "advrt.dist"
local fail = require "advrt.support.fail"
local folder = require "advrt.run.folder"
local results = require "advrt.results.seeds"

local seeds = {}

--- The seeds of the options, in order: the first is --targets random:SEED's, else --seed.
local function seeds_of(o)
    local rule, given = o.targets:match("^(random):?(%d*)$")
    if not rule then
        fail.option("--seeds %d repeats the choice of random targets, but --targets is %s; give --targets "
            .. "random, or omit --seeds", o.seeds, o.targets)
    end
    local first, list = math.tointeger(tonumber(given)) or o.seed, {}
    for i = 1, o.seeds do list[i] = first + i - 1 end
    return list
end

--- Fails where the folder holds runs of other seeds than those that are asked for.
local function check_names(out, names)
    local asked = {}
    for _, name in ipairs(names) do asked[name] = true end
    for _, name in ipairs(folder.seeds(out.path)) do
        if not asked[name] then
            fail.option("--out %s: holds %s, which does not match --seeds, --seed and --targets; give those "
                .. "of the run, or another --out", out.path, name)
        end
    end
end

--- Does the runs of all seeds, or goes on with them. setting: for a default folder; o: the options; start:
-- function(o) that does one run.
function seeds.run(setting, o, start)
    local list, names = seeds_of(o), {}
    for i, seed in ipairs(list) do names[i] = folder.seed:format(seed) end
    local out <close> = dist.rank == 0 and folder.claim(o.out, setting, o.resume, true) or nil
    if out then check_names(out, names) end
    local path = folder.share(out).path
    for i, seed in ipairs(list) do
        local one = setmetatable({targets = ("random:%d"):format(seed),
            out = ("%s/%s"):format(path, names[i]), whole = path, later = i > 1}, {__index = o})
        print(("Seed %d of %d: --targets %s"):format(i, #list, one.targets))
        start(one)
    end
    if out then results.write(out, names)() end
    dist.wait()
end

--- The names of the seeds' folders in the folders of shards `dirs`, which all have the same; nil where the
-- first holds none.
function seeds.of_shards(dirs)
    local names = folder.seeds(dirs[1])
    if #names == 0 then return nil end
    for _, dir in ipairs(dirs) do
        local others = folder.seeds(dir)
        if table.concat(others, " ") ~= table.concat(names, " ") then
            fail("%s holds %s, %s holds %s; merge shards of the same --seeds", dir,
                #others > 0 and table.concat(others, ", ") or "no runs of --seeds", dirs[1],
                table.concat(names, ", "))
        end
    end
    return names
end

--- Joins the shards of runs with --seeds: join(dirs, path) joins one seed's shards `dirs` in the new folder
-- `path`. Returns a function that says what came out.
function seeds.merge(names, dirs, out, join)
    for _, name in ipairs(names) do
        local of_seed = {}
        for i, dir in ipairs(dirs) do of_seed[i] = dir .. "/" .. name end
        join(of_seed, out:file(name))
    end
    return results.write(out, names)
end

return seeds
