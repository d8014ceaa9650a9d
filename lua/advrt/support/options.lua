--- The options of the experiments: names, defaults, ranges and help in one table, read with
-- lua-argparse. A bad option is one line that says what is allowed, and exit status 2.

local argparse = require "argparse"
local attacks = require "advrt.attacks"
local data = require "advrt.data"
local dist = require "advrt.dist"
local fail = require "advrt.support.fail"
local loss = require "advrt.loss"
local nearest = require "advrt.support.nearest"
local system = require "advrt.core.system"

local options = {}

local LONGEST_SIDE = 65535 -- of an image, in pixels
local MOST_SHARDS = 1000000

-- Readers of values: each returns the value, or nil and the form it expects.

--- Splits a text at commas and trims blanks.
local function parts(text) return (text .. ","):gmatch("%s*([^,]-)%s*,") end

local function integer(least, most)
    local wanted = most and ("a whole number from %d to %d"):format(least, most)
        or ("a whole number of at least %d"):format(least)
    return function(text)
        local n = text:match("^[+-]?%d+$") and math.tointeger(tonumber(text))
        if n and n >= least and n <= (most or n) then return n end
        return nil, wanted
    end
end

local function batch(text)
    if text == "auto" then return text end
    local n, wanted = integer(1, 65536)(text)
    return n, wanted and wanted .. ", or auto"
end

local function finite(text)
    local n = text:match("^[%deE.+-]+$") and tonumber(text)
    return n and n == n and math.abs(n) < math.huge and n + 0.0 or nil
end

local function above_zero(text)
    local n = finite(text)
    if n and n > 0 then return n end
    return nil, "a number above 0"
end

local function not_negative(text)
    local n = finite(text)
    if n and n >= 0 then return n end
    return nil, "a number of at least 0"
end

local function share(text)
    local n = finite(text)
    if n and n >= 0 and n < 1 then return n end
    return nil, "a number from 0 to below 1"
end

local function choice(...)
    local names = {...}
    return function(text)
        for _, name in ipairs(names) do
            if text == name then return text end
        end
        return nil, table.concat(names, " or "), nearest.hint(text, names)
    end
end

local function norm(text)
    local chosen, wanted, near = choice("2", "inf")(text)
    return chosen and (tonumber(chosen) or chosen), wanted, near
end

