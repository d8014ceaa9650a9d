--- The processes of one run under mpirun: their number, this one's rank, and their communication.
--
--     dist.size             number of processes; 1 without mpirun
--     dist.rank             rank of this process, from 0
--
-- All processes make the calls below in the same order; the calls also work with one process. A process
-- that fails, or exits with a nonzero status, ends the others. All must run the same version; loading
-- this module checks it.

local core = require "advrt.core.dist"
local fail = require "advrt.support.fail"
local lfs = require "lfs"
local system = require "advrt.core.system"

local dist = {size = core.size, rank = core.rank}

--- Barrier: waits, asleep, until every process has called it.
function dist.wait() core.wait() end

--- Broadcast: rank 0's text, on every rank; the other ranks' argument is ignored. At most 2^31 - 1
-- bytes.
function dist.broadcast(text) return core.broadcast(text) end

--- Gather: on rank 0 an array of all ranks' texts in order of rank; nil on the other ranks. At most
-- 2^31 - 1 bytes in total.
function dist.gather(text) return core.gather(text) end

--- Fails unless every rank gives the same text. `problem`: the message for a rank that differs from
-- rank 0, after "rank I of N ". No rank continues before the result is known.
function dist.agree(text, problem)
    for i, one in ipairs(dist.gather(text) or {}) do
        if one ~= text then fail("rank %d of %d %s", i - 1, dist.size, problem) end
    end
    dist.wait()
end

--- All-reduce: each element of the f32 tensor x becomes its sum over all ranks, with the same bits on
-- each; returns x. All ranks give the same shape.
function dist.sum(x) return core.sum(x) end

--- From now on the standard output of ranks other than 0 is discarded; failures are still printed.
function dist.mute() core.mute() end

-- Adds the SHA-256 of the Lua files in a folder, and in those below it, to `sums`.
local function add_sums(sums, path)
    local names = {}
    for name in lfs.dir(path) do names[#names + 1] = name end
    table.sort(names)
    for _, name in ipairs(names) do
        local file = path .. "/" .. name
        if name:find("%.lua$") then
            sums[#sums + 1] = name .. " " .. tostring(system.sha256(file))
        elseif not name:find("^%.") and lfs.attributes(file, "mode") == "directory" then
            add_sums(sums, file)
        end
    end
end

-- The version of a rank: the program, its Lua files and the script.
local function code()
    local sums = {tostring(system.sha256(system.options.executable)),
        arg[0] and lfs.attributes(arg[0], "mode") == "file" and tostring(system.sha256(arg[0])) or ""}
    add_sums(sums, system.options.root .. "/lua")
    return table.concat(sums, "\n")
end

if dist.size > 1 then
    dist.agree(code(), "runs a different version of advrt or a different script than rank 0")
end

return dist
