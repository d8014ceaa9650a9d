--- The known name that a mistyped one was meant to be, for messages.

local system = require "advrt.core.system"

local nearest = {}

--- What a message says behind an unknown name: "; did you mean 'x'?" where one of `names` is near it,
-- else "".
function nearest.hint(name, names)
    local near = system.nearest(name, names)
    return near and ("; did you mean '%s'?"):format(near) or ""
end

--- Called as nearest(name, names), names an array of strings: the one that is near `name`, or nil where
-- none is.
return setmetatable(nearest, {__call = function(_, name, names) return system.nearest(name, names) end})
