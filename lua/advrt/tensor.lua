--- Tensors: numbers of one type in a row-major shape, on the run's device.
--
-- Dimensions and indices count from 1, classes from 0. A view (`x[i]`, narrow, reshape) shares
-- storage with its source. Image-sized work is f32 and stays on the device. Methods whose names end
-- in `_` change the tensor in place.
--
-- `x[i]` is a view of row i, `#x` the number of rows; `+ - * / ^` and unary `-` are the
-- corresponding methods below. `tostring(x)` gives type, shape, range and the count of NaN.
--
-- @module advrt.tensor

local core = require "advrt.core.tensor"

local tensor = {}
for name, operation in pairs(core) do
  tensor[name] = operation
end

--- tensor.new(shape[, dtype]) -> x
-- Zeros. Types: f32 (the default), f64, f16, bf16, i64, i32, i16, i8, u8, bool.

--- tensor.from(table[, dtype[, shape]]) -> x
-- The numbers of a table; nested tables are rows. The default type is f32. With a shape, the result
-- has that shape. Raises for rows of different lengths and for numbers out of the type's range.

--- tensor.uniform(name, shape) -> x
-- u(name, i) of the project's random stream, f32 in [0,1): the same numbers on every call.

--- tensor.normal(name, shape) -> x
-- Normal numbers of mean 0 and standard deviation 1 from the same stream, f32.

--- tensor.stack(list) -> x
-- [n,...] of n tensors of one type and shape.

--- tensor.concat(list) -> x
-- Tensors of one type joined along the first dimension; the other dimensions must agree.

--- x:size(d) -> n
-- The size of dimension d.

--- x:shape() -> table
-- The sizes of all dimensions.

--- x:dim() -> n
-- The number of dimensions.

--- x:numel() -> n
-- The number of elements.

--- x:dtype() -> text
-- The element type: "f32", "f64", "i64", ...

--- x:totable() -> table
-- The elements in nested tables; one number for a tensor without dimensions.

--- x:item() -> number
-- The element of a tensor with exactly one; raises otherwise.

--- x:get(i, j, ...) -> number
-- One element, an index for each dimension.

--- x:set(v, i, j, ...) -> x
-- Sets one element. Raises if the type cannot hold v.

--- x:narrow(first, n) -> view
-- Rows first .. first+n-1.

--- x:reshape(shape) -> view
-- The same elements in another shape with the same count; one size may be -1 and is inferred.

--- x:permute(order) -> y
-- A copy with permuted dimensions: its dimension i is dimension order[i] of x.
-- `w:permute {2, 1}` is the transpose of a matrix.

--- x:clone() -> y
-- A copy with its own storage.

--- x:copy(from) -> x
-- Copies all elements from a tensor of the same type and shape.

--- x:to(dtype) -> y
-- A copy in another element type, rounded to nearest, half to even. Conversion to integers
-- truncates towards zero and saturates; NaN becomes 0.

--- x:fill(v) -> x
-- Sets every element; f32 and f64.

--- x:set_image(i, img) -> x
-- Row i of f32 [N,...] from an image [...] of f32, or of u8, which is divided by 255.

--- x:image_u8(i) -> img
-- Row i of f32 [N,...] in [0,1] as u8 [...]: times 255, rounded half to even; NaN becomes 0.

--- x:bytes() -> text
-- The elements as bytes in memory, row-major and little-endian.

--- x:add(y), x:sub(y), x:mul(y), x:div(y), x:pow(y), x:min(y), x:max(y) -> z
-- Elementwise with a tensor of the same type or a number; f32, and f64 of equal shapes. f32
-- broadcasts: shapes are aligned at their last dimensions and sizes of 1 are repeated, as in [N,K] -
-- [N,1], [N,K] * [K]. min and max of NaN and a number are NaN.

--- x:add_(y), x:sub_(y), x:mul_(y), x:div_(y), x:min_(y), x:max_(y) -> x
-- The same in place; the result must have the shape of x.

--- x:gt(y), x:ge(y), x:lt(y), x:le(y), x:eq(y) -> mask
-- Elementwise comparisons: 1 if true, else 0; 0 if either is NaN.

--- x:keep(mask) -> y
-- x where the mask is not 0, else 0 (also where x is NaN). A NaN in the mask counts as set.

--- x:share(y) -> z
-- 1 where x > y, 1/2 where they are equal, 0 where x < y, NaN where either is NaN.

--- x:exp(), x:log(), x:log1p(), x:tanh(), x:sqrt() -> y
-- Elementwise functions; log1p is log(1 + x). f32.

--- x:softmax(dim[, float]), x:log_softmax(dim) -> y
-- softmax and log-softmax along a dimension. f32, computed in double and rounded once. With `float`
-- true the softmax is computed in float, as in loss.ce's gradient.

--- x:logsumexp(dim[, keep]) -> y
-- log of the sum of exp(x) along a dimension; `keep` leaves a size of 1. f32.

--- x:norm(p[, dim[, keep]]) -> y
-- The p-norm along a dimension, for p 1, 2 or "inf"; without dim for each image of [N,...].

--- x:topk(k, dim) -> values, indices
-- The k largest along a dimension in descending order, and their indices, i64 counted from 0.

--- x:gather(dim, t) -> y
-- The elements at the indices t along a dimension, counted from 0 like classes: z:gather(2, t) is [N]
-- for z [N,K] and N classes. t is a tensor or table: one index per row, or as many dimensions as x.

--- x:others(dim, t) -> y
-- Each row along a dimension, without the element at its index: z:others(2, t) is [N,K-1].

