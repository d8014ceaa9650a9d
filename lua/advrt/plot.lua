--- Figures by gnuplot: a script NAME.gp with its data is kept in the run's folder and run there, to
-- make NAME.svg and NAME.png. `gnuplot NAME.gp` in the folder makes them again.
--
-- Text of others (file names, names of losses) enters a script in single quotes only, in which
-- gnuplot expands nothing, and no path enters a command line.

local fail = require "advrt.fail"
local lfs = require "lfs"
local system = require "advrt.core.system"

local plot = {}

--- One colour for each loss in every figure (Okabe and Ito's palette, safe for the colour-blind),
-- and a dash pattern, so that prints without colour can be read.
local colours = {ce = "#0072B2", ce_sign = "#D55E00", logit = "#009E73", m_logit = "#CC79A7"}
local dashes = {ce = 1, ce_sign = 2, logit = 4, m_logit = 5}
local spare = {"#E69F00", "#56B4E9", "#000000", "#8C6D31", "#0072B2", "#D55E00", "#009E73", "#CC79A7"}

--- {name -> {colour =, dash =}} for the losses of a run, an array of names.
function plot.styles(losses)
    local styles, others = {}, 0
    for _, name in ipairs(losses) do
        if colours[name] then
            styles[name] = {colour = colours[name], dash = dashes[name]}
        else
            styles[name] = {colour = spare[others % #spare + 1], dash = (others + 2) % 5 + 1}
            others = others + 1
        end
    end
    return styles
end

--- Text as a gnuplot string.
function plot.quote(text)
    return "'" .. text:gsub("%c", "?"):gsub("'", "''") .. "'"
end

--- A named block of data: rows of numbers, nan where there is none.
function plot.block(name, rows)
    local lines = {"$" .. name .. " << EOD"}
    for _, row in ipairs(rows) do
        local fields = {}
        for i, v in ipairs(row) do fields[i] = v ~= v and "nan" or ("%.7g"):format(v) end
        lines[#lines + 1] = table.concat(fields, " ")
    end
    lines[#lines + 1] = "EOD"
    return table.concat(lines, "\n") .. "\n"
end

local frame = [[
# %s
# gnuplot %s.gp makes %s.svg and %s.png.
%s
set encoding utf8
if (!exists("suffix")) suffix = ""
do for [kind in "svg png"] {
  if (kind eq "svg") {
    set terminal svg size %d,%d font "sans,12" background rgb "white"
  } else {
    set terminal pngcairo size %d,%d font "sans,12" fontscale 2 linewidth 2 pointscale 2
  }
  set output "%s.".kind.suffix
  set border 3 linecolor rgb "#444444"
  set tics nomirror out
  set grid ytics linecolor rgb "#DDDDDD" linetype 1
  %s
  unset output
}
]]

--- The script of a figure: its title in one line, width and height in points, blocks of data, and
-- the commands that draw it.
function plot.script(name, title, width, height, blocks, commands)
    return frame:format(title:gsub("%c", "?"), name, name, name, blocks, width, height, 2 * width,
        2 * height, name, (commands:gsub("\n", "\n  ")))
end

--- Fails where no gnuplot is on the PATH, before the work that it would draw.
function plot.check()
    for dir in ((os.getenv("PATH") or "") .. ":"):gmatch("([^:]*):") do
        local mode = lfs.attributes((dir == "" and "." or dir) .. "/gnuplot", "mode")
        if mode == "file" then return end
    end
    fail("gnuplot is not found; install it (Debian: gnuplot-nox, make deps) or give --no-figures")
end

--- Calls `undo` when the variable that holds the value is closed.
local function at_end(undo) return setmetatable({}, {__close = undo}) end

--- Runs NAME.gp in its folder; the pictures appear under their names when both are complete, and
-- none is left half made, whatever ends it.
local function run(name)
    local kinds = {"svg", "png"}
    local _ <close> = at_end(function()
        for _, kind in ipairs(kinds) do os.remove(("%s.%s.part"):format(name, kind)) end
    end)
    local command = ("gnuplot -e \"suffix='.part'\" %s.gp 2>&1"):format(name)
    -- Closing it waits for gnuplot, which makes no more parts then.
    local pipe <close>, message = io.popen(command)
    if not pipe then fail("gnuplot cannot be run: %s", message) end
    local said = pipe:read("a") or ""
    local ok, how, code = pipe:close()
    if ok then
        for _, kind in ipairs(kinds) do
            local path = name .. "." .. kind
            local done = system.replace(path .. ".part", path)
            if not done then ok, how, code = nil, "no picture", 0 end
        end
    end
    if ok then return end
    fail("gnuplot failed on %s.gp (%s %d): %s", name, how, code, said:match("[^\n]*line %d+:[^\n]*")
        or said:match("%S[^\n]*") or "it says nothing")
end

--- Draws the figures whose scripts are in `dir`. Works from inside the folder, so that its path is
-- never part of a command; the working folder is put back.
function plot.draw(dir, names)
    local home = assert(lfs.currentdir())
    local _ <close> = at_end(function() assert(lfs.chdir(home)) end)
    local entered, message = lfs.chdir(dir)
    if not entered then fail("%s: %s", dir, message) end
    for _, name in ipairs(names) do run(name) end
end

return plot
