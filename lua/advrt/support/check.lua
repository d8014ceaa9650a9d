--- What the arguments of several functions must be. Each check returns what is wrong as text, for
-- the caller to raise at the line of the script that called it.

local fail = require "advrt.support.fail"
local logits = require "advrt.core.loss"
local nearest = require "advrt.support.nearest"
local tensor = require "advrt.tensor"

local check = {}

local MOST_SHOWN = 6 -- entries of a table in a message

local of_tensors = debug.getmetatable(tensor.new {1})

--- Whether a value is a tensor; other userdata (a file, a plan) is none.
function check.is_tensor(value) return debug.getmetatable(value) == of_tensors end

--- Images for a net of the input {C, H, W}: x itself, or where it is [N,D] and the net takes D features,
-- [N,D,1,1].
function check.images(x, input)
    if not check.is_tensor(x) or x:dim() ~= 2 or input[2] ~= 1 or input[3] ~= 1 then return x end
    return x:reshape {x:size(1), x:size(2), 1, 1}
end

--- A value as a message shows it: text in quotes, a short list's elements, else what tostring gives.
function check.text(value)
    if type(value) == "string" then return ("'%s'"):format(value) end
    if type(value) ~= "table" or (getmetatable(value) or {}).__tostring then return tostring(value) end
    local list, named = {}, {}
    for key, v in pairs(value) do
        if #list + #named == MOST_SHOWN or type(v) == "table" then return "a table" end
        local shown = type(v) == "string" and ("'%s'"):format(v) or tostring(v)
        if math.type(key) then list[#list + 1] = shown
        else named[#named + 1] = ("%s = %s"):format(tostring(key), shown) end
    end
    table.sort(named)
    return "{" .. table.concat(table.move(named, 1, #named, #list + 1, list), ", ") .. "}"
end

--- Raises, at the line that called the function `name` which calls this, unless its n-th argument is of
-- that type.
function check.want(name, n, wanted, value)
    if type(value) ~= wanted then
        error(("bad argument #%d to '%s' (%s expected, got %s)"):format(n, name, wanted,
            check.text(value)), 3)
    end
end

--- Calls the C function f that stands behind the method `name`, whose arguments, self not counted, follow
-- the first `shift` of f's. What is wrong with one is raised by its number in the method, at the line that
-- called the function that called this.
function check.call(name, shift, f, ...)
    local ok, first, second = pcall(f, ...)
    if ok then return first, second end
    if type(first) ~= "string" then error(first, 0) end
    error((first:gsub("^bad argument #(%d+) to '.-'", function(n)
        return tonumber(n) <= shift and ("'%s' on a bad %s"):format(name, shift == 1 and "tensor" or "loss")
            or ("bad argument #%d to '%s'"):format(n - shift, name)
    end)), 3)
end

--- nil where every key of `t` (nil: none) is among `names`, else the reason, with a name that is near.
function check.keys(t, names)
    local known, unknown = {}, {}
    for _, name in ipairs(names) do known[name] = true end
    for key in pairs(t or {}) do
        if not known[key] then unknown[#unknown + 1] = tostring(key) end
    end
    if #unknown == 0 then return nil end
    table.sort(unknown)
    return ("'%s' is unknown%s (known: %s)"):format(unknown[1], nearest.hint(unknown[1], names),
        table.concat(names, ", "))
end

--- nil where `loss` is a loss (see advrt.loss) that makes sense with K classes, else the reason.
function check.loss(loss, K)
    if type(loss) ~= "table" or not loss.evaluate or not loss.direction then
        return "loss wants a loss such as loss.ce, got " .. type(loss)
    elseif loss.min_classes and K < loss.min_classes then
        return ("loss %s needs at least %d classes, the net has %d"):format(loss.name,
            loss.min_classes, K)
    end
end

--- N classes in 0 .. K-1 as an i64 tensor, from a table or tensor; nil and the reason where they
-- are not that. `what` is what the reason calls them.
function check.classes(given, what, N, K)
    local list = check.is_tensor(given) and given:totable() or given
    if type(list) ~= "table" or #list ~= N then
        return nil, ("%s: want %d classes, one for each image, got %s"):format(what, N,
            type(list) == "table" and #list or type(list))
    end
    for i, class in ipairs(list) do
        local c = math.tointeger(class)
        if not c or c < 0 or c >= K then
            return nil, ("%s[%d]: want a class in 0 .. %d, got %s"):format(what, i, K - 1,
                tostring(class))
        end
    end
    return tensor.from(list, "i64")
end

--- Fails where a number of z [N,K], a net's logits, is not finite; the message names the first such row,
-- name(k), and ends with `where`, which may be left out.
function check.logits(z, name, where)
    local k = logits.not_finite(z)
    if not k then return end
    fail("%s: the logits are not finite%s; check the weights and the preprocessing", name(k),
        where and " " .. where or "")
end

return check
