--- What the arguments of several functions must be. Each check returns what is wrong as text, for
-- the caller to raise at the line of the script that called it.

local tensor = require "advrt.tensor"

local check = {}

local of_tensors = debug.getmetatable(tensor.new {1})

--- Whether a value is a tensor; other userdata (a file, a plan) is none.
function check.is_tensor(value) return debug.getmetatable(value) == of_tensors end

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

return check
