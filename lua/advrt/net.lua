--- Networks: builds graphs with weights from definitions, and compiles graphs to plans when needed.
--
--     local g = net.load("nets/resnet50.lua", {weights = "resnet50.pth"})
--     local z = g:forward(x)                          -- x [N,C,H,W] f32 in [0,1] -> logits [N,K]
--     local z, q = g:gradient(x, loss.ce, target)     -- and the ascent direction q [N,C,H,W]
--
-- A definition is a Lua file that returns a table:
--     name        text
--     classes     number of logits
--     input       {C, H, W}; or {D}, D features, stored as the channels of one pixel
--     preprocess  {resize = R, crop = S}: how image files are resized; {}: their size must match
--     range       {low, high}: allowed input values, each a number or a list with one per channel or
--                 feature; default: [0,1]. Attacks stay in it; data outside it is an error. If low is
--                 equal to high, the feature is constant
--     mean, std   C numbers each: the net's first layer is (x - mean) / std; optional
--     weights     default weight file, beside the definition; optional
--     defaults    {alpha =, magnitude =, magnitude_inf =}: step sizes that suit its scale, the last for
--                 --norm inf; all optional
--     branch_end  suffix of the names of batch norms that end a residual branch; optional
--     stems       array of other variants of the net that build can make, selected by b.stem;
--                 optional. "small" is the variant for small images: an eighth of the width, a first
--                 layer that keeps the resolution, small linear layers
--     build       function(b, x): builds the net with the methods of advrt.nets.builder on the
--                 input x and returns the logits, the layer added last
--
-- An ONNX model with its weights is also a definition: net.load("model.onnx") (advrt.nets.onnx). A Lua file
-- can add what the model does not state:
--     onnx        the model's path, relative to the definition's folder
--     output      the name of the logits output, if the model has several outputs
--     mean, std, range  as above
--     resize, crop  the same as in preprocess
--     classes     the path of a file with one line per class, used if the images' folder has no
--                 classes.txt
--     name, defaults  as above
local count_of = require "advrt.support.count"
local arguments = require "advrt.support.check"
local autograd = require "advrt.autograd"
local core = require "advrt.core.net"
local fail = require "advrt.support.fail"
local lfs = require "lfs"
local loaded = require "advrt.support.loaded"
local nearest = require "advrt.support.nearest"
local range = require "advrt.support.range"
local system = require "advrt.core.system"
local tensor = require "advrt.core.tensor"
local weights = require "advrt.nets.weights"
local builder = require "advrt.nets.builder"
local class_lists = require "advrt.data.classes"

local LONGEST_SIDE = 65535 -- of an image, in pixels

local M = {}
local Net = {}
Net.__index = Net
M.Net = Net

local function shape_text(shape) return "[" .. table.concat(shape, ",") .. "]" end

local function copy(t)
    local out = {}
    for k, v in pairs(t or {}) do out[k] = v end
    return out
end

local function whole(v) return math.type(v) == "integer" and v > 0 end

