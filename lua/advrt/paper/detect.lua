--- Detectors of adversarial examples (Section V-C): the images for training and testing each
-- detector, its training, and its accuracy.
--
-- Class 0 is genuine, class 1 adversarial. A cell of the tables is a net, the losses whose
-- examples it is trained on (one for Table II, all for Table III) and a kind of values: "float32"
-- as the attacks made them, or "8bit", rounded as in an image file.

local dist = require "advrt.dist"
local fail = require "advrt.support.fail"
local net = require "advrt.net"
local tensor = require "advrt.tensor"
local train = require "advrt.train"

local detect = {}

--- The columns of the paper's tables, in their order: names of nets/*.lua, and titles.
detect.nets = {"alexnet", "resnet18", "vgg16", "resnet34", "resnet152"}
detect.titles = {alexnet = "AlexNet", resnet18 = "ResNet-18", vgg16 = "VGG-16",
    resnet34 = "ResNet-34", resnet152 = "ResNet-152"}

detect.parts = {"train", "validation", "test"}

-- The split -------------------------------------------------------------------

--- Orders a list so that any range of neighbours contains the labels in equal proportions: by rank
-- within the label, drawn from the random stream "SEED:KIND:FILE:split", then by label. Returns
-- indices.
local function stratified(list, kind, seed)
    local of_label, order = {}, {}
    for k, file in ipairs(list.file) do
        local label = list.label[k]
        of_label[label] = of_label[label] or {}
        table.insert(of_label[label], {k = k, label = label, file = file,
            u = tensor.uniform(("%d:%s:%s:split"):format(seed, kind, file), {1}):get(1)})
    end
    for _, members in pairs(of_label) do
        table.sort(members, function(a, b)
            if a.u ~= b.u then return a.u < b.u end
            return a.file < b.file
        end)
        for rank, one in ipairs(members) do
            one.rank = (rank - 0.5) / #members
            order[#order + 1] = one
        end
    end
    table.sort(order, function(a, b)
        if a.rank ~= b.rank then return a.rank < b.rank end
        return a.label < b.label
    end)
    return order, of_label
end

--- Assigns every source image of a set (advrt.paper.adversarial) to a part: file -> "train",
-- "validation" or "test". Does so class by class and rounds the fractions in each class. Fails if
-- a part is empty.
function detect.split(set, o)
    local genuine = set.of.genuine
    if not genuine then fail("the set of adversarial examples has no genuine images") end
    local part_of, count = {}, {train = 0, validation = 0, test = 0}
    local _, of_label = stratified(genuine, "source", o.seed)
    for _, members in pairs(of_label) do
        local test = math.floor(#members * o.test_share + 0.5)
        local validation = math.floor(#members * o.validation_share + 0.5)
        for i, one in ipairs(members) do
            local part = i <= test and "test" or i <= test + validation and "validation" or "train"
            part_of[one.file] = part
            count[part] = count[part] + 1
        end
    end
    for _, part in ipairs(detect.parts) do
        if count[part] == 0 then
            fail("class genuine has no images in the %s part; give more than %d source images", part,
                #genuine.file)
        end
    end
    return part_of
end

--- Raises an error unless every source is in only one part. sources: part -> set of source keys.
local function assert_disjoint(sources)
    for i, a in ipairs(detect.parts) do
        for j = i + 1, #detect.parts do
            for key in pairs(sources[detect.parts[j]]) do
                assert(not sources[a][key], "a source image is on both sides of the split: " .. key)
            end
        end
    end
end

--- The images of a cell's three parts: part -> {numbers, i64 [n], in the set's feed; loss, for each
-- image the loss of an example, or "genuine"}. losses: the names trained on. With one loss, each
-- example is paired with its source image. With several, extra genuine images are added until both
-- classes are equally large. Fails if a class has no images in a part, or if there are too few
-- extra images.
function detect.images(set, part_of, losses, seed)
    local cell, sources = {}, {}
    for _, part in ipairs(detect.parts) do
        cell[part], sources[part] = {list = {}, loss = {}, adversarial = 0, genuine = 0}, {}
    end
    local function add(part, number, name, key)
        local c = cell[part]
        c.list[#c.list + 1], c.loss[#c.loss + 1] = number, name
        local class = name == "genuine" and "genuine" or "adversarial"
        c[class] = c[class] + 1
        sources[part][key] = true
    end
    local used = {}
    for _, name in ipairs(losses) do
        local examples, seen = set.of[name] or {number = {}, file = {}}, {}
        for k, file in ipairs(examples.file) do
            local part = part_of[file]
            if not part then fail("example %d of loss %s: its source %s is not in the set", k, name, file) end
            add(part, examples.number[k], name, file)
            used[file], seen[part] = true, true
        end
        for _, part in ipairs(detect.parts) do
            if not seen[part] then
                fail("class adversarial has no images of loss %s in the %s part; give more images or "
                    .. "iterations", name, part)
            end
        end
    end
    local genuine = set.of.genuine
    for k, file in ipairs(genuine.file) do
        if used[file] then add(part_of[file], genuine.number[k], "genuine", file) end
    end
    detect.fill_up(cell, set.of.extra or {number = {}, file = {}, label = {}}, seed, add)
    assert_disjoint(sources)
    for _, part in ipairs(detect.parts) do
        cell[part].numbers = tensor.from(cell[part].list, "i64")
    end
    return cell
end

--- Adds extra genuine images to the parts until their classes are equally large, with the labels in
-- equal proportions.
function detect.fill_up(cell, extra, seed, add)
    local order, at, needed = stratified(extra, "extra", seed), 0, 0
    for _, part in ipairs(detect.parts) do
        needed = needed + math.max(0, cell[part].adversarial - cell[part].genuine)
    end
    if needed > #order then
        fail.again("balancing the classes needs %d extra genuine images, the set has %d; make it again with "
            .. "--extra %d, or with fewer images", needed, #order, needed)
    end
    for _, part in ipairs(detect.parts) do
        for _ = 1, cell[part].adversarial - cell[part].genuine do
            at = at + 1
            local k = order[at].k
            add(part, extra.number[k], "genuine", "extra " .. extra.file[k])
        end
    end
end

-- Recipes ---------------------------------------------------------------------

-- The hyperparameters of each net's own paper: rate, weight decay, batch. All use SGD with momentum
-- 0.9 and divide the rate by ten when the validation accuracy stops rising.
local papers = {
    alexnet = {0.01, 5e-4, 128}, vgg16 = {0.01, 5e-4, 256}, resnet18 = {0.1, 1e-4, 256},
    resnet34 = {0.1, 1e-4, 256}, resnet152 = {0.1, 1e-4, 256},
}

--- The recipes by name: "paper", each net's own hyperparameters, and "adam:RATE". o: rates (Adam's,
-- as texts), weight_decay, train_batch. Returns all of them if `all`, else the one that o.recipe
-- names; an array of {name, of = function(net) -> {optimiser, schedule, batch}}.
function detect.recipes(o, all)
    local list = {{name = "paper", of = function(name)
        local rate, decay, batch = table.unpack(papers[name])
        return {optimiser = train.sgd {rate = rate, momentum = 0.9, weight_decay = decay},
            schedule = train.plateau(rate), batch = batch}
    end}}
    for _, rate in ipairs(o.rates) do
        list[#list + 1] = {name = "adam:" .. rate, of = function()
            return {optimiser = train.adam {rate = tonumber(rate), weight_decay = o.weight_decay},
                batch = o.train_batch}
        end}
    end
    if all then return list end
    local names = {}
    for i, recipe in ipairs(list) do
        if recipe.name == o.recipe then return {recipe} end
        names[i] = recipe.name
    end
    fail.option("--recipe: unknown recipe '%s' (known: %s)", o.recipe, table.concat(names, ", "))
end

-- Training --------------------------------------------------------------------

--- Fails if weights from --pretrained do not fit their detector. input: shape of the images,
-- {C,H,W}.
function detect.check_weights(o, input)
    local numbers = {}
    for c = 1, input[1] do numbers[c] = 0.5 end
    local stem = o.stem or (input[2] < 64 and "small" or "full")
    for _, name in ipairs(o.detectors) do
        if o.weights_of[name] then
            detect.net(name, {input = input, about = {{options = {mean = numbers, std = numbers}}}},
                setmetatable({stem = stem}, {__index = o}))
        end
    end
    collectgarbage()
end

--- A new detector: the net `name` for the set's images, with pretrained weights if o.weights_of has
-- a file for it. The last layer is new, has two classes, and is initialised by He's method.
function detect.net(name, set, o)
    local options = set.about[1].options
    local weights = o.weights_of[name]
    local g, message = net.load("nets/" .. name .. ".lua", {classes = 2, input = set.input,
        stem = o.stem == "small" and "small" or nil, mean = options.mean, std = options.std,
        weights = weights, new_head = weights and true, init = not weights and "he" or nil,
        seed = o.seed})
    if not g then fail("%s", message) end
    return g
end

--- The predicted classes of a part's images; each rank computes its part of them.
local function classes_of(g, data, numbers)
    local first, count = train.share(#numbers)
    local classes = tensor.new {#numbers}
    if count > 0 then
        classes:narrow(first + 1, count):copy(train.predict(g, data, numbers:narrow(first + 1, count))
            :to("f32"))
    end
    return dist.sum(classes)
end

--- What a detector classifies correctly in a part of its cell: name -> {right, images} for each
-- loss, "genuine", "adversarial" and "overall". Counts over all ranks (advrt.dist).
function detect.count(g, data, part)
    local classes = classes_of(g, data, part.numbers)
    local counts = {overall = {0, 0}, adversarial = {0, 0}, genuine = {0, 0}}
    for i, name in ipairs(part.loss) do
        local genuine = name == "genuine"
        local right = classes:get(i) == (genuine and 0 or 1) and 1 or 0
        counts[name] = counts[name] or {0, 0}
        for _, of in ipairs(genuine and {"genuine", "overall"} or {name, "adversarial", "overall"}) do
            counts[of][1], counts[of][2] = counts[of][1] + right, counts[of][2] + 1
        end
    end
    return counts
end

--- Trains a detector on a cell and counts on its test part, with all ranks (advrt.dist). spec: name
-- (the net's), set, data (the feed), images (detect.images), recipe, o, key (the run's name),
-- checkpoint, csv, progress. Returns {counts, validation = {right, images}, epochs}; or, if the
-- loss became infinite or NaN, {diverged = the message}.
function detect.train(spec)
    local o, images = spec.o, spec.images
    local g = detect.net(spec.name, spec.set, o)
    local recipe = spec.recipe.of(spec.name)
    local part = images.train.numbers
    local ok, problem = fail.try(train.run, {
        net = g, data = spec.data, part = part, validation = images.validation.numbers,
        epochs = o.epochs, batch = math.min(recipe.batch, #part), optimiser = recipe.optimiser,
        schedule = recipe.schedule, seed = o.seed, name = spec.key, checkpoint = spec.checkpoint,
        augment = o.augment and {flip = true, shift = spec.set.input[2] // 14} or nil,
        csv = spec.csv, progress = spec.progress, shared = true,
    })
    if not ok then
        if fail.code(problem) == "diverged" then
            return {diverged = problem.message}
        end
        error(problem, 0)
    end
    return {counts = detect.count(g, spec.data, images.test),
        validation = detect.count(g, spec.data, images.validation).overall}
end

return detect
