--- Failures: what depends on the outside world (a file, an option, a disk) and can be expected to
-- fail. A failure that nobody catches is printed as one line, `advrt: MESSAGE`, without a
-- traceback, and ends the program with its status. A script's own mistake is `error` instead.

local system = require "advrt.core.system"

local fail = {}

-- One line, whatever a file name in it holds.
local function raise(status, text, ...)
    local message = select("#", ...) > 0 and text:format(...) or text
    error(system.failure((message:gsub("%c", "?")), status), 0)
end

--- Raises a failure that ends the program with status 1. `text` is a format when arguments follow.
function fail.failed(text, ...) raise(1, text, ...) end

--- The same with status 2: an option or its value is wrong.
function fail.option(text, ...) raise(2, text, ...) end

--- The same with status 130: the user interrupted the work.
function fail.interrupted() raise(130, "interrupted") end

--- Whether a caught error is a failure, a table with `message` and `status`.
function fail.is(value)
    return type(value) == "table" and getmetatable(value) == debug.getregistry()["advrt.failure"]
end

return setmetatable(fail, {__call = function(_, ...) raise(1, ...) end})
