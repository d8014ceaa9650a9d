--- What the specs of runs by several processes need, which mpirun starts on this machine.

local support = require "support"
local system = require "advrt.core.system"

local ranks = {}

local environment = "OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_btl=self,vader "
local launcher = environment .. "mpirun --oversubscribe"

--- Why nothing can be started here by mpirun; nil where it can. The plugin is left out of the build for the
-- sanitizers: Open MPI keeps memory of its own to the end.
function ranks.lacking()
    if not os.execute("command -v mpirun >/dev/null 2>&1") then
        return "there is no mpirun (make deps-dev installs it)"
    elseif not support.exists(system.options.executable:match("^(.*)/") .. "/advrt_mpi.so") then
        return "this advrt is built without its plugin for Open MPI"
    end
end

--- busted's `it` where mpirun can start something, else `pending`; from those of the spec.
function ranks.may(it, pending)
    return function(name, f)
        local reason = ranks.lacking()
        if reason then return pending(name .. ": " .. reason) end
        it(name, f)
    end
end

--- The kind of device that the specs run on.
ranks.device = system.options.device:match "^%a+"

--- Whether each of three processes has a device of its own, as a batch that they share wants it.
function ranks.devices()
    local count = tonumber(os.getenv "STANDIN_GPUS") or 0
    if ranks.device == "cpu" or count >= 3 then return true end
    local list <close> = assert(io.popen "nvidia-smi -L 2>/dev/null")
    for _ in list:lines() do count = count + 1 end
    return count >= 3
end

--- support.advrt on that kind of device; the same by `count` processes, and with what is put before mpirun.
function ranks.alone(words, before)
    return support.advrt(table.move(words, 1, #words, 3, {"--device", ranks.device}), before)
end

function ranks.several(count, words, before)
    return ranks.alone(words, ("%s %s -n %d"):format(before or "", launcher, count))
end

local function quoted(words)
    local parts = {}
    for i, word in ipairs(words) do parts[i] = support.quote(word) end
    return table.concat(parts, " ")
end

--- The same by processes that differ. Each is its words, an array, in which `of` may hold mpirun's options
-- for it, `env` what is put before the command, and `advrt` another program than this.
function ranks.apart(...)
    local parts = {}
    for i, words in ipairs {...} do
        parts[i] = ("-n 1 %s %s %s %s"):format(words.of or "", words.env or "",
            support.quote(words.advrt or system.options.executable), quoted(words))
    end
    return support.shell(launcher .. " " .. table.concat(parts, " : "))
end

--- ranks.several, stopped from within by a signal to mpirun (support.stop). mpirun sends a SIGTERM on, and
-- has to leave a busy machine the time to end in a line before it sends a SIGKILL.
function ranks.stopped(count, signal, settings, words)
    settings.signal, settings.to = signal, "mpirun"
    return ranks.several(count, words, "OMPI_MCA_odls_base_sigkill_timeout=2 " .. support.stop(settings))
end

--- Runs the command that the last line of `err` says goes on.
function ranks.go_on(err)
    local said = ranks.said(err)
    local command = said[#said]:match("; finished work is kept; continue with: (mpirun .*)$")
    assert(command, err)
    return support.shell(environment .. command:gsub("^mpirun", "mpirun --oversubscribe"))
end

--- What advrt itself has said on standard error, line by line; mpirun says things of its own.
function ranks.said(err)
    local lines = {}
    for line in err:gmatch("[^\n]*") do
        if line:find("^advrt: ") then lines[#lines + 1] = line end
    end
    return lines
end

return ranks
