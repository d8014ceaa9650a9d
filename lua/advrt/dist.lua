--- The processes of one run, started by mpirun: who this one is, and what they say to each other.
--
--     dist.size             how many there are; 1 without mpirun
--     dist.rank             which of them this is, from 0
--
-- All of them make the calls below in the same order; alone, a process talks to itself. A process
-- that fails, or ends with another status than 0, ends the others. They have to be of one version, which
-- is looked at when this module is loaded.

local core = require "advrt.core.dist"
local fail = require "advrt.support.fail"
local lfs = require "lfs"
local system = require "advrt.core.system"

local dist = {size = core.size, rank = core.rank}

--- Waits until every process has called it, without using the processor.
function dist.wait() core.wait() end

--- The text that rank 0 gives, on every rank; the others' is not used. At most 2^31 - 1 bytes.
function dist.broadcast(text) return core.broadcast(text) end

--- On rank 0 an array of the text that each rank gives, rank 0's first; nil on the others. At most
-- 2^31 - 1 bytes in all.
function dist.gather(text) return core.gather(text) end

--- Fails unless every rank gives the same text. `problem`: what is wrong with a rank that gives another
-- one than rank 0, behind "rank I of N ". None goes on before that is known.
function dist.agree(text, problem)
    for i, one in ipairs(dist.gather(text) or {}) do
        if one ~= text then fail("rank %d of %d %s", i - 1, dist.size, problem) end
    end
    dist.wait()
end

--- Makes each element of the tensor x, f32, its sum over all ranks, the same bits on each; returns x.
-- All give a tensor of the same shape.
function dist.sum(x) return core.sum(x) end

--- From here on what ranks other than 0 print goes nowhere; failures are still said.
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

-- What the ranks run: the program, its Lua files and the script.
local function code()
    local sums = {tostring(system.sha256(system.options.executable)),
        arg[0] and lfs.attributes(arg[0], "mode") == "file" and tostring(system.sha256(arg[0])) or ""}
    add_sums(sums, system.options.root .. "/lua")
    return table.concat(sums, "\n")
end

if dist.size > 1 then
    dist.agree(code(), "runs another version of advrt, or another script, than rank 0")
end

return dist
