--- Tensors: numbers of one type in a row-major shape, on the device of the run.
--
-- Dimensions and indices count from 1, classes from 0. A view (`x[i]`, narrow,
-- reshape) shares its numbers with what it was made from. Image-sized work is f32
-- and stays on the device; names that end in `_` change the tensor they are called on.
--
--   tensor.new{2, 3}                     zeros, f32; tensor.new(shape, dtype)
--   tensor.from{{1, 2}, {3, 4}}          from nested tables; tensor.from(table, dtype, shape)
--   tensor.uniform("input", {2, 3})      u(name, i) of the project's random stream, in [0, 1)
--   tensor.normal("start", {2, 3})       of mean 0 and deviation 1 from the same stream
--   tensor.stack(list)                   [n, ...] of n tensors of one shape
--   tensor.concat(list)                  joined along the first dimension
--   tensor.load(path), tensor.save(path, tensors)
--
--   x:size(d) x:shape() x:dim() x:numel() x:dtype() #x tostring(x)
--   x:totable() x:item() x:get(i, j, ...) x:set(v, i, j, ...)
--   x[i] x:narrow(first, n) x:reshape{...} x:clone() x:copy(from) x:to(dtype) x:fill(v)
--   x:set_image(i, img) x:image_u8(i) x:bytes()
--   x + y x - y x * y x / y x ^ y -x, y a tensor or a number; add sub mul div pow min max, and the
--   same but pow with `_`; for f64 too, there of one shape only. Shapes are lined up at their last
--   dimensions, and what has one element in a dimension is repeated: [N,K] - [N,1], [N,K] * [K]
--   x:gt(y) ge lt le eq: 1 or 0; x:keep(mask): 0 where the mask is; x:share(y): 1, 1/2 or 0 where x
--   is the larger, equal or the smaller
--   x:exp() x:log() x:log1p() x:tanh() x:sqrt(); softmax(dim) log_softmax(dim)
--   x:sum(dim[, keep]) mean minimum maximum logsumexp: along a dimension, of which `keep` leaves 1;
--   x:norm(p[, dim[, keep]]), p 1, 2 or "inf", of each image of [N,...] without dim
--   x:topk(k, dim) -> values, indices; x:gather(dim, t) x:others(dim, t), t from 0 as classes are;
--   dy:scatter(dim, t, K[, single]) dy:scatter_others(dim, t): the ways back; a:matmul(b[, "nt"|"tn"])
--   x:clamp(low, high) x:clamp_(low, high) x:abs() x:sign_() x:quantize_(levels)
--   x:sum() x:mean() x:minimum() x:maximum() x:equal(y) x:argmax() z:rank(labels)
--   q:norms([l2, linf, zero_share]) x:step_(q, a, x0[, l2, linf])
--   x:project_(x0, scale, radius) x:tanh_enter_(w, hair) tensor.tanh_step: the steps of advrt.attacks
--   tensor.sgd, tensor.adam, tensor.cross_entropy: what training is made of
--
-- @module advrt.tensor

local core = require "advrt.core.tensor"

local tensor = {}
for name, operation in pairs(core) do
  tensor[name] = operation
end

--- Reads a file of named tensors: .safetensors, .pth (zip or legacy) or .msgpack, told by content.
-- @param path the file
-- @return a table name -> tensor; or nil and one line that says why not
function tensor.load(path)
  return require("advrt.core.weights").load(path)
end

--- Writes named tensors, complete under the final name or not at all.
-- @param path a name that ends in .safetensors or .msgpack
-- @param tensors a table name -> tensor
-- @param metadata optional table string -> string
-- @return true; or nil and one line that says why not
function tensor.save(path, tensors, metadata)
  return require("advrt.core.weights").save(path, tensors, metadata)
end

return tensor
