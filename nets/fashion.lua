--- The bundled net: a small residual network for Fashion-MNIST's 28x28 grey images, 5.8 million
-- multiply-adds an image. `make weights` trains it with experiments/train_fashion.lua.
local function conv(b, x, name, norm, o)
  o.bias = false
  return b:batchnorm(b:conv(x, name, o), norm)
end

local function block(b, x, name, out, stride)
  local y = b:relu(conv(b, x, name .. ".conv1", name .. ".bn1", {out = out, kernel = 3, stride = stride, pad = 1}))
  y = conv(b, y, name .. ".conv2", name .. ".bn2", {out = out, kernel = 3, pad = 1})
  local around = conv(b, x, name .. ".downsample.0", name .. ".downsample.1", {out = out, kernel = 1, stride = stride})
  return b:relu(b:add(y, around))
end

return {
  name = "fashion",
  classes = 10,
  input = {1, 28, 28},
  preprocess = {}, -- no resize: an image of another size is refused
  mean = {0.2860},
  std = {0.3530},
  weights = "fashion.safetensors",
  branch_end = ".bn2",
  build = function(b, x)
    x = b:relu(conv(b, x, "conv1", "bn1", {out = 16, kernel = 3, pad = 1}))
    x = b:maxpool(x, {kernel = 2})
    x = block(b, x, "layer1", 32, 1)
    x = block(b, x, "layer2", 64, 2)
    return b:linear(b:avgpool(x, {1, 1}), "fc", b.classes)
  end,
}