local function whole_shape(v)
    return type(v) == "table" and (#v == 3 and whole(v[1]) and whole(v[2]) and whole(v[3])
        or #v == 1 and whole(v[1]))
end

-- One number per channel; a single number stands for all. Returns nil if v is invalid.
local function per_channel(v, C)
    if type(v) == "number" then v = {v} end
    if type(v) ~= "table" or #v ~= 1 and #v ~= C then return nil end
    local out = {}
    for c = 1, C do
        local x = #v == 1 and v[1] or v[c]
        if type(x) ~= "number" or x ~= x or math.abs(x) == math.huge then return nil end
        out[c] = x
    end
    return out
end

local function positive(v)
    for _, x in ipairs(v) do
        if x <= 0 then return false end
    end
    return true
end

-- Definitions ---------------------------------------------------------------

-- Whether the file exists; nil and a message if it exists but is unreadable.
local function readable(path)
    local kind = lfs.attributes(path, "mode")
    if kind and kind ~= "file" and kind ~= "directory" then -- opening a pipe would block
        return nil, path .. ": is no regular file"
    end
    local f, message, code = io.open(path, "r")
    if f then return f:close() end
    if code == fail.NO_FILE then return false end
    return nil, message
end

--- What a message says behind a name that no definition of the folder `nets` has: the one that is near, else
-- all of them; nothing where a path leads elsewhere.
local function others(path, nets)
    local name, names = path:gsub("^nets/", ""):gsub("%.lua$", ""), {}
    if name == "" or name:find "/" then return "" end
    for entry in lfs.dir(nets) do names[#names + 1] = entry:match "^(.+)%.lua$" end
    table.sort(names)
    local hint = nearest.hint(name, names)
    return hint ~= "" and hint or "; there are " .. table.concat(names, ", ")
end

local function find(path)
    local root = system.options.root
    local nets = root .. "/nets/"
    for _, candidate in ipairs {path, root .. "/" .. path, nets .. path, nets .. path .. ".lua"} do
        local found, message = readable(candidate)
        if found then return candidate end
        if message then return nil, message end
    end
    return nil, ("no network definition '%s' (looked there and in %s)%s"):format(path, nets,
        others(path, nets))
end

-- The fields of a definition and of two of its tables, and of a definition that names an ONNX model.
local fields = {
    [""] = {"name", "classes", "input", "preprocess", "mean", "std", "range", "weights", "defaults",
        "branch_end", "stems", "build"},
    preprocess = {"resize", "crop"},
    defaults = {"alpha", "magnitude", "magnitude_inf"},
}
local fields_of_model = {"onnx", "output", "name", "classes", "mean", "std", "range", "resize", "crop",
    "defaults"}

-- Checks of a definition's optional fields.
local function check_optional(d)
    for _, name in ipairs {"name", "weights", "branch_end", "onnx", "output"} do
        if d[name] ~= nil and type(d[name]) ~= "string" then return ("needs '%s', text"):format(name) end
    end
    for _, name in ipairs {"preprocess", "defaults", "stems"} do
        if d[name] ~= nil and type(d[name]) ~= "table" then
            return ("needs '%s', a table"):format(name)
        end
    end
    local prefix = d.onnx and "" or "preprocess."
    for _, name in ipairs {"resize", "crop"} do
        local v = d[name]
        if not d.onnx then v = d.preprocess and d.preprocess[name] end
        if v ~= nil and not (whole(v) and v <= LONGEST_SIDE) then
            return ("needs '%s%s', a whole number from 1 to %d"):format(prefix, name, LONGEST_SIDE)
        end
    end
    for _, name in ipairs(fields.defaults) do
        local v = d.defaults and d.defaults[name]
        if v ~= nil and not (math.type(v) and v > 0 and v < math.huge) then
            return ("needs 'defaults.%s', a number above 0"):format(name)
        end
    end
end

local function check_fields(d)
    for where, names in pairs(fields) do
        if where == "" and d.onnx then names = fields_of_model end
        local problem = arguments.keys(where == "" and d or d[where], names)
        if problem then
            return ("has an unknown field: %s%s"):format(where ~= "" and where .. ": " or "", problem)
        end
    end
end

local function check_definition(d, path)
    local function wrong(what) return nil, ("%s: the network definition %s"):format(path, what) end
    if type(d) ~= "table" then return wrong("must return a table, not " .. type(d)) end
    if d.onnx == nil then
        if type(d.build) ~= "function" then return wrong("has no function 'build'") end
        if not whole(d.classes) then return wrong("needs 'classes', a positive whole number") end
        if not whole_shape(d.input) then
            return wrong("needs 'input', {channels, height, width} or {features}")
        end
    elseif d.classes ~= nil and type(d.classes) ~= "string" then
        return wrong("needs 'classes', the path of a file with a line for each class")
    end
    local wanted = check_optional(d) or check_fields(d)
    if wanted then return wrong(wanted) end
    return d
end

--- The reader of ONNX models, sixteen files; loaded on demand.
local function onnx() return require "advrt.nets.onnx" end

--- What an ONNX model says beyond its definition, by that.
local models = setmetatable({}, {__mode = "k"})

--- The definition of an ONNX model, and its path; nil and a message.
local function of_onnx(path, opts)
    local ok, d, about = fail.try(onnx().definition, path, opts)
    if ok then
        models[d] = about
        return d, path
    end
    if fail.is(d) then return nil, d.message end
    error(d, 0)
end

--- The class list of a definition, which must have a line for each of K classes: its path, or nil and a
-- message.
local function class_names(path, K, model)
    local ok, list = fail.try(class_lists.read, path, K)
    if not ok and fail.is(list) then return nil, list.message end
    if not ok then error(list, 0) end
    if not list then return nil, path .. ": this file of class names does not exist" end
    if #list == K then return path end
    return nil, ("%s: names %d classes, but %s has %d logits"):format(path, #list, model, K)
end

--- Merges a definition with the ONNX model it names. The model's path is relative to the definition.
local function of_model(d, path, opts)
    local folder = path:match("^(.*/)") or ""
    local file = d.onnx:sub(1, 1) == "/" and d.onnx or folder .. d.onnx
    local found, message = readable(file)
    if not found then return nil, message or ("%s: there is no model '%s'"):format(path, file) end
    system.note_file(file)
    local whole_d
    whole_d, message = of_onnx(file, {output = opts.output or d.output, input = opts.input, crop = opts.crop
        or d.crop})
    if not whole_d then return nil, message end
    for _, name in ipairs {"name", "mean", "std", "range", "defaults"} do
        if d[name] ~= nil then whole_d[name] = d[name] end
    end
    whole_d.preprocess = {resize = d.resize, crop = d.crop}
    if d.classes then
        models[whole_d].class_names, message = class_names(folder .. d.classes, whole_d.classes, file)
        if message then return nil, message end
    end
    return whole_d
end

--- Reads the definition in a file: the table described above, and its path. Searches the path as
-- given, then the installation's nets/. Returns nil and a message on failure. An interrupt is
-- raised.
function M.definition(path, opts)
    arguments.want("definition", 1, "string", path)
    local found, message = find(path)
    if not found then return nil, message end
    if found:lower():find "%.onnx$" then return of_onnx(found, opts) end
    local chunk, code
    chunk, message, code = loadfile(found, "t")
    if code == "binary" then
        message = found .. ": is a binary file; a net is a Lua file such as nets/mlp.lua, or an ONNX model "
            .. "(.onnx); weights go to --weights (in Lua: {weights = FILE})"
    end
    if not chunk then return nil, message end
    local ok, d = fail.try(loaded.during, chunk, found)
    if not ok then return nil, tostring(d) end
    d, message = check_definition(d, found)
    if d and d.onnx then d, message = of_model(d, found, opts or {}) end
    if not d then return nil, message end
    return d, found
end

-- Building ------------------------------------------------------------------

-- nil if the definition has the variant `stem` (nil: its default), else the problem.
local function check_stem(d, stem)
    local names = {}
    for _, name in ipairs(d.stems or {}) do
        if name == stem then return nil end
        names[#names + 1] = ("'%s'"):format(name)
    end
    if stem == nil then return nil end
    return ("there is no stem '%s'%s"):format(tostring(stem),
        #names > 0 and ", but " .. table.concat(names, ", ") or "")
end

-- The error of `build` as one line that begins with the path. If the message has no position, it gives
-- the lines of build.
local function placed(text, path, build)
    text = text:match("^[^\n]*")
    if text:sub(1, #path + 1) == path .. ":" then return text end
    if text:find("^[^:]+:%d+: ") then return ("%s: %s"):format(path, text) end
    local where = debug.getinfo(build, "S")
    return ("%s: build, lines %d to %d%s: %s"):format(path, where.linedefined, where.lastlinedefined,
        where.source == "@" .. path and "" or " of " .. where.short_src, text)
end

local function draw(g, d, opts, path)
    local C = g.input[1]
    local problem = check_stem(d, opts.stem)
    if problem then return nil, ("%s: %s"):format(path, problem) end
    local ok, graph = fail.try(core.new, g.input)
    if not ok then return nil, ("%s: %s"):format(path, tostring(graph)) end
    local b, x = builder.new(graph, g.classes, g.input, opts.stem)
    if opts.mean or opts.std or d.mean or d.std then
        local mean = per_channel(opts.mean or d.mean or 0, C)
        local std = per_channel(opts.std or d.std or 1, C)
        if not (mean and std and positive(std)) then
            return nil, ("%s: mean and std need 1 or %d finite numbers each, std above 0")
                :format(path, C)
        end
        g.preprocess.mean, g.preprocess.std = mean, std
        x = b:normalize(x, mean, std)
    end
    local built, z = fail.try(loaded.during, d.build, b, x)
    if not built and fail.is(z) then return nil, z.message end
    if not built then return nil, placed(tostring(z), path, d.build) end
    if z == nil or z ~= b.last then
        return nil, ("%s: build must return the logits, the layer it added last"):format(path)
    end
    problem = builder.problem(b)
    if problem then return nil, placed(problem, path, d.build) end
    if z.C ~= g.classes or z.H ~= 1 or z.W ~= 1 then
        return nil, ("%s: build returns [%s], which is not one logit for each of %d classes")
            :format(path, table.concat(z.shape, ","), g.classes)
    end
    g.head, g.given = b.head, rawget(b, "state")
    return graph
end

--- Copies `state` (name -> tensor) into the graph, except the names in `skip`; true, or nil and a
-- message.
local function fill(g, state, path, skip)
    for _, p in ipairs(g.graph:parameters()) do
        if not skip[p.name] then
            local value = state[p.name]
            if type(value) == "function" then value = value() end
            local ok, message = fail.try(g.graph.set, g.graph, p.name, value)
            if not ok then return nil, ("weights %s: %s"):format(path, tostring(message)) end
            local sum = g.graph:get(p.name):sum()
            if sum ~= sum or math.abs(sum) == math.huge then
                return nil, ("weights %s: '%s' holds NaN or infinity"):format(path, p.name)
            end
        end
    end
    return true
end

local function initialise(g, d, opts)
    if opts.init == "golden" then
        g.graph:init_golden(opts.salt or "", d.branch_end)
    elseif opts.init == "he" or opts.new_head then
        g.graph:init_he(opts.seed or 0)
    end
end

-- Copies the weights of an ONNX model into the graph, except those of the new head.
local function take_given(g, path, skip)
    local ok, done, message = fail.try(fill, g, g.given, path, skip)
    if not ok then
        if not fail.is(done) then error(done, 0) end
        return nil, done.message
    end
    if not done then return nil, message end
    g.given = nil
    return g
end

local function load_weights(g, d, opts)
    local path = opts.weights
    if not path and d.weights and g.definition then
        path = (g.definition:match("^(.*/)") or "") .. d.weights
    end
    if not path and not g.given then
        return nil, ("net %s has no bundled weights; give a file of weights"):format(g.name)
    end
    local skip = {}
    if opts.new_head then
        if not g.head then
            return nil, ("net %s has no linear layer that could be a new head"):format(g.name)
        end
        skip[g.head .. ".weight"], skip[g.head .. ".bias"] = true, true
    end
    if not path then return take_given(g, g.definition, skip) end
    local state, about = weights.fit {path = path, key = opts.weights_key, name = g.name,
        parameters = g.graph:parameters(), skip = skip, channels = g.input[1],
        mean = g.preprocess.mean, std = g.preprocess.std}
    if not state then return nil, about end
    local done, message = fill(g, state, path, skip)
    if not done then return nil, message end
    g.weights, g.weights_key, g.notes = path, about.key, about.notes
    weights.say(about.notes)
    return g
end

--- The notes printed when an ONNX model is loaded, an array of lines. A net that is loaded without weights
-- gets no images, so there is no note on their normalisation.
local function model_notes(g, model, init)
    local notes = {}
    for i, note in ipairs(model.notes) do notes[i] = ("%s: %s"):format(model.path, note) end
    if g.unnormalised and init ~= "none" then
        notes[#notes + 1] = ("%s: %s"):format(model.path, g.unnormalised)
    end
    return notes
end

local PRECISIONS = {f32 = true, mixed = true, bf16 = true, tf32 = true}

local options_of_load = {"weights", "weights_key", "init", "salt", "seed", "input", "crop", "classes",
    "new_head", "mean", "std", "range", "stem", "output", "plan", "precision"}

-- Raises, at the script's line, for options unknown to load.
local function check_options(path, opts, method)
    local problem = type(path) ~= "string" and ("bad argument #1 to '%s' (string expected, got %s)"):format(
            method, arguments.text(path))
        or opts ~= nil and type(opts) ~= "table" and ("bad argument #2 to '%s' (table expected, got %s)")
            :format(method, arguments.text(opts))
    local unknown = not problem and arguments.keys(opts, options_of_load)
    if unknown then problem = ("%s: option %s"):format(method, unknown) end
    if not problem and opts and opts.weights ~= nil and type(opts.weights) ~= "string" then
        problem = ("%s: weights must be the path of a file, got %s"):format(method,
            arguments.text(opts.weights))
    end
    if problem then error(problem, 3) end
end

--- Makes a net from a definition table; opts as for load. `path` names the definition in messages.
function M.build(d, opts, path)
    opts = opts or {}
    if opts.init and opts.init ~= "golden" and opts.init ~= "he" and opts.init ~= "none" then
        error(("init must be 'golden', 'he' or 'none', got '%s'"):format(tostring(opts.init)), 2)
    end
    local precision = opts.precision or system.options.precision
    if not PRECISIONS[precision] then
        error(("precision must be 'f32', 'mixed', 'bf16' or 'tf32', got '%s'"):format(tostring(precision)), 2)
    end
    local message
    if type(d) ~= "table" or not models[d] then
        d, message = check_definition(d, path or "network")
        if d and d.onnx then d, message = of_model(d, path or "", opts) end
        if not d then return nil, message end
    end
    local model = models[d]
    if model and opts.classes and opts.classes ~= d.classes then
        return nil, ("%s: the model has %d logits, not %d"):format(model.path, d.classes, opts.classes)
    end
    local input = opts.input or d.input
    if opts.crop then input = {input[1], opts.crop, opts.crop} end
    if not whole_shape(input) then
        return nil, "the input shape must be {channels, height, width} or {features}"
    end
    local within
    input = {input[1], input[2] or 1, input[3] or 1}
    within, message = range.new(opts.range or d.range, input)
    if not within then return nil, ("%s: range %s"):format(path or d.name or "network", message) end
    local g = setmetatable({
        name = d.name or path or "network",
        classes = opts.classes or d.classes,
        input = input,
        range = within,
        preprocess = copy(d.preprocess),
        defaults = copy(d.defaults),
        definition = path,
        plans = {forward = {}, gradient = {}},
        direct = (opts.plan or system.options.plan) == "direct",
        precision = precision,
    }, Net)
    g.graph, message = draw(g, d, opts, path or g.name)
    if not g.graph then return nil, message end
    if model then
        g.class_names = model.class_names
        if not model.normalises and not g.preprocess.mean then
            g.unnormalised = onnx().no_normalisation(g.input)
        end
        g.notes = model_notes(g, model, opts.init)
        weights.say(g.notes)
    end
    initialise(g, d, opts)
    if opts.init then return g end
    return load_weights(g, d, opts)
end

--- Loads the definition at `path` (searched as given, then in the installation's nets/).
-- opts:
--   weights   file of weights (.safetensors, .pth, .msgpack, or the .json index of several);
--             default: the definition's own
--   weights_key  key of a dictionary of tensors in the file, "ema" or "checkpoint.model"; or the
--             prefix of the net's names in it, "module.encoder_q". Default: the one that fits,
--             raw weights before averaged ones
--   init      instead of weights: "golden" (a formula of name and `salt`), "he" (from `seed`), or "none":
--             the net can be inspected, not run
--   input     {C, H, W} instead of the definition's; crop = S is short for {C, S, S}
--   classes   number of logits instead of the definition's
--   new_head  true: the last linear layer is He-initialised from `seed`, not read from the weights
--   mean, std a number, or one per channel, instead of the definition's
--   range     {low, high} instead of the definition's
--   output    name of the logits output of an ONNX model with several outputs
--   stem      one of the definition's `stems`: another variant of the net
--   plan      "fast" or "direct"; default: the command line's
--   precision "f32", "mixed", "bf16" or, on a GPU, "tf32", for all but training; default: the
--             command line's
-- Returns the net, or nil and one line that names missing, unexpected or misshaped parameters. Prints a
-- line to standard error for weights it chose, prefixes it removed and entries it skipped. Fields of a
-- net: name, classes, input, preprocess {resize, crop, mean, std}, defaults, definition (path), weights
-- (path; nil for the weights of an ONNX model), weights_key, notes (the printed lines), range
-- (advrt.support.range); for an ONNX model also class_names (the definition's classes) and unnormalised
-- (a text if nothing normalises images).
function M.load(path, opts)
    check_options(path, opts, "load")
    local d, found = M.definition(path, opts)
    if not d then return nil, found end
    return M.build(d, opts, found)
end

-- Use -----------------------------------------------------------------------

-- The images x as [N,C,H,W]. Errors are raised at the line of the caller's caller.
local function check_batch(g, x, method)
    if getmetatable(g) ~= Net then
        error(("%s is called with a colon: g:%s(x, ...)"):format(method, method), 3)
    end
    local input = g.input
    x = arguments.images(x, input)
    local shape = arguments.is_tensor(x) and x:shape()
    if shape and #shape == 4 and shape[1] > 0 and shape[2] == input[1] and shape[3] == input[2]
        and shape[4] == input[3] and x:dtype() == "f32" then
        return x
    end
    local got = shape and shape_text(shape) or type(x)
    if shape and x:dtype() ~= "f32" then got = got .. " of " .. x:dtype() end
    error(("bad argument #1 to '%s' (net wants [N,%d,%d,%d], got %s)")
        :format(method, input[1], input[2], input[3], got), 3)
end

--- The plan for N images and a purpose, "forward" or "gradient"; made on first use and cached. It
-- keeps the weights of the time it was made.
function Net:plan(purpose, N)
    local kept = self.plans[purpose]
    if not kept then
        error(("plan: the purpose is \"forward\" or \"gradient\", got %s"):format(arguments.text(purpose)), 2)
    end
    local plan = kept[N]
    if not plan then
        plan = self.graph:plan {purpose = purpose, batch = N, direct = self.direct,
            precision = self.precision}
        kept[N] = plan
    end
    return plan
end

-- Memory estimates: image-sized tensors that an attack keeps beside its plans, with a margin; the
-- fraction of free memory left to the device's libraries; and the batch of a device without its own
-- memory.
local BESIDE, SPARE, OF_HOST = 32, 0.1, 32

local function fits(g, N)
    local bytes, free = BESIDE * 4 * N * g.input[1] * g.input[2] * g.input[3], nil
    for purpose in pairs(g.plans) do
        local of_plan
        of_plan, free = g.graph:plan_size {purpose = purpose, batch = N, direct = g.direct,
            precision = g.precision}
        bytes = bytes + of_plan
    end
    return bytes <= (1 - SPARE) * free
end

--- The largest batch, up to `most` images, whose attack fits in the device's free memory; up to 32
-- on a device that uses host memory. At least 1.
function Net:largest_batch(most)
    local _, free = self.graph:plan_size {purpose = "forward", batch = 1, direct = self.direct,
        precision = self.precision}
    if free == 0 then return math.min(most, OF_HOST) end
    local low, high = 1, most
    while low < high do
        local middle = high - (high - low) // 2
        if fits(self, middle) then low = middle else high = middle - 1 end
    end
    return low
end

--- A new training plan for N images, which reads the net's weights at every step. `seed` names
-- dropout's random stream; the plan continues it after the first `runs` steps. With `shared`, {first,
-- whole}, the N images are this rank's part of a batch of `whole` images of all ranks (advrt.dist),
-- starting at index `first` from 0. Batch norm then uses the statistics of the whole batch, and
-- dropout its random stream.
function Net:training_plan(N, seed, runs, shared)
    return self.graph:plan {
        purpose = "training", batch = N, direct = self.direct, seed = seed or 0, runs = runs or 0,
        shared = shared and true, first = shared and shared[1], whole = shared and shared[2],
    }
end

--- Drops the cached plans: frees their memory; new plans read the current weights.
function Net:forget_plans()
    self.plans = {forward = {}, gradient = {}}
    self.traced = nil
end

--- Logits [N,K] of x [N,C,H,W], or [N,D] for a net of D features, f32; written to z if given.
function Net:forward(x, z)
    x = check_batch(self, x, "forward")
    return self:plan("forward", #x):forward(x, z)
end

--- Like forward, but keeps the state for backward; also returns the trace, which backward takes.
-- The last bits may differ from forward's. The net keeps one trace for each batch size.
function Net:trace(x, z)
    local images = check_batch(self, x, "trace")
    local plan = self:plan("gradient", #images)
    local number
    z, number = plan:forward(images, z)
    self.traced = {plan = plan, number = number, flat = x:dim() == 2 and x:shape() or nil}
    return z, self.traced
end

--- Whether a trace is still valid: the net has traced no other batch of that size since.
function Net.holds(_, trace)
    if type(trace) ~= "table" or not trace.plan then
        error(("bad argument #1 to 'holds' (a trace expected, got %s)"):format(type(trace)), 2)
    end
    return trace.plan:holds(trace.number)
end

--- The gradient [N,C,H,W] of sum(dz * z), dz [N,K], with respect to the x of a trace, by default the last
-- one (of trace, gradient or gradients); written to q if given. A trace allows any number of backward
-- calls. Pass the trace if other code, such as a loss, may run the net in between. An invalid trace is a
-- failure that names `who`.
function Net:backward(dz, q, trace, who)
    trace = trace or self.traced
    if not trace then error("backward needs a trace before it", 2) end
    if type(trace) ~= "table" or not trace.plan then
        error(("bad argument #3 to 'backward' (a trace expected, got %s)"):format(type(trace)), 2)
    end
    if not self:holds(trace) then
        fail("%s ran net %s on other images between its trace and its backward; load a second net for that",
            who or "something", self.name)
    end
    if not trace.flat then return trace.plan:backward(trace.number, dz, q) end
    local given = trace.plan:backward(trace.number, dz, q and arguments.images(q, self.input))
    return q or given:reshape(trace.flat)
end

--- Logits z [N,K] and the ascent direction q [N,C,H,W] of a loss towards `target` (a table or
-- tensor of N classes, counted from 0) for x [N,C,H,W].
function Net:gradient(x, loss, target)
    local N = #check_batch(self, x, "gradient")
    local problem = arguments.loss(loss, self.classes)
    if problem then error(("bad argument #2 to 'gradient' (%s)"):format(problem), 2) end
    local classes
    classes, problem = arguments.classes(target, "target", N, self.classes)
    if not classes then error(("bad argument #3 to 'gradient' (%s)"):format(problem), 2) end
    local z, trace = self:trace(x)
    local _, dz = loss:evaluate(z, classes)
    return z, loss:direction(self:backward(dz, nil, trace, "loss " .. loss.name))
end

--- Logits z [N,K] and an array of directions [N,C,H,W] from one forward pass. Each entry of `wanted` is a
-- loss (towards `target`) or a class k, counted from 0 (the gradient of z_k).
function Net:gradients(x, wanted, target)
    local N = #check_batch(self, x, "gradients")
    if type(wanted) ~= "table" or arguments.loss(wanted, self.classes) == nil then
        error("bad argument #2 to 'gradients' (a list of losses and classes expected)", 2)
    end
    local classes, problem
    for i, entry in ipairs(wanted) do
        if math.type(entry) == "integer" then
            problem = (entry < 0 or entry >= self.classes)
                and ("class %d of %d"):format(entry, self.classes) or nil
        else
            problem = arguments.loss(entry, self.classes)
        end
        if problem then error(("bad argument #2 to 'gradients' (%d: %s)"):format(i, problem), 2) end
        if not classes and math.type(entry) ~= "integer" then
            classes, problem = arguments.classes(target, "target", N, self.classes)
            if not classes then error(("bad argument #3 to 'gradients' (%s)"):format(problem), 2) end
        end
    end
    local z, trace = self:trace(x)
    local directions, who = {}, nil
    for i, entry in ipairs(wanted) do
        if math.type(entry) == "integer" then
            local dz = tensor.new {N, self.classes}
            for n = 1, N do dz:set(1, n, entry + 1) end
            directions[i] = self:backward(dz, nil, trace, who)
        else
            who = "loss " .. entry.name
            local _, dz = entry:evaluate(z, classes)
            directions[i] = entry:direction(self:backward(dz, nil, trace, who))
        end
    end
    return z, directions
end

--- g(x): the logits of x as a step of advrt.autograd.
function Net:__call(x) return autograd.net(self, x) end

--- Runs steps first .. last of an attack (advrt.attack's job) on the device alone; false if
-- unsupported.
function Net:ascend(job, first, last)
    return self:plan("gradient", #job.buffers.x):ascend(job, first, last + 1)
end

--- Every parameter: an array of {name =, shape =, role =} in the order of the layers.
function Net:parameters() return self.graph:parameters() end

--- name -> tensor of every parameter, sharing storage with the net's own.
function Net:state()
    local state = {}
    for _, p in ipairs(self.graph:parameters()) do state[p.name] = self.graph:get(p.name) end
    return state
end

--- Writes the parameters to a .safetensors or .msgpack file; true, or nil and a message.
function Net:save(path)
    local done, message = arguments.call("save", 0, weights.save, path, self:state())
    return done, message
end

function Net:__tostring()
    local count = 0
    for _, p in ipairs(self.graph:parameters()) do
        if not p.role:find("^running") then
            local n = 1
            for _, size in ipairs(p.shape) do n = n * size end
            count = count + n
        end
    end
    return ("net %s: %s -> %s, %s"):format(self.name, shape_text(self.input),
        count_of(self.classes, "class", "classes"), count_of(count, "parameter"))
end

return M
