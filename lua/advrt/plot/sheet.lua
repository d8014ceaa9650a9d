--- Lays out a figure of panels for a page or a column: title, panels, key and notes, each with the
-- space it needs. All lengths are in points; all letters are at least 7 points high.

local plot = require "advrt.plot"
local system = require "advrt.core.system"

local sheet = {}

-- The approximate width of a letter divided by its height.
local LETTER = 0.58
local SMALL = 7 -- height of the letters of numbers, notes and keys

local ROOM = 56 -- left of a panel whose axis has a label: for the label and the axis' numbers
local NUMBERS = 34 -- left of a panel without one
local RIGHT = 12
local LABEL = 48 -- from the axis to the label
local TITLE = 10 -- height of a line in a panel's title
local SAMPLE = 30 -- width of a line sample in the key; it holds each dash pattern once

--- The approximate width of a text.
function sheet.width(text, size) return utf8.len(text) * size * LETTER end

--- Breaks a text between words into lines of at most this width.
function sheet.wrap(text, width, size)
    local lines, line = {}, nil
    for word in text:gmatch("%S+") do
        local longer = line and line .. " " .. word or word
        if line and sheet.width(longer, size) > width then
            lines[#lines + 1], line = line, word
        else
            line = longer
        end
    end
    lines[#lines + 1] = line
    return lines
end

--- Breaks a name into lines of at most this width, after the signs between its parts, else between
-- letters.
function sheet.fold(text, width, size)
    local lines, line = {}, ""
    local most = math.max(1, math.floor(width / (size * LETTER)))
    local function add(part)
        while utf8.len(part) > most do
            local at = utf8.offset(part, most + 1)
            lines[#lines + 1], part = part:sub(1, at - 1), part:sub(at)
        end
        line = part
    end
    for part in text:gmatch("[^%s:=,_]*[%s:=,_]*") do
        if utf8.len(((line .. part):gsub("%s+$", ""))) <= most then
            line = line .. part
        else
            if line ~= "" then lines[#lines + 1] = line end
            add(part)
        end
    end
    lines[#lines + 1] = line ~= "" and line or nil
    for i, one in ipairs(lines) do lines[i] = (one:gsub("%s+$", "")) end
    return lines
end

--- Shortens a text with an ellipsis if it is wider than this.
function sheet.cut(text, width, size)
    local most = math.max(1, math.floor(width / (size * LETTER)))
    if utf8.len(text) <= most then return text end
    return text:sub(1, utf8.offset(text, most) - 1) .. "…"
end

--- The keys in rows, each key with its position: {at =, [1] = title, ...}.
local function rows_of(keys, width)
    local rows, room = {}, 0
    for _, key in ipairs(keys) do
        local wide = sheet.width(key.title, SMALL) + (key.mark == "box" and 12 or SAMPLE) + 16
        if wide > room then
            rows[#rows + 1] = {width = 0}
            room = width
        end
        local row = rows[#rows]
        row[#row + 1] = {key = key, at = row.width}
        row.width, room = row.width + wide, room - wide
    end
    return rows
end

local Page = {}
Page.__index = Page

--- A page of this width; things are placed from its top (see put).
local function new_page(width) return setmetatable({width = width, height = 0, things = {}, tag = 900},
    Page) end

--- Reserves this height; returns where it begins.
function Page:take(height)
    self.height = self.height + height
    return self.height - height
end

--- Adds a command: a function of screen(x, y), which returns the position of a point of the page.
function Page:put(command) self.things[#self.things + 1] = command end

function Page:text(text, x, y, size, align)
    self:put(function(screen)
        self.tag = self.tag + 1
        return ("set label %d %s at %s %s font 'sans,%g'"):format(self.tag, plot.quote(text), screen(x, y),
            align, size)
    end)
end

function Page:sample(key, x, y)
    self:put(function(screen)
        self.tag = self.tag + 1
        if key.mark == "box" then
            return ("set object %d rectangle from %s to %s fillcolor rgb '%s' fillstyle %s"):format(
                self.tag, screen(x, y + 3.5), screen(x + 10, y - 3.5), key.fill or key.colour,
                key.border and ("solid 1 border linecolor rgb '%s'"):format(key.border) or "solid 1 noborder")
        end
        return ("set arrow %d from %s to %s nohead linewidth %g dashtype %d linecolor rgb '%s'"):format(
            self.tag, screen(x, y), screen(x + SAMPLE - 4, y), key.width or 1.5, key.dash or 1, key.colour)
    end)
end

function Page:commands()
    local lines = {}
    local function screen(x, y)
        return ("screen %.5f,%.5f"):format(x / self.width, 1 - y / self.height)
    end
    for i, thing in ipairs(self.things) do lines[i] = thing(screen) end
    return table.concat(lines, "\n")
end

local function add_text(page, lines, size, pitch)
    for _, line in ipairs(lines) do
        page:text(line, page.width / 2, page:take(pitch) + pitch / 2, size, "center")
    end
end

local function add_keys(page, keys)
    if #keys == 0 then return end
    page:take(3)
    local rows, widest = rows_of(keys, page.width - 16), 0
    for _, row in ipairs(rows) do widest = math.max(widest, row.width) end
    for _, row in ipairs(rows) do
        local y = page:take(11) + 5.5
        local left = (page.width - widest + 16) / 2
        for _, one in ipairs(row) do
            page:sample(one.key, left + one.at, y)
            page:text(one.key.title, left + one.at + (one.key.mark == "box" and 14 or SAMPLE), y, SMALL,
                "left")
        end
    end
end

--- The positions of the panels in a row: an array of {left, right}.
local function columns_of(panels, count, width)
    local rooms, all, right = {}, 0, panels[1].right or RIGHT
    for c = 1, count do
        rooms[c] = NUMBERS
        for p = c, #panels, count do
            if panels[p].ylabel then rooms[c] = ROOM end
            rooms[c] = math.max(rooms[c], panels[p].room or 0)
        end
        all = all + rooms[c]
    end
    local wide, at, places = (width - right * count - all) / count, 0, {}
    for c = 1, count do
        places[c] = {at + rooms[c], at + rooms[c] + wide}
        at = places[c][2] + right
    end
    return places
end

--- The commands of one panel, whose axes end at these positions; titles: the lines of its title.
local function panel_commands(panel, titles, page, left, right, top, bottom)
    local function share(y) return 1 - y / page.height end
    local lines = {("set lmargin at screen %.5f\nset rmargin at screen %.5f\nset tmargin at screen %.5f\n"
        .. "set bmargin at screen %.5f"):format(left / page.width, right / page.width, share(top),
            share(bottom))}
    for i, line in ipairs(titles) do
        lines[#lines + 1] = ("set label %d %s at screen %.5f,%.5f left font 'sans,8'"):format(700 + i,
            plot.quote(line), left / page.width, share(top - 6.5 - TITLE * (#titles - i)))
    end
    if panel.ylabel then
        lines[#lines + 1] = ("set label 99 %s at screen %.5f,%.5f center rotate by 90"):format(
            plot.quote(panel.ylabel), (left - LABEL) / page.width, share((top + bottom) / 2))
    end
    lines[#lines + 1] = panel.xlabel and ("set xlabel %s offset 0,0.4"):format(plot.quote(panel.xlabel))
        or "unset xlabel"
    lines[#lines + 1] = panel.commands
    lines[#lines + 1] = "unset label\nunset arrow\nunset object"
    return table.concat(lines, "\n")
end

--- The script of a figure (plot.script) with panels.
--
--   form      a result of plot.form
--   s.name    of the figure; s.title; s.notes: the texts below it, an array
--   s.panels  array of {title, xlabel, ylabel (each optional), commands, height, room at the left and
--             right (optional)}
--   s.columns {page =, column =}: number of panels side by side
--   s.height  of panels without their own height
--   s.keys    array of {title, colour, dash, width} for a line, {title, mark = "box", colour, border}
--             for a box
--   s.blocks  of data, one text; s.commands: for all panels
function sheet.script(form, s)
    local page, panels = new_page(plot.widths[form.size]), {}
    local count = math.min(s.columns[form.size], #s.panels)
    page:take(3)
    if form.titles then add_text(page, sheet.wrap(s.title, page.width - 16, 9), 9, 12) end
    local places = columns_of(s.panels, count, page.width)
    for from = 1, #s.panels, count do
        local row, titles, most, below, height = {}, {}, 0, 10, 0
        for p = from, math.min(from + count - 1, #s.panels) do
            local panel = s.panels[p]
            row[#row + 1] = panel
            local place = places[#row]
            titles[#row] = panel.title and sheet.fold(panel.title, place[2] - place[1] + RIGHT, 8) or {}
            most = math.max(most, #titles[#row])
            below = math.max(below, (panel.below or 10) + (panel.xlabel and 11 or 0))
            height = math.max(height, panel.height or s.height)
        end
        page:take(5 + TITLE * most)
        local top = page:take(height)
        page:take(below + 2)
        for c, panel in ipairs(row) do
            panels[#panels + 1] = {panel, titles[c], places[c][1], places[c][2], top, top + height}
        end
    end
    add_keys(page, s.keys or {})
    if s.notes and #s.notes > 0 then
        page:take(2)
        add_text(page, sheet.wrap(table.concat(s.notes, "; "), page.width - 16, SMALL), SMALL, 9.5)
    end
    page:take(3)
    local drawn = {"set multiplot", "unset key", page:commands(), s.commands or ""}
    for _, one in ipairs(panels) do
        local panel, titles, left, right, top, bottom = table.unpack(one)
        drawn[#drawn + 1] = panel_commands(panel, titles, page, left, right, top, bottom)
    end
    drawn[#drawn + 1] = "unset multiplot"
    return plot.script(s.name, s.title, page.width, page.height, s.blocks or "", table.concat(drawn, "\n"))
end

local fills = {"#0A2A66", "#E0A100", "#5AA9E6", "#A43A8E", "#2FB092", "#D55E00", "#7A5200"}

--- The titles of groups of bars, broken into lines of at most this width. If a word is wider, all
-- titles are rotated, one line each. Returns gnuplot strings, the space needed below, and whether
-- they are rotated.
local function group_titles(groups, width)
    local titles, most, turned, longest = {}, 1, false, 0
    for g, text in ipairs(groups) do
        titles[g] = sheet.wrap(text, width, SMALL)
        most, longest = math.max(most, #titles[g]), math.max(longest, sheet.width(text, SMALL))
        for _, line in ipairs(titles[g]) do turned = turned or sheet.width(line, SMALL) > width end
    end
    for g, lines in ipairs(titles) do
        if turned then lines = {groups[g]} end
        -- The line ends need double-quoted strings. gnuplot would act on these characters inside
        -- them.
        for i, line in ipairs(lines) do lines[i] = system.printable(line):gsub('[\\"`\'%c]', "?") end
        titles[g] = '"' .. table.concat(lines, "\\n") .. '"'
    end
    return titles, turned and 6 + 0.72 * longest or 2 + 8 * most, turned
end

--- Implements plot.bars.
function sheet.bars(name, title, ylabel, panels, guide, form)
    local blocks, drawn, keys = {}, {}, {}
    for k, one in ipairs(panels[1] and panels[1].series or {}) do
        keys[k] = {title = one.title, mark = "box", colour = one.colour or fills[(k - 1) % #fills + 1]}
    end
    for p, panel in ipairs(panels) do
        local tics, bars, wide = {}, {}, #panel.series + 1.5
        local titles, below, turned = group_titles(panel.groups, (plot.widths[form.size] - ROOM - RIGHT)
            / #panel.groups)
        for g in ipairs(panel.groups) do
            tics[g] = ("%s %g"):format(titles[g], (g - 1) * wide + (#panel.series + 1) / 2)
        end
        for k, one in ipairs(panel.series) do
            local rows = {}
            for g in ipairs(panel.groups) do
                local r = one.rows[g] or {0 / 0, 0 / 0, 0 / 0}
                rows[g] = {(g - 1) * wide + k, 100 * r[1], 100 * r[2], 100 * r[3]}
            end
            blocks[#blocks + 1] = plot.block(("p%d_%d"):format(p, k), rows)
            bars[k] = ("$p%d_%d using 1:2 with boxes linecolor rgb '%s', '' using 1:3:(0):($4-$3) with "
                .. "vectors heads size graph 0.004,90 linewidth 0.8 linecolor rgb '#777777'"):format(p, k,
                one.colour or fills[(k - 1) % #fills + 1])
        end
        drawn[p] = {title = panel.title, ylabel = ylabel, below = below, commands = table.concat({
            ("set xtics %s (%s) scale 0"):format(turned and "rotate by 45 right" or "norotate",
                table.concat(tics, ", ")),
            ("set xrange [0:%g]"):format(#panel.groups * wide - 0.5),
            "plot " .. table.concat(bars, ", ") .. (guide and (", %g with lines dashtype 3 linecolor rgb "
                .. "'#444444'"):format(100 * guide) or "")}, "\n")}
    end
    return sheet.script(form, {name = name, title = title, panels = drawn, columns = {page = 1, column = 1},
        height = form.size == "page" and 130 or 100, keys = keys, blocks = table.concat(blocks),
        commands = "set yrange [0:105]\nset ytics 0,20,100\nset boxwidth 0.9\n"
            .. "set style fill solid 1 noborder"})
end

return sheet
