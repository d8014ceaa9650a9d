-- Layers that put numbers elsewhere: what they make of a shape, and what they refuse.

local net = require "advrt.net"
local support = require "tests.support"
local tensor = require "advrt.tensor"

local folder

local function load(line)
    local path = support.write(folder .. "/net.lua",
        ("return {classes = 24, input = {2, 3, 4}, build = function(b, x)\n\n%s\nreturn z end}"):format(line))
    local g, message = net.load(path, {init = "golden"})
    return g, message and message:gsub(folder .. "/", "")
end

-- What a net without parameters makes of 1 to 24.
local function made(line)
    local g = assert(load("local y = " .. line .. " local z = b:flatten(y)"))
    local x = {}
    for i = 1, 24 do x[i] = i end
    local y = g:forward(tensor.from(x):reshape {1, 2, 3, 4}):reshape({-1}):totable()
    for i, v in ipairs(y) do y[i] = ("%.14g"):format(v) end
    return table.concat(y, " ")
end

describe("a layer that puts numbers elsewhere", function()
    setup(function() folder = support.folder() end)
    teardown(function() support.remove(folder) end)

    it("does what PyTorch's of that name does", function()
        local x = "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24"
        for line, wanted in pairs {
            ["b:concat({b:narrow(x, 1, 2, 1), b:narrow(x, 1, 1, 1)})"] =
                "13 14 15 16 17 18 19 20 21 22 23 24 1 2 3 4 5 6 7 8 9 10 11 12",
            ["b:concat({b:slice(x, -1, 3), b:slice(x, 3, 1, 2)}, -1)"] =
                "3 4 1 2 7 8 5 6 11 12 9 10 15 16 13 14 19 20 17 18 23 24 21 22",
            ["b:permute(x, {2, 3, 1})"] =
                "1 13 2 14 3 15 4 16 5 17 6 18 7 19 8 20 9 21 10 22 11 23 12 24",
            ["b:transpose(x, 2, -1)"] =
                "1 5 9 2 6 10 3 7 11 4 8 12 13 17 21 14 18 22 15 19 23 16 20 24",
            ["b:flip(x, {1, 3})"] =
                "16 15 14 13 20 19 18 17 24 23 22 21 4 3 2 1 8 7 6 5 12 11 10 9",
            ["b:channel_shuffle(b:reshape(x, {6, 2, -1}), 3)"] =
                "1 2 3 4 9 10 11 12 17 18 19 20 5 6 7 8 13 14 15 16 21 22 23 24",
            ["b:pad(b:slice(x, 3, 1, 4, 3), {0, 1, 0, 1})"] =
                "0 1 4 0 0 5 8 0 0 9 12 0 0 13 16 0 0 17 20 0 0 21 24 0",
            ["b:pad(b:narrow(x, 1, 2, 1), {1, 0}, 1)"] =
                "0 0 0 0 0 0 0 0 0 0 0 0 13 14 15 16 17 18 19 20 21 22 23 24",
            ["b:expand(b:slice(b:narrow(x, 1, 2, 1), 2, 1, 2), {3, -1, 4})"] =
                "13 14 15 16 17 18 19 20 13 14 15 16 17 18 19 20 13 14 15 16 17 18 19 20",
            ["b:expand(b:reshape(b:narrow(x, 3, 1, 2), {2, 1, 6}), {2, 2, 6})"] =
                "1 2 5 6 9 10 1 2 5 6 9 10 13 14 17 18 21 22 13 14 17 18 21 22",
            ["b:concat({b:split(x, 2, 2)}, 2)"] = x, ["b:concat({b:chunk(x, 3, 3)}, 3)"] = x,
            ["b:concat({b:split(x, {1, 3}, -1)}, 3)"] = x, ["b:flatten(b:flatten(x, 2), 1, -1)"] = x,
        } do assert.equal(wanted, made(line), line) end
    end)

    it("names the layer, the value and the shape that do not fit", function()
        for line, wanted in pairs {
            ["b:concat(x, x)"] = "concat takes a list of layers' outputs, b:concat({x, y}, 1), got a table",
            ["b:concat({x, 3})"] = "concat: input 2 is not a layer's output of this net, got 3",
            ["b:concat({x, b:flatten(x)})"] = "concat: [2,3,4] and [24] differ in more than dimension 1",
            ["b:concat({x, b:narrow(x, 2, 1, 1)}, 3)"] =
                "concat: [2,3,4] and [2,1,4] differ in more than dimension 3",
            ["b:concat({x, x}, 4)"] =
                "concat: dim must be a dimension of [2,3,4], 1 to 3 or -1 for the last, got 4",
            ["b:reshape(x, {5, -1})"] = "reshape: cannot make shape [5,-1] from [2,3,4]",
            ["b:reshape(x, {-1, -1})"] = "reshape: cannot make shape [-1,-1] from [2,3,4]",
            ["b:reshape(x, 24)"] = "reshape takes a list of sizes, got 24",
            ["b:reshape(x, {2.5})"] = "reshape takes a list of sizes, got {2.5}",
            ["b:reshape(x, {1, 1, 1, 1, 1, 1, 24})"] = "reshape: a shape has 1 to 6 dimensions",
            ["b:flatten(x, 3, 1)"] = "flatten: dimension 3 is not before dimension 1",
            ["b:permute(x, {1, 2})"] = "permute: its order must name every dimension of its input once",
            ["b:permute(x, {1, 2, 2})"] = "permute: its order must name every dimension of its input once",
            ["b:transpose(x, 1)"] =
                "transpose: dim must be a dimension of [2,3,4], 1 to 3 or -1 for the last, got nil",
            ["b:slice(x, 2, 4)"] = "slice: first must be 1 to 3, or -1 for the last, got 4",
            ["b:slice(x, 2, 3, 2)"] = "slice: there is nothing from 3 to 2",
            ["b:narrow(x, 2, 2, 3)"] = "narrow: dimension 2 has 3 elements, so there are no 3 from 2 on",
            ["b:split(x, {1, 1}, 2)"] = "split: sizes {1, 1} do not add up to the 3 elements of dimension 2",
            ["b:split(x, {2, 2}, 2)"] = "split: sizes {2, 2} do not add up to the 3 elements of dimension 2",
            ["b:split(x, 0)"] = "split takes a list of sizes, or one size, got 0",
            ["b:pad(x, -1)"] = "pad: pad must be a whole number of at least 0, {height, width} "
                .. "or {top, left, bottom, right}, got -1",
            ["b:pad(x, {1, 2, 3})"] = "pad: pad must be a whole number of at least 0, {height, width} "
                .. "or {top, left, bottom, right}, got {1, 2, 3}",
            ["b:pad(x, 1, 1)"] = "pad: the padding of a dimension is {before, behind}, got 1",
            ["b:pad(b:flatten(x), 1)"] = "pad takes an image [C,H,W] or a dim, got [24]",
            ["b:flip(x, {1, 1})"] = "flip: a dimension is named twice",
            ["b:expand(x, {2, 3, 8})"] = "expand: cannot repeat [2,3,4] to [2,3,8]",
            ["b:expand(x, {3, 4})"] = "expand: cannot repeat [2,3,4] to [3,4]",
            ["b:channel_shuffle(x, 3)"] = "channel_shuffle: groups must divide the 2 channels, got 3",
        } do
            local g, message = load("local z = " .. line)
            assert.is_nil(g, line)
            assert.equal("net.lua:3: " .. wanted, message, line)
        end
    end)

    it("says where a part of a split is not read", function()
        local _, message = load("local y, unused = b:chunk(x, 2) local z = b:flatten(y)")
        assert.equal("net.lua:3: no layer reads the output of slice", message)
    end)
end)
