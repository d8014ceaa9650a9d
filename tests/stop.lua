--- Run by an advrt before its script, as support.stop has it: does something to the run from within, at
-- a point that is known, so that nothing hangs on how fast the run is. It waits there until a signal that it
-- sent has come.
--
--   at       "commit", of a unit of work to a journal, once it is on disk; or "update" of the progress
--   of       optional pattern: the journal's path, or what the progress is told that is being done
--   count    at the how many-th of them; default 1
--   rank     of which of several processes; default 0
--   signal   "INT", "TERM", "HUP", "KILL"; to = "mpirun": sent to that, not to the process itself
--   command  a shell's command to run there instead

local dist = require "advrt.dist"
local journal = require "advrt.run.journal"
local progress = require "advrt.run.progress"
local system = require "advrt.core.system"

local PATIENCE = 30 -- seconds of processor time, which do not pass where a machine is busy elsewhere

local function parent()
    local file <close> = assert(io.open "/proc/self/stat")
    return file:read("a"):match("^.*%) %S (%d+)")
end

-- os.execute would let this process ignore SIGINT in the meantime.
local function shell(command) assert(io.popen(command)):close() end

local function send(signal, to)
    local mpirun = to == "mpirun" and parent()
    shell(("kill -%s %s"):format(signal, mpirun or "$PPID"))
    local from = os.clock()
    while not system.interrupted() and not (signal == "KILL" and parent() ~= mpirun) do
        if os.clock() > from + PATIENCE then
            error(("SIG%s to %s did not end this run"):format(signal, to or "it"), 0)
        end
    end
end

return function(o)
    local left = o.count or 1

    local function reached(name)
        if dist.rank ~= (o.rank or 0) or not name:find(o.of or "") then return end
        left = left - 1
        if left > 0 or left < 0 then return end
        if o.command then shell(o.command) else send(o.signal, o.to) end
    end

    local open, start = journal.open, progress.start
    if o.at == "commit" then
        function journal.open(path)
            local j, message = open(path)
            local commit = j and j.commit
            if j then
                function j:commit(note)
                    commit(self, note)
                    reached(path)
                end
            end
            return j, message
        end
    else
        assert(o.at == "update", "a point is a commit or an update")
        function progress.start(unit, total)
            local shown = start(unit, total)
            local update = shown.update
            function shown:update(done, what)
                update(self, done, what)
                reached(what)
            end
            return shown
        end
    end
end
