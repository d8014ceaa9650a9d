--- The losses of the paper (Eq. 12-15) as objects: the value that an attack ascends, and the
-- direction of its step.
--
--     loss.ce        J(z,t) = -log softmax(z)_t; the value to ascend is -J      L-BFGS
--     loss.ce_sign   the same, the image's gradient replaced by its sign        FGS, IFGS, PGD
--     loss.logit     z_t
--     loss.m_logit   min(z_t - max_{i!=t} z_i, kappa), kappa = 20               Carlini & Wagner
--
-- A loss has a `name`, the smallest valid number of classes (`min_classes`), and
--
--     loss:evaluate(z, target[, value, dz]) -> value, dz
--         z f32 [N,K] logits; target a table or i64 tensor of N classes counted from 0;
--         value f32 [N], the number to ascend; dz f32 [N,K], its gradient. Given outputs are
--         overwritten and returned.
--     loss:direction(grad) -> q
--         the direction of the step, computed in place from the gradient with respect to the image
--         [N,C,H,W]. `loss.signed` is true if it differs from the gradient.
--     loss:untargeted() -> loss
--         optional: the loss that an untargeted attack ascends, with labels in place of targets.
--         Default: the negated loss. A loss with a cap must not be negated after the cap: its gradient
--         would be exactly 0 where the net is confident. So m_logit is negated before the cap:
--         min(max_{i!=y} z_i - z_y, kappa).
--
-- Calling a loss makes a variant: loss.m_logit{kappa = 5}, on a command line m_logit:kappa=5. Attacks
-- accept any object of this form, and loss.add registers it by name. loss.define makes a loss from a
-- function:
--
--     loss.define("margin", function(z, t)
--         return z:gather(2, t) - z:others(2, t):maximum(2)
--     end)
--
-- then makes loss.margin, also for --losses. lua/advrt/losses/ holds more losses.

local arguments = require "advrt.support.check"
local autograd = require "advrt.autograd"
local core = require "advrt.core.loss"
local fail = require "advrt.support.fail"
local lfs = require "lfs"
local loaded = require "advrt.support.loaded"
local nearest = require "advrt.support.nearest"
local system = require "advrt.core.system"
local trial = require "advrt.support.loss_trial"

local registry, order = {}, {} -- the losses by name, and the names in order of registration
local loss = setmetatable({}, {__index = registry})

local Loss = {}
Loss.__index = Loss
Loss.__name = "advrt.loss"

--- The value to ascend, f32 [N], and its gradient dz, f32 [N,K], for logits z [N,K] and N target
-- classes; written to `value` and `dz` if given.
function Loss:evaluate(z, target, value, dz)
    local v, d = arguments.call("evaluate", 2, core.evaluate, self.kind, self, z, target,
        value, dz)
    return v, d
end

--- The direction of the step, computed in place from the gradient with respect to the image
-- [N,C,H,W].
function Loss:direction(grad)
    if not arguments.is_tensor(grad) then
        error(("bad argument #1 to 'direction' (a tensor expected, got %s)"):format(arguments.text(grad)), 2)
    end
    if self.signed then grad:sign_() end
    return grad
end

