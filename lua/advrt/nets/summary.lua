--- What a net is made of, layer by layer: `advrt show`.
--
-- FLOPs are those of products: two for each multiplication of an input with a weight, or of two inputs
-- (convolutions, linear layers, matrix products, attention), for one image. Other layers have none.

local summary = {}

local function count(shape)
    local n = 1
    for _, size in ipairs(shape) do n = n * size end
    return n
end

--- Multiplications of a layer, by kind, from its output's shape, its first input's and its weight's.
local products = {
    conv = function(out, _, weight) return count(out) * count(weight) // weight[1] end,
    conv_transpose = function(_, x, weight) return count(x) * count(weight) // weight[1] end,
    linear = function(out, _, weight) return count(out) * weight[2] end,
    -- either side may be transposed
    matmul = function(out, x) return count(out) * x[#x] * x[#x - 1] // out[#out - 1] end,
    -- [L, 3 D]: each token's query with each key, and the shares with each value
    attention = function(out) return 2 * count(out) * out[#out - 1] end,
}

local function window(l)
    local stride = l.stride[1] == l.stride[2] and tostring(l.stride[1]) or table.concat(l.stride, "x")
    return ("%dx%d"):format(l.kernel[1], l.kernel[2]) .. (stride ~= "1" and "/" .. stride or "")
        .. (l.groups > 1 and (", %d groups"):format(l.groups) or "")
end

--- An array of {name =, operation =, shape =, parameters =, flops =} of a net's layers, in order; and
-- {parameters =, flops =, layers =}, the totals. Running statistics are no parameters.
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
            name = l.name, operation = l.kind .. (l.kernel and " " .. window(l) or ""), shape = l.shape,
            parameters = held[i] or 0,
            flops = multiplications and 2 * multiplications(l.shape, x and x.shape, weights[i]) or 0,
        }
        total.parameters, total.flops = total.parameters + row.parameters, total.flops + row.flops
        rows[i - 1] = row
    end
    return rows, total
end

return summary
