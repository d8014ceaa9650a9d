--- Attacks bundled images in about ten seconds and prints a table with a row for each loss.
--
--     demo()                                        32 images, four losses, 250 steps each
--     demo(8)                                       the same on 8 images
--     demo.ce.flip_iteration                        what attack.run returned for the loss ce
--     image.show(demo.ce.first)                     the images at their first flip
--
-- After a call demo holds what it used: net, images, labels, targets (classes from 0) and, by the name of
-- each loss, the result of attack.run. The attack is that of experiments/equal_perturbation.lua.

local arguments = require "advrt.support.check"
local attack = require "advrt.attack"
local data = require "advrt.data"
local lines = require "advrt.support.lines"
local loss = require "advrt.loss"
local net = require "advrt.net"
local results = require "advrt.results.finish"
local system = require "advrt.core.system"
local tables = require "advrt.results.tables"
local tensor = require "advrt.tensor"

local IMAGES = 32
local ITERATIONS = 250
local SEED = 0

local demo = {}

-- In the order of the paper.
local shown = {"ce", "ce_sign", "logit", "m_logit"}

local ROW = "%-9s %-10s %-13s %-11s %s"

-- The bundled images that the net classifies correctly: x [n,C,H,W] with labels and targets, as attack.run
-- takes them, and how the classes are called.
local function correct_images(g)
    local folder = data.folder(system.options.root .. "/nets/fashion-images", {net = g})
    local target_of = data.targets("random", g.classes, SEED)
    local x, labels, targets = {}, {}, {}
    for batch, numbers in folder:batches() do
        local z = g:forward(batch)
        local predictions = z:argmax()
        for k, i in ipairs(numbers) do
            if predictions:get(k) == folder:label(i) then
                x[#x + 1] = tensor.concat {batch[k]}
                labels[#labels + 1] = folder:label(i)
                targets[#targets + 1] = target_of(folder.files[i], folder:label(i), z[k])
            end
        end
    end
    return x, labels, targets, results.class_names(folder:class_names())
end

-- The median over all images of `values` at the flip; nil if fewer than half of the images flipped.
local function median_of(r, values)
    local list = {}
    for i = 1, #r.flip_iteration do
        list[i] = r.flip_iteration:get(i) >= 0 and values:get(i) + 0.0 or math.huge
    end
    table.sort(list)
    local median = tables.quantile(list, 0.5)
    return median < math.huge and median or nil
end

local function flips_of(r)
    local count = 0
    for i = 1, #r.flip_iteration do count = count + (r.flip_iteration:get(i) >= 0 and 1 or 0) end
    return count
end

-- What the table says about a loss, as text; "-" for a median that fewer than half of the images reach.
local function row_of(name, r)
    local steps, l2 = median_of(r, r.flip_iteration), median_of(r, r.flip_l2)
    return {title = tables.title(name), flipped = ("%d of %d"):format(flips_of(r), #r.flip_iteration),
        steps = steps and ("%.0f"):format(steps) or "-", l2 = l2 and ("%.2f"):format(l2) or "-",
        seconds = ("%.1f s"):format(r.seconds)}
end

-- The titles of the rows that hold the smallest number in `column`, and that number; nil if there is none.
local function least(rows, column)
    local best, titles
    for _, row in ipairs(rows) do
        local value = tonumber(row[column])
        if value and (not best or value < best) then best, titles = value, {} end
        if value and value == best then titles[#titles + 1] = row.title end
    end
    return titles and table.concat(titles, " and "), best
end

-- Sentences on what the table shows, and on the first image that every loss flipped.
local function findings(rows, classes)
    local list = {}
    local first, steps = least(rows, "steps")
    if first then list[1] = ("Fewest steps: %s, half of the images within %d steps."):format(first, steps) end
    local smallest, l2 = least(rows, "l2")
    if smallest then
        list[#list + 1] = ("Smallest change: %s, a median L2 norm of %.2f."):format(smallest, l2)
    end
    for i, label in ipairs(demo.labels) do
        local each = {}
        for k, name in ipairs(shown) do
            local n = demo[name].flip_iteration:get(i)
            if n >= 0 then each[k] = ("%d (%s)"):format(n, rows[k].title) end
        end
        if #each == #shown then
            list[#list + 1] = ("Example: image %d (%s) first becomes %s at step %s."):format(i,
                classes[label + 1], classes[demo.targets[i] + 1], table.concat(each, ", "))
            break
        end
    end
    return list
end

local NEXT = [[
What to try next:
  image.show(demo.ce.first)                   the images at their first flip, in a PNG file
  demo.net:forward(demo.ce.first):argmax()    the classes that the network gives them
  ? attack.run                                the call behind demo()
  ? loss                                      the losses, and how to define your own
  advrt equal_perturbation                    in the shell: all images, tables, figures, a report]]

local function say(text)
    for _, line in ipairs(lines.wrap(text)) do print(line) end
end

-- Runs the attacks and prints a row as soon as its loss is done.
local function attack_all(magnitude)
    local rows = {}
    print("\n" .. ROW:format("loss", "flipped", "median step", "median L2", "time"))
    for k, name in ipairs(shown) do
        demo[name] = attack.run {net = demo.net, images = demo.images, labels = demo.labels,
            targets = demo.targets, loss = loss[name], multiplier = attack.equal_perturbation(magnitude),
            iterations = ITERATIONS}
        rows[k] = row_of(name, demo[name])
        print(ROW:format(rows[k].title, rows[k].flipped, rows[k].steps, rows[k].l2, rows[k].seconds))
        io.stdout:flush()
    end
    return rows
end

--- demo(count)
-- Attacks `count` of the bundled images (default 32) with each loss of the paper and prints what it did. All
-- steps change an image by the same L2 norm.
local function run(_, count)
    local g = assert(net.load("fashion"))
    local x, labels, targets, classes = correct_images(g)
    count = count == nil and IMAGES or count
    if math.type(count) ~= "integer" or count < 1 or count > #x then
        error(("bad argument #1 to 'demo' (a number of images from 1 to %d expected, got %s)"):format(#x,
            arguments.text(count)), 2)
    end
    local magnitude = attack.magnitude_of(g)
    demo.net, demo.images = g, tensor.stack(table.move(x, 1, count, 1, {}))
    demo.labels = table.move(labels, 1, count, 1, {})
    demo.targets = table.move(targets, 1, count, 1, {})
    say(("Images: %d of Fashion-MNIST, classified correctly by the bundled network."):format(count))
    say("Goal: the network says another class, chosen at random for each image.")
    say(("Attack: %d steps along the gradient of a loss. Every step changes an image by an L2 norm of %g.")
        :format(ITERATIONS, magnitude))
    local rows = attack_all(magnitude)
    print()
    say("Flipped: the network says the chosen class. The medians over the images are the step of the first "
        .. "flip and the L2 norm of the change at that step.")
    for _, sentence in ipairs(findings(rows, classes)) do say(sentence) end
    print("\n" .. NEXT)
end

return setmetatable(demo, {__call = run})
