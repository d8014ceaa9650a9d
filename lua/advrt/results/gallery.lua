--- Fig. 5 as a gnuplot script: for each example the image and, per loss, the adversarial image and
-- the amplified perturbation. An example is a block of two columns: the image and the scale of its
-- perturbations at the top, then one row per loss.

local plot = require "advrt.plot"
local sheet = require "advrt.plot.sheet"
local tables = require "advrt.results.tables"

local SIDE = 5 -- space on the left for the losses' names
local GAP = 9 -- space between two examples
local TEXT = 9 -- height of a line below a picture
local SHADES = 24 -- steps of the scale, from black to white

--- Things to draw, in points from the top left corner of the picture.
local Drawing = {}
Drawing.__index = Drawing

function Drawing:text(text, x, y, align, size, turn)
    self.labels[#self.labels + 1] = ("set label %d %s at %.2f,%.2f %s font 'sans,%g'%s"):format(
        #self.labels + 1, plot.quote(text), x, -y, align, size or 7, turn and " rotate by 90" or "")
end

--- A picture of W x H pixels in a square of this side.
function Drawing:tile(path, W, H, x, y, side)
    local pixel = side / math.max(W, H)
    self.parts[#self.parts + 1] = ("%s binary filetype=png origin=(%.6g,%.6g) dx=%.8g dy=%.8g with rgbimage")
        :format(plot.quote(path), x + (side - (W - 1) * pixel) / 2, -y - (side + (H - 1) * pixel) / 2, pixel,
            pixel)
end

--- The scale of perturbations: the pixel values that black, grey and white mean.
function Drawing:scale(factor, x, y, side)
    local top, height, width = y + 3, side - 6, 7
    for k = 1, SHADES do
        local grey = math.floor(255 * (SHADES - k) / (SHADES - 1) + 0.5)
        self.labels[#self.labels + 1] = ("set object %d rectangle from %.2f,%.2f to %.2f,%.2f fillcolor rgb "
            .. "'#%02X%02X%02X' fillstyle solid 1 noborder"):format(#self.labels + 1, x,
            -top - (k - 1) * height / SHADES, x + width, -top - k * height / SHADES, grey, grey, grey)
    end
    for _, mark in ipairs {{"+", 0}, {"", 0.5}, {"−", 1}} do
        self:text(mark[1] == "" and "0" or ("%s%.2g"):format(mark[1], 0.5 / factor), x + width + 3,
            top + mark[2] * height, "left")
    end
end

--- A class by its name, else by its number.
local function class_of(summary, class)
    local name = summary.classes and summary.classes[class + 1]
    return name and name ~= "" and name or ("class %d"):format(class)
end

--- One loss's pictures of an example.
local function add_loss(drawing, example, one, x, y, side)
    local W, H = example.original.W, example.original.H
    drawing:tile(one.adversarial, W, H, x, y, side)
    drawing:tile(one.perturbation, W, H, x + side + 2, y, side)
    local at = one.iteration >= 0 and ("n = %d"):format(one.iteration) or "no flip"
    drawing:text(sheet.cut(("%s, L₂ %#.2g"):format(at, one.l2), 2 * side + GAP, 7), x + side + 1,
        y + side + TEXT / 2, "center")
end

--- One example: its image, classes and scale, and one row per loss.
local function add_example(drawing, summary, example, x, y, side)
    drawing:tile(example.original.path, example.original.W, example.original.H, x, y, side)
    local factor = example.losses[1] and example.losses[1].factor or 1
    drawing:scale(factor, x + side + 8, y, side)
    local wide = 2 * side + GAP - 2
    for k, text in ipairs {class_of(summary, example.label), "→ " .. class_of(summary, example.target)} do
        drawing:text(sheet.cut(text, wide, 7), x, y + side + (k - 0.5) * TEXT, "left")
    end
    drawing:text(("× %g"):format(factor), x + 2 * side + 2, y + side + 0.5 * TEXT, "right")
    local row = y + side + 2 * TEXT + 6
    for _, one in ipairs(example.losses) do
        add_loss(drawing, example, one, x, row, side)
        row = row + side + TEXT + 4
    end
end

--- The losses' names in lines that fit beside a row, and the left edge of the pictures.
local function names_of(summary)
    local names, most = {}, 1
    for k, s in ipairs(summary.losses) do
        names[k] = sheet.fold(tables.title(s.name), 54, 7)
        most = math.max(most, #names[k])
    end
    return names, SIDE + 8 * most
end

--- The script of Fig. 5. examples: array of {file, label, target, original = {path, W, H}, losses =
-- array of {name, iteration, l2, adversarial = path, perturbation = path, factor}}, with paths
-- relative to the run's folder. summary, form: as in advrt.results.figures; notes: the texts
-- below, an array.
return function(name, summary, form, examples, notes)
    local width, drawing = plot.widths[form.size], setmetatable({labels = {}, parts = {}}, Drawing)
    local count = math.max(1, math.min(#examples, form.size == "page" and 4 or 2))
    local names, left = names_of(summary)
    local side = math.min(60, ((width - left - 4 + GAP) / count - GAP - 2) / 2)
    local y = 4
    if form.titles then
        for _, line in ipairs(sheet.wrap("Images at the first flip, and their perturbations",
            width - 16, 9)) do
            drawing:text(line, width / 2, y + 6, "center", 9)
            y = y + 13
        end
    end
    local below = y + side + 2 * TEXT + 6
    for k, lines in ipairs(names) do
        for i, line in ipairs(lines) do
            drawing:text(line, left - 7 - 8 * (#lines - i), below + (k - 1) * (side + TEXT + 4) + side / 2,
                "center", 7, true)
        end
    end
    for k = 1, math.min(count, #examples) do
        add_example(drawing, summary, examples[k], left + (k - 1) * (2 * side + 2 + GAP), y, side)
    end
    local height = below + #summary.losses * (side + TEXT + 4)
    notes[#notes + 1] = "left: the image at its first flip, or after the last step; right: its perturbation "
        .. "around grey, amplified alike for all losses of an image"
    for _, line in ipairs(sheet.wrap(table.concat(notes, "; "), width - 16, 7)) do
        drawing:text(line, width / 2, height + 5, "center")
        height = height + 9.5
    end
    height = height + 3
    if #drawing.parts == 0 then drawing.parts[1] = "1 notitle" end
    return plot.script(name, "Images at the first flip, and their perturbations", width, height, "",
        table.concat(drawing.labels, "\n") .. ([[

unset border
unset tics
unset key
unset grid
set lmargin 0
set rmargin 0
set tmargin 0
set bmargin 0
set xrange [0:%.2f]
set yrange [%.2f:0]
plot ]]):format(width, -height) .. table.concat(drawing.parts, ", \\\n     "))
end
