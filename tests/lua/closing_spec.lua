--- What is closed while an operation is at work with it stays until that is done, is refused from then on,
-- and is freed when it is collected; what is closed otherwise is freed at once.
package.path = "tests/nonsense/?.lua;" .. package.path
local autograd = require "advrt.autograd"
local finalisers = require "finalisers"
local loss = require "advrt.core.loss"
local record = require "advrt.core.record"
local support = require "support"
local system = require "advrt.core.system"
local tensor = require "advrt.tensor"

local LARGE = 1 << 20 -- bytes
local function large() return tensor.new {LARGE // 4} end
local function in_use() return system.memory().in_use end

local function close(t)
    local _ <close> = t
end

-- The result of f, in which `what` was called by finaliser `number`.
local function struck(f, what, number)
    local result
    finalisers.with(function()
        assert.is_true(finalisers.run(function() result = f() end, what, number or 1))
    end)
    return result
end

-- Whether closing t frees it at once.
local function frees(t)
    local before = in_use()
    close(t)
    return before - in_use() >= LARGE
end

describe("closing", function()
    it("by a finaliser does not disturb an operation, and is seen after it", function()
        local function one() return tensor.from {{1, 2}, {3, 4}} end
        local function image() return tensor.from {0.5, 1} end
        for name, f in pairs {
            image_u8 = function(x) return x:image_u8(1) end,
            add = function(x, y) return x:add(y) end,
            set_image = function(x) return x:clone():set_image(1, image()) end,
            gather = function(x) return x:gather(2, {0, 1}) end,
            stack = function(x, y) return tensor.stack {x, y} end,
            row = function(x) return x[2] end,
            norms = function(x) return (x:norms()) end,
            loss = function(x) return (loss.evaluate("ce", nil, x, {0, 1})) end,
            stats = function(x) return loss.stats(x, {0, 1}, {1, 0}).p_target end,
        } do
            local wanted = f(one(), one())
            for number = 1, 21, 10 do
                local x, y, closed = one(), one(), false
                local got
                finalisers.with(function()
                    finalisers.run(function() got = f(x, y) end, function()
                        close(x)
                        close(y)
                        closed = true
                    end, number)
                end)
                -- Between two operations of f it is refused.
                assert.is_true(got == nil or got:equal(wanted), name)
                assert.is_true(closed or number > 1, name)
                if closed then
                    assert.error_matches(function() x:clone() end, "the tensor has been emptied")
                    assert.equal("tensor (emptied)", tostring(y))
                end
            end
        end
    end)

    it("inside an operation frees when the tensor is collected", function()
        local x = large()
        local before = in_use()
        struck(function() return x:narrow(1, 1):clone() end, function() close(x) end)
        assert.error_matches(function() x:clone() end, "emptied")
        assert.is_true(before - in_use() < LARGE)
        x = nil -- luacheck: ignore
        collectgarbage()
        collectgarbage()
        assert.is_true(before - in_use() >= LARGE)
    end)

    it("outside an operation frees at once, after errors, too, and in coroutines", function()
        assert.is_true(frees(large()))
        assert.is_false(pcall(tensor.new, "x"))
        assert.is_false(pcall(function() return large() + tensor.new {2, 3, 4} end))
        assert.is_true(frees(large()))
        assert.is_true(coroutine.wrap(function() return frees(large()) end)())
        local t = setmetatable({}, {__index = function() return frees(large()) end})
        assert.is_true(t.x)
    end)

    it("frees at once what autograd closes in an operator of a tensor", function()
        local freed
        local y = autograd.track(tensor.from {1, 2})
        local meta = debug.getmetatable(y)
        local add = meta.__add
        meta.__add = function(...)
            freed = frees(large())
            return add(...)
        end
        local sum = tensor.from {1, 2}:add(y)
        meta.__add = add
        assert.is_true(freed)
        assert.same({2, 4}, sum.value:totable())
    end)

    it("by a metamethod that an operation calls waits for its end", function()
        local z = tensor.from {{1, 2}, {3, 4}}
        local p = tensor.new {2}
        loss.stats(z, {0, 1}, {1, 0}, setmetatable({}, {__index = function(_, name)
            close(z)
            return name == "p_target" and p or nil
        end}))
        assert.is_true(p:get(1) > 0.7)
        assert.error_matches(function() z:clone() end, "emptied")
    end)

    it("leaves a tensor that a finaliser has brought back to the operation that works with it", function()
        local saved
        for _ = 1, 20 do
            saved = nil
            do
                local x = tensor.from {{1, 2}, {3, 4}}
                setmetatable({x = x}, {__gc = function(self) saved = self.x end})
            end
            while not saved do collectgarbage("step", 1) end
            -- It was found in the same collection, and its own finaliser is still to come.
            local ok, made = pcall(function() return tensor.stack {saved, saved[1]:reshape {1, 2}} end)
            assert.is_true(not ok or made ~= nil)
            ok, made = pcall(saved.image_u8, saved, 1)
            assert.is_true(not ok or made:get(1) == 255)
        end
    end)
end)

describe("a finaliser", function()
    local folder
    before_each(function() folder = support.folder() end)
    after_each(function() support.remove(folder) end)

    local function part()
        local p = assert(record.part(folder .. "/some.part"))
        for i = 1, 3 do p:append(record.pack {{"n", i}}) end
        return p
    end

    it("cannot take frames away from an operation that has looked at their number", function()
        for _, name in ipairs {"record", "bytes"} do
            local p = part()
            local ok, problem
            struck(function() ok, problem = pcall(p[name], p, 3) end, function() p:cut(0) end)
            assert.is_true(ok or problem:find("there is no frame of this number") ~= nil)
            p:close()
        end
    end)

    it("cannot read on in a file whose record is being made a table", function()
        assert(part():finish(folder .. "/some.msgpack"))
        local problem
        for number = 1, 41, 10 do
            local next_one = record.each(folder .. "/some.msgpack")
            local got
            finalisers.with(function()
                finalisers.run(function() got = next_one() end, function()
                    problem = problem or select(2, pcall(next_one))
                end, number)
            end)
            assert.is_true(got == nil or got.n ~= nil)
        end
        assert.matches("the records' file is being read", tostring(problem))
    end)

    it("cannot make classes wrong behind the check of them", function()
        local function attempt(f)
            for number = 1, 41, 10 do
                local classes = tensor.from({0, 1}, "i64")
                local ok, problem = true, nil
                finalisers.with(function()
                    finalisers.run(function() ok, problem = pcall(f, classes) end, function()
                        classes:set(1 << 40, 1)
                    end, number)
                end)
                assert.is_true(ok or tostring(problem):find("must be a whole number in 0") ~= nil
                    or tostring(problem):find("must be in 0") ~= nil, tostring(problem))
            end
        end
        local z = tensor.from {{1, 2}, {3, 4}}
        attempt(function(c) return loss.evaluate("logit", nil, z, c) end)
        attempt(function(c) return loss.stats(z, c, c) end)
        attempt(function(c) return z:rank(c) end)
        attempt(function(c) return z:gather(2, c) end)
        attempt(function(c) return z:others(2, c) end)
    end)
end)
