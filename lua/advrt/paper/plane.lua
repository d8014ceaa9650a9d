--- The figures of experiments/simulation_2d.lua (Fig. 6) as gnuplot scripts (see advrt.plot):
-- points and paths in the plane, and heat maps of the losses' gradients.

local plot = require "advrt.plot"
local sheet = require "advrt.plot.sheet"
local tables = require "advrt.results.tables"

local plane = {}

local SURE = math.log(9) -- |z_R - z_B| at which the softmax of two classes is 0.9

--- The contour lines of a field on a grid at a level, by marching squares with straight segments in
-- each cell. rows: array of rows of numbers without NaN; at: the coordinates of columns and of
-- rows. Returns an array of lines, each an array of points {x, y}. The last point of a closed line
-- equals its first.
function plane.contour(rows, at, level)
    -- A crossing is identified by its edge: 2 (row, column) for the edge to the right of a grid
    -- point, plus one for the edge above the point. Each crossing joins at most two segments.
    local crossings, order = {}, {}
    local width = #at
    local function crossing(i, j, up)
        local i2, j2 = up and i + 1 or i, up and j or j + 1
        if (rows[i][j] >= level) == (rows[i2][j2] >= level) then return nil end
        local key = 2 * ((i - 1) * width + j) + (up and 1 or 0)
        if not crossings[key] then
            local share = (level - rows[i][j]) / (rows[i2][j2] - rows[i][j])
            crossings[key] = {at[j] + share * (at[j2] - at[j]), at[i] + share * (at[i2] - at[i]),
                links = {}}
            order[#order + 1] = key
        end
        return crossings[key]
    end
    local function join(a, b)
        a.links[#a.links + 1], b.links[#b.links + 1] = b, a
    end
    local function visit(i, j)
        local found = {}
        found[#found + 1] = crossing(i, j)
        found[#found + 1] = crossing(i, j + 1, true)
        found[#found + 1] = crossing(i + 1, j)
        found[#found + 1] = crossing(i, j, true)
        if #found >= 2 then join(found[1], found[2]) end
        if #found == 4 then join(found[3], found[4]) end
    end
    for i = 1, #rows - 1 do
        local low, high = rows[i], rows[i + 1]
        for j = 1, width - 1 do
            local side = low[j] >= level
            if side ~= (low[j + 1] >= level) or side ~= (high[j] >= level)
                or side ~= (high[j + 1] >= level) then
                visit(i, j)
            end
        end
    end
    return plane.chain(crossings, order)
end

--- Turns linked crossings into lines: first the open ones, starting from one end, then the closed
-- ones.
function plane.chain(crossings, order)
    local lines = {}
    local function walk(start)
        local line, c = {}, start
        while c and not c.seen do
            c.seen = true
            line[#line + 1] = {c[1], c[2]}
            local a, b = c.links[1], c.links[2]
            c = a and not a.seen and a or b and not b.seen and b or nil
        end
        return line
    end
    for pass = 1, 2 do
        for _, key in ipairs(order) do
            local c = crossings[key]
            if not c.seen and (pass == 2 or #c.links < 2) then
                local line = walk(c)
                if pass == 2 then line[#line + 1] = line[1] end
                lines[#lines + 1] = line
            end
        end
    end
    return lines
end

local Picture = {}
Picture.__index = Picture

--- A data block of lines, with an empty row between them.
local function lines_block(name, lines)
    local rows = {}
    for _, line in ipairs(lines) do
        for _, point in ipairs(line) do rows[#rows + 1] = point end
        rows[#rows + 1] = {}
    end
    return plot.block(name, rows)
end

--- field: {at =, margin = rows of z_R - z_B, q = for each loss rows of magnitudes}; losses: array
-- of losses; w: half the width of the window; form: a result of plot.form.
function plane.new(field, losses, w, form)
    local self = setmetatable({field = field, losses = losses, w = w, form = form or plot.form(), most = 0},
        Picture)
    local sure = plane.contour(field.margin, field.at, SURE)
    local other = plane.contour(field.margin, field.at, -SURE)
    self.lines = lines_block("boundary", plane.contour(field.margin, field.at, 0))
        .. lines_block("sure", table.move(other, 1, #other, #sure + 1, sure))
    for l, one in ipairs(losses) do
        for _, row in ipairs(one.signed and {} or field.q[l]) do
            self.most = math.max(self.most, table.unpack(row))
        end
    end
    return self
end

function Picture:frame()
    return ([[
set size ratio -1
set xrange [%g:%g]
set yrange [%g:%g]
unset grid]]):format(-self.w, self.w, -self.w, self.w)
end

--- A figure of one square panel with its key and notes below it. spec: further fields for
-- sheet.script.
function Picture:sheet(spec, commands, room)
    local width = plot.widths[self.form.size]
    local side = math.min(width - 68 - room, 260)
    local spare = (width - 68 - room - side) / 2
    spec.panels = {{title = spec.panel, xlabel = "x₁", ylabel = "x₂", commands = self:frame() .. "\n"
        .. commands,
        room = 56 + spare, right = 12 + room + spare}}
    spec.columns, spec.height = {page = 1, column = 1}, side
    return sheet.script(self.form, spec)
end

local function of_loss(paths, name)
    local lines = {}
    for _, path in ipairs(paths) do
        if path.loss == name then lines[#lines + 1] = path end
    end
    return lines
end

--- Fig. 6a: the points of R (class 1) and B (class 0), the decision boundary, and the paths.
-- points: array of {x, y}; classes: their classes; paths: arrays of {x, y} with a field `loss`.
function Picture:points(name, points, classes, paths)
    local of, names = {[0] = {}, {}}, {}
    for i, point in ipairs(points) do table.insert(of[classes[i]], point) end
    for _, path in ipairs(paths) do
        if names[#names] ~= path.loss then names[#names + 1] = path.loss end
    end
    local blocks = {self.lines, plot.block("black", of[0]), plot.block("red", of[1])}
    local parts = {
        "$black with points pointtype 7 pointsize 0.2 linecolor rgb '#222222'",
        "$red with points pointtype 6 pointsize 0.2 linecolor rgb '#D62728'",
        "$boundary with lines linewidth 2 linecolor rgb '#222222'",
        "$sure with lines linewidth 1 dashtype 3 linecolor rgb '#222222'",
    }
    local keys = {{title = "B, the outer class", mark = "box", colour = "#222222"},
        {title = "R, the target", mark = "box", colour = "#FFFFFF", border = "#D62728"},
        {title = "decision boundary", colour = "#222222", width = 2},
        {title = "softmax of 0.9", colour = "#222222", dash = 3, width = 1}}
    local styles = plot.styles(names)
    for i, one in ipairs(names) do
        blocks[#blocks + 1] = lines_block("path" .. i, of_loss(paths, one))
        parts[#parts + 1] = ("$path%d with lines linewidth 1.2 dashtype %d linecolor rgb '%s'"):format(i,
            styles[one].dash, styles[one].colour)
        keys[#keys + 1] = {title = "path: " .. tables.title(one), colour = styles[one].colour,
            dash = styles[one].dash, width = 1.2}
    end
    return self:sheet({name = name, title = "Two circles, and the net's decision boundary", keys = keys,
        blocks = table.concat(blocks)}, "plot " .. table.concat(parts, ", \\\n     "), 0)
end

--- A field as a matrix block; the lowest row comes first.
local function matrix_block(name, rows)
    local lines = {"$" .. name .. " << EOD"}
    for _, row in ipairs(rows) do
        local fields = {}
        for i, v in ipairs(row) do fields[i] = ("%.4g"):format(v) end
        lines[#lines + 1] = table.concat(fields, " ")
    end
    lines[#lines + 1] = "EOD"
    return table.concat(lines, "\n") .. "\n"
end

--- Fig. 6b ...: the magnitude of the l-th loss's q over the plane. It also shows the decision
-- boundary, the lines where a softmax is 0.9 (dotted), and the loss's paths. Losses whose q is a
-- gradient share one colour scale, so that their figures can be compared.
function Picture:heat(name, l, paths)
    local one, at = self.losses[l], self.field.at
    local own = of_loss(paths, one.name)
    local title = ("Gradient magnitude: %s"):format(tables.title(one.name))
    local ink = one.signed and "#222222" or "white"
    local parts = {
        ("$field matrix using (%.9g+%.9g*$1):(%.9g+%.9g*$2):3 with image"):format(at[1], at[2] - at[1], at[1],
            at[2] - at[1]),
        ("$boundary with lines linewidth 2 linecolor rgb '%s'"):format(ink),
        ("$sure with lines linewidth 1 dashtype 3 linecolor rgb '%s'"):format(ink),
    }
    local notes = {"wide line: decision boundary", "dotted: softmax of 0.9"}
    if #own > 0 then
        parts[#parts + 1] = "$path with lines linewidth 1 linecolor rgb '#FF5050'"
        notes[3] = "thin: paths of points of the outer class"
    end
    local commands = table.concat({
        "set palette defined (0 '#440154', 0.125 '#472D7B', 0.25 '#3B528B', 0.375 '#2C728E', "
            .. "0.5 '#21918C', 0.625 '#28AE80', 0.75 '#5EC962', 0.875 '#ADDC30', 1 '#FDE725')",
        ("set cbrange [0:%.9g]"):format(one.signed and math.sqrt(2) or self.most > 0 and self.most or 1),
        ("set cblabel %s\nset cbtics font 'sans,7'"):format(plot.quote(one.signed and "‖sign(∇)‖₂" or
            "‖q‖₂, per unit of the plane")),
        "set border 15", "plot " .. table.concat(parts, ", \\\n     "),
    }, "\n")
    return self:sheet({name = name, title = title, panel = not self.form.titles
        and tables.title(one.name) or nil,
        notes = notes, blocks = matrix_block("field", self.field.q[l]) .. self.lines
            .. (#own > 0 and lines_block("path", own) or "")}, commands, 50)
end

return plane
