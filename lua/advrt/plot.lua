--- Figures by gnuplot: a script NAME.gp with its data is kept in the run's folder and run there, to
-- make NAME.svg and NAME.png. `gnuplot -d NAME.gp` in the folder makes them again.
--
-- Text of others (file names, names of losses) enters a script in single quotes only, in which
-- gnuplot expands nothing, and no path enters a command line.

local arguments = require "advrt.support.check"
local fail = require "advrt.support.fail"
local image = require "advrt.core.image"
local lfs = require "lfs"
local system = require "advrt.core.system"

local plot = {}

--- One colour for each loss in every figure (Okabe and Ito's palette, safe for the colour-blind),
-- and a dash pattern, so that prints without colour can be read.
local colours = {ce = "#0072B2", ce_sign = "#D55E00", logit = "#009E73", m_logit = "#CC79A7"}
local dashes = {ce = 1, ce_sign = 2, logit = 4, m_logit = 5}
local spare = {"#E69F00", "#000000", "#56B4E9", "#8C6D31", "#0072B2", "#D55E00", "#009E73", "#CC79A7"}

--- {name -> {colour =, dash =}} for the losses of a run, an array of names.
function plot.styles(losses)
    arguments.want("styles", 1, "table", losses)
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
    arguments.want("quote", 1, "string", text)
    return "'" .. system.printable(text):gsub("'", "''") .. "'"
end

local BESIDE = 82 -- points from a panel's axis to the label beside it

-- The room that plot.beside wants at the left of a panel, in points.
plot.room = BESIDE + 18

--- A label beside the vertical axis of a panel of that width, in points. gnuplot's own ylabel moves left
-- where the axis has wide numbers, off the picture where a panel has margins of its own.
function plot.beside(text, width)
    return ("unset ylabel\nset label 99 %s at graph %.4f, graph 0.5 center rotate by 90"):format(
        plot.quote(text), -BESIDE / width)
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
# gnuplot -d %s.gp makes %s.svg and %s.png.
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
    return frame:format(system.printable(title), name, name, name, blocks, width, height, 2 * width,
        2 * height, name, (commands:gsub("\n", "\n  ")))
end

-- A figure depends on its script alone. -d skips gnuplot's start-up files; these variables and a
-- fonts.conf below HOME would change a figure too. Fontconfig finds its cache where it was.
local GNUPLOT = "unset GNUTERM GNUPLOT_LIB GNUPLOT_DEFAULT_GDFONT GNUPLOT_FONTPATH GDFONTPATH GNUPLOT_PS_DIR "
    .. "GNUPLOT_DRIVER_DIR GNUPLOT_SHARE_DIR FIT_SCRIPT FIT_LOG LC_NUMERIC LC_TIME LC_CTYPE LANG LANGUAGE; "
    .. "export XDG_CACHE_HOME=\"${XDG_CACHE_HOME:-$HOME/.cache}\" XDG_CONFIG_HOME=/nonexistent "
    .. "XDG_DATA_HOME=/nonexistent HOME=/nonexistent LC_ALL=C.UTF-8; exec gnuplot -d"

--- Fails, before the work that it would draw, where gnuplot is missing or lacks a kind of picture.
function plot.check()
    local pipe <close>, message = io.popen(GNUPLOT .. " -e 'set terminal svg; set terminal pngcairo' 2>&1")
    if not pipe then fail("gnuplot cannot be run: %s", message) end
    local said = pipe:read("a") or ""
    local ok, how, code = pipe:close()
    if ok then return end
    if system.interrupted() then fail.interrupted() end
    if how == "exit" and (code == 126 or code == 127) then
        fail("gnuplot is not found; install it (Debian: gnuplot-nox, make deps) or give --no-figures")
    end
    fail("gnuplot cannot draw SVG and PNG (%s %d): %s; install one that can (Debian: gnuplot-nox) or give "
        .. "--no-figures", how, code, said:match("[^\n]*line %d+:[^\n]*") or said:match("%S[^\n]*")
        or "it says nothing")
end

--- Calls `undo` when the variable that holds the value is closed.
local function at_end(undo) return setmetatable({}, {__close = undo}) end

--- Whether a picture is whole: gnuplot ends well on a full disk, having drawn a part.
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
}

