--- The processes of one run, started by mpirun: who this one is, and what they say to each other.
--
--     dist.size             how many there are; 1 without mpirun
--     dist.rank             which of them this is, from 0
--
-- All of them make the calls below in the same order; alone, a process talks to itself. A process
-- that fails, or ends with another status than 0, ends the others.

local core = require "advrt.core.dist"

local dist = {size = core.size, rank = core.rank}

--- Waits until every process has called it, without using the processor.
function dist.wait() core.wait() end

--- The text that rank 0 gives, on every rank; the others' is not used. At most 2^31 - 1 bytes.
function dist.broadcast(text) return core.broadcast(text) end

--- On rank 0 an array of the text that each rank gives, rank 0's first; nil on the others. At most
-- 2^31 - 1 bytes in all.
function dist.gather(text) return core.gather(text) end

--- Makes each element of the tensor x, f32, its sum over all ranks, the same bits on each; returns x.
-- All give a tensor of the same shape.
function dist.sum(x) return core.sum(x) end

--- From here on what ranks other than 0 print goes nowhere; failures are still said.
function dist.mute() core.mute() end

return dist
