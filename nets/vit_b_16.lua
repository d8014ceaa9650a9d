--- Vision transformer ViT-B/16 (Dosovitskiy et al., arXiv:2010.11929) with torchvision's parameter
-- names.

local imagenet = require "advrt.nets.imagenet"

local PATCH, WIDTH, HEADS, DEPTH = 16, 768, 12, 12
local NORM = {eps = 1e-6}

local function block(b, x, name)
    local y = b:attention(b:layernorm(x, name .. ".ln_1", NORM), name .. ".self_attention", {heads = HEADS})
    x = b:add(x, y)
    y = b:layernorm(x, name .. ".ln_2", NORM)
    y = b:gelu(b:linear(y, name .. ".mlp.0", 4 * WIDTH))
    return b:add(x, b:linear(y, name .. ".mlp.3", WIDTH))
end

local function build(b, x)
    x = b:conv(x, "conv_proj", {out = WIDTH, kernel = PATCH, stride = PATCH})
    x = b:transpose(b:flatten(x, 2), 1, 2)
    local class = b:reshape(b:parameter("class_token", {1, 1, WIDTH}, {role = "token"}), {1, WIDTH})
    x = b:concat({class, x}, 1)
    local places = b:parameter("encoder.pos_embedding", {1, x.shape[1], WIDTH}, {role = "token"})
    x = b:add(x, b:reshape(places, x.shape))
    for i = 0, DEPTH - 1 do x = block(b, x, "encoder.layers.encoder_layer_" .. i) end
    x = b:layernorm(x, "encoder.ln", NORM)
    return b:linear(b:slice(x, 1, 1, 1), "heads.head", b.classes, {flatten = true})
end

return imagenet.definition("vit_b_16", build)
