--- Failures: what depends on the outside world (a file, an option, a disk) and can be expected to
-- fail. A failure that nobody catches is printed as one line, `advrt: MESSAGE`, without a
-- traceback, and ends the program with its status. A script's own mistake is `error` instead.

local system = require "advrt.core.system"

local fail = {}

--- ENOENT, as io.open returns it third: there is no such file. Any other number is that of a file which is
-- there, or may be.
fail.NO_FILE = 2

local SIGNALS = 128 -- statuses above are those of signals

-- One line, whatever a file name in it holds.
local function make(status, text, ...)
    local message = select("#", ...) > 0 and text:format(...) or text
    return system.failure(system.printable(message), status)
end

local function raise(...) error(make(...), 0) end

--- Raises a failure that ends the program with status 1. `text` is a format when arguments follow.
function fail.failed(text, ...) raise(1, text, ...) end

--- The same with status 2: an option or its value is wrong.
function fail.option(text, ...) raise(2, text, ...) end

--- The same with status 1, of what the same work would meet again: to go on with it is no advice.
function fail.again(text, ...)
    local failure = make(1, text, ...)
    failure.again = true
    error(failure, 0)
end

--- The same with status 1 and a code, for those who act on this failure: fail.code tells it.
function fail.as(code, text, ...)
    local failure = make(1, text, ...)
    failure.code = code
    error(failure, 0)
end

--- The code of a caught failure, such as "memory" where memory ran out; nil where it has none.
function fail.code(problem) return fail.is(problem) and problem.code or nil end

--- The failure that a signal asked for: SIGINT (Ctrl-C) with status 130, SIGTERM with 143, SIGHUP with
-- 129.
function fail.interrupted() error(system.interrupt(), 0) end

--- Adds to a failure that is on its way how to go on; to one of fail.again nothing.
function fail.append(problem, text)
    if fail.is(problem) and not problem.again then
        problem.message = problem.message .. system.printable(text)
    end
end

--- Whether a caught error is a failure, a table with `message` and `status`.
function fail.is(value)
    return type(value) == "table" and getmetatable(value) == debug.getregistry()["advrt.failure"]
end

--- pcall for what may fail on its own account: an interrupt is raised all the same.
function fail.try(f, ...)
    local results = table.pack(pcall(f, ...))
    local problem = results[2]
    if not results[1] and fail.is(problem) and problem.status > SIGNALS then error(problem, 0) end
    return table.unpack(results, 1, results.n)
end

return setmetatable(fail, {__call = function(_, ...) raise(1, ...) end})
