--- What experiments/attacks.lua leaves: records, tables and a picture.
--
-- `results` is an array over the images of arrays over the attacks of {attack, file, label, target
-- (-1: untargeted), prediction, success, l2, linf, forward, backward}.

local core = require "advrt.core.record"
local fail = require "advrt.fail"
local plot = require "advrt.plot"
local record = require "advrt.record"
local tables = require "advrt.tables"

local report = {}

local fields = {"file", "label", "target", "attack", "success", "prediction", "l2", "linf", "forward",
    "backward"}

--- Writes records.msgpack: a map for each image and attack, sorted by file, then attack as given.
function report.save(out, results)
    local part <close>, message = record.part(out:scratch("records.part"))
    if not part then fail("%s", message) end
    local done = true
    for _, of_image in ipairs(results) do
        local packed = {}
        for a, one in ipairs(of_image) do
            local pairs_of = {}
            for i, name in ipairs(fields) do pairs_of[i] = {name, one[name]} end
            packed[a] = core.pack(pairs_of)
        end
        if done then done, message = part:add("records", table.concat(packed)) end
    end
    if done then done, message = part:finish(out:file("records.msgpack")) end
    if not done then fail("%s", message) end
end

local columns = {"attack", "targeted", "images", "success", "l2_mean", "l2_std", "l2_median",
    "linf_mean", "linf_std", "linf_median", "forward", "backward", "passes", "seconds_forward",
    "seconds_backward", "seconds_step", "seconds"}

--- One attack's row of attacks.csv, by column: distances over the images that succeeded; forward and
-- backward, evaluations and gradients an image took in the mean; passes, the network's passes over
-- a batch; seconds of them all. `about` is what attacks.stream returned.
function report.row(name, targeted, results, a, about)
    local l2, linf, forward, backward = {}, {}, 0, 0
    for _, of_image in ipairs(results) do
        local one = of_image[a]
        if one.success then l2[#l2 + 1], linf[#linf + 1] = one.l2, one.linf end
        forward, backward = forward + one.forward, backward + one.backward
    end
    local seconds = about.seconds
    local row = {attack = name, targeted = targeted, images = #results, success = #l2,
        forward = forward / #results, backward = backward / #results, passes = about.passes,
        seconds_forward = seconds.forward, seconds_backward = seconds.backward,
        seconds_step = seconds.step, seconds = seconds.forward + seconds.backward + seconds.step}
    for key, list in pairs {l2 = l2, linf = linf} do
        row[key .. "_mean"], row[key .. "_std"] = tables.mean_std(list)
        table.sort(list)
        row[key .. "_median"] = tables.quantile(list, 0.5)
    end
    return row
end

--- attacks.csv.
function report.csv(rows) return tables.csv(columns, rows) end

--- perturbations.csv: a row for each image and attack, in the order of the records.
function report.images_csv(results)
    local all = {}
    for _, of_image in ipairs(results) do table.move(of_image, 1, #of_image, #all + 1, all) end
    return tables.csv({"attack", "file", "label", "target", "prediction", "success", "l2", "linf",
        "forward", "backward"}, all)
end

--- The rows as they are printed.
function report.text(rows)
    local width = 8
    for _, row in ipairs(rows) do width = math.max(width, #row.attack) end
    local form = "%-" .. width .. "s  %10s  %9s %9s  %9s %9s  %9s %9s  %8s\n"
    local lines = {form:format("", "success", "L2 median", "mean", "Linf med.", "mean", "forward",
        "backward", "seconds")}
    local function short(v) return v == v and ("%.4f"):format(v) or "-" end
    for _, row in ipairs(rows) do
        lines[#lines + 1] = form:format(row.attack, ("%d of %d"):format(row.success, row.images),
            short(row.l2_median), short(row.l2_mean), short(row.linf_median), short(row.linf_mean),
            ("%.1f"):format(row.forward), ("%.1f"):format(row.backward),
            ("%.2f"):format(row.seconds))
    end
    lines[#lines + 1] = "Distances over the images that succeeded; forward and backward an image, mean."
    return table.concat(lines)
end

--- The share of the images that an attack changed within a distance, as steps {distance, share}.
local function curve(results, a, key)
    local list, steps = {}, {{0, 0}}
    for _, of_image in ipairs(results) do
        if of_image[a].success then list[#list + 1] = of_image[a][key] end
    end
    table.sort(list)
    for i, v in ipairs(list) do steps[i + 1] = {v, i / #results} end
    return steps, list[#list] or 0
end

--- The picture: for each attack the share of images that succeeded within a distance, L2 and Linf.
function report.figure(name, rows, results, untargeted)
    local names, blocks, panels = {}, {}, {}
    for a, row in ipairs(rows) do names[a] = row.attack end
    local styles = plot.styles(names)
    for p, key in ipairs {"l2", "linf"} do
        local parts, most = {}, 0
        local curves = {}
        for a in ipairs(rows) do
            local far
            curves[a], far = curve(results, a, key)
            most = math.max(most, far)
        end
        most = most > 0 and most * 1.05 or 1
        for a, row in ipairs(rows) do
            local block, last = key .. a, curves[a][#curves[a]]
            curves[a][#curves[a] + 1] = {most, last[2]}
            blocks[#blocks + 1] = plot.block(block, curves[a])
            parts[a] = ("$%s using 1:2 with steps linewidth 2 linecolor rgb '%s' %s")
                :format(block, styles[row.attack].colour,
                    p == 1 and "title " .. plot.quote(row.attack) .. " noenhanced" or "notitle")
        end
        panels[p] = ("set xrange [0:%g]\nplot "):format(most) .. table.concat(parts, ", \\\n     ")
    end
    -- The key has a line of its own for each name, of any length, below the panels.
    local line, above = 22, 430
    local height = above + line * #rows + 12
    local commands = table.concat({
        ("set multiplot layout 1,2 margins screen 0.085,0.975,%g,%g spacing screen 0.095,0"):format(
            1 - (above - 75) / height, 1 - 45 / height),
        ("set label 100 %s at screen 0.5,%g center font 'sans,13'"):format(plot.quote(
            ("Images that %s within a distance (%d images)"):format(
                untargeted and "left their class" or "became their target", #results)),
            1 - 18 / height),
        ("set key at screen 0.085,%g left top vertical maxcols 1 Left reverse samplen 3"):format(
            1 - above / height),
        "set yrange [0:1.03]",
        "set ylabel 'Share of images'\nset xlabel 'L_2 distance (pixels in [0,1])'",
        panels[1],
        "unset key\nunset label 100\nset xlabel 'L_∞ distance (pixels in [0,1])'",
        panels[2],
        "unset multiplot",
    }, "\n")
    return plot.script(name, "Share of images that an attack changed within a distance", 980, height,
        table.concat(blocks), commands)
end

return report
