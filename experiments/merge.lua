--- Joins the folders of the runs of all N shards (--shard 1/N ... N/N) into the folder that a
-- single run would have made: the same records, tables and figures, and the sum of the times.
-- Shards of a run with --seeds are joined seed by seed.
--
--     advrt experiments/merge.lua shards/1 shards/2 shards/3 --out runs/whole

local folder = require "advrt.run.folder"
local options = require "advrt.support.options"
local plot = require "advrt.plot"
local seeds = require "advrt.run.seeds"
local shards = require "advrt.run.shards"

local o = options.parse(arg, {
    name = "merge.lua",
    description = "Joins the runs of all shards into one run.",
    uses = {
        {"runs/part-1 runs/part-2 --out runs/whole", "two shards, made with --shard 1/2 and --shard 2/2"},
        {"runs/part-*", "all shards of a folder, joined in a new folder of runs/"},
        {"runs/part-* --no-figures", "tables and records only"},
    },
    options = {"out"},
    figures = true, bands = true,
    arguments = {{"shard", "folders of the runs with --shard 1/N to N/N", "+"}},
})

--- Joins shards, already read, in a new folder at `path`; returns a function that prints the
-- results.
local function join(list, path)
    local run = shards.sum(list)
    run.no_figures, run.form = o.no_figures, plot.form(o)
    local out <close> = folder.claim(path, run.about.setting)
    return shards.join(out, list, run)
end

local names = seeds.of_shards(o.shard)
local list = not names and shards.read(o.shard)
if not o.no_figures then plot.check() end
if list then
    join(list, o.out)()
else
    local out <close> = folder.claim(o.out, "seeds")
    seeds.merge(names, o.shard, out, function(dirs, path) join(shards.read(dirs), path) end)()
end