--- dy:scatter(dim, t, K[, single]) -> dx
-- The adjoint of gather: K elements along the dimension, with dy added at the indices t, else 0.
-- single: dy lacks the dimension.

--- dy:scatter_others(dim, t) -> dx
-- The adjoint of others: 0 at the indices t.

--- a:matmul(b[, kind]) -> c
-- The product of two matrices: "nn" a b, "nt" a times b transposed, "tn" a transposed times b. f32.

--- x:clamp(low, high) -> y
-- Clamps every element to low .. high; NaN stays NaN. f32.

--- x:clamp_(low, high) -> x
-- The same in place.

--- x:abs() -> y
-- Absolute values. f32.

--- x:sign_() -> x
-- -1, 0 or 1 for every element, 0 for 0; NaN stays NaN. f32.

--- x:quantize_(levels) -> x
-- Rounds every element to the nearest multiple of 1/levels, half to even; 255 gives the nearest
-- 8-bit image.

--- x:sum([dim[, keep]]), x:mean([dim[, keep]]) -> number
-- The sum and the mean of all elements, a number, in double. With a dimension: a tensor of sums or
-- means along it; `keep` leaves a size of 1. f32.

--- x:minimum([dim[, keep]]), x:maximum([dim[, keep]]) -> number
-- The minimum and maximum element; NaN if any is NaN or there are none. With a dimension: as for sum.

--- x:argmax() -> classes
-- The index of the maximum of each row of the last dimension, i64 counted from 0: for logits [N,K]
-- the classes [N]. The lowest index in a tie; -1 if an element is NaN.

--- z:rank(labels) -> n
-- For logits [N,K] and N labels, i64 [N]: the number of classes before the label in descending
-- order of logits; a tie goes to the lower class. Below 5 means in the top five.

--- x:equal(y) -> boolean
-- Whether type, shape and all elements are equal; NaN equals nothing.

--- q:norms([l2, linf, zero_share]) -> l2, linf, zero_share
-- For each image of f32 [N,...]: the L2 and Linf norms, computed in double, and the fraction of
-- elements that are exactly zero; f64 [N], written to the given tensors. Also tensor.norms(q, ...).

--- tensor.norms(q[, l2, linf, zero_share]) -> l2, linf, zero_share
-- q:norms as a function.

--- x:step_(q, a, x0[, l2, linf[, low, high]]) -> l2, linf
-- x = clip(x + a_n q_n) to [0,1], or to the box of low and high, f32 of one image each (Eq. 11-16). x, q and
-- x0 are f32 [N,...], a f64 [N]. Returns the distances of x from x0 for each image, f64 [N]. The sum is
-- computed in double and rounded once.

--- x:project_(x0, scale, radius) -> x
-- x = x0 + s_n (x - x0) for each image of f32 [N,...]. Each element of the difference is clamped to
-- [-r_n, r_n] and rounded towards x0. scale and radius are f64 [N].

--- x:tanh_enter_(w, hair[, low, high]) -> x
-- Maps x to the space of Carlini & Wagner's attack: clamps x to hair .. 1 - hair (epsilon), then w =
-- atanh(2x - 1). With low and high, f32 like x, x is first scaled from that box to [0,1].

--- tensor.tanh_step(tensors, options)
-- One step of Adam on w for the objective ||x - x0||^2 - c_n L, x = (tanh w + 1) / 2; q is the
-- gradient of L. tensors: x, w, m, v, q, x0 f32 [N,...]; c, l2 (the distance from x0 after the step)
-- f64 [N]; optional low and high, the box, f32 of one image; t i64 [N], the step number from 1. Images
-- with t_n = 0 are skipped. options: rate, beta1 = 0.9, beta2 = 0.999, eps = 1e-8.

--- tensor.sgd(p, g, m, options)
-- One step of stochastic gradient descent: parameter p, gradient g, momentum m, all f32 of one shape,
-- p and m updated. options: rate, momentum = 0, weight_decay = 0, nesterov = false.

--- tensor.adam(p, g, m, v, options)
-- One step of Adam, p, m and v updated. options: rate, beta1 = 0.9, beta2 = 0.999, eps = 1e-8,
-- weight_decay = 0, decoupled = false (true: AdamW), t, the number of the step from 1.

--- tensor.cross_entropy(z, labels, dz) -> loss, correct
-- For logits f32 [N,K] and N labels: the mean of -log softmax(z)_label, and the number of correct
-- rows; writes its gradient to dz [N,K].

--- Reads a file of named tensors: .safetensors, .pth (zip or legacy), .msgpack, or the .json index of
-- several. The contents decide the format.
-- @param path the file
-- @param options optional {key =}: the dictionary of a .pth with several; default: 'state_dict',
-- 'model_state_dict' or 'model', else the one with most tensors; prints the choice to standard error
-- @return a table name -> tensor; or nil and one line that says why not
function tensor.load(path, options)
  local check, weights = require "advrt.support.check", require "advrt.nets.weights"
  check.want("load", 1, "string", path)
  if options ~= nil then check.want("load", 2, "table", options) end
  local tensors, about = check.call("load", 0, weights.load, path, options and options.key)
  if not tensors then return nil, about end
  weights.say(about.notes)
  return tensors
end

--- Writes named tensors atomically.
-- @param path a name that ends in .safetensors or .msgpack
-- @param tensors a table name -> tensor
-- @param metadata optional table string -> string
-- @return true; or nil and one line that says why not
function tensor.save(path, tensors, metadata)
  local weights = require "advrt.core.weights"
  local done, message = require "advrt.support.check".call("save", 0, weights.save, path, tensors, metadata)
  return done, message
end

return tensor
