--- What is not finite stays so: a NaN in an image or in a weight, and what overflows inside a net, reaches
-- the logits, as in PyTorch, and no other image.
local lfs = require "lfs"
local net = require "advrt.net"
local support = require "support"
local tensor = require "advrt.tensor"

local nan = 0 / 0
local N, BAD = 3, 2

-- Large nets all of whose layers a smaller one has.
local covered = {resnet101 = true, resnet152 = true, wide_resnet50_2 = true, wide_resnet28_10 = true,
    resnext50_32x4d = true, preact_resnet18 = true, mobilenet_v3_large = true, densenet121 = true,
    vit_b_16 = support.sanitized(), convnext_tiny = support.sanitized(),
    swin_t = support.sanitized()}
local names = {}
for entry in lfs.dir("nets") do
    local name = entry:match("^(.*)%.lua$")
    if name and not covered[name] then names[#names + 1] = name end
end
table.sort(names)

-- A net of nets/ in its smallest form.
local function small(name, plan)
    local d = assert(net.definition("nets/" .. name .. ".lua"))
    local large = d.input[2] > 32
    local stem = large and d.stems and d.stems[1] or nil
    return assert(net.load("nets/" .. name .. ".lua", {init = "golden", plan = plan, stem = stem,
        classes = 5, crop = large and (stem and 32 or 64) or nil}))
end

local function each_small(f)
    for _, name in ipairs(names) do
        for _, plan in ipairs {"fast", "direct"} do
            f(small(name, plan), ("%s, %s plan"):format(name, plan))
        end
    end
end

local function images(g) return tensor.uniform("finite", {N, table.unpack(g.input)}) end

local function nans(row)
    local count = 0
    for _, v in ipairs(row:totable()) do count = count + (v ~= v and 1 or 0) end
    return count
end

local function finite(z)
    for _, v in ipairs(z:reshape({-1}):totable()) do
        if v ~= v or math.abs(v) == math.huge then return false end
    end
    return true
end

-- Each way to the logits: what it is called, and the function of the images. Training comes last: it
-- changes the running statistics.
local function ways(g)
    local training = g:training_plan(N, 1)
    return {{"forward", function(x) return g:forward(x) end}, {"trace", function(x) return g:trace(x) end},
        {"training", function(x) return training:forward(x) end}}
end

describe("what is not finite", function()
    it("in one pixel makes that image's logits NaN, and no other's", function()
        each_small(function(g, what)
            local clean, dirty = images(g), images(g)
            dirty:set(nan, BAD, 1, g.input[2] // 2, g.input[3] // 2)
            for _, way in ipairs(ways(g)) do
                local name, run = way[1], way[2]
                local before = run(clean):clone()
                assert.is_true(finite(before), what)
                local z = run(dirty)
                for n = 1, N do
                    local message = ("%s, %s, image %d"):format(what, name, n)
                    if n == BAD then
                        assert.equal(g.classes, nans(z[n]), message)
                    elseif name ~= "training" then -- whose statistics are the batch's
                        assert.is_true(z[n]:equal(before[n]), message)
                    end
                end
                if name ~= "training" then assert.is_true(run(clean):equal(before), what .. ", again") end
            end
        end)
    end)

    it("in one pixel leaves the other images' gradients as they are", function()
        each_small(function(g, what)
            local clean, dirty = images(g), images(g)
            dirty:set(nan, BAD, 1, 1, 1)
            local dz = tensor.uniform("dz", {N, g.classes})
            g:trace(clean)
            local before = g:backward(dz)
            g:trace(dirty)
            local q = g:backward(dz)
            for n = 1, N do
                if n ~= BAD then assert.is_true(q[n]:equal(before[n]), what) end
            end
            dz[BAD]:fill(nan)
            local l2 = g:backward(dz):norms()
            assert.is_true(l2:get(BAD) ~= l2:get(BAD), what)
            assert.is_true(l2:get(1) == l2:get(1), what)
        end)
    end)

    it("in an infinite pixel is seen, too", function()
        each_small(function(g, what)
            for _, v in ipairs {math.huge, -math.huge} do
                local x = images(g)
                x[BAD]:fill(v)
                local z = g:forward(x)
                assert.is_false(finite(z[BAD]), what)
                assert.is_true(finite(z[1]) and finite(z[3]), what)
            end
        end)
    end)

    it("in any one weight reaches the logits", function()
        for _, name in ipairs {"fashion", "mlp"} do
            local g = small(name, "fast")
            for _, p in ipairs(g:parameters()) do
                if p.role ~= "running_mean" and p.role ~= "running_var" then
                    local w = g:state()[p.name]
                    local flat = w:reshape {-1}
                    local kept = flat:get(1)
                    flat:set(nan, 1)
                    g:forget_plans()
                    assert.is_true(nans(g:forward(images(g)):reshape {-1}) > 0, name .. ": " .. p.name)
                    flat:set(kept, 1)
                end
            end
        end
    end)

    it("in what overflows reaches the logits", function()
        each_small(function(g, what)
            for _, w in pairs(g:state()) do
                if w:dim() >= 2 then w:mul_(1e38) end
            end
            g:forget_plans()
            local z = g:forward(images(g))
            for n = 1, N do assert.is_false(finite(z[n]), what) end
        end)
    end)

    it("is named by its first image in one line, in every experiment", function()
        local folder = support.folder()
        local g = assert(net.load("nets/fashion.lua"))
        for name, w in pairs(g:state()) do
            if name:find "weight$" then w:mul_(1e6) end
        end
        assert(g:save(folder .. "/large.safetensors"))
        local set = support.images(folder .. "/images", 2)
        local file = support.list(set)[1]
        for _, words in ipairs {{"equal_multiplier"}, {"equal_perturbation"}, {"attacks"}, {"theorem"}} do
            local name = words[1]
            local status, _, err = support.advrt({"experiments/" .. name .. ".lua", "--images", set,
                "--weights", folder .. "/large.safetensors", "--out", folder .. "/" .. name})
            assert.equal(1, status, name .. err)
            local said = err:gsub("^.*\r", "")
            assert.matches("^advrt: [^\n]*/" .. file:gsub("%p", "%%%0") .. ": the logits are not finite; "
                .. "check the weights and the preprocessing[^\n]*\n$", said, name)
        end
        support.remove(folder)
    end)
end)
