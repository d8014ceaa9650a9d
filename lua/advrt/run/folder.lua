--- The folder of a run: claimed before the work starts, removed if the work fails before writing
-- anything. Every file is complete under its final name, or absent.

local dist = require "advrt.dist"
local fail = require "advrt.support.fail"
local lfs = require "lfs"
local system = require "advrt.core.system"

local folder = {}

local Folder = {}
Folder.__index = Folder

--- The name of a run's journal (advrt.run.journal).
folder.journal = "records.part"

--- The name of the folder with the shards' folders I-of-N (advrt.run.shards) while mpirun's
-- processes work, and its name after they are joined.
folder.shards = "shards"
local JOINED = ".shards.joined"

--- The name of the folder of one seed's run (advrt.run.seeds).
folder.seed = "seed-%d"

--- Temporary files that remain after a crash during writing, and while gnuplot draws.
local function is_leftover(name)
    return name:find("^%.advrt%-%x+%.tmp$") or name:find("^fig[%w_]*%.%a+%.part$")
        or name == "adversarial.safetensors.part" or name == JOINED
end

--- The number of processes that share the run in `path`; nil if none has written anything.
local function sharing(path)
    for name in lfs.dir(path .. "/" .. folder.shards) do
        local count = name:match("^%d+%-of%-(%d+)$")
        if count then return tonumber(count) end
    end
end

