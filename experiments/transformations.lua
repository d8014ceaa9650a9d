--- Which adversarial examples survive a transformation of the image, and its cost in accuracy on
-- the genuine images: total variation minimisation, median and Gaussian filters, fewer bits, JPEG,
-- resizing with padding (advrt.core.transform defines the strengths).
--
-- An example survives if the source net still predicts the target. It is undone if the net
-- predicts the label again. The genuine images are those that were attacked; without a
-- transformation all are classified correctly.

local count_of = require "advrt.support.count"
local adversarial = require "advrt.paper.adversarial"
local arguments = require "advrt.support.check"
local experiment = require "advrt.run.experiment"
local csv = require "advrt.support.csv"
local fail = require "advrt.support.fail"
local folder = require "advrt.run.folder"
local latex = require "advrt.results.latex"
local options = require "advrt.support.options"
local lines_of = require "advrt.support.lines"
local plot = require "advrt.plot"
local progress = require "advrt.run.progress"
local run_json = require "advrt.run.run_json"
local sheet = require "advrt.plot.sheet"
local tables = require "advrt.results.tables"
local tensor = require "advrt.tensor"
local transform = require "advrt.core.transform"

local default = {"tv:0.02", "tv:0.05", "tv:0.1", "tv:0.2", "median:3", "median:5", "gaussian:0.5",
    "gaussian:0.75", "gaussian:1", "gaussian:1.5", "bits:7", "bits:5", "bits:4", "bits:3", "bits:2",
    "bits:1", "jpeg:95", "jpeg:75", "jpeg:50", "jpeg:25", "pad:0.95", "pad:0.9", "pad:0.8", "pad:0.6"}
local titles = {tv = "Total variation", median = "Median", gaussian = "Gaussian", bits = "Bits",
    jpeg = "JPEG", pad = "Resize and pad"}