--- Runs NAME.gp in its folder `dir`, the working folder; the pictures appear under their names when
-- both are complete, and none is left half made, whatever ends it.
local function run(dir, name)
    local kinds = {"svg", "png"}
    local _ <close> = at_end(function()
        for _, kind in ipairs(kinds) do os.remove(("%s.%s.part"):format(name, kind)) end
    end)
    local command = ("%s -e \"suffix='.part'\" %s.gp 2>&1"):format(GNUPLOT, name)
    -- Closing it waits for gnuplot, which makes no more parts then.
    local pipe <close>, message = io.popen(command)
    if not pipe then fail("gnuplot cannot be run: %s", message) end
    local said = pipe:read("a") or ""
    local ok, how, code = pipe:close()
    if not ok then
        fail("gnuplot failed on %s.gp (%s %d): %s", name, how, code, said:match("[^\n]*line %d+:[^\n]*")
            or said:match("%S[^\n]*") or "it says nothing")
    end
    for _, kind in ipairs(kinds) do
        if not whole[kind](("%s.%s.part"):format(name, kind)) then
            fail("%s/%s.%s: gnuplot made only a part of it, as where the disk is full", dir, name, kind)
        end
    end
    for _, kind in ipairs(kinds) do
        local path = name .. "." .. kind
        local done, problem = system.replace(path .. ".part", path)
        if not done then fail("%s", problem) end
    end
end

--- Draws the figures whose scripts are in `dir`. Works from inside the folder, so that its path is
-- never part of a command; the working folder is put back.
function plot.draw(dir, names)
    arguments.want("draw", 1, "string", dir)
    arguments.want("draw", 2, "table", names)
    local home = assert(lfs.currentdir())
    local _ <close> = at_end(function() assert(lfs.chdir(home)) end)
    local entered, message = lfs.chdir(dir)
    if not entered then fail("%s: cannot be entered: %s", dir, message:match("([^\n]+)%s*$")) end
    for _, name in ipairs(names) do run(dir, name) end
end

local group_colours = {"#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31"}

--- A figure of grouped bars in panels one above the other, in per cent with an interval each.
-- panels: array of {title, groups, series}; groups: the groups' titles; series: array of {title, rows,
-- colour (may be left out)}, rows one of {share, low, high} in [0,1] for each group, false where there is
-- none. A line is drawn at `guide` (may be left out), a share.
function plot.bars(name, title, ylabel, panels, guide)
    arguments.want("bars", 1, "string", name)
    arguments.want("bars", 2, "string", title)
    arguments.want("bars", 3, "string", ylabel)
    arguments.want("bars", 4, "table", panels)
    local blocks, drawn = {}, {}
    for p, panel in ipairs(panels) do
        local tics, bars, wide = {}, {}, #panel.series + 1.5
        for g, text in ipairs(panel.groups) do
            tics[g] = ("%s %g"):format(plot.quote(text), (g - 1) * wide + (#panel.series + 1) / 2)
        end
        for k, one in ipairs(panel.series) do
            local rows = {}
            for g in ipairs(panel.groups) do
                local r = one.rows[g] or {0 / 0, 0 / 0, 0 / 0}
                rows[g] = {(g - 1) * wide + k, 100 * r[1], 100 * r[2], 100 * r[3]}
            end
            blocks[#blocks + 1] = plot.block(("p%d_%d"):format(p, k), rows)
            bars[k] = ("$p%d_%d using 1:2 with boxes linecolor rgb '%s' title %s, '' using 1:3:(0):($4-$3) "
                .. "with vectors heads size graph 0.004,90 linecolor rgb '#222222' notitle"):format(p, k,
                one.colour or group_colours[(k - 1) % #group_colours + 1], plot.quote(one.title))
        end
        drawn[p] = table.concat({("set title %s"):format(plot.quote(panel.title)),
            ("set xtics (%s) scale 0 font 'sans,9'"):format(table.concat(tics, ", ")),
            ("set xrange [0:%g]"):format(#panel.groups * wide - 0.5),
            "plot " .. table.concat(bars, ", ") .. (guide and (", %g with lines dashtype 3 linecolor rgb "
                .. "'#444444' notitle"):format(100 * guide) or "")}, "\n")
    end
    return plot.script(name, title, 860, 330 * #panels, table.concat(blocks), table.concat({
        ("set multiplot layout %d,1"):format(#panels), "set yrange [0:118]", "set ytics 0,20,100",
        "set ylabel " .. plot.quote(ylabel), "set boxwidth 0.9",
        "set style fill solid 0.85 noborder", "set pointintervalbox 0",
        "set key top center horizontal maxrows 1 samplen 2", table.concat(drawn, "\n"),
        "unset multiplot"}, "\n"))
end

return plot