--- The names of the seed folders in `path`, by seed.
function folder.seeds(path)
    local list = {}
    if lfs.attributes(path, "mode") ~= "directory" then return list end
    for name in lfs.dir(path) do
        local seed = name:match("^seed%-(%d+)$")
        if seed then list[#list + 1] = {math.tointeger(tonumber(seed)) or math.maxinteger, name} end
    end
    table.sort(list, function(a, b) return a[1] < b[1] end)
    for i, one in ipairs(list) do list[i] = one[2] end
    return list
end

--- "1.2 GB": bytes for people.
function folder.size(bytes)
    for _, unit in ipairs {"bytes", "kB", "MB", "GB"} do
        if bytes < 1000 then return ("%.3g %s"):format(bytes, unit) end
        bytes = bytes / 1000
    end
    return ("%.3g TB"):format(bytes)
end

--- Fails early if a file of this many bytes cannot be written at `path`. option: the option that names it.
function folder.try_file(path, option, bytes)
    if lfs.attributes(path, "mode") == "directory" then fail("%s: %s is a folder", option, path) end
    local probe = path .. ".advrt-try"
    local file, message = io.open(probe, "wb")
    if not file then fail("%s: cannot write there: %s", option, message) end
    file:close()
    os.remove(probe)
    local room = system.room(path:match("^(.*/)") or ".")
    if room and room < bytes then
        fail("%s %s: the file needs %s, but %s are free; free some space, or give another path", option, path,
            folder.size(bytes), folder.size(room))
    end
end

--- Whether a folder is empty.
local function is_empty(path)
    for name in lfs.dir(path) do
        if name ~= "." and name ~= ".." then return false end
    end
    return true
end

--- The state of a folder: "nothing" (empty); "unfinished" (a journal); "shared" (shards' folders; also
-- returns their number); "finished" (records); "seeds" (runs of several seeds); or "else".
local function look(path)
    local ok, iterator, state = fail.try(lfs.dir, path)
    if not ok then fail.option("--out %s: the folder cannot be listed: %s", path, iterator) end
    local names, any = {}, false
    for name in iterator, state do
        if name ~= "." and name ~= ".." then
            names[name] = true
            any = any or not is_leftover(name)
        end
    end
    local is_folder = lfs.attributes(path .. "/" .. folder.shards, "mode") == "directory"
    local count = is_folder and sharing(path)
    if count then return "shared", count end
    if is_folder and is_empty(path .. "/" .. folder.shards) then -- a process was killed at its start
        local done, message = lfs.rmdir(path .. "/" .. folder.shards)
        if not done then fail("--out %s/%s: %s", path, folder.shards, message) end
        return look(path)
    end
    if names[folder.journal] then return "unfinished" end
    if names["records.msgpack"] and names["run.json"] then return "finished" end
    if #folder.seeds(path) > 0 then return "seeds" end
    return any and "else" or "nothing"
end

--- Makes `path` and its missing parents; appends them to `made`, outermost first. Returns true, or
-- nil and a message.
local function make(path, made)
    if lfs.attributes(path, "mode") == "directory" then return true end
    local above = path:match("^(.*[^/])/+[^/]+/*$")
    if above then
        local done, message = make(above, made)
        if not done then return nil, message end
    end
    local done, message = lfs.mkdir(path)
    if done then
        made[#made + 1] = path
    elseif lfs.attributes(path, "mode") ~= "directory" then -- and no other run made it meanwhile
        return nil, ("cannot make the folder %s: %s"):format(path, message)
    end
    return true
end

--- A unique name below runs/: two runs that start in the same second get different folders.
local function claim_default(name, made)
    local stem = ("runs/%s-%s"):format(name, os.date("!%Y%m%d-%H%M%S"))
    local done, message = make("runs", made)
    if not done then fail("%s", message) end
    for attempt = 1, 1000 do
        local path = attempt == 1 and stem or ("%s-%d"):format(stem, attempt)
        done, message = lfs.mkdir(path)
        if done then
            made[#made + 1] = path
            return path
        elseif not lfs.attributes(path, "mode") then
            break
        end
    end
    fail("cannot make a folder %s: %s", stem, message)
end

--- Claims the folder `path`, which must be new or empty; nil makes a new one runs/NAME-TIME (UTC).
-- Hold the result in a to-be-closed variable. If an error closes it, temporary files and empty
-- folders made here are removed.
--
-- With `resume` the folder may hold a run; the field `holds` is then "unfinished", "shared" or "finished",
-- otherwise "nothing". A shared run must be resumed by the same number of processes. seeds: the folder is
-- for runs of several seeds; `holds` may then be "seeds".
function folder.claim(path, name, resume, seeds)
    local made, holds, count = {}, "nothing", nil
    if resume and not path then
        fail.option("--resume wants --out DIR, the folder of the run to continue")
    elseif not path then
        path = claim_default(name, made)
    else
        local mode = lfs.attributes(path, "mode")
        if mode and mode ~= "directory" then
            fail.option("--out %s: a file of that name is there; give a new or empty folder", path)
        elseif mode then
            holds, count = look(path)
        end
        if holds == "else" and resume then
            fail.option("--out %s: the folder is not empty, but holds no run to continue", path)
        elseif holds ~= "nothing" and resume and (holds == "seeds") ~= (seeds or false) then
            fail.option("--out %s: the run in it was started %s --seeds; resume it that way, or give another "
                .. "--out", path, seeds and "without" or "with")
        elseif holds ~= "nothing" and not resume then
            fail.option("--out %s: the folder is not empty; give a new or empty one%s", path,
                (holds == "unfinished" or holds == "seeds" or count)
                    and ", or --resume to continue its run" or "")
        end
        if count and count ~= dist.size then
            fail.option("--resume: %d processes share the run in %s; resume it with mpirun -n %d", count,
                path, count)
        end
        local done, message = make(path, made)
        if not done then fail("--out: %s", message) end
    end
    return setmetatable({path = path, made = made, holds = holds, temporary = {}}, Folder)
end

--- Seconds within which one machine's files must be visible to the others.
folder.patience = 10

--- Distributes the folder that rank 0 claimed (`claimed`; nil on the other ranks) to all ranks. Fails if
-- a rank does not see it. Other ranks claim nothing.
function folder.share(claimed)
    local beacon = claimed
        and (".advrt-%s.tmp"):format(system.digest(claimed.path .. system.clock()):sub(1, 16))
    if claimed then
        local done, message = system.write(claimed:scratch(beacon), "")
        if not done then fail("%s", message) end
    end
    local path, holds, name = string.unpack("s4s4s4",
        dist.broadcast(claimed and string.pack("s4s4s4", claimed.path, claimed.holds, beacon) or ""))
    local until_then = system.clock() + folder.patience
    while not lfs.attributes(path .. "/" .. name, "mode") do
        if system.clock() > until_then then
            fail("--out %s: this process does not see the files of rank 0; all processes must "
                .. "see the same folder", path)
        end
        if system.interrupted() then fail.interrupted() end
        os.execute("sleep 0.1")
    end
    dist.wait()
    if claimed then
        os.remove(claimed:file(beacon))
        return claimed
    end
    return setmetatable({path = path, made = {}, holds = holds, temporary = {}}, Folder)
end

--- Removes a file, or a folder with its contents.
local function remove(path)
    if lfs.symlinkattributes(path, "mode") == "directory" then
        for name in lfs.dir(path) do
            if name ~= "." and name ~= ".." then remove(path .. "/" .. name) end
        end
    end
    os.remove(path)
end

--- Removes the shards' folders after the run is joined here; atomic for other processes.
function Folder:forget_shards()
    local done, message = os.rename(self:file(folder.shards), self:file(JOINED))
    if not done then fail("%s", message) end
    remove(self:file(JOINED))
end

--- Removes the temporary files of killed processes; only for the owner of the journal.
function Folder:sweep()
    for _, dir in ipairs {self.path, self:file("examples")} do
        if lfs.attributes(dir, "mode") == "directory" then
            for name in lfs.dir(dir) do
                if is_leftover(name) then remove(dir .. "/" .. name) end
            end
        end
    end
end

--- The path of a file in the folder.
function Folder:file(name) return self.path .. "/" .. name end

--- The same for a temporary file, which is removed on failure.
function Folder:scratch(name)
    local path = self:file(name)
    self.temporary[#self.temporary + 1] = path
    return path
end

--- Keeps the temporary files after a failure.
function Folder:keep() self.temporary = {} end

--- Writes a file atomically.
function Folder:write(name, text)
    local done, message = system.write(self:file(name), text)
    if not done then fail("%s", message) end
end

--- Makes a subfolder.
function Folder:folder(name)
    local done, message = make(self:file(name), self.made)
    if not done then fail("%s", message) end
end

function Folder:__close(problem)
    for _, path in ipairs(self.temporary) do os.remove(path) end
    if problem == nil then return end
    for i = #self.made, 1, -1 do lfs.rmdir(self.made[i]) end
end

return folder
