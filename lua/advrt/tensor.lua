--- Tensors: numbers of one type in a row-major shape, on the device of the run.
--
-- Dimensions and indices count from 1, classes from 0. A view (`x[i]`, narrow,
-- reshape) shares its numbers with what it was made from. Image-sized work is f32
-- and stays on the device; names that end in `_` change the tensor they are called on.
--
-- `x[i]` is a view of row i, `#x` the number of rows, and `+ - * / ^` and unary `-` are the methods
-- below of the same meaning; `tostring(x)` tells type, shape, range and the count of NaN.
--
-- @module advrt.tensor

local core = require "advrt.core.tensor"

local tensor = {}
for name, operation in pairs(core) do
  tensor[name] = operation
end

--- tensor.new(shape[, dtype]) -> x
-- Zeros; of f32 for want of another type: f32, f64, f16, bf16, i64, i32, i16, i8, u8, bool.

--- tensor.from(table[, dtype[, shape]]) -> x
-- The numbers of a table, nested tables being rows; f32 for want of another type. With a shape,
-- that shape. Raises for rows of different lengths and for numbers that the type does not hold.

--- tensor.uniform(name, shape) -> x
-- u(name, i) of the project's random stream, f32 in [0,1): the same numbers wherever it is called.

--- tensor.normal(name, shape) -> x
-- Numbers of mean 0 and deviation 1 from the same stream, f32.

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
-- The elements in nested tables; one number where there are no dimensions.

--- x:item() -> number
-- The one element of a tensor that has no other; raises elsewhere.

--- x:get(i, j, ...) -> number
-- One element, an index for each dimension.

--- x:set(v, i, j, ...) -> x
-- Sets one element. Raises where v is no number that the type holds.

--- x:narrow(first, n) -> view
-- Rows first .. first+n-1.

--- x:reshape(shape) -> view
-- The same elements in another shape of as many; one size may be -1 and is found.

--- x:permute(order) -> y
-- A copy with the dimensions in another order: dimension i of it is dimension order[i] of x.
-- `w:permute {2, 1}` is the transpose of a matrix.

--- x:clone() -> y
-- A copy with storage of its own.

--- x:copy(from) -> x
-- Takes over all elements of a tensor of the same type and shape.

--- x:to(dtype) -> y
-- A copy in another element type, rounded to the nearest, half to even; into integers truncated
-- towards zero and saturated, NaN being 0.

--- x:fill(v) -> x
-- Sets every element; f32 and f64.

--- x:set_image(i, img) -> x
-- Row i of f32 [N,...] from an image [...] of f32, or of u8, which is divided by 255.

--- x:image_u8(i) -> img
-- Row i of f32 [N,...] in [0,1] as u8 [...]: times 255, rounded half to even; NaN becomes 0.

--- x:bytes() -> text
-- The elements as they lie in memory, row-major and little-endian.

--- x:add(y), x:sub(y), x:mul(y), x:div(y), x:pow(y), x:min(y), x:max(y) -> z
-- Element by element with a tensor of the same type or a number; f32, and f64 of one shape. Shapes of
-- f32 are lined up at their last dimensions, and what has one element in a dimension is repeated:
-- [N,K] - [N,1], [N,K] * [K]. The least and the greatest of a NaN and a number are NaN.

--- x:add_(y), x:sub_(y), x:mul_(y), x:div_(y), x:min_(y), x:max_(y) -> x
-- The same, x being overwritten; the result must have its shape.

--- x:gt(y), x:ge(y), x:lt(y), x:le(y), x:eq(y) -> mask
-- Comparisons of the same operands: 1 where they hold, else 0; 0 where either is NaN.

--- x:keep(mask) -> y
-- x where the mask is not 0, elsewhere 0 whatever x holds there. A mask of NaN counts as set.

--- x:share(y) -> z
-- 1 where x is the larger, 1/2 where both are equal, 0 where it is the smaller, NaN where either is.

--- x:exp(), x:log(), x:log1p(), x:tanh(), x:sqrt() -> y
-- Functions of every element; log1p is log(1 + x). f32.

--- x:softmax(dim[, float]), x:log_softmax(dim) -> y
-- exp(x) / sum of exp(x) along a dimension, and its logarithm. f32, made in double and rounded once;
-- with `float` true the softmax is made in float, as loss.ce's gradient is.

--- x:logsumexp(dim[, keep]) -> y
-- log of the sum of exp(x) along a dimension, of which `keep` leaves a size of 1. f32.

--- x:norm(p[, dim[, keep]]) -> y
-- The p-norm along a dimension, p being 1, 2 or "inf"; of each image of [N,...] where there is no dim.

--- x:topk(k, dim) -> values, indices
-- The k largest along a dimension in falling order, and their places, i64 counted from 0.

--- x:gather(dim, t) -> y
-- What stands at the indices t along a dimension, counted from 0 as classes are: z:gather(2, t) [N] of
-- z [N,K] and N classes. t is a tensor or table, one for each row, or of as many dimensions as x.