local takes = table.move(adversarial.options, 1, #adversarial.options, 1, {})
table.move({"set", "transformations", "out"}, 1, 3, #takes + 1, takes)
local o = options.parse(arg, {
    name = "transformations.lua",
    description = "Counts the adversarial examples that survive transformations of the image.",
    uses = {
        {"", "all transformations, on the bundled network and images"},
        {"--net model.onnx --images photos", "your own network and images"},
        {"--set runs/examples --transformations jpeg:75,bits:4",
            "two transformations of examples that make_adversarial made"},
    },
    options = takes,
    flags = {adversarial.skip_bad}, figures = true,
})
if not o.no_figures then plot.check() end
local began, list = os.time(), {}
for i, text in ipairs(o.transformations or default) do
    local kind, strength = text:match("^(%l+):(.+)$")
    list[i] = {kind = kind, strength = tonumber(strength), text = text}
    local ok, message = fail.try(transform.apply, kind, list[i].strength, tensor.new {1, 1, 1, 1})
    if not ok then fail.option("--transformations: %s", message:gsub("^.-:%d+: ", "")) end
end
o.transformations = o.transformations or default
local source = not o.set and experiment.load_net(o)
local out <close> = folder.claim(o.out, "transformations")
o.out = out.path
local set = adversarial.open(adversarial.folders(o, out))
source = source or set:source()
experiment.settle_batch(o, source, math.maxinteger)

--- Counts over the images of a list: for each transformation, and for none (0), how many the net
-- classifies as the target (survive) and as the label (undone).
local function count(data, images, shown, done)
    local counts = {}
    for t = 0, #list do counts[t] = {survive = 0, undone = 0} end
    local changed = tensor.new {o.batch, table.unpack(set.input)}
    for x, places in set:batches(data, images, o.batch) do
        local names = {}
        for k = 1, o.batch do names[k] = ("%d:%s:pad"):format(o.seed, images.file[places[k] or places[1]]) end
        for t = 0, #list do
            changed:copy(x)
            if t > 0 then transform.apply(list[t].kind, list[t].strength, changed, names) end
            local z = source:forward(changed)
            arguments.logits(z, function(k) return images.file[places[k] or places[1]] end,
                t > 0 and ("after %s:%g"):format(list[t].kind, list[t].strength) or nil)
            local classes = z:argmax()
            for k, place in ipairs(places) do
                local class = classes:get(k)
                if class == images.target[place] then
                    counts[t].survive = counts[t].survive + 1
                elseif class == images.label[place] then
                    counts[t].undone = counts[t].undone + 1
                end
            end
        end
        shown:update(done + places[#places], "transformed")
    end
    return counts
end

local data, results, done = set:feed(false), {}, 0
do
    local all = #set.of.genuine.number
    for _, name in ipairs(set.losses) do all = all + #(set.of[name] or {number = {}}).number end
    local shown <close> = progress.start("images", all)
    for _, name in ipairs {"genuine", table.unpack(set.losses)} do
        if set.of[name] then
            results[name] = count(data, set.of[name], shown, done)
            done = done + #set.of[name].number
        end
    end
    shown:finish(("%s, %s"):format(count_of(done, "image"), count_of(#list, "transformation")))
end

-- The fraction of a list that survives a transformation, or of the genuine images still classified
-- correctly.
local function share(name, t)
    local n = #set.of[name].number
    local one = results[name][t]
    local hits = name == "genuine" and one.undone or one.survive
    return hits / n, hits, n
end

local lines = {"transformation,strength,loss,images,survive,share,low,high,undone"}
local text = {"Adversarial examples that survive (%), and genuine images still right (%)", ""}
local head = {"Transformation", "strength"}
local present, names = {}, table.move(set.losses, 1, #set.losses, 1, {})
names[#names + 1] = "genuine"
for _, name in ipairs(names) do
    if set.of[name] then
        present[#present + 1] = name
        head[#head + 1] = name == "genuine" and "Genuine" or tables.title(name)
    end
end
local cells = {head}
for t = 0, #list do
    local kind, strength = t > 0 and list[t].kind or "none", t > 0 and list[t].strength or 0
    local line = {titles[kind] or "None", t > 0 and ("%g"):format(strength) or ""}
    for _, name in ipairs(present) do
        local p, hits, n = share(name, t)
        local low, high = tables.interval(hits, n)
        line[#line + 1] = ("%.1f (%d)"):format(100 * p, n)
        lines[#lines + 1] = table.concat({kind, tables.number(strength), csv.field(name),
            tables.number(n), tables.number(hits), tables.number(p), tables.number(low),
            tables.number(high), tables.number(results[name][t].undone)}, ",")
    end
    cells[#cells + 1] = line
end
local columns = lines_of.columns(cells, 24)
table.move(columns, 1, #columns, 2, text)
latex.write(out, "transformations", table.concat(lines, "\n") .. "\n")
out:write("transformations.txt", table.concat(text, "\n") .. "\n")

--- One panel per kind: the fractions over its strengths, starting with no transformation.
local function figure(form)
    local kinds, seen, blocks, panels = {}, {}, {}, {}
    for _, one in ipairs(list) do
        if not seen[one.kind] then kinds[#kinds + 1] = one.kind end
        seen[one.kind] = true
    end
    local losses = {}
    for _, name in ipairs(present) do if name ~= "genuine" then losses[#losses + 1] = name end end
    local styles = plot.styles(losses)
    for p, kind in ipairs(kinds) do
        local tics, curves, places = {plot.quote("none") .. " 0"}, {}, {0}
        for t, one in ipairs(list) do
            if one.kind == kind then
                places[#places + 1] = t
                tics[#tics + 1] = ("'%g' %d"):format(one.strength, #places - 1)
            end
        end
        for k, name in ipairs(present) do
            local rows = {}
            for i, t in ipairs(places) do
                local _, hits, n = share(name, t)
                local low, high = tables.interval(hits, n)
                rows[i] = {i - 1, 100 * hits / n, 100 * low, 100 * high}
            end
            local style = styles[name] or {colour = "#000000", dash = 1}
            blocks[#blocks + 1] = plot.block(("p%d_%d"):format(p, k), rows)
            curves[k] = ("$p%d_%d using 1:2:3:4 with yerrorlines pointtype 7 pointsize 0.25 linewidth 1 "
                .. "linecolor rgb '%s' dashtype %d notitle"):format(p, k, style.colour, style.dash)
        end
        panels[p] = {title = titles[kind], ylabel = (form.size == "column" or p % 3 == 1) and "Examples (%)"
            or nil, commands = table.concat({
            ("set xtics (%s)"):format(table.concat(tics, ", ")),
            ("set xrange [-0.3:%g]"):format(#places - 0.7), "plot " .. table.concat(curves, ", ")}, "\n")}
    end
    local keys = {}
    for k, name in ipairs(present) do
        local style = styles[name] or {colour = "#000000", dash = 1}
        keys[k] = {title = name == "genuine" and "genuine, right" or tables.title(name), colour =
            style.colour,
            dash = style.dash}
    end
    return sheet.script(form, {name = "figtransformations", title =
        "Adversarial examples under transformations",
        panels = panels, columns = {page = 3, column = 1}, height = 70, keys = keys,
        notes = {"examples that survive, by strength", "95 % interval"}, blocks = table.concat(blocks),
        commands = "set yrange [0:104]\nset ytics 0,50,100"})
end
if not o.no_figures then
    out:write("figtransformations.gp", figure(plot.form(o)))
    plot.draw(out.path, {"figtransformations"})
end
run_json.write(out, run_json.ended {setting = "transformations", o = o, options = takes, net = source,
    began = began})
print(table.concat(text, "\n"))
print(("\nTables%s: %s/"):format(o.no_figures and "" or " and the picture", out.path))
