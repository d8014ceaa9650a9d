-- advrt.image: files to tensors and back, what it says where it cannot, and misuse.

local image = require "advrt.image"
local support = require "support"
local system = require "advrt.core.system"
local tensor = require "advrt.tensor"

local golden = "tests/golden/images/"

local function values(x) return x:reshape {-1}:totable() end

describe("image", function()
    local dir
    before_each(function() dir = support.folder() end)
    after_each(function() support.remove(dir) end)

    it("loads, resizes and crops as torchvision does", function()
        local wanted = assert(tensor.load(golden .. "expected.safetensors"))
        for name, want in pairs(wanted) do
            local got = assert(image.load(golden .. name, {resize = 64, crop = 56, channels = 3}))
            assert.equal("u8", got:dtype())
            assert.same({3, 56, 56}, got:shape())
            local off = (got:to "f32" - want:to "f32"):abs():maximum()
            assert.is_true(off <= (name:find "%.png$" and 0 or 1), name .. " is off by " .. off)
        end
    end)

    it("gives the channels of the file unless asked", function()
        assert.same({1, 75, 113}, assert(image.load(golden .. "grey_alpha.png")):shape())
        assert.same({3, 75, 113}, assert(image.load(golden .. "palette.png", {})):shape())
        assert.same({1, 75, 113}, assert(image.load(golden .. "rgb.png", {channels = 1})):shape())
        assert.same({3, 75, 113}, assert(image.load(golden .. "grey.jpg", {channels = 3})):shape())
        assert.same({3, 113, 75}, assert(image.load(golden .. "tall.png")):shape())
    end)

    it("tells size and kind", function()
        assert.same({113, 75, "rgb"}, {image.size(golden .. "palette.png")})
        assert.same({75, 113, "rgb"}, {image.size(golden .. "tall.png")})
        assert.same({113, 75, "grey"}, {image.size(golden .. "grey.jpg")})
        assert.same({nil, golden .. "bad_empty.jpg: is empty"},
            {image.size(golden .. "bad_empty.jpg")})
    end)

    it("refuses every bad file with one line that names it, and keeps nothing", function()
        local count = 0
        for _, name in ipairs(support.list(golden)) do
            if name:find "^bad_" then
                collectgarbage()
                local before = system.memory().in_use
                local x, message = image.load(golden .. name)
                collectgarbage()
                assert.is_nil(x)
                assert.equal(golden .. name .. ": ", message:sub(1, #golden + #name + 2))
                assert.is_nil(message:find "\n")
                assert.equal(before, system.memory().in_use)
                count = count + 1
            end
        end
        assert.equal(6, count)
    end)

    it("looks at the content, not at the name", function()
        local path = support.write(dir .. "/wrong.jpg", support.read(golden .. "rgb.png"))
        assert.same({3, 75, 113}, assert(image.load(path)):shape())
        assert.same({nil, golden .. "bad_text.png: not a PNG, JPEG, WebP, BMP or PNM file"},
            {image.load(golden .. "bad_text.png")})
    end)

    it("saves u8 exactly", function()
        local x = assert(image.load(golden .. "rgb.png"))
        for _, y in ipairs {x, x[2]:reshape {1, 75, 113}} do
            assert.is_true(image.save(dir .. "/a.png", y))
            local back = assert(image.load(dir .. "/a.png"))
            assert.same(y:shape(), back:shape())
            assert.same(values(y), values(back))
        end
        assert.is_true(image.save(dir .. "/a.png", x[3]))
        assert.same(values(x[3]), values(assert(image.load(dir .. "/a.png"))))
        assert.same({"a.png"}, support.list(dir))
    end)

    it("saves f32 clamped and rounded half to even", function()
        local nan = 0 / 0
        local x = tensor.from({{-1, 0, 1, 2, nan, 1 / 0, -1 / 0},
            {0.5, 1.5 / 255, 2.5 / 255, 0.4 / 255, 0.6 / 255, 254.4 / 255, 254.6 / 255}})
        assert.is_true(image.save(dir .. "/a.png", x))
        assert.same({{{0, 0, 255, 255, 0, 255, 0}, {128, 2, 2, 0, 1, 254, 255}}},
            assert(image.load(dir .. "/a.png")):totable())
    end)

    it("gives a batch's row what image_u8 says of it", function()
        local x = tensor.uniform("image", {2, 3, 9, 7})
        assert.is_true(image.save(dir .. "/a.png", x[2]))
        assert.same(x:image_u8(2):totable(), assert(image.load(dir .. "/a.png")):totable())
    end)

    it("says where it cannot save, and leaves what was there", function()
        local x = tensor.new {1, 2, 2}
        assert.same({nil, dir .. ": is a directory"}, {image.save(dir, x)})
        assert.same({nil, "/dev/full: No space left on device"}, {image.save("/dev/full", x)})
        local done, message = image.save(dir .. "/none/a.png", x)
        assert.is_nil(done)
        assert.equal(dir .. "/none/a.png: No such file or directory", message)
        done, message = image.save(dir .. "/a.png", tensor.new {1, 0, 2})
        assert.is_nil(done)
        assert.matches("a%.png: an image of 2 x 0 pixels", message)
        assert.same({}, support.list(dir))
    end)

    it("raises on misuse", function()
        local path = golden .. "rgb.png"
        local function raises(pattern, call, ...)
            local ok, message = pcall(call, ...)
            assert.is_false(ok)
            assert.matches(pattern, tostring(message))
        end
        raises("'channels' must be 1 or 3, got 2", image.load, path, {channels = 2})
        raises("'channels' must be 1 or 3, got 4", image.load, path, {channels = 4})
        raises("'resize' must be an integer from 1 to 65535, got 0", image.load, path, {resize = 0})
        raises("'crop' must be an integer from 1 to 65535, got 1.5", image.load, path, {crop = 1.5})
        raises("'crop' must be an integer from 1 to 65535, got 65536", image.load, path,
            {crop = 65536})
        raises("table expected, got number", image.load, path, 3)
        raises("string expected, got nil", image.load)
        raises("wanted u8 or f32 %[1,H,W%], %[3,H,W%] or %[H,W%], got f32 %[2,4,4%]", image.save,
            dir .. "/a.png", tensor.new {2, 4, 4})
        raises("got f64 %[1,4,4%]", image.save, dir .. "/a.png", tensor.new({1, 4, 4}, "f64"))
        raises("got f32 %[4%]", image.save, dir .. "/a.png", tensor.new {4})
        assert.same({}, support.list(dir))
    end)

    it("reads IDX files", function()
        local path = support.write(dir .. "/a.idx", "\0\0\8\2\0\0\0\2\0\0\0\3" .. "abcdef")
        local x = assert(image.idx(path))
        assert.equal("u8", x:dtype())
        assert.same({{97, 98, 99}, {100, 101, 102}}, x:totable())
        support.write(path, "\0\0\13\1\0\0\0\1" .. "abcd")
        assert.same({nil, path .. ": holds elements of type f32 (0x0d); u8 (0x08) is read"},
            {image.idx(path)})
        assert.same({nil, dir .. ": is a directory"}, {image.idx(dir)})
        support.write(path, "\0\0\8\3" .. ("\0"):rep(4) .. ("\xff"):rep(8))
        assert.same({nil, path .. ": a tensor of shape [0,4294967295,4294967295] is too large"},
            {image.idx(path)})
    end)
end)
