--- Images: PNG, JPEG, WebP, BMP and PNM files as u8 tensors [C,H,W], and PNG files from tensors.
--
-- Pixels equal those of Pillow 13: grey images stay grey, all others become RGB; alpha is dropped;
-- palettes are looked up; a 16-bit value v becomes round(v / 257); CMYK becomes RGB without a
-- profile; profiles, gamma and orientation tags are ignored. Resizing and cropping follow
-- torchvision. Arithmetic-coded JPEGs are an error. The first bytes of a file decide its format, not
-- its name.
--
--   local x = assert(image.load("cat.jpg", {resize = 256, crop = 224, channels = 3}))
--   local batch = tensor.new{1, 3, 224, 224}:set_image(1, x)   -- f32 in [0,1]
--   assert(image.save("cat.png", batch[1]))
--
-- @module advrt.image

local arguments = require "advrt.support.check"
local core = require "advrt.core.image"
local fail = require "advrt.support.fail"
local lfs = require "lfs"
local tensor = require "advrt.tensor"

local image = {}

--- Reads an image.
-- @param path a PNG, JPEG, WebP, BMP or PNM (PBM, PGM, PPM) file
-- @param options optional table. channels: 1 (colour becomes (19595 R + 38470 G + 7471 B + 2^15) >>
--   16) or 3 (grey is repeated), default: as in the file. resize: new length of the shorter side; the
--   longer side is truncated (Pillow's antialiased bilinear). crop: then the central square of this
--   side, offset rounded half to even; outside the image it is 0. In this order.
-- @return u8 tensor [C,H,W]; or nil and one line that names the file and says why not
function image.load(path, options)
  local x, message = arguments.call("load", 0, core.load, path, options)
  return x, message
end

--- The size of an image from its file's header; the pixels are not checked.
-- @return width, height, and the kind that load returns: "grey" or "rgb"; or nil and one line
function image.size(path)
  arguments.want("size", 1, "string", path)
  return core.size(path)
end

--- Writes an 8-bit PNG, atomically. Equal pixels give equal bytes.
-- @param path its name; an existing file is replaced
-- @param x tensor [1,H,W], [3,H,W] or [H,W]: u8, or f32 in [0,1], which is clamped, multiplied by
--   255 and rounded half to even, NaN being 0
-- @return true; or nil and one line
function image.save(path, x)
  local done, message = arguments.call("save", 0, core.save, path, x)
  return done, message
end

local SHOWN = 64 -- images of a batch at most

-- A batch [N,C,H,W] as one image [C,H',W'], in a grid of about as many rows as columns; unused
-- cells are black.
local function sheet(x)
  local N, C, H, W = math.min(x:size(1), SHOWN), x:size(2), x:size(3), x:size(4)
  local columns = math.ceil(math.sqrt(N))
  local rows = math.ceil(N / columns)
  local black, lines = tensor.new({W}, x:dtype()), {}
  for c = 1, C do
    for row = 1, rows do
      for h = 1, H do
        for column = 1, columns do
          local n = (row - 1) * columns + column
          lines[#lines + 1] = n <= N and x[n][c][h] or black
        end
      end
    end
  end
  return tensor.concat(lines):reshape {C, rows * H, columns * W}
end

--- Writes an image, or a batch of images side by side, as PNG, and prints where.
-- @param x tensor [H,W], [C,H,W] or [N,C,H,W] (the first 64), C 1 or 3, as image.save takes it
-- @param path optional name; default: image.png in a new temporary folder
function image.show(x, path)
  local shape = arguments.is_tensor(x) and x:shape() or {}
  local C = #shape > 2 and shape[#shape - 2] or 1
  local filled = #shape >= 2 and x:numel() > 0
  if #shape > 4 or not filled or C ~= 1 and C ~= 3 or x:dtype() ~= "u8" and x:dtype() ~= "f32" then
    error(("bad argument #1 to 'show' (u8 or f32 [H,W], [C,H,W] or [N,C,H,W] expected, got %s)")
      :format(tostring(x)), 2)
  end
  if #shape == 4 then x = sheet(x) end
  if not path then
    local folder = os.tmpname() -- a unique file name, for a folder that no other user can write to
    os.remove(folder)
    local made, problem = lfs.mkdir(folder)
    if not made then fail("%s: %s", folder, problem) end
    path = folder .. "/image.png"
  end
  local done, message = image.save(path, x)
  if not done then fail("%s", message) end
  shape = x:shape()
  print(("%s: %d x %d pixels"):format(path, shape[#shape], shape[#shape - 1]))
end

--- Reads an IDX file of bytes (MNIST's format), plain or compressed by gzip.
-- @return u8 tensor of the file's shape; or nil and one line
function image.idx(path)
  local x, message = arguments.call("idx", 0, core.idx, path)
  return x, message
end

return image
