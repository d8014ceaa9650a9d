--- Progress on standard error: one line rewritten in place on a terminal, plain lines elsewhere.
-- With several processes only rank 0 shows it.

local dist = require "advrt.dist"
local system = require "advrt.core.system"

local progress = {}

local Progress = {}
Progress.__index = Progress

local TERMINAL_EVERY, PLAIN_EVERY = 0.1, 10 -- seconds between two lines

--- "41 s", "3:07", "2:10:45".
function progress.duration(seconds)
    local s = math.floor(seconds + 0.5)
    if s < 60 then return s .. " s" end
    if s < 3600 then return ("%d:%02d"):format(s // 60, s % 60) end
    return ("%d:%02d:%02d"):format(s // 3600, s // 60 % 60, s % 60)
end

--- Starts a count of about `total` `unit`s; use it as a to-be-closed variable.
function progress.start(unit, total)
    local now = system.clock()
    return setmetatable({unit = unit, total = total, done = 0, began = now, shown = now,
        terminal = system.isatty(2), silent = dist.rank > 0,
        where = dist.size > 1 and (" (rank 0 of %d)"):format(dist.size) or ""}, Progress)
end

function Progress:line(what)
    local passed = system.clock() - self.began
    local rate = passed > 0 and self.done / passed or 0
    what = system.printable(what)
    local left = rate > 0 and progress.duration((self.total - self.done) / rate) or "?"
    return ("%3d %%  %s  %.4g %s/s%s  %s left"):format(
        self.total > 0 and 100 * self.done // self.total or 100, what, rate, self.unit,
        self.where, left)
end

--- Sets the count to `done` units; `what` names the current work.
function Progress:update(done, what)
    self.done = done
    if self.silent then return end
    local now = system.clock()
    if now - self.shown < (self.terminal and TERMINAL_EVERY or PLAIN_EVERY) then return end
    self.shown = now
    if self.terminal then
        local text = self:line(what):sub(1, system.columns() - 1)
        io.stderr:write("\r\27[K", text)
    else
        io.stderr:write(self:line(what), "\n")
    end
    io.stderr:flush()
end

--- If work ends early, clears the line on the terminal for the next message.
function Progress:__close()
    if self.terminal and not self.finished and not self.silent then io.stderr:write("\r\27[K") end
end

--- Ends with one plain line.
function Progress:finish(what)
    self.finished = true
    if self.silent then return end
    local passed = system.clock() - self.began
    what = system.printable(what)
    io.stderr:write(self.terminal and "\r\27[K" or "", ("%s in %s, %.4g %s/s%s\n"):format(what,
        progress.duration(passed), passed > 0 and self.done / passed or 0, self.unit, self.where))
    io.stderr:flush()
end

return progress
