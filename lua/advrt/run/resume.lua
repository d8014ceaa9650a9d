--- Resuming a run: opens the journal in its folder, or continues it after checking that it is the
-- same run.

local dist = require "advrt.dist"
local fail = require "advrt.support.fail"
local folder = require "advrt.run.folder"
local journal = require "advrt.run.journal"
local json = require "advrt.support.json"
local lfs = require "lfs"
local loaded = require "advrt.support.loaded"
local options = require "advrt.support.options"
local run_json = require "advrt.run.run_json"
local schema = require "advrt.run.schema"
local system = require "advrt.core.system"

local resume = {}

--- The command that resumes the run in `dir`: this process's command with the missing options, and its
-- number of threads.
function resume.command(dir)
    local words, given = {}, {}
    if dist.size > 1 then
        local by_slurm = os.getenv("SLURM_STEP_ID") and not os.getenv("OMPI_COMM_WORLD_SIZE")
        words[1] = (by_slurm and "srun --mpi=pmix -n %d" or "mpirun -n %d"):format(dist.size)
    end
    local first = 0
    while arg[first - 1] do first = first - 1 end
    for i = first, #arg do
        words[#words + 1] = options.quote(arg[i])
        given[arg[i]:match("^%-%-[^=]+") or ""] = true
    end
    if not given["--threads"] then
        table.insert(words, dist.size > 1 and 3 or 2, ("--threads %d"):format(system.options.threads))
    end
    if not given["--out"] then words[#words + 1] = "--out " .. options.quote(dir) end
    if not given["--resume"] then words[#words + 1] = "--resume" end
    return table.concat(words, " ")
end

--- Iterates over a list of images from Folder:digest or Folder:names: sum, class and file. An invalid
-- text ends the iteration.
local function each_image(text)
    local at = 1
    return function()
        local stop = text:find("\0", at, true)
        if not stop then return nil end
        local sum, label, file = text:sub(at, stop - 1):match("^(%S+) (%d+) (.*)$")
        at = stop + 1
        return sum, label, file
    end
end

--- Describes the difference between two such lists.
local function changed_image(old, new)
    local known = {}
    for sum, label, file in each_image(old) do known[file] = {sum, label} end
    for sum, label, file in each_image(new) do
        local was = known[file]
        known[file] = nil
        if not was then return file .. " is new" end
        if was[2] ~= label then return ("%s was of class %s, not %s"):format(file, was[2], label) end
        if was[1] ~= sum then return file .. " has changed" end
    end
    local file = next(known)
    return file and file .. " is gone" or "their order has changed"
end

local function images_changed(dir, about, how)
    fail("%s: the images changed since the run in %s was started%s", about.options.images, dir, how)
end

--- Fails unless the run that began as `old` is the one that `new` describes.
local function check_same(dir, old, new)
    if old.processes and old.processes ~= new.processes then
        fail.option("--resume: %d processes share the run in %s; resume it with mpirun -n %d",
            old.processes, dir, old.processes)
    elseif new.processes and not old.processes then
        fail.option("--out %s: one process started the run; resume it without mpirun", dir)
    end
    local list, problem = run_json.differences(old, new, {out = true, skip_bad = true})
    if #list > 0 then
        fail.option("--resume: the run in %s was started with %s; give the same, or another --out", dir,
            table.concat(list, ", and with "))
    elseif problem then
        fail("--resume: the run in %s is %s; give another --out", dir, problem)
    end
    for _, name in ipairs {"net", "weights", "require"} do
        if old[name .. "_sha256"] ~= new[name .. "_sha256"] then
            local path = new.options[name]
            fail("%s: the %s changed since the run in %s was started (another SHA-256); give another --out",
                name == "require" and table.concat(path, ", ") or path,
                name == "require" and "losses" or name, dir)
        end
    end
    local file = loaded.difference(old.loaded, new.loaded)
    if file then
        fail("the loaded files changed since the run in %s was started: %s; restore them, or give "
            .. "another --out", dir, file)
    end
    if old.images_sha256 ~= new.images_sha256 then images_changed(dir, new, "") end
end

--- Fails unless names and classes of the images equal those in the journal, and contents equal those
-- of the images already processed.
local function check_images(dir, about, j, images)
    local function compare(old, new)
        if old ~= new then images_changed(dir, about, ": " .. changed_image(old, new)) end
    end
    compare(j.header.files, images.names)
    local looked = table.concat(j.looked)
    local _, count = looked:gsub("\0", "")
    local _, most = images.names:gsub("\0", "")
    if count > most then
        fail("%s: the journal has %d images, the run has %d; it is damaged, give another --out", j.path,
            count, most)
    end
    if count > 0 then compare(looked, images.digest(count)) end
end

local function advise(problem, dir)
    fail.append(problem, "; finished work is kept; continue with: " .. resume.command(dir))
end

--- For a to-be-closed variable. If an error ends the work in `dir` and kept() says that something is
-- kept, the error's message ends with the command to resume.
function resume.hint(dir, kept)
    return setmetatable({}, {__close = function(_, problem)
        if problem and kept() then advise(problem, dir) end
    end})
end

local Kept = {}

--- The same for a run whose journal this process holds.
Kept.__close = function(self, problem)
    if problem and not self.nested and (#self.journal.units > 0
        or lfs.attributes(self.journal.checkpoint, "mode")) then
        advise(problem, self.dir)
    end
    self.journal:close()
end

--- Opens the journal of the run that `about` (run_json.start) describes, in its folder `out`
-- (folder.claim). images.names: the images as from Folder:names. images.digest: function(n) ->
-- Folder:digest of the first n images. Only the contents of images already used by units (journal.looked)
-- are checked, so starting costs a listing only.
--
-- Returns {journal, about} for a to-be-closed variable; about.start is the time of the first start. For a
-- finished run it prints a line and returns nil. A different run in the folder, or another process at work
-- on it, is a failure. nested: this run is a part of another run, which prints the command to resume and
-- the results. whole: the folder in that command, if not the run's own.
function resume.open(out, about, images, nested, whole)
    if out.holds == "finished" then
        local old, message = run_json.read(out.path)
        if not old then fail("%s", message) end
        check_same(out.path, old, about)
        run_json.check_files(out.path, old)
        if not nested then print(("The run in %s is finished."):format(out.path)) end
        return nil
    end
    local j, message = journal.open(out:file(folder.journal))
    if not j then fail("%s", message) end
    local _ <close> = setmetatable({}, {__close = function(_, problem)
        if problem then j:close() end -- else its lock would stay until it is collected
    end})
    if out.holds == "nothing" then out:scratch(folder.journal) end
    if not j.header then
        if lfs.attributes(out:file("records.msgpack"), "mode") then
            fail.option("--out %s: another process has just finished a run there; give another", out.path)
        end
        j:begin {{"about", json.encode(about)}, {"files", images.names}}
    else
        local problem = schema.problem(j.header, {{"about", schema.text}, {"files", schema.text}})
        local old = not problem and json.decode(j.header.about)
        problem = problem or run_json.problem_of_start(old)
        if problem then fail("%s: is not a journal of a run: %s; give another --out", j.path, problem) end
        check_same(out.path, old, about)
        check_images(out.path, about, j, images)
        about.start = old.start
    end
    j:know(about.loaded)
    out:sweep()
    return setmetatable({journal = j, about = about, dir = whole or out.path, nested = nested}, Kept)
end

return resume
