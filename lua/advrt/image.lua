--- Images: PNG and JPEG files as u8 tensors [C,H,W], and PNG files from tensors.
--
-- Pixels are what Pillow makes of a file: grey images stay grey, all others become RGB; alpha is
-- dropped, whatever it hides; palettes are looked up; a 16-bit value v becomes round(v / 257);
-- profiles, gamma and orientation tags are not applied. Resizing and cropping are torchvision's.
-- What a file is, its first bytes say, not its name.
--
--   local x = assert(image.load("cat.jpg", {resize = 256, crop = 224, channels = 3}))
--   local batch = tensor.new{1, 3, 224, 224}:set_image(1, x)   -- f32 in [0,1]
--   assert(image.save("cat.png", batch[1]))
--
-- @module advrt.image

local core = require "advrt.core.image"

local image = {}

--- Reads an image.
-- @param path a PNG or JPEG file
-- @param options optional table. channels: 1 (colour becomes (19595 R + 38470 G + 7471 B + 2^15)
--   >> 16) or 3 (grey is repeated), else as the file has it. resize: the shorter side becomes this,
--   the longer one is truncated (Pillow's antialiased bilinear). crop: then the middle square of
--   this side, its offset rounded half to even; what lies outside the image is 0. In this order.
-- @return u8 tensor [C,H,W]; or nil and one line that names the file and says why not
function image.load(path, options)
  return core.load(path, options)
end

--- The size of an image by its file's header; a file that is damaged further on passes.
-- @return width, height, and the kind that load makes of it: "grey" or "rgb"; or nil and one line
function image.size(path)
  return core.size(path)
end

--- Writes an 8-bit PNG, whole or not at all. The same pixels give the same bytes.
-- @param path its name; what had it before is replaced
-- @param x tensor [1,H,W], [3,H,W] or [H,W]: u8, or f32 in [0,1], which is clamped, multiplied by
--   255 and rounded half to even, NaN being 0
-- @return true; or nil and one line
function image.save(path, x)
  return core.save(path, x)
end

--- Reads an IDX file of bytes (MNIST's format), plain or compressed by gzip.
-- @return u8 tensor of the file's shape; or nil and one line
function image.idx(path)
  return core.idx(path)
end

return image
