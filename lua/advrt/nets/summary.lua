--- The structure of a net, layer by layer, for `advrt show`.
--
-- FLOPs count only products: two per multiplication of an input with a weight or of two inputs
-- (convolutions, linear layers, matrix products, attention), for one image. Other layers count 0.

local activations = require "advrt.nets.activations"

local summary = {}

local LONGEST = 36 -- letters of a formula

local function count(shape)
    local n = 1
    for _, size in ipairs(shape) do n = n * size end
    return n
end

--- The multiplications of a layer, by kind, from the shapes of its output, its first input and its
-- weight.
local products = {
    conv = function(out, _, weight) return count(out) * count(weight) // weight[1] end,
    conv_transpose = function(_, x, weight) return count(x) * count(weight) // weight[1] end,
    linear = function(out, _, weight) return count(out) * weight[2] end,
    -- either side may be transposed
    matmul = function(out, x) return count(out) * x[#x] * x[#x - 1] // out[#out - 1] end,
    -- [L, 3 D]: each token's query with each key, and the softmax weights with each value
    attention = function(out) return 2 * count(out) * out[#out - 1] end,
}

local function window(l)
    local stride = l.stride[1] == l.stride[2] and tostring(l.stride[1]) or table.concat(l.stride, "x")
    return ("%dx%d"):format(l.kernel[1], l.kernel[2]) .. (stride ~= "1" and "/" .. stride or "")
        .. (l.groups > 1 and (", %d groups"):format(l.groups) or "")
end

--- A formula without redundant parentheses around a number, an operand or another pair of
-- parentheses, and with numbers of four digits.
local function plain(formula)
    local function short(number) return ("%.4g"):format(number) end
    local text = formula:gsub("%d+%.?%d*e[-+]?%d+", short):gsub("%d+%.?%d*", short)
    repeat
        local before = text
        for _, single in ipairs {"%-?[%w.]+", "[%d.]+e%-?%d+"} do
            text = text:gsub("([^%w])%((" .. single .. ")%)", "%1%2")
        end
        text = text:gsub("%((%b())%)", "%1"):gsub("^%b()$", function(all) return all:sub(2, -2) end)
    until text == before
    return text
end

local named = {[plain "(x * (erf(x / 1.4142135381698608) + 1)) * 0.5"] = "gelu"} -- PyTorch's export
for name, formula in pairs(activations) do named[plain(formula)] = name end

--- The operation of a map: an activation's name, or the formula, shortened if it is long.
local function of_map(formula)
    local text = plain(formula)
    if named[text] then return named[text] end
    return #text <= LONGEST and text or text:sub(1, LONGEST - 3) .. "..."
end

local function operation(l)
    if l.formula then return of_map(l.formula) end
    return l.kind .. (l.kernel and " " .. window(l) or "")
end

--- An array of {name =, operation =, shape =, parameters =, flops =} for a net's layers, in order;
-- and {parameters =, flops =, layers =}, the totals. Running statistics do not count as
-- parameters.
function summary.of(net)
    local layers, held, weights = net.graph:layers(), {}, {}
    for _, p in ipairs(net.graph:parameters()) do
        if not p.role:find("^running") then held[p.layer] = (held[p.layer] or 0) + count(p.shape) end
        if p.role:find("weight$") and not weights[p.layer] then weights[p.layer] = p.shape end
    end
    local rows, total = {}, {parameters = 0, flops = 0, layers = #layers - 1}
    for i = 2, #layers do
        local l, x = layers[i], layers[layers[i].inputs[1]]
        local multiplications = products[l.kind]
        local row = {
            name = l.name, operation = operation(l), shape = l.shape,
            parameters = held[i] or 0,
            flops = multiplications and 2 * multiplications(l.shape, x and x.shape, weights[i]) or 0,
        }
        total.parameters, total.flops = total.parameters + row.parameters, total.flops + row.flops
        rows[i - 1] = row
    end
    return rows, total
end

return summary
