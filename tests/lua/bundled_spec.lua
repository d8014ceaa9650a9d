--- The net, weights and images that come with the project, against the data they are made from.
local image = require "advrt.core.image"
local loss = require "advrt.loss"
local net = require "advrt.net"
local system = require "advrt.core.system"
local train = require "advrt.train"

local DATA = "/usr/share/datasets/fashion-mnist/t10k-"

local function test_set()
    local images = assert(image.idx(DATA .. "images-idx3-ubyte.gz"))
    return images:reshape {#images, 1, 28, 28}, assert(image.idx(DATA .. "labels-idx1-ubyte.gz"))
end

local function text(t) return table.concat(t:reshape({-1}):totable(), ",") end

describe("what comes with the project", function()
    local images, labels = test_set()

    it("is a net that gets 92 % of Fashion-MNIST's test images right", function()
        local g = assert(net.load("nets/fashion.lua"))
        assert.matches("nets/fashion.safetensors$", g.weights)
        assert.is_true(train.accuracy(g, images, labels) >= 0.92)
    end)

    it("keeps its gradients' direction in mixed precision, and most of it in bf16", function()
        if system.options.device ~= "cpu" then return pending "the CPU device's alone" end
        local nets, targets, n = {}, {}, 100
        for _, p in ipairs {"f32", "mixed", "bf16"} do
            nets[p] = assert(net.load("nets/fashion.lua", {precision = p}))
        end
        local x = images:narrow(1, n):to("f32"):div_(255)
        for i = 1, n do targets[i] = (labels:get(i) + 3) % 10 end
        for _, l in ipairs {loss.ce, loss.logit, loss.m_logit} do
            local z, q = nets.f32:gradient(x, l, targets)
            local size = q:norms()
            for p, least in pairs {mixed = 0.9999, bf16 = 0.8} do
                local other_z, other = nets[p]:gradient(x, l, targets)
                local other_size, apart = other:norms(), (other - q):norms()
                if p == "mixed" then assert.is_true(other_z:equal(z)) end
                for i = 1, n do
                    local a, b, d = size:get(i), other_size:get(i), apart:get(i)
                    local cosine = (a * a + b * b - d * d) / (2 * a * b)
                    assert.is_true(cosine > least, ("%s, image %d: %.6f"):format(p, i, cosine))
                    assert.is_true(cosine < 1 - 1e-8)
                end
            end
        end
    end)

    it("fits in 2 MB", function()
        local file = assert(io.open("nets/fashion.safetensors", "rb"))
        assert.is_true(file:seek("end") < 2e6)
        file:close()
    end)

    it("is the first ten test images of each class, with their labels", function()
        local of_class, total = {}, 0
        for line in io.lines("nets/fashion-images/labels.csv") do
            local index, label = line:match("^(%d+)%.png,(%d)$")
            if index then
                local i = tonumber(index) + 1
                local pixels = assert(image.load("nets/fashion-images/" .. index .. ".png"))
                assert.are.equal(text(images[i]), text(pixels))
                assert.are.equal(labels:get(i), tonumber(label))
                of_class[label] = (of_class[label] or 0) + 1
                total = total + 1
            end
        end
        for class = 0, 9 do assert.are.equal(10, of_class[tostring(class)]) end
        assert.are.equal(100, total)
    end)
end)
