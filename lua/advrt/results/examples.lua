--- Examples of a run as PNG: the image and, for each loss, the adversarial image and the
-- perturbation. The perturbation is amplified around grey to be visible. All losses of an image
-- use one amplification, so that the eye can compare them.

local csv = require "advrt.support.csv"
local fail = require "advrt.support.fail"
local image = require "advrt.core.image"
local lfs = require "lfs"
local record = require "advrt.record"
local tables = require "advrt.results.tables"
local tensor = require "advrt.tensor"

local examples = {}

local COUNT = 4 -- number of images

--- The amplification for a perturbation of this L2 norm over D numbers: the largest of 1, 2, 5, 10,
-- ... at which four times its root mean square fits between grey and white. The few larger values
-- are clipped. Scaling by the largest value would hide all others.
function examples.factor(l2, D)
    if l2 <= 0 then return 1 end
    local most = 0.5 / (4 * l2 / math.sqrt(D))
    local decade = 10.0 ^ math.floor(math.log(most, 10))
    for _, step in ipairs {5, 2, 1} do
        if step * decade <= most then return math.max(1, step * decade) end
    end
    return 1
end

local function original_of(i) return ("examples/%02d-original.png"):format(i) end

local function stem_of(i, name) return ("examples/%02d-%s"):format(i, (name:gsub("[^%w_-]", "_"))) end

--- The names of the i-th image's pictures for a loss: adversarial, and amplified perturbation.
local function pictures_of(i, name, factor)
    local stem = stem_of(i, name)
    return stem .. "-adversarial.png", ("%s-perturbation-x%g.png"):format(stem, factor)
end

--- The temporary file of a perturbation, until all losses' perturbations, and so the amplification,
-- are known.
local function waiting_of(i, name) return stem_of(i, name) .. ".part.safetensors" end

local function save(out, path, x)
    local done, message = image.save(out:scratch(path), x)
    if not done then fail("%s", message) end
end

--- Writes the pictures of the first images, and stores the perturbations for examples.save. x
-- [N,C,H,W] is a batch whose first image is number `first` of the run (from 1). r is the result of
-- attack.run for x and the loss `name`. Shows each image at its first flip, or else its last
-- iterate.
function examples.add(out, first, x, name, r)
    for k = 1, math.min(COUNT - first + 1, #x) do
        local i, flipped = first + k - 1, r.flip_iteration:get(k) >= 0
        local shown = (flipped and r.first or r.adversarial)[k]
        out:folder("examples")
        save(out, original_of(i), x[k])
        save(out, (pictures_of(i, name, 1)), shown)
        local done, message = tensor.save(out:scratch(waiting_of(i, name)), {perturbation = shown - x[k]})
        if not done then fail("%s", message) end
    end
end

--- Copies the pictures of another run's first images, which get the numbers from `first` on, while
-- fewer than COUNT are shown. They are permanent once the folder is told to keep them. Returns how
-- many were copied.
function examples.copy(out, first, dir)
    local count = 0
    if lfs.attributes(dir .. "/examples", "mode") ~= "directory" then return 0 end
    for file in lfs.dir(dir .. "/examples") do
        local number, rest = file:match("^(%d%d)(%-.*%.png)$")
        number = tonumber(number)
        if number and number <= COUNT - first + 1 then
            local bytes, message = csv.read(dir .. "/examples/" .. file)
            if not bytes then fail("%s", message) end
            out:folder("examples")
            local name = ("examples/%02d%s"):format(first + number - 1, rest)
            out:scratch(name)
            out:write(name, bytes)
            count = math.max(count, number)
        end
    end
    return count
end

--- The records' data of the images with pictures, in the form of the next function's result,
-- without paths.
local function first_images(path)
    local shown = {}
    for r in record.each(path) do
        local one = shown[#shown]
        if not one or one.file ~= r.file then
            if #shown == COUNT then break end
            one = {file = r.file, label = r.label, target = r.target, losses = {}}
            shown[#shown + 1] = one
        end
        local at = r.flip_iteration >= 0 and r.flip_iteration or #r.l2 - 1
        one.losses[#one.losses + 1] = {name = r.loss, iteration = r.flip_iteration,
            l2 = r.l2[at + 1], linf = r.linf[at + 1], p_initial = r.p_initial[at + 1],
            p_target = r.p_target[at + 1], p_clean = r.p_initial[1],
            survives_8bit = r.survives_8bit}
    end
    return shown
end

--- The examples of the run in `dir`, whose records and pictures exist, in the form for
-- figures.fig5. For each loss it also has linf, p_clean (of the initial class, on the clean
-- image), p_initial and p_target (of both classes, on the shown image). It has survives_8bit too. Paths
-- are relative to `dir`. A run on inputs that are not images has none, and no_picture is true.
function examples.read(dir)
    local shown = first_images(dir .. "/records.msgpack")
    local first = shown[1] and shown[1].losses[1]
    if first and first.survives_8bit == -1 then return {no_picture = true} end
    for i, one in ipairs(shown) do
        local path = original_of(i)
        local W, H, kind = image.size(dir .. "/" .. path)
        if not W then fail("%s", H) end
        one.original = {path = path, W = W, H = H}
        local D = W * H * (kind == "grey" and 1 or 3)
        local factor = math.huge -- none is clipped more than it would be alone
        for _, l in ipairs(one.losses) do factor = math.min(factor, examples.factor(l.l2, D)) end
        for _, l in ipairs(one.losses) do
            l.factor = factor
            l.adversarial, l.perturbation = pictures_of(i, l.name, l.factor)
        end
    end
    return shown
end

--- Draws a perturbation from its temporary file; if there is none, it has been drawn.
local function draw(out, i, l)
    local path = out:file(waiting_of(i, l.name))
    if not lfs.attributes(path, "mode") then return end
    local kept, message = tensor.load(path)
    if not kept then fail("%s", message) end
    local done
    done, message = image.save(out:file(l.perturbation),
        kept.perturbation:mul_(l.factor):add_(0.5):clamp_(0, 1))
    if not done then fail("%s", message) end
    os.remove(path)
end

--- Draws the perturbations, and writes examples/examples.csv, which describes the pictures.
function examples.save(out, shown)
    for i, one in ipairs(shown) do
        for _, l in ipairs(one.losses) do draw(out, i, l) end
    end
    local rows = {"number,file,label,target,loss,flip_iteration,l2,linf,amplification"}
    for i, one in ipairs(shown) do
        for _, l in ipairs(one.losses) do
            rows[#rows + 1] = ("%d,%s,%d,%d,%s,%d,%s,%s,%g"):format(i, csv.file(one.file),
                one.label, one.target, csv.field(l.name), l.iteration, tables.number(l.l2),
                tables.number(l.linf), l.factor)
        end
    end
    out:folder("examples")
    out:write("examples/examples.csv", table.concat(rows, "\n") .. "\n")
end

return examples