local function numbers(least)
    return function(text)
        local list = {}
        for part in parts(text) do
            local n = finite(part)
            if not n or n <= least then
                return nil, "numbers separated by commas, one for each channel"
                    .. (least == 0 and ", all above 0" or "")
            end
            list[#list + 1] = n
        end
        return list
    end
end

--- LOW,HIGH: the range of a net's values.
local function interval(text)
    local list = {}
    for part in parts(text) do list[#list + 1] = finite(part) or false end
    if #list == 2 and list[1] and list[2] and list[1] < list[2] then return list end
    return nil, "two numbers separated by a comma, the lower first, such as -1,1"
end

--- A reader of comma-separated losses: the known ones and, with `shipped`, those of lua/advrt/losses/.
local function loss_list(shipped)
    return function(text)
        local list, seen = {}, {}
        for name in parts(text) do
            local found, message = loss.get(name)
            if not found and shipped then found = loss.shipped(name) end
            if not found then return nil, nil, nil, message end
            if seen[name] then return nil, nil, nil, ("loss '%s' is given twice"):format(name) end
            seen[name], list[#list + 1] = true, name
        end
        return list
    end
end

local losses = loss_list(false)

local function matrix_losses(text)
    if text == "none" then return {text} end
    return loss_list(true)(text)
end

--- Distinct numbers of at least 0, as typed.
local function eps_list(text)
    local list, seen = {}, {}
    for word in parts(text) do
        local eps = attacks.number(word)
        if not eps or eps < 0 then
            return nil, nil, nil, ("wants numbers or fractions of at least 0, such as 0.01 or 8/255, "
                .. "got '%s'"):format(word)
        end
        if seen[eps] then return nil, nil, nil, ("%s is given twice"):format(word) end
        seen[eps], list[#list + 1] = true, word
    end
    return list
end

local function attack_list(text)
    local list, seen = {}, {}
    for name in parts(text) do
        local found, message = attacks.parse(name)
        if not found then return nil, nil, nil, message end
        if seen[name] then return nil, nil, nil, ("attack '%s' is given twice"):format(name) end
        seen[name], list[#list + 1] = true, name
    end
    return list
end

local function targets(text)
    local rule, message = data.targets(text, math.maxinteger, 0)
    if not rule then return nil, nil, nil, message end
    return text
end

local function shard(text)
    local i, n = text:match("^(%d+)/(%d+)$")
    i, n = math.tointeger(tonumber(i)), math.tointeger(tonumber(n))
    if i and n and i >= 1 and i <= n and n <= MOST_SHARDS then return {i, n} end
    return nil, ("I/N with 1 <= I <= N <= %d, such as 2/4"):format(MOST_SHARDS)
end

local function path(text)
    if text ~= "" then return text end
    return nil, "a path"
end

--- Comma-separated texts without repeats; `fits` is a function or a list of allowed texts.
local function list_of(fits, wanted)
    return function(text)
        local list, seen = {}, {}
        for part in parts(text) do
            local known, near = false, nil
            if type(fits) == "function" then
                known = fits(part)
            else
                for _, name in ipairs(fits) do known = known or name == part end
                near = nearest.hint(part, fits)
            end
            if not known or seen[part] then return nil, wanted, near end
            seen[part], list[#list + 1] = true, part
        end
        return list
    end
end

local detectors = {"alexnet", "resnet18", "vgg16", "resnet34", "resnet152"}

--- NET=FILE, a detector and its weights.
local function of_detector(text)
    local name = text:match("^(%w+)=.+$")
    for _, one in ipairs(detectors) do
        if one == name then return true end
    end
end

local transformations = {tv = true, median = true, gaussian = true, bits = true, jpeg = true, pad = true}

local function transformation(text)
    local kind, strength = text:match("^(%l+):(.+)$")
    return transformations[kind] and finite(strength) ~= nil
end

local function open_share(text)
    local p = finite(text)
    if p and p > 0 and p < 1 then return p end
    return nil, "a fraction above 0 and below 1"
end

-- name, metavar, reader, default (nil: none), help. The default is appended to the help unless the help
-- states it. The key of a value is its name with _ for -.
local known = {
    {"net", "FILE", path, "fashion", "a network definition or an ONNX model (default: the bundled net)"},
    {"weights", "FILE", path, nil,
        ".safetensors, .pth or .msgpack (default: those bundled with the net)"},
    {"weights-key", "NAME", path, nil,
        "key of the weights in a file with several, such as ema (default: those that fit the net, "
            .. "raw before averaged)"},
    {"output", "NAME", path, nil, "name of the logits output of an ONNX model with several outputs"},
    {"images", "DIR", path, nil,
        "images with labels.csv or a folder for each class; or a file of arrays (.npz, .npy, .safetensors), "
            .. "CIFAR's batches (.bin) or an IDX file (default: the bundled images)"},
    {"resize", "N", integer(1, LONGEST_SIDE), nil,
        "resize the shortest side to N pixels (default: the net's own)"},
    {"crop", "N", integer(1, LONGEST_SIDE), nil, "centre crop to N x N (default: the net's own)"},
    {"mean", "M,..", numbers(-math.huge), nil,
        "mean subtracted from each channel, in [0,1] (default: the net's own)"},
    {"std", "S,..", numbers(0), nil, "standard deviation that divides each channel (default: the net's own)"},
    {"range", "LOW,HIGH", interval, nil,
        "range of the net's input values (default: the net's own, else 0,1)"},
    {"targets", "RULE", targets, "random",
        "random, random:SEED, offset:K, least-likely, second or class:K"},
    {"losses", "LIST", losses, {"ce", "ce_sign", "logit", "m_logit"},
        "NAME or NAME:PARAMETER=NUMBER:..., separated by commas"},
    {"attacks", "LIST", attack_list, {"fgs", "ifgs", "pgd", "pgd:norm=2", "lbfgs", "cw"},
        "NAME or NAME:PARAMETER=VALUE:..., separated by commas"},
    {"eps", "LIST", eps_list, nil,
        "radii of the ball, numbers or fractions, separated by commas (default: 0,1/255,2/255,4/255,8/255; "
            .. "for norm 2 0,0.1,0.25,0.5,1)"},
    {"matrix", "LIST", matrix_losses, nil,
        "losses of the matrix, or none (default: ce,logit,m_logit,dlr)"},
    {"require", "FILE", path, nil,
        "Lua file that defines more losses, or the name of one in lua/advrt/losses/; repeatable"},
    {"iterations", "N", integer(1, 1000000), 250, "steps of each attack"},
    {"alpha", "A", above_zero, nil,
        "the constant multiplier (default: the net's own, else 0.01 for images in [0,1]; for other data see "
            .. "the first lines of output)"},
    {"magnitude", "M", above_zero, nil,
        "norm of each step's perturbation (default: the net's own, else 0.05 for images in [0,1], and 0.2 % "
            .. "of the range's diagonal for features)"},
    {"norm", "P", norm, 2,
        "norm that all steps have in common: 2 or inf; for inf, --magnitude is by default the net's own, "
            .. "else 4 / sqrt(C H W) times the value for 2"},
    {"kappa", "K", not_negative, loss.m_logit.kappa + 0.0, "margin at which m_logit stops growing"},
    {"batch", "B", batch, 32,
        "images per batch; auto: as many as fit in the GPU's memory, up to 512"},
    {"limit", "N", integer(1), nil,
        "use the first N files in sorted order; wrongly classified ones among them are not attacked "
            .. "(default: all)"},
    {"sample", "N", integer(1), nil,
        "use N images, drawn at random by --seed and balanced over the classes (default: all)"},
    {"seed", "S", integer(0), 0, "seed of every random choice"},
    {"seeds", "N", integer(1, 1000), 1,
        "repeat the run with N seeds for random targets, starting at --seed, and report their spread"},
    {"save-adversarial", "WHEN", choice("first", "last"), nil,
        "keep the float32 images at the first flip or after the last step"},
    {"write-labels", "FILE", path, nil,
        "write the net's predictions as labels (file,label) to this new file; experiments read "
            .. "DIR/labels.csv"},
    {"out", "DIR", path, nil, "folder for the results, new or empty (default: runs/NAME-TIME)"},
    {"figure-size", "SIZE", choice("page", "column"), "page",
        "width of the figures: page (17.5 cm) or column (8.5 cm) (default: page)"},
    {"bands", "KIND", choice("quartiles", "interval", "sd"), "quartiles",
        "lines and bands over the images: quartiles (around the median), interval (95 %, around the mean) or "
            .. "sd (one standard deviation, as in the paper) (default: quartiles)"},
    {"shard", "I/N", shard, {1, 1}, "do part I of N of the work (default: 1/1)"},
    {"setting", "NAME", choice("equal_multiplier", "equal_perturbation"), "equal_perturbation",
        "equal_multiplier or equal_perturbation"},
    {"when", "WHEN", choice("first", "last"), "last",
        "save examples at the first flip or after the last step"},
    {"extra", "N", integer(0), 0,
        "number of extra genuine images, after those of --limit, without attacks"},
    {"extra-images", "DIR", path, nil, "take the extra images from this folder or file instead"},
    {"set", "DIR,..", list_of(path, "folders of make_adversarial.lua, separated by commas"), nil,
        "folders of make_adversarial.lua to use (default: make a set)"},
    {"detectors", "LIST", list_of(detectors, "some of " .. table.concat(detectors, ", ")), detectors,
        "the nets to train"},
    {"pretrained", "NET=FILE,..", list_of(of_detector, "NET=FILE, separated by commas, NET one of "
        .. table.concat(detectors, ", ")), nil, "initial weights of a detector (default: none)"},
    {"stem", "FORM", choice("full", "small"), nil,
        "size of the detectors: full, or small for small images (default: small below 64 pixels)"},
    {"values", "LIST", list_of({"float32", "8bit"}, "float32 or 8bit or both"), {"float32", "8bit"},
        "use the examples in float32, or rounded to 8 bits"},
    {"recipe", "NAME", path, "adam:3e-4", "how to train detectors: paper, or adam:RATE"},
    {"rates", "LIST", list_of(above_zero, "different numbers above 0"), {"1e-3", "3e-4", "1e-4"},
        "learning rates of the recipes adam:RATE; --search tries all"},
    {"weight-decay", "W", not_negative, 5e-4, "with Adam"},
    {"train-batch", "B", integer(1, 65536), 32, "images per step with Adam"},
    {"test-share", "P", open_share, 0.3, "fraction of the source images"},
    {"validation-share", "P", open_share, 0.15, "fraction of the source images"},
    {"nets", "NET,..", list_of(path, "network definitions, separated by commas"), nil,
        "network definitions, or NET=WEIGHTS, separated by commas (default: mlp, trained here)"},
    {"transformations", "LIST", list_of(transformation, "KIND:STRENGTH, separated by commas, KIND one of "
        .. "tv, median, gaussian, bits, jpeg, pad"), nil,
        "KIND:STRENGTH, separated by commas (default: several strengths of each kind)"},
    {"every", "N", integer(1), 10, "test every N-th point of a trajectory"},
    {"cut", "P", share, nil,
        "merge the classes with a smaller softmax (default: 0.01, or 0 for up to 20 classes)"},
    {"margin-step", "M", above_zero, 0.5, "step between the margins tried"},
    {"n", "N", integer(4, 100000), 1000, "points on the two circles"},
    {"factor", "F", share, 0.5, "radius of the inner circle; the outer radius is 1"},
    {"noise", "S", not_negative, 0.1,
        "standard deviation of the noise in each coordinate"},
    {"hidden", "N", integer(1, 65536), 64, "neurons of the hidden layer"},
    {"epochs", "N", integer(1, 1000000), 100, "passes over the training data"},
    {"expect", "FILE", path, nil, ".safetensors with x and logits, and gradients of their sum"},
    {"tolerance", "T", above_zero, 1e-5, "largest relative L2 error of the logits that passes"},
    {"paths", "N", integer(0, 10000), 0,
        "number of outer points whose path is drawn"},
    {"data", "DIR", path, nil, "folder of training and test images"},
    {"rate", "R", above_zero, nil, "highest learning rate"},
    {"readers", "N", integer(1, 64), 1, "threads that read and decode images"},
    {"log", "FILE", path, nil, "write a CSV file with a line for each epoch"},
    {"checkpoint", "FILE", path, nil,
        "save the state of the training after each epoch; if the file exists, continue from it"},
}

local by_name = {}
for _, option in ipairs(known) do by_name[option[1]] = option end

local several = {require = true} -- may be given more than once; the value is a list
local of_advrt = {} -- the long names of options of advrt itself that take a value
for _, option in ipairs(system.program_options) do of_advrt[option.name] = option.joined or nil end

--- A default as a user would type it.
local function default_text(value)
    if type(value) == "table" then return table.concat(value, ",") end
    return math.type(value) and ("%.14g"):format(value) or value
end

--- The help of an option, with its default or the experiment's own.
local function help_of(text, default, own)
    if own ~= nil then text, default = text:gsub("%s*%(default:.-%)$", ""), own end
    if default == nil or text:find("(default:", 1, true) then return text end
    return ("%s (default: %s)"):format(text, default_text(default))
end

local function key_of(name) return (name:gsub("-", "_")) end

--- The reader in argparse's form: returns the value, or nil and a line.
local function converter(name, read)
    return function(text)
        local value, wanted, near, message = read(text)
        if value ~= nil then return value end
        if message then return nil, ("--%s: %s"):format(name, message) end
        return nil, ("--%s wants %s, got '%s'%s"):format(name, wanted, text, near or "")
    end
end

--- Options with an error line of their own. A value that begins with a minus is joined to its
-- option; argparse would take it for another option.
local function prepare(argv, names)
    local args = {}
    for i, word in ipairs(argv) do
        local name = word:match("^%-%-[^=]+")
        if of_advrt[name] then
            fail.option("%s is an option of advrt itself: give it before the script", name)
        end
        local before = args[#args]
        local takes_value = before and before:match("^%-%-([^=]+)$")
        if takes_value and names["--" .. takes_value] == "value" and word:match("^%-[%d.]") then
            args[#args] = before .. "=" .. word
        else
            args[#args + 1] = argv[i]
        end
    end
    return args
end

--- Runs the files of --require first, so that --losses knows the losses they define.
local function load_required(args)
    for i, word in ipairs(args) do
        local file = word:match("^%-%-require=(.+)$") or word == "--require" and args[i + 1]
        if file then
            local done, message = loss.load(file)
            if not done then fail("--require: %s", message) end
        end
    end
end

--- The first word that is neither an option nor a value of one.
local function stray(args, names)
    for i, word in ipairs(args) do
        local before = i > 1 and names[args[i - 1]]
        if not names[word:match("^[^=]*")] and before ~= "value" then return word end
    end
end

local function complain(message, names, args, places)
    local unknown = message:match("^unknown option '(.-)'")
    if unknown then
        local list = {}
        for name in pairs(names) do list[#list + 1] = name end
        table.sort(list)
        local hint = nearest.hint(unknown, list)
        fail.option("there is no option '%s'%s", unknown,
            hint ~= "" and hint or " (there are " .. table.concat(list, ", ") .. ")")
    end
    if message == "too many arguments" and places == 0 then
        fail.option("'%s' is not an option; this script takes options only (--help)",
            stray(args, names))
    end
    fail.option("%s", (message:match("^[^\n]*")))
end

--- The program's output includes names from users: files, classes and losses.
local say = print
local function plain_print(...)
    local words = table.pack(...)
    for i = 1, words.n do words[i] = system.printable(tostring(words[i]), true) end
    say(table.unpack(words, 1, words.n))
end

--- The options and flags of a script, including those that style its figures. Style is not part of a run,
-- so run.json omits it.
local function drawing(spec)
    local names, flags = {table.unpack(spec.options)}, {table.unpack(spec.flags or {})}
    if spec.figures then
        names[#names + 1] = "figure-size"
        if spec.bands then names[#names + 1] = "bands" end
        flags[#flags + 1] = {"no-titles", "draw the figures without titles"}
        if spec.figures ~= "always" then flags[#flags + 1] = {"no-figures", "draw no figures"} end
    end
    return names, flags
end

--- What --help prints: a sentence, common uses, and what argparse knows of the options.
local function help_text(spec, parser)
    local lines = {spec.description, ""}
    local command = "advrt " .. spec.name:gsub("%.lua$", "")
    for i, use in ipairs(spec.uses or {}) do
        if i == 1 then lines[#lines + 1] = "Common uses:" end
        lines[#lines + 1] = "   " .. command .. (use[1] ~= "" and " " .. use[1] or "")
        lines[#lines + 1] = "       " .. use[2]
    end
    if spec.uses then lines[#lines + 1] = "" end
    return table.concat(lines, "\n") .. "\n" .. parser:get_help() .. "\n"
end

--- Reads a command line.
--
-- argv             array of words (the global arg)
-- spec.name        the script's file name; spec.description: one sentence for --help
-- spec.uses        the commonest uses, for --help: an array of {arguments, what they do}
-- spec.options     names of the options it takes, from the table above
-- spec.defaults    optional: by key, defaults other than the table's; spec.help: by name, other help, or
--                  {metavar, help} or {metavar, help, reader}, a reader as options.whole gives one
-- spec.flags       optional: array of {name, help}; spec.arguments: optional array of {name, help}, or
--                  {name, help, "+"}: one or more, an array of values
-- spec.figures     true if it draws figures: it takes --no-figures and the figures' style; "always" for a
--                  script that only draws
-- spec.bands       whether these figures show bands over images (--bands)
-- spec.either      optional: array of pairs {name, name} of options and flags that exclude each other
-- spec.ranks       whether mpirun's processes can share the work; otherwise several processes are an error
--
-- Returns a table of values by name with _ for -. Flags are true or absent; `require` is a list of
-- files, already run. --help prints the help and ends the program. A bad option is a failure with
-- status 2. A file of --require that fails is one with status 1.
function options.parse(argv, spec)
    dist.mute()
    rawset(_G, "print", plain_print)
    if dist.size > 1 and not spec.ranks then
        fail.option("%s runs in one process; start it without mpirun", spec.name)
    end
    local parser = argparse(spec.name):add_help(false)
    parser:help_max_width(96):usage_max_width(96):help_description_margin(28)
    local names, made = {["--help"] = "flag"}, {}
    local own_options, flags = drawing(spec)
    for _, argument in ipairs(spec.arguments or {}) do
        parser:argument(argument[1], argument[2]):args(argument[3] or 1)
    end
    for _, name in ipairs(own_options) do
        local option = by_name[name]
        local metavar, read, text = option[2], option[3], option[5]
        local own = spec.defaults and spec.defaults[key_of(name)]
        local other = spec.help and spec.help[name]
        if type(other) == "table" then
            metavar, text, read = other[1], other[2], other[3] or read
        elseif other then
            text = other
        end
        local help = help_of(text, option[4], own)
        made[name] = parser:option("--" .. name, help):argname(metavar):target(key_of(name))
            :convert(converter(name, read)):count(several[name] and "*" or "?")
        names["--" .. name] = "value"
    end
    for _, flag in ipairs(flags) do
        made[flag[1]] = parser:flag("--" .. flag[1], flag[2]):target(key_of(flag[1]))
        names["--" .. flag[1]] = "flag"
    end
    for _, pair in ipairs(spec.either or {}) do parser:mutex(made[pair[1]], made[pair[2]]) end
    parser:flag("-h --help", "print this help and exit"):action(function()
        io.stdout:write(help_text(spec, parser))
        os.exit(true, true)
    end)
    local args = prepare(argv, names)
    if names["--require"] then load_required(args) end
    local ok, values = parser:pparse(args)
    if not ok then complain(values, names, args, #(spec.arguments or {})) end
    for _, name in ipairs(own_options) do
        local key = key_of(name)
        if several[name] and #values[key] == 0 then values[key] = nil end
        if values[key] == nil then values[key] = spec.defaults and spec.defaults[key] end
        if values[key] == nil then values[key] = by_name[name][4] end
    end
    return values
end

--- A reader of whole numbers from least to most.
options.whole = integer

--- Every option's key, in the order of the table above.
options.keys = {}
for i, option in ipairs(known) do options.keys[i] = key_of(option[1]) end

--- The names of the options of every experiment on a folder of images.
options.of_images = {"net", "weights", "weights-key", "output", "images", "resize", "crop", "mean", "std",
    "range", "batch", "limit", "sample"}

--- A word quoted for the shell if needed.
function options.quote(word)
    if word:find("^[%w%%+,./:=@_-]+$") then return word end
    return "'" .. word:gsub("'", "'\\''") .. "'"
end

return options
