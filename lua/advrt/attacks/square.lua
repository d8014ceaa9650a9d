--- Square Attack (Andriushchenko, Croce, Flammarion, Hein, "Square Attack: a query-efficient black-box
-- adversarial attack via random search", ECCV 2020, arXiv:1912.00049): random search by squares,
-- which uses only the network's logits (Algorithm 1).
--
--     x' = P(x + delta);   x = x' where the loss grows
--
-- with delta a change inside a square of side h at a random place, and P the projection onto the ball
-- and [0,1]. h^2 is a share p of the image, which is halved again and again, after the 10th, 50th,
-- 200th, 500th, 1000th, 2000th, 4000th, 6000th and 8000th of 10000 queries.
--
-- Norm inf (Algorithm 2): each channel of the square becomes x0 + eps or x0 - eps; the search starts at
-- vertical stripes of width 1. Norm 2 (Algorithm 3): the perturbation of a second square moves into the
-- first, with what the ball still has room for; the search starts at a grid of 5 x 5 squares.
--
--     attacks.square {norm = "inf", eps = nil, queries = 5000, p = 0.8, loss = nil}
--
-- @param norm     "inf" or 2
-- @param eps      the ball's radius in that norm; default: 8/255, or 1 for norm 2
-- @param queries  most evaluations of the network; an image is done at its first success
-- @param p        initial fraction of the image's pixels in a square
-- @param loss     the loss to increase; default: the margin (untargeted) or ce (targeted), as in the paper

local ball = require "advrt.attacks.ball"
local method = require "advrt.attacks.method"
local tensor = require "advrt.tensor"

local HALVINGS = {10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000} -- of 10000 queries
local GRID = 5
local margin = method.margin

local square = method.new("square", {
    norm = method.norm("inf"), eps = method.positive(), queries = method.count(5000),
    p = method.share(0.8), loss = method.loss("ce", margin),
}, function(self) self.eps = self.eps or (self.norm == 2 and 1 or 8 / 255) end)

function square.advance() end -- the attack uses no gradient

function square:evaluations() return self.queries end

--- The side of the square of the i-th query in an image of H x W.
function square:side(i, H, W)
    local halvings = 0
    for _, at in ipairs(HALVINGS) do
        if i > at * self.queries / 10000 then halvings = halvings + 1 end
    end
    local h = math.floor(math.sqrt(self.p / 2 ^ halvings * H * W) + 0.5)
    return math.max(1, math.min(h, H, W))
end

--- `n` numbers f(i), i from 1, as a tensor of `shape`.
local function numbers(n, shape, f)
    local list = {}
    for i = 1, n do list[i] = f(i) end
    return tensor.from(list, "f32", shape)
end

local function inside(i, first, h) return i >= first and i < first + h end

--- 1 in the h x h square whose first row and column are r and s, else 0: [1,H,W].
local function window(H, W, r, s, h)
    return numbers(H, {1, H, 1}, function(i) return inside(i, r, h) and 1 or 0 end)
        * numbers(W, {1, 1, W}, function(i) return inside(i, s, h) and 1 or 0 end)
end

--- What a channel of a square is given in norm 2, Eq. 2: two halves of opposite signs, each highest in
-- its middle. The square lies at r, s; halves side by side, or one above the other; [1,H,W], length 1.
local function hills(H, W, r, s, h, upright)
    local n, half = h // 2, h // 2
    local function whole(first) return function(i) return math.abs(i - first - n) end end
    -- the distance from the middle of its half, and the half's sign
    local function halved(first)
        return function(i)
            local at = i - first
            if at < half then return math.abs(at - half // 2), 1 end
            return math.abs(at - half - (h - half) // 2), -1
        end
    end
    local along, across = upright and whole(r) or halved(r), upright and halved(s) or whole(s)
    local far = numbers(H, {1, H, 1}, function(i) return (along(i)) end)
        :max(numbers(W, {1, 1, W}, function(i) return (across(i)) end))
    local sums, sum = {}, 0 -- over k = 0 .. M
    for k = 0, n do
        sum = sum + 1 / (n + 1 - k) ^ 2
        sums[k + 1] = sum
    end
    local places = (far * -1 + n):clamp(0, n):to("i64"):reshape {1, H * W}
    local signs = upright and numbers(W, {1, 1, W}, function(i) return select(2, across(i)) end)
        or numbers(H, {1, H, 1}, function(i) return select(2, along(i)) end)
    local eta = tensor.from({sums}):gather(2, places):reshape {1, H, W} * window(H, W, r, s, h) * signs
    return eta / eta:norms():get(1)
end

--- One image's search.
local Search = {}
Search.__index = Search

local function new_search(self, image)
    local shape = image.x0:shape()
    return setmetatable({attack = self, image = image, x0 = image.x0, best = image.x0:clone(),
        C = shape[1], H = shape[2], W = shape[3], eps = self.eps}, Search)
end

--- Numbers in [0,1) for the i-th query.
function Search:draw(i, count)
    return tensor.uniform(self.image:stream("query" .. i), {count}):totable()
end

function Search:signs(u, first)
    return numbers(self.C, {self.C, 1, 1}, function(i) return u[first + i] < 0.5 and -1 or 1 end)
end

--- Projects a point [C,H,W] in place.
function Search:project(x)
    return ball.project(self.image.batch.range:clamp_(x), self.x0, self.attack.norm, self.eps)
end

--- A corner for a square of side h, from two numbers in [0,1).
function Search:place(h, u, v)
    return 1 + math.floor(u * (self.H - h + 1)), 1 + math.floor(v * (self.W - h + 1))
end

--- The square that gives its perturbation to the first.
function Search:second(h, u)
    local r, s = self:place(h, u[3], u[4])
    return window(self.H, self.W, r, s, h)
end

local start, change = {}, {}

function start.inf(self)
    local u = tensor.uniform(self.image:stream("start"), {self.C, 1, self.W})
    return self:project((u:ge(0.5) * (2 * self.eps) - self.eps) + self.x0)
end

function change.inf(self, i, h)
    local u = self:draw(i, 2 + self.C)
    local r, s = self:place(h, u[1], u[2])
    local to = self.x0 + self:signs(u, 2) * self.eps
    return self:project((to - self.best):mul_(window(self.H, self.W, r, s, h)):add_(self.best))
end

start[2] = function(self)
    local h = math.max(1, math.min(self.H, self.W) // GRID)
    local d = tensor.new(self.x0:shape())
    for i = 0, GRID * GRID - 1 do
        local r, s = 1 + i // GRID * h, 1 + i % GRID * h
        if r + h - 1 <= self.H and s + h - 1 <= self.W then
            local u = tensor.uniform(self.image:stream("start" .. i), {self.C + 1}):totable()
            d:add_(self:signs(u, 1) * hills(self.H, self.W, r, s, h, u[1] < 0.5))
        end
    end
    local length = d:reshape {1, d:numel()}:norms():get(1)
    return self:project(d:mul_(self.eps / length):add_(self.x0))
end

change[2] = function(self, i, h)
    local u = self:draw(i, 5 + self.C)
    local r, s = self:place(h, u[1], u[2])
    local first = window(self.H, self.W, r, s, h)
    local nu = self.best - self.x0
    local lengths = (nu * first):norms():totable()
    local whole = nu:reshape {1, nu:numel()}:norms():get(1)
    local unused = math.max(0, self.eps ^ 2 - whole ^ 2) / self.C
    local both = first:max(self:second(h, u))
    local freed = (nu * both):norms():totable()
    -- nu_temp of each channel: the hills with a random sign, and what the square had, of length 1
    local temp = nu * first * numbers(self.C, {self.C, 1, 1}, function(c)
        return lengths[c] > 0 and 1 / lengths[c] or 0
    end)
    temp:add_(self:signs(u, 5) * hills(self.H, self.W, r, s, h, u[5] < 0.5))
    local own = temp:norms():totable()
    temp:mul_(numbers(self.C, {self.C, 1, 1}, function(c)
        return own[c] > 0 and math.sqrt(freed[c] ^ 2 + unused) / own[c] or 0
    end))
    return self:project((nu * (both * -1 + 1)):add_(temp):add_(self.x0))
end

function square:attack(image)
    local search, best = new_search(self, image), -math.huge
    for i = 1, self.queries do
        image:begin(i == 1 and start[self.norm](search)
            or change[self.norm](search, i - 1, self:side(i - 1, search.H, search.W)))
        if image.success or image.value > best then
            best = image.value
            search.best:copy(image.x)
            image:keep()
        end
        if image.success then return end
    end
end

return square