--- A loss's parameters in order, and their values as text.
local function parameter_text(self)
    local parts = {}
    for name in pairs(self.parameters) do parts[#parts + 1] = ("%s = %g"):format(name, self[name]) end
    table.sort(parts)
    return table.concat(parts, ", ")
end

-- A negated loss: leads away from a class where `of` leads to it.
local Turned = {}
Turned.__index = Turned
Turned.__name = Loss.__name

function Turned:evaluate(z, label, value, dz)
    local v, d = self.of:evaluate(z, label, value, dz)
    return v:mul_(-1), d:mul_(-1)
end

function Turned:direction(grad) return self.of:direction(grad) end

-- A capped loss, negated before the cap and capped on the other side, like Carlini & Wagner's
-- untargeted f. of: the loss without its cap.
local TurnedCut = setmetatable({__name = Loss.__name}, {__index = Turned})
TurnedCut.__index = TurnedCut

function TurnedCut:evaluate(z, label, value, dz)
    local v, d = arguments.call("evaluate", 2, core.evaluate, self.of.kind, self.of, z, label, value, dz)
    v:mul_(-1)
    d:mul_(-1):mul_(v:le(self.cut):reshape {-1, 1}) -- NaN stays NaN
    return v:min_(self.cut), d
end

local function turn(self, class)
    return setmetatable({of = self, name = self.name, min_classes = self.min_classes,
        signed = self.signed, f = self.f}, class)
end

--- The loss without the cap of its parameter `name`.
local function uncut(self, name)
    local copy = setmetatable({}, getmetatable(self))
    for key, value in pairs(self) do copy[key] = value end
    copy[name] = self.most[name]
    return copy
end

--- The loss that an untargeted attack ascends, with the labels in place of the targets.
function Loss:untargeted()
    local cut = self.cuts
    if not cut then return turn(self, Turned) end
    local turned = turn(uncut(self, cut), TurnedCut)
    turned.cut, turned[cut] = self[cut], self[cut]
    return turned
end

function Loss:__tostring()
    local text = parameter_text(self)
    return ("loss %s%s"):format(self.name, text ~= "" and (" (%s)"):format(text) or "")
end

-- Losses defined by a function of tracked logits.
local Defined = setmetatable({__tostring = Loss.__tostring, __name = Loss.__name}, {__index = Loss})
Defined.__index = Defined

-- The position of a defined loss's function, FILE:LINE.
local function place(self)
    local f = debug.getinfo(self.f, "S")
    return ("%s:%d"):format(f.short_src, f.linedefined)
end

-- The problem with the function's result y for N images; nil: none.
local function problem_of(y, N)
    if not autograd.is_tracked(y) then
        return ("it returns %s, which was not computed from the logits"):format(
            arguments.is_tensor(y) and "a plain tensor" or y == nil and "nothing" or "a " .. type(y))
    end
    local shape = y:shape()
    if #shape ~= 1 or shape[1] ~= N then
        return ("it returns a tensor of shape [%s], not one number for each image, [%d]"):format(
            table.concat(shape, ","), N)
    end
end

-- The function's error as one line that begins with a position in its own file. A tail call hides the
-- function: its error seems to come from here.
local function line_of(self, raised)
    local text = type(raised) == "string" and raised:match("^[^\n]*")
        or ("it raises a %s"):format(type(raised))
    local here = debug.getinfo(1, "S").short_src
    local file, rest = text:match("^(.-):%d+: (.*)$")
    if file and file ~= here then return text end
    return ("%s: %s"):format(place(self), rest or text)
end

--- The loss that an untargeted attack ascends: the function `untargeted` of loss.define, else this
-- loss negated.
function Defined:untargeted()
    if not self.turned then return turn(self, Turned) end
    local form = setmetatable({}, Defined)
    for key, value in pairs(self) do form[key] = value end
    form.f, form.turned = self.turned, nil
    return form
end

--- Evaluates the function for logits f32 [N,K] and classes i64 [N]. Returns value and gradient, or nil
-- and the problem in one line.
function Defined:attempt(z, classes)
    local x = autograd.track(z)
    local ok, y = fail.try(self.f, x, classes, self)
    if not ok and fail.is(y) then error(y, 0) end
    if not ok and y == "not enough memory" then -- Lua's own
        fail.as("memory", "loss %s: %s", self.name, y) -- not a mistake in the function
    end
    local problem = not ok and line_of(self, y) or problem_of(y, z:size(1))
    if problem then return nil, problem end
    return y.value, autograd.gradient(y, x)
end

--- Like Loss:evaluate. It is a failure if the function raises, or does not return one number per
-- image that depends on the logits. The same logits fail again.
function Defined:evaluate(z, target, value, dz)
    if not arguments.is_tensor(z) or z:dim() ~= 2 or z:dtype() ~= "f32" then
        error(("loss %s: logits must be f32 [N,K], got %s"):format(self.name, tostring(z)), 2)
    end
    local classes, wrong = arguments.classes(target, "target", z:size(1), z:size(2))
    if not classes then error(("loss %s: %s"):format(self.name, wrong), 2) end
    local v, d = self:attempt(z, classes)
    if not v then
        fail.again("loss %s: %s; fix the loss or remove it, then start a new run", self.name,
            d:find "^[^ ]+:%d+: " and d or place(self) .. ": " .. d)
    end
    return value and value:copy(v) or v:clone(), dz and dz:copy(d) or d
end

-- Why a defined loss, or its untargeted form, is rejected; nil: it is accepted.
local function refusal(self)
    local reason = trial(self)
    if reason or not self.turned then return reason end
    reason = trial(self:untargeted())
    return reason and "its untargeted form: " .. reason
end

-- A variant of a loss with other parameters, called `name`; or nil and one line.
local function variant_of(self, parameters, name)
    local variant = setmetatable({}, getmetatable(self))
    for key, value in pairs(self) do variant[key] = value end
    for key, value in pairs(parameters) do
        local check = self.parameters[key]
        if not check then
            local known = {}
            for parameter in pairs(self.parameters) do known[#known + 1] = parameter end
            table.sort(known)
            return nil, ("loss.%s has no parameter '%s' (it has %s)"):format(self.name, tostring(key),
                #known > 0 and table.concat(known, ", ") or "none")
        end
        local wanted = check(value)
        if wanted then
            return nil, ("loss.%s: %s must be %s, got %s"):format(self.name, key, wanted, tostring(value))
        end
        variant[key] = value
    end
    local reason = self.f and refusal(variant)
    if reason then return nil, ("%s is rejected: %s"):format(tostring(variant), reason) end
    variant.name = name
    return variant
end

--- Makes a variant of a loss with other parameters. Raises for an unknown parameter or a value out
-- of range.
function Loss:__call(parameters)
    if type(parameters) ~= "table" then
        error(("loss.%s wants a table of parameters, got %s"):format(self.name, type(parameters)), 2)
    end
    local variant, problem = variant_of(self, parameters, self.name)
    if not variant then error(problem, 2) end
    return variant
end
Defined.__call = Loss.__call

--- The check of a parameter of a record: returns the expected form if a value is out of range.
local function in_range(least, most)
    local wanted = most == math.huge and ("a number of at least %g"):format(least)
        or ("a number from %g to %g"):format(least, most)
    return function(value)
        local good = math.type(value) and value >= least and value <= most
        return not good and wanted or nil
    end
end

local function check_number(value)
    local good = math.type(value) and value == value and math.abs(value) < math.huge
    return not good and "a finite number" or nil
end

--- Registers a loss by name, for loss.NAME and loss.get. Raises if the name is taken.
function loss.add(object)
    arguments.want("add", 1, "table", object)
    if type(object.name) ~= "string" or loss[object.name] ~= nil then
        error(("a loss cannot be named '%s': the name is taken or not a valid name"):format(
            tostring(object.name)), 2)
    end
    registry[object.name] = object
    order[#order + 1] = object.name
    return object
end

local known_options = {min_classes = "integer", signed = "boolean", parameters = "table",
    untargeted = "function"}

-- The problem with the arguments of loss.define; nil: none.
local function check_definition(name, f, given)
    if type(name) ~= "string" or not name:find "^%a[%w_]*$" then
        return ("a loss's name is letters, digits and _, got '%s'"):format(tostring(name))
    elseif loss[name] ~= nil and not (registry[name] and registry[name].f) then
        return ("a loss cannot be named '%s': the name is taken"):format(name)
    elseif type(f) ~= "function" then
        return ("loss '%s' wants a function of logits and targets, got %s"):format(name, type(f))
    elseif type(given) ~= "table" then
        return ("loss '%s': the options are a table, got %s"):format(name, type(given))
    end
    for key, value in pairs(given) do
        local wanted = known_options[key]
        if not wanted then
            return ("loss '%s': there is no option '%s' (min_classes, signed, parameters, "
                .. "untargeted)"):format(name, tostring(key))
        elseif (math.type(value) or type(value)) ~= wanted then
            return ("loss '%s': %s must be %s %s"):format(name, key,
                wanted == "integer" and "an" or "a", wanted)
        end
    end
    if given.min_classes and not (given.min_classes >= 1 and given.min_classes <= 1000) then
        return ("loss '%s': min_classes must be in 1 .. 1000"):format(name)
    end
    for key, value in pairs(given.parameters or {}) do
        if type(key) ~= "string" or Defined[key] or key == "name" or key == "f" or key == "turned"
            or known_options[key] then
            return ("loss '%s': a parameter cannot be named '%s'"):format(name, tostring(key))
        elseif check_number(value) then
            return ("loss '%s': parameter %s must be %s"):format(name, key, check_number(value))
        end
    end
end

--- Makes a loss from a function and registers it by name; replaces an earlier definition of that
-- name.
--
-- name     letters, digits and _
--
-- f        function(z, t, p): z the tracked logits [N,K], t the target classes, i64 [N], p the loss, for its
--          parameters. Returns the value to ascend, [N], computed from z by the methods of advrt.autograd. An
--          image's value must depend on its own row only.
-- options  min_classes: the smallest valid number of classes, default 2; signed: true if the step takes the
--          sign of the image's gradient; parameters: a table of numbers by name, which variants may change:
--          loss.NAME{temperature = 3}; untargeted: a function like f for untargeted attacks, with the labels
--          in t; default: minus f. A loss with a cap, such as min(margin, 20), needs an `untargeted` with its
--          own cap: minus f is flat where the net is confident
--
-- Returns the loss. It is first tested, with its untargeted form, on sample logits: with the fewest
-- classes, with 1000 classes, all negative, with large margins, and with the target leading. There the
-- gradient must agree with finite differences. On ties, value and gradient must be numbers. Raises with
-- the reason if a test fails.
function loss.define(name, f, options)
    options = options or {}
    local reason = check_definition(name, f, options)
    if reason then error(reason, 2) end
    local object = {name = name, f = f, min_classes = options.min_classes or 2,
        signed = options.signed or false, parameters = {}, turned = options.untargeted}
    for key, value in pairs(options.parameters or {}) do
        object[key], object.parameters[key] = value, check_number
    end
    setmetatable(object, Defined)
    reason = refusal(object)
    if reason then error(("loss '%s' is rejected: %s"):format(name, reason), 2) end
    if registry[name] then
        registry[name] = object
        return object
    end
    return loss.add(object)
end

--- The path of a file of losses: as given, else in advrt's lua/advrt/losses/; the suffix .lua is optional.
-- Or nil and one line.
function loss.find(path)
    arguments.want("find", 1, "string", path)
    local shipped = system.options.root .. "/lua/advrt/losses/"
    for _, candidate in ipairs {path, path .. ".lua", shipped .. path, shipped .. path .. ".lua"} do
        local kind = lfs.attributes(candidate, "mode")
        if kind and kind ~= "file" and kind ~= "directory" then -- a pipe would be waited for
            return nil, candidate .. ": is no regular file"
        end
        local file, message, code = io.open(candidate, "r")
        if not file and code ~= fail.NO_FILE then return nil, message end
        -- a folder can be opened, but not read
        local readable = file and file:read("a") ~= nil
        if file then file:close() end
        if readable then return candidate end
    end
    return nil, ("no file of losses '%s' (looked there and in %s)"):format(path, shipped)
end

--- Runs a file that defines losses, found by loss.find. loss, tensor and autograd are globals in it.
-- Returns true; or nil and one line if it cannot be read or fails. An interrupt is raised.
function loss.load(path)
    arguments.want("load", 1, "string", path)
    local found, message = loss.find(path)
    if not found then return nil, message end
    local at_hand = {loss = loss, tensor = require "advrt.tensor", autograd = autograd}
    local chunk
    chunk, message = loadfile(found, "t", setmetatable(at_hand, {__index = _G}))
    if not chunk then return nil, message end
    local ok, problem = fail.try(loaded.during, chunk, found)
    if ok then return true end
    problem = tostring(problem):match("^[^\n]*")
    return nil, problem:find(found, 1, true) and problem or ("%s: %s"):format(found, problem)
end

--- The loss's name and position, "margin (FILE:LINE)", if its function caused a number that is not
-- finite; else nil. own: the loss's own value or gradient with respect to the logits, nil if
-- unavailable.
function loss.blame(one, own)
    if not (own and one.f) or math.max(math.abs(own:minimum()), math.abs(own:maximum())) < math.huge then
        return nil
    end
    return ("%s (%s)"):format(one.name, place(one))
end

--- Fails because an attack produced a number that is not finite; `text` names it. own: as in
-- loss.blame.
function loss.fail_not_finite(one, own, text)
    local culprit = loss.blame(one, own)
    if not culprit then fail("%s; check the weights and the preprocessing", text) end
    fail.again("%s; fix loss %s or remove it, then start a new run", text, culprit)
end

--- The loss that an untargeted attack ascends in place of `one`, any loss object.
function loss.untargeted(one)
    if one.untargeted then return one:untargeted() end
    return turn(one, Turned)
end

--- Whether a name, or a variant's name, is one of the paper's losses (not defined by a function).
function loss.is_builtin(text)
    return debug.getmetatable(registry[text:match("^[^:]*")]) == Loss
end

--- The loss of this name, or variant, that lua/advrt/losses/ defines; nil if there is none.
function loss.shipped(text)
    local name = text:match("^([%a_][%w_]*)%f[:\0]")
    local path = name and ("%s/lua/advrt/losses/%s.lua"):format(system.options.root, name)
    if path and lfs.attributes(path, "mode") == "file" and loss.load(path) then return loss.get(text) end
end

--- The loss that a text names, as loss.get. A loss of the paper without explicit parameters takes them
-- from fields of `options`: kappa of a run's options.
function loss.with_options(text, options)
    local one, problem = loss.get(text)
    if not one or debug.getmetatable(one) ~= Loss or registry[text] ~= one then return one, problem end
    local given
    for name in pairs(one.parameters) do
        if options[name] ~= nil then
            given = given or {}
            given[name] = options[name]
        end
    end
    if not given then return one end
    return variant_of(one, given, one.name)
end

--- The names of all losses, in order of registration.
function loss.names()
    return table.move(order, 1, #order, 1, {})
end

--- The loss NAME, or the variant NAME:PARAMETER=NUMBER:..., with the text as its name; or nil and one
-- line with the known names.
function loss.get(text)
    text = tostring(text)
    local name, rest = text:match("^([^:]*)(.*)$")
    local one = registry[name]
    if not one then
        local file = ("%s/lua/advrt/losses/%s.lua"):format(system.options.root, name)
        local known = ("(losses: %s"):format(table.concat(order, ", "))
        if name:find "^[%w_]+$" and lfs.attributes(file, "mode") then
            return nil, ("loss '%s' is in a file of its own: --require %s, or loss.load '%s' %s)"):format(
                name, name, name, known)
        end
        return nil, ("unknown loss '%s'%s %s; a file of --require or loss.load adds others)"):format(name,
            nearest.hint(name, order), known)
    elseif rest == "" then
        return one
    end
    local parameters = {}
    for part in rest:gmatch(":([^:]*)") do
        local key, number = part:match("^([%w_]+)=([%d.eE+-]+)$")
        parameters[key or ""] = tonumber(number)
        if not (key and parameters[key]) then
            return nil, ("'%s': want PARAMETER=NUMBER, got '%s'"):format(text, part)
        end
    end
    return variant_of(one, parameters, text)
end

--- Registers a loss of the core. `kind`: the core's name; `cuts`: the parameter of its cap; `most`: the
-- largest value of each parameter, which disables the cap.
local function builtin(record, name, signed)
    local one = {name = name, kind = record.name, min_classes = record.min_classes, signed = signed,
        parameters = {}, most = {}}
    for _, p in ipairs(record.parameters) do
        one[p.name] = math.tointeger(p.usual) or p.usual
        one.parameters[p.name], one.most[p.name] = in_range(p.least, p.most), p.most
        if p.cuts then one.cuts = p.name end
    end
    loss.add(setmetatable(one, Loss))
end

-- Second names of the core's losses, whose step takes the sign of the gradient.
local signed_names = {ce = "ce_sign"}

for _, record in ipairs(core.records()) do
    builtin(record, record.name, false)
    if signed_names[record.name] then builtin(record, signed_names[record.name], true) end
end

-- A loss assigned directly to the module's table would not be registered.
getmetatable(loss).__newindex = function(_, name)
    error(("loss.%s cannot be set: loss.define makes a loss"):format(tostring(name)), 2)
end

return loss