--- x:others(dim, t) -> y
-- Each row along a dimension without the element at its index: z:others(2, t) is [N,K-1].

--- dy:scatter(dim, t, K[, single]) -> dx
-- The way back of gather: K elements along the dimension, dy added at the indices t, else 0. single:
-- dy lacks the dimension.

--- dy:scatter_others(dim, t) -> dx
-- The way back of others: 0 at the indices t.

--- a:matmul(b[, kind]) -> c
-- The product of two matrices: "nn" a b, "nt" a times b transposed, "tn" a transposed times b. f32.

--- x:clamp(low, high) -> y
-- Every element brought into low .. high; NaN stays NaN. f32.

--- x:clamp_(low, high) -> x
-- The same, x being overwritten.

--- x:abs() -> y
-- Absolute values. f32.

--- x:sign_() -> x
-- -1, 0 or 1 for every element, 0 for 0; NaN stays NaN. f32.

--- x:quantize_(levels) -> x
-- Every element to the nearest multiple of 1/levels, half to even: the nearest 8-bit image for 255.

--- x:sum([dim[, keep]]), x:mean([dim[, keep]]) -> number
-- The sum and the mean of all elements, a number, in double. With a dimension: a tensor of those along
-- it; `keep` leaves a size of 1 there. f32.

--- x:minimum([dim[, keep]]), x:maximum([dim[, keep]]) -> number
-- The least and the greatest element; NaN where any is, and of no elements. With a dimension: as sum.

--- x:argmax() -> classes
-- Of each row of the last dimension the place of its greatest element, i64 counted from 0: of logits
-- [N,K] the classes [N]. The lowest where several tie, -1 where an element is NaN.

--- z:rank(labels) -> n
-- Of logits [N,K] and N classes, i64 [N]: the number of classes before the label when sorted by
-- falling logit, a tie for the lower class. Below 5 is within the top five.

--- x:equal(y) -> boolean
-- Whether type, shape and all elements are the same; NaN equals nothing.

--- q:norms([l2, linf, zero_share]) -> l2, linf, zero_share
-- Of each image of f32 [N,...]: the L2 and Linf norms, computed in double, and the share of elements
-- that are exactly zero; f64 [N], into the tensors that are given. Also tensor.norms(q, ...).

--- tensor.norms(q[, l2, linf, zero_share]) -> l2, linf, zero_share
-- q:norms as a function.

--- x:step_(q, a, x0[, l2, linf[, low, high]]) -> l2, linf
-- x = clip(x + a_n q_n) to [0,1], or to the box of low and high, f32 of one image each (Eq. 11-16), x, q
-- and x0 f32 [N,...], a f64 [N]; then the distances of x from x0 for each image, f64 [N]. The sum is made in
-- double and rounded once.

--- x:project_(x0, scale, radius) -> x
-- x = x0 + s_n (x - x0) for each image of f32 [N,...], each element of the difference held to
-- [-r_n, r_n] and rounded towards x0; scale and radius f64 [N].

--- x:tanh_enter_(w, hair[, low, high]) -> x
-- Into the space of Carlini & Wagner's attack: x is drawn in to hair .. 1 - hair, w = atanh(2x - 1); in a
-- box of low and high, f32 like x, its place between them.

--- tensor.tanh_step(tensors, options)
-- One step of Adam on w for the objective ||x - x0||^2 - c_n L, x = (tanh w + 1) / 2, with q the
-- gradient of L. tensors: x, w, m, v, q, x0 f32 [N,...], c, l2 (the distance from x0 after the step)
-- f64 [N], optional low and high, the box, f32 of one image, t i64 [N], the number of the step from 1;
-- images of t_n = 0 stay. options: rate, beta1 = 0.9, beta2 = 0.999, eps = 1e-8.

--- tensor.sgd(p, g, m, options)
-- One step of stochastic gradient descent: parameter p, gradient g, momentum m, all f32 of one shape,
-- p and m updated. options: rate, momentum = 0, weight_decay = 0, nesterov = false.

--- tensor.adam(p, g, m, v, options)
-- One step of Adam, p, m and v updated. options: rate, beta1 = 0.9, beta2 = 0.999, eps = 1e-8,
-- weight_decay = 0, decoupled = false (true: AdamW), t, the number of the step from 1.

--- tensor.cross_entropy(z, labels, dz) -> loss, correct
-- Of logits f32 [N,K] and N classes the mean of -log softmax(z)_label, and how many rows are right;
-- its gradient is written to dz [N,K].

--- Reads a file of named tensors: .safetensors, .pth (zip or legacy), .msgpack, or the .json index of
-- several, told by content.
-- @param path the file
-- @param options optional {key =}: which dictionary of a .pth that has several; default: 'state_dict',
-- 'model_state_dict' or 'model', else the one with most tensors; a line on the standard error says so
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

--- Writes named tensors, complete under the final name or not at all.
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
