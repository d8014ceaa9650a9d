-- The feed of training images: where they come from, in what order, and how they are changed.
local feed = require "advrt.core.feed"
local image = require "advrt.core.image"
local support = require "support"
local tensor = require "advrt.tensor"

local function refuses(pattern, f, ...)
    local ok, problem = pcall(f, ...)
    assert.is_false(ok)
    assert.matches(pattern, tostring(problem))
end

local function numbers(...) return tensor.from({...}, "i64") end

-- Every batch of a pass: arrays of labels and of the images' first values.
local function drain(f, shape, batch, options)
    local x, y = tensor.new {batch, table.unpack(shape)}, tensor.new({batch}, "i64")
    local labels, values = {}, {}
    options.batch = batch
    f:start(options)
    while f:next(x, y) do
        for k = 1, batch do
            labels[#labels + 1], values[#values + 1] = y:get(k), x:get(k, 1, 1, 1)
        end
    end
    return labels, values
end

describe("a feed", function()
    local base
    setup(function() base = support.folder() end)
    teardown(function() support.remove(base) end)

    local images = tensor.from({{{{0, 51}, {102, 255}}}, {{{1, 2}, {3, 4}}}}, "u8")

    it("delivers whole batches in order, over 255", function()
        local f = feed.new {shape = {1, 2, 2}}
        f:pixels(images, numbers(5, 6))
        assert.are.equal(2, #f)
        local x, y = tensor.new {2, 1, 2, 2}, tensor.new({2}, "i64")
        f:start {order = numbers(0, 1, 0), batch = 2}
        assert.is_true(f:next(x, y))
        assert.are.same({5, 6}, y:totable())
        assert.near(0.2, x:get(1, 1, 1, 2), 1e-7)
        assert.are.equal(1, x:get(1, 1, 2, 2))
        assert.near(3 / 255, x:get(2, 1, 2, 1), 1e-7)
        assert.is_false(f:next(x, y))
        assert.is_true(f:waited() >= 0)
    end)

    it("changes an image as the number says that it counts as, not as its place does", function()
        local count, order, same = 16, {}, {}
        for i = 1, count do order[i], same[i] = i - 1, 0 end
        local f, alike = feed.new {shape = {1, 2, 2}}, {}
        for i = 1, count do alike[i] = {{{0, 51}, {102, 255}}} end
        f:pixels(tensor.from(alike, "u8"), tensor.new({count}, "i64"))
        local function flips(of, others)
            return select(2, drain(f, {1, 2, 2}, 4, {order = numbers(table.unpack(of)), flip = true,
                stream = "augment:1", numbers = others and numbers(table.unpack(others))}))
        end
        local wanted, first = flips(order), flips(same)
        assert.same(wanted, flips(same, order))
        assert.not_same(wanted, first)
        for i = 2, count do assert.equal(first[1], first[i]) end
    end)

    it("is looked at when its options cannot close it, or their order, any more", function()
        local f, order = feed.new {shape = {1, 2, 2}}, numbers(0, 1)
        f:pixels(images, numbers(5, 6))
        local function closing(what)
            return setmetatable({order = order, batch = 1}, {__index = function(_, key)
                if key == "threads" then getmetatable(what).__close(what) end
            end})
        end
        refuses("'order' must be a tensor of i64, got tensor %(emptied%)", f.start, f, closing(order))
        order = numbers(0, 1)
        refuses("the feed is closed", f.start, f, closing(f))
    end)

    it("is the same with any number of threads, however long the pass", function()
        local f = feed.new {shape = {1, 2, 2}}
        local many = tensor.uniform("feed", {300, 1, 2, 2}):mul(255):to("u8")
        local order = {}
        for i = 1, 300 do order[i] = (i * 7) % 300 end
        f:pixels(many, tensor.from(order, "i64"))
        local wanted = {}
        for i, k in ipairs(order) do wanted[i] = many:get(k + 1, 1, 1, 1) / 255 end
        for _, threads in ipairs {1, 2, 5} do
            local labels, values = drain(f, {1, 2, 2}, 3,
                {order = tensor.from(order, "i64"), threads = threads})
            assert.are.equal(300, #labels)
            for i = 1, 300 do
                assert.are.equal(order[order[i] + 1], labels[i])
                assert.near(wanted[i], values[i], 1e-7)
            end
        end
    end)

    it("reads image files and raw images, and rounds them on request", function()
        local png, raw = base .. "/a.png", base .. "/raw"
        assert(image.save(png, images[1]))
        local values = tensor.uniform("raw", {3, 1, 2, 2})
        support.write(raw, "12345" .. values:bytes() .. images:bytes())
        for _, round in ipairs {false, true} do
            local f = feed.new {shape = {1, 2, 2}, round = round}
            f:file(png, 1)
            f:raw(raw, "f32", 5, 3, 2)
            f:raw(raw, "u8", 5 + 48, 2, numbers(3, 4))
            local x, y = tensor.new {6, 1, 2, 2}, tensor.new({6}, "i64")
            f:start {order = numbers(0, 1, 2, 3, 4, 5), batch = 6}
            assert.is_true(f:next(x, y))
            assert.are.same({1, 2, 2, 2, 3, 4}, y:totable())
            local wanted = values:clone()
            if round then wanted:quantize_(255) end
            for i = 1, 3 do assert.is_true(x[i + 1]:equal(wanted[i])) end
            assert.is_true(x[1]:equal(x[5]))
            assert.near(4 / 255, x:get(6, 1, 2, 2), 1e-7)
        end
    end)

    it("mirrors and shifts by the stream and the image's number alone", function()
        local one = tensor.from({{{{10, 20, 30}, {40, 50, 60}, {70, 80, 90}}}}, "u8")
        local f = feed.new {shape = {1, 3, 3}}
        f:pixels(one, numbers(0))
        local x, y, mirrored, shifts = tensor.new {1, 1, 3, 3}, tensor.new({1}, "i64"), 0, {}
        local function look(options)
            options.order, options.batch = numbers(0), 1
            f:start(options)
            assert.is_true(f:next(x, y))
            return math.floor(x:get(1, 1, 2, 2) * 255 + 0.5), math.floor(x:get(1, 1, 2, 3) * 255 + 0.5)
        end
        for i = 1, 300 do
            local middle, right = look {flip = true, shift = 1, stream = "s" .. i}
            shifts[middle] = (shifts[middle] or 0) + 1
            if right ~= 0 and right < middle then mirrored = mirrored + 1 end
        end
        for value = 10, 90, 10 do assert.is_true((shifts[value] or 0) > 10) end
        assert.is_true(mirrored > 60 and mirrored < 140) -- half of the two thirds where it shows
        assert.are.equal(50, (look {flip = false, shift = 0, stream = "s"}))
        assert.are.equal(50, (look {flip = true, shift = 1})) -- no stream, no change
    end)

    it("changes images of f32 in memory as those of u8", function()
        local x, u = tensor.new {2, 1, 2, 2}, tensor.new {2, 1, 2, 2}
        local y, bytes, floats = tensor.new({2}, "i64"), feed.new {shape = {1, 2, 2}}, feed.new
            {shape = {1, 2, 2}}
        bytes:pixels(images, 0)
        floats:pixels(images:to("f32") / 255, 0)
        for i = 1, 20 do
            for f, to in pairs {[bytes] = u, [floats] = x} do
                f:start {order = numbers(1, 0), batch = 2, flip = true, shift = 1, stream = "s" .. i}
                assert.is_true(f:next(to, y))
            end
            assert.is_true(u:equal(x))
        end
    end)

    it("fails at the batch of a bad image, naming its file, and goes on with a new pass", function()
        local raw, short = base .. "/values", base .. "/short"
        support.write(raw, tensor.from({0, 0.5, 1, 0, 0, 0, 1.5, 0}):bytes())
        support.write(short, "abc")
        local f = feed.new {shape = {1, 2, 2}}
        f:raw(raw, "f32", 0, 2, 0)
        f:raw(short, "u8", 0, 1, 0)
        f:file(base .. "/none.png", 0)
        local x, y = tensor.new {1, 1, 2, 2}, tensor.new({1}, "i64")
        for place, pattern in pairs {[1] = "values: .* 1.5, outside", [2] = "short: is truncated",
            [3] = "none.png: No such file"} do
            f:start {order = numbers(0, place, 0), batch = 1, threads = 3}
            assert.is_true(f:next(x, y))
            refuses(pattern, f.next, f, x, y)
        end
        f:start {order = numbers(0), batch = 1}
        assert.is_true(f:next(x, y))
    end)

    it("refuses what does not fit", function()
        local f = feed.new {shape = {1, 2, 2}}
        f:pixels(images, numbers(0, 1))
        local x, y = tensor.new {2, 1, 2, 2}, tensor.new({2}, "i64")
        refuses("names image 2 of 2", f.start, f, {order = numbers(2), batch = 1})
        refuses("names image %-1", f.start, f, {order = numbers(-1), batch = 1})
        refuses("'order' must be", f.start, f, {order = x, batch = 1})
        refuses("a batch of 1 or more", f.start, f, {order = numbers(0), batch = 0})
        refuses("'shift' must be an integer from 0 to 1024, got", f.start, f,
            {order = numbers(0), batch = 1, shift = -1})
        f:start {order = numbers(0, 1), batch = 2}
        refuses("must be f32 %[2,1,2,2%]", f.next, f, tensor.new {2, 1, 2, 3}, y)
        refuses("labels must be i64 %[2%]", f.next, f, x, numbers(1))
        refuses("cannot add images to a feed during a pass", f.file, f, "a.png", 0)
        refuses("must be u8 or f32 %[M,1,2,2%]", f.pixels, feed.new {shape = {1, 2, 2}},
            tensor.new({1, 1, 3, 3}, "u8"), 0)
        refuses("wanted one label for each", f.pixels, f, images, numbers(1))
        refuses("not i64", f.raw, f, "x", "i64", 0, 1, 0)
        refuses("cannot be", feed.new, {shape = {1, 0, 2}})
        for _, C in ipairs {2, 4} do -- a file has fewer or more planes than there is room for
            refuses("a.png: image files have 1 or 3 channels, the feed's images " .. C, function()
                feed.new {shape = {C, 2, 2}}:file("a.png", 0)
            end)
        end
        f:close()
        refuses("the feed is closed", f.next, f, x, y)
    end)
end)
