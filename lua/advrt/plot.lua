--- Figures by gnuplot. The run's folder keeps a script NAME.gp with its data; gnuplot runs it there
-- and makes NAME.svg, NAME.png and NAME.pdf. `gnuplot -d NAME.gp` in the folder makes them again.
--
-- Untrusted text (file names, names of losses) enters a script only inside quotes. gnuplot expands
-- nothing in single quotes; in double quotes the special characters are removed. No path enters a
-- command line.

local arguments = require "advrt.support.check"
local fail = require "advrt.support.fail"
local image = require "advrt.core.image"
local lfs = require "lfs"
local system = require "advrt.core.system"

local plot = {}

-- A colour and a dash pattern for each loss, the same in every figure. The colours differ in
-- lightness, so they stay distinct in grey and for colour-blind readers.
local colours = {ce = "#0A2A66", ce_sign = "#D55E00", logit = "#2FB092", m_logit = "#A43A8E"}
local dashes = {ce = 1, ce_sign = 2, logit = 4, m_logit = 5}
local spare = {{"#E0A100", 3}, {"#000000", 4}, {"#5AA9E6", 5}, {"#7A5200", 2}, {"#0A2A66", 3}, {"#D55E00", 1},
    {"#2FB092", 2}, {"#A43A8E", 3}}

