--- Swin-T (Liu et al., arXiv:2103.14030) with torchvision's parameter names. Training has no
-- stochastic depth.

local imagenet = require "advrt.nets.imagenet"
local tensor = require "advrt.tensor"

local WINDOW, MASKED = 7, -100
local HALF = WINDOW // 2 -- the shift of the windows in every second block
local TOKENS = WINDOW * WINDOW

-- The biases of each pair of tokens in a window, [heads, W W, W W], from a table of biases by
-- offset, [2 W - 1, 2 W - 1, heads]. For a key in row k, the queries' rows are W adjacent rows of
-- the table; the same holds for columns.
local function biases(b, name, heads)
    local reach = 2 * WINDOW - 1
    local t = b:parameter(name .. ".relative_position_bias_table", {reach * reach, heads}, {role = "token"})
    t = b:reshape(t, {reach, reach, heads})
    for dim = 1, 2 do
        local parts = {}
        for key = 1, WINDOW do parts[key] = b:narrow(t, dim, WINDOW + 1 - key, WINDOW) end
        t = b:concat(parts, dim)
    end
    t = b:reshape(t, {WINDOW, WINDOW, WINDOW, WINDOW, heads}) -- key row, query row, key column, query column
    return b:reshape(b:permute(t, {5, 2, 4, 1, 3}), {heads, TOKENS, TOKENS})
end

-- After the shift: the part of the image that a row or column comes from.
local function part(i, size, shifted)
    return not shifted and 0 or i <= size - WINDOW and 0 or i <= size - HALF and 1 or 2
end

-- [windows, 1, W W, W W]: MASKED for pairs of tokens that are neighbours only because of the shift.
local function mask(H, W, moved)
    local windows = {}
    for top = 0, H - 1, WINDOW do
        for left = 0, W - 1, WINDOW do
            local of, rows = {}, {}
            for i = 1, TOKENS do
                local y, x = top + (i - 1) // WINDOW + 1, left + (i - 1) % WINDOW + 1
                of[i] = 3 * part(y, H, moved[1]) + part(x, W, moved[2])
            end
            for i = 1, TOKENS do
                rows[i] = {}
                for k = 1, TOKENS do rows[i][k] = of[i] == of[k] and 0 or MASKED end
            end
            windows[#windows + 1] = {rows}
        end
    end
    return tensor.from(windows)
end

-- Rotates the elements of a dimension by n; those at the end move to the start.
local function roll(b, x, dim, n)
    local size = x.shape[dim]
    return b:concat({b:narrow(x, dim, size - n + 1, n), b:narrow(x, dim, 1, size - n)}, dim)
end

local function pad(b, x, multiple)
    for dim = 1, 2 do
        local more = -x.shape[dim] % multiple
        if more > 0 then x = b:pad(x, {0, more}, dim) end
    end
    return x
end

-- Attention in windows of [H,W,C], shifted or not.
local function attention(b, x, name, heads, shifted)
    local rows, columns, C = table.unpack(x.shape)
    x = pad(b, x, WINDOW)
    local H, W = table.unpack(x.shape)
    local moved = {shifted and H > WINDOW, shifted and W > WINDOW}
    for dim = 1, 2 do
        if moved[dim] then x = roll(b, x, dim, x.shape[dim] - HALF) end
    end
    x = b:permute(b:reshape(x, {H // WINDOW, WINDOW, W // WINDOW, WINDOW, C}), {1, 3, 2, 4, 5})
    x = b:reshape(x, {H * W // TOKENS, TOKENS, C})
    local qkv = {b:split(b:linear(x, name .. ".qkv", 3 * C, {flatten = false, attention = true}), C, -1)}
    for i, part_of in ipairs(qkv) do
        qkv[i] = b:permute(b:reshape(part_of, {x.shape[1], TOKENS, heads, C // heads}), {1, 3, 2, 4})
    end
    local scores = b:matmul(qkv[1], qkv[2], {transpose_y = true, scale = (C // heads) ^ -0.5})
    scores = b:add(scores, biases(b, name, heads))
    if moved[1] or moved[2] then scores = b:add(scores, b:constant(mask(H, W, moved))) end
    x = b:permute(b:matmul(b:softmax(scores), qkv[3]), {1, 3, 2, 4})
    x = b:linear(b:reshape(x, {H * W // TOKENS, TOKENS, C}), name .. ".proj", C,
        {flatten = false, attention = true})
    x = b:reshape(x, {H // WINDOW, W // WINDOW, WINDOW, WINDOW, C})
    x = b:reshape(b:permute(x, {1, 3, 2, 4, 5}), {H, W, C})
    for dim = 1, 2 do
        if moved[dim] then x = roll(b, x, dim, HALF) end
    end
    return b:narrow(b:narrow(x, 1, 1, rows), 2, 1, columns)
end

local function block(b, x, name, heads, shifted)
    local C = x.shape[3]
    x = b:add(x, attention(b, b:layernorm(x, name .. ".norm1"), name .. ".attn", heads, shifted))
    local y = b:gelu(b:linear(b:layernorm(x, name .. ".norm2"), name .. ".mlp.0", 4 * C, {flatten = false}))
    return b:add(x, b:linear(y, name .. ".mlp.3", C, {flatten = false}))
end

-- Merges four neighbours into one token with twice the channels.
local function merge(b, x, name)
    local C, corners = x.shape[3], {}
    x = pad(b, x, 2)
    for column = 1, 2 do
        for row = 1, 2 do
            corners[#corners + 1] = b:slice(b:slice(x, 1, row, -1, 2), 2, column, -1, 2)
        end
    end
    x = b:layernorm(b:concat(corners, 3), name .. ".norm")
    return b:linear(x, name .. ".reduction", 2 * C, {bias = false, flatten = false})
end

local function build(b, x)
    x = b:conv(x, "features.0.0", {out = 96, kernel = 4, stride = 4})
    x = b:layernorm(b:permute(x, {2, 3, 1}), "features.0.2")
    for stage, depth in ipairs {2, 2, 6, 2} do
        if stage > 1 then x = merge(b, x, ("features.%d"):format(2 * stage - 2)) end
        for i = 0, depth - 1 do
            x = block(b, x, ("features.%d.%d"):format(2 * stage - 1, i), x.shape[3] // 32, i % 2 == 1)
        end
    end
    x = b:layernorm(x, "norm")
    return b:linear(b:mean(x, {1, 2}), "head", b.classes)
end

return imagenet.definition("swin_t", build, {preprocess = {resize = 232, crop = 224}})
