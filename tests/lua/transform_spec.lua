-- Transformations of images, against plain definitions.
local image = require "advrt.core.image"
local support = require "support"
local tensor = require "advrt.tensor"
local transform = require "advrt.core.transform"

local function at(t, y, x)
    return t[math.min(math.max(y, 1), #t)][math.min(math.max(x, 1), #t[1])]
end

local function compare(wanted, got, tolerance)
    for y = 1, #wanted do
        for x = 1, #wanted[1] do assert.near(wanted[y][x], got[y][x], tolerance) end
    end
end

local function applied(kind, strength, x, names)
    return transform.apply(kind, strength, x:clone(), names)
end

describe("a transformation", function()
    local x = tensor.uniform("transform", {2, 3, 7, 9})

    it("takes the median of a window, the edge repeated", function()
        local got = applied("median", 3, x)
        for n = 1, 2 do
            local plane, wanted = x[n][2]:totable(), {}
            for i = 1, 7 do
                wanted[i] = {}
                for k = 1, 9 do
                    local window = {}
                    for dy = -1, 1 do
                        for dx = -1, 1 do window[#window + 1] = at(plane, i + dy, k + dx) end
                    end
                    table.sort(window)
                    wanted[i][k] = window[5]
                end
            end
            compare(wanted, got[n][2]:totable(), 0)
        end
        assert.is_true(applied("median", 1, x):equal(x))
    end)

    it("blurs by a Gaussian", function()
        local got, plane = applied("gaussian", 0.8, x)[1][3]:totable(), x[1][3]:totable()
        local wanted, total = {}, 0
        for d = -3, 3 do total = total + math.exp(-d * d / (2 * 0.64)) end
        for i = 1, 7 do
            wanted[i] = {}
            for k = 1, 9 do
                local sum = 0
                for dy = -3, 3 do
                    for dx = -3, 3 do
                        sum = sum + at(plane, i + dy, k + dx)
                            * math.exp(-(dx * dx + dy * dy) / (2 * 0.64)) / total ^ 2
                    end
                end
                wanted[i][k] = sum
            end
        end
        compare(wanted, got, 1e-6)
    end)

    it("keeps some bits", function()
        for bits, levels in pairs {[1] = 1, [3] = 7, [8] = 255} do
            assert.is_true(applied("bits", bits, x):equal(x:clone():quantize_(levels)))
        end
    end)

    -- Of a step between two flat halves of width w, total variation takes strength / w off each side.
    it("minimises total variation: a step between flat halves is lowered by its closed form", function()
        local step = tensor.new {1, 1, 2, 6}
        for y = 1, 2 do
            for k = 1, 6 do step:set(k <= 3 and 0.2 or 0.8, 1, 1, y, k) end
        end
        local got = applied("tv", 0.15, step)
        for k = 1, 6 do assert.near(k <= 3 and 0.25 or 0.75, got:get(1, 1, 2, k), 1e-3) end
        assert.is_true(applied("tv", 0, x):equal(x))
    end)

    it("lowers the objective of total variation below that of its neighbours", function()
        local lambda, f = 0.1, x[1][1]:totable()
        local function objective(u)
            local sum = 0
            for i = 1, 7 do
                for k = 1, 9 do
                    local dx = k < 9 and u[i][k + 1] - u[i][k] or 0
                    local dy = i < 7 and u[i + 1][k] - u[i][k] or 0
                    sum = sum + 0.5 * (u[i][k] - f[i][k]) ^ 2 + lambda * math.sqrt(dx * dx + dy * dy)
                end
            end
            return sum
        end
        local u = applied("tv", lambda, x)[1][1]:totable()
        local least = objective(u)
        assert.is_true(least < 0.7 * objective(f))
        for trial = 1, 40 do
            local v, noise = {}, tensor.normal("neighbour" .. trial, {7, 9}):totable()
            for i = 1, 7 do
                v[i] = {}
                for k = 1, 9 do v[i][k] = u[i][k] + 0.02 * noise[i][k] end
            end
            assert.is_true(objective(v) > least)
        end
    end)

    it("goes through a JPEG: nearly itself at quality 100, further away below", function()
        for _, channels in ipairs {1, 3} do
            local smooth = tensor.new {1, channels, 16, 24}
            for c = 1, channels do
                for y = 1, 16 do
                    for k = 1, 24 do smooth:set(0.3 + 0.01 * y + 0.015 * k, 1, c, y, k) end
                end
            end
            local function distance(quality)
                return (applied("jpeg", quality, smooth) - smooth):abs():maximum()
            end
            assert.is_true(distance(100) < 2.5 / 255)
            assert.is_true(distance(10) > distance(100) and distance(10) < 0.1)
        end
    end)

    it("shrinks an image and puts it at a place of the stream's into black", function()
        local white = tensor.new {3, 1, 8, 10}
        white:fill(1)
        local names = {"a", "b", "a"}
        local got = applied("pad", 0.5, white, names)
        assert.near(4 * 5, got[1]:sum(), 1e-4)
        assert.is_true(got[1]:equal(got[3]))
        local places = {}
        for i = 1, 40 do
            local one = applied("pad", 0.5, white, {"s" .. i, "", ""})[1][1]:totable()
            for y = 1, 8 do
                for k = 1, 10 do
                    if one[y][k] == 1 and at(one, y - 1, k) + (y == 1 and -1 or 0) <= 0 then
                        places[y] = true
                    end
                end
            end
        end
        for y = 1, 5 do assert.is_true(places[y], "top at row " .. y) end
        assert.is_true(applied("pad", 1, x, {"a", "b"}):equal(x:clone():quantize_(255)))
        -- Resizing is the image loader's.
        local dir <close> = setmetatable({path = support.folder()},
            {__close = function(self) support.remove(self.path) end})
        local square = tensor.uniform("square", {1, 1, 12, 12})
        assert(image.save(dir.path .. "/a.png", square[1]))
        local wanted = assert(image.load(dir.path .. "/a.png", {resize = 6})):to("f32")
        assert.near(wanted:sum() / 255, applied("pad", 0.5, square):sum(), 1e-3)
    end)

    it("refuses strengths and images that it cannot take", function()
        local function refused(pattern, ...)
            local ok, problem = pcall(transform.apply, ...)
            assert.is_false(ok)
            assert.matches(pattern, problem)
        end
        refused("median takes an odd number from 1 to 15, got 2", "median", 2, x)
        refused("gaussian takes a number from 0.001 to 16, got 0", "gaussian", 0, x)
        refused("bits takes a whole number from 1 to 16, got 1.5", "bits", 1.5, x)
        refused("jpeg takes a whole number from 1 to 100, got 101", "jpeg", 101, x)
        refused("pad takes .* got 1.1", "pad", 1.1, x)
        refused("tv takes .* got %-?nan", "tv", 0 / 0, x)
        refused("jpeg wants images of 1 or 3 channels, got 2", "jpeg", 50, tensor.new {1, 2, 8, 8})
        refused("invalid option 'blur'", "blur", 1, x)
        refused("wanted one text for each image", "pad", 0.5, x, {"a"})
    end)
end)