--- {name -> {colour =, dash =}} for the losses of a run, an array of names.
function plot.styles(losses)
    arguments.want("styles", 1, "table", losses)
    local styles, others = {}, 0
    for _, name in ipairs(losses) do
        if colours[name] then
            styles[name] = {colour = colours[name], dash = dashes[name]}
        elseif not styles[name] then
            local colour, dash = table.unpack(spare[others % #spare + 1])
            styles[name] = {colour = colour, dash = dash}
            others = others + 1
        end
    end
    return styles
end

--- Text as a gnuplot string.
function plot.quote(text)
    arguments.want("quote", 1, "string", text)
    return "'" .. system.printable(text):gsub("'", "''") .. "'"
end

-- The widths of a figure in points: the text width of a page, and one of its two columns (17.5 and
-- 8.5 cm).
local POINT = 72 / 2.54 -- points in a centimetre
plot.widths = {page = 17.5 * POINT, column = 8.5 * POINT}

--- How to draw figures, from a script's options: {size = "page" or "column", titles = whether each
-- figure contains its title, bands = "quartiles", "interval" or "sd" (advrt.results.bands)}. o:
-- optional.
function plot.form(o)
    o = o or {}
    return {size = o.figure_size or "page", titles = not o.no_titles, bands = o.bands or "quartiles"}
end

local raised = {["-"] = "⁻", ["0"] = "⁰", ["1"] = "¹", ["2"] = "²", ["3"] = "³", ["4"] = "⁴", ["5"] = "⁵",
    ["6"] = "⁶", ["7"] = "⁷", ["8"] = "⁸", ["9"] = "⁹"}

--- The commands for a log axis ("x" or "y") over the decades low .. high, with at most about seven
-- labels. With `zeros`, a line labelled 0 is added below them. Returns the commands and the
-- exponent of that line.
function plot.decades(axis, low, high, zeros)
    local step, ticks = math.max(1, math.ceil((high - low) / 7)), {}
    for e = high, low, -step do
        ticks[#ticks + 1] = ("'10%s' 1e%d"):format(tostring(e):gsub(".", raised), e)
    end
    if zeros then ticks[#ticks + 1] = ("'0' 1e%d"):format(low - step) end
    -- The range extends slightly past its last labels; gnuplot may omit them otherwise.
    return ("set logscale %s\nset %stics (%s)\nset %srange [0.999e%d:1.001e%d]"):format(axis, axis,
        table.concat(ticks, ", "), axis, zeros and low - step or low, high), low - step
end

--- A named block of data: rows of numbers, nan for a missing one.
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

local kinds = {"svg", "png", "pdf"}

-- Sizes are in points: 4/3 pixels on a web page, 300/72 pixels in the PNG. gnuplot's cairo
-- terminals draw letters 4/3 as large as specified; the PDF terminal draws lines half as wide.
local frame = [[
# %s
# gnuplot -d %s.gp makes %s.svg, %s.png and %s.pdf.
%s
set encoding utf8
if (!exists("suffix")) suffix = ""
do for [kind in "svg png pdf"] {
  if (kind eq "svg") {
    set terminal svg size %d,%d noenhanced font "sans,8" fontscale 4/3. linewidth 4/3. background rgb "white"
  }
  if (kind eq "png") {
    set terminal pngcairo size %d,%d noenhanced font "sans,8" fontscale 3.125 linewidth 25/6. pointscale 25/6.
  }
  if (kind eq "pdf") {
    set terminal pdfcairo size %.6gin,%.6gin noenhanced font "sans,8" fontscale 0.75 background rgb "white"
    set termoption linewidth 2
    set termoption pointscale 1.4
  }
  set output "%s.".kind.suffix
  set border 3 linecolor rgb "#444444"
  set tics nomirror out scale 0.5 font "sans,7"
  set grid ytics linecolor rgb "#DDDDDD" linetype 1 linewidth 0.6
  %s
  unset output
}
]]

--- The script of a figure: its title in one line, width and height in points, blocks of data, and
-- the drawing commands. Letters are 8 points high unless a command sets another height.
function plot.script(name, title, width, height, blocks, commands)
    local function scaled(by) return math.floor(width * by + 0.5), math.floor(height * by + 0.5) end
    local svg_width, svg_height = scaled(4 / 3)
    local png_width, png_height = scaled(25 / 6)
    return frame:format(system.printable(title), name, name, name, name, blocks, svg_width, svg_height,
        png_width, png_height, width / 72, height / 72, name, (commands:gsub("\n", "\n  ")))
end

-- A bundle carries gnuplot with its fonts; otherwise the gnuplot in PATH is used.
local carried = system.options.executable:match("^(.*)/") .. "/../lib/advrt/gnuplot"
local fonts = system.options.root .. "/fonts/fonts.conf"
if not lfs.attributes(carried, "mode") then carried, fonts = nil, nil end

-- A figure depends only on its script. -d skips gnuplot's start-up files; these variables and a
-- fonts.conf below HOME would change a figure too.
local REMOVED = {"GNUTERM", "GNUPLOT_LIB", "GNUPLOT_DEFAULT_GDFONT", "GNUPLOT_FONTPATH", "GDFONTPATH",
    "GNUPLOT_PS_DIR", "GNUPLOT_DRIVER_DIR", "GNUPLOT_SHARE_DIR", "FIT_SCRIPT", "FIT_LOG", "LC_NUMERIC",
    "LC_TIME", "LC_CTYPE", "LANG", "LANGUAGE"}

local ENOENT, EACCES = 2, 13

--- Runs gnuplot with the words as its arguments, until it ends. Returns true, or false, how it ended
-- and what it said. Fails if it does not start.
local function gnuplot(...)
    -- Fontconfig still finds its cache.
    local cache, home = os.getenv "XDG_CACHE_HOME" or "", os.getenv "HOME" or ""
    local changes = {XDG_CACHE_HOME = cache ~= "" and cache or home .. "/.cache", HOME = "/nonexistent",
        XDG_CONFIG_HOME = "/nonexistent", XDG_DATA_HOME = "/nonexistent", LC_ALL = "C.UTF-8",
        FONTCONFIG_FILE = fonts}
    for _, name in ipairs(REMOVED) do changes[name] = false end
    local pipe <close>, message, number = system.spawn({carried or "gnuplot", "-d", ...}, changes)
    if not pipe and (number == ENOENT or number == EACCES) then
        fail("gnuplot is not found; install it (Debian: gnuplot-nox, make deps) or give --no-figures")
    elseif not pipe then
        fail("gnuplot cannot be run: %s", message)
    end
    local said = pipe:read("a") or ""
    -- Closing the pipe waits for gnuplot, so no temporary files appear afterwards.
    local ok, how, code = pipe:close()
    return ok == true, ("%s %d"):format(how, code), said:match("[^\n]*line %d+:[^\n]*")
        or said:match("%S[^\n]*") or "it says nothing"
end

--- Fails, before the work whose results it would draw, if gnuplot is missing or cannot make a
-- picture format.
function plot.check()
    local ok, how, said = gnuplot("-e", "set terminal svg; set terminal pngcairo; set terminal pdfcairo")
    if ok then return end
    if system.interrupted() then fail.interrupted() end
    fail("gnuplot cannot draw SVG, PNG and PDF (%s): %s; install one that can (Debian: gnuplot-nox) "
        .. "or give --no-figures", how, said)
end

--- Calls `undo` when the variable that holds the value is closed.
local function at_end(undo) return setmetatable({}, {__close = undo}) end

--- Whether a picture file is complete: on a full disk gnuplot succeeds although it wrote only a
-- part.
local whole = {
    svg = function(path)
        local file <close> = io.open(path, "rb")
        if not file then return false end
        file:seek("end", -math.min(16, file:seek("end")))
        return (file:read("a") or ""):find("</svg>%s*$") ~= nil
    end,
    png = function(path)
        local pixels <close> = image.load(path)
        return pixels ~= nil
    end,
    pdf = function(path)
        local file <close> = io.open(path, "rb")
        if not file then return false end
        file:seek("end", -math.min(16, file:seek("end")))
        return (file:read("a") or ""):find("%%%%EOF%s*$") ~= nil
    end,
}

--- Replaces the time in a PDF, the only part of a picture that differs between drawings.
local function forget_time(path)
    local file <close> = io.open(path, "r+b")
    local bytes = file and file:read("a") or ""
    local at = bytes:match("/CreationDate %(D:()%d%d%d%d%d%d%d%d%d%d%d%d%d%dZ?")
    if at then
        file:seek("set", at - 1)
        file:write("20000101000000")
    end
end

--- Runs NAME.gp in its folder `dir`, the working folder. The pictures get their names when all are
-- complete, so none is left incomplete.
local function run(dir, name)
    local _ <close> = at_end(function()
        for _, kind in ipairs(kinds) do os.remove(("%s.%s.part"):format(name, kind)) end
    end)
    local ok, how, said = gnuplot("-e", "suffix='.part'", name .. ".gp")
    if not ok then fail("gnuplot failed on %s.gp (%s): %s", name, how, said) end
    for _, kind in ipairs(kinds) do
        if not whole[kind](("%s.%s.part"):format(name, kind)) then
            fail("%s/%s.%s: gnuplot wrote only a part of it; is the disk full?", dir, name, kind)
        end
    end
    forget_time(name .. ".pdf.part")
    for _, kind in ipairs(kinds) do
        local path = name .. "." .. kind
        local done, problem = system.replace(path .. ".part", path)
        if not done then fail("%s", problem) end
    end
end

--- Draws the figures whose scripts are in `dir`. It changes into the folder, so that no path is
-- part of a command, and restores the working folder.
function plot.draw(dir, names)
    arguments.want("draw", 1, "string", dir)
    arguments.want("draw", 2, "table", names)
    local home = assert(lfs.currentdir())
    local _ <close> = at_end(function() assert(lfs.chdir(home)) end)
    local entered, message = lfs.chdir(dir)
    if not entered then fail("%s: cannot be entered: %s", dir, message:match("([^\n]+)%s*$")) end
    for _, name in ipairs(names) do run(dir, name) end
end

--- A figure of grouped bars in panels one above the other, in per cent, each bar with an interval.
-- panels: array of {title, groups, series}; groups: the titles of the groups; series: array of
-- {title, rows, colour (optional)}. rows: for each group {share, low, high} in [0,1], or false.
-- `guide` (optional): a value in [0,1] at which a line is drawn. form (optional): a result of
-- plot.form.
function plot.bars(name, title, ylabel, panels, guide, form)
    arguments.want("bars", 1, "string", name)
    arguments.want("bars", 2, "string", title)
    arguments.want("bars", 3, "string", ylabel)
    arguments.want("bars", 4, "table", panels)
    return require("advrt.plot.sheet").bars(name, title, ylabel, panels, guide, form or plot.form())
end

return plot
