--- Theorem IV.2 at a point: compares the gradient of J(z,t) = -log softmax(z)_t with respect to the
-- image (loss `ce`) with the theorem's statement, with an exact bound.
--
-- With p = softmax(z), k = argmax p, tau = 0.9 and M = max_i ||grad z_i||_2:
--
--     S1  k != t, p_k >= tau   ||grad J - (grad z_k - grad z_t)|| <= 2 (1 - p_k) M           (Eq. 8)
--     S2  elsewhere            grad J = sum_{i != t} p_i (grad z_i - grad z_t)                (Eq. 9)
--     S3  p_t >= tau           ||grad J|| <= 2 (1 - p_t) M                                   (Eq. 10)
--
-- The bounds follow from grad J = sum_i p_i (grad z_i - grad z_t). 1 - p is summed over the other
-- classes in double. Each bound (0 for S2) gets 1e-5 M for the rounding of float gradients. Classes
-- with a softmax below a cut form one pseudo-class with gradient grad(sum p_i z_i) / sum p_i (sums
-- over these classes, p constant). It is part of M and of the sum, so nothing is dropped.

local arguments = require "advrt.support.check"
local loss = require "advrt.loss"
local tensor = require "advrt.tensor"

local theorem = {}

local TAU = 0.9
local ROUNDING = 1e-5

--- The theorem's statement at one point, from its logits alone.
--
-- z        array of K logits, t: the target, counted from 0
-- cut      softmax below which a class joins the pseudo-class; the target and the class of the
--          largest softmax never do
--
-- Returns a table: subspace (1, 2, 3); p (array of K, in double) and `best`, its argmax counted from
-- 0; gap: 1 - p_best in S1 and S2, 1 - p_t in S3; margin = z_t - max_{i != t} z_i; terms, an array of
-- {class = i or nil for the pseudo-class, p =, factor =}. The sum of factor times grad z_class is the
-- theorem's approximation of grad J.
function theorem.approximate(z, t, cut)
    local best, other, sum, p = 1, nil, 0, {}
    for i = 2, #z do if z[i] > z[best] then best = i end end
    for i = 1, #z do
        p[i] = math.exp(z[i] - z[best])
        sum = sum + p[i]
        if i ~= t + 1 and (not other or z[i] > z[other]) then other = i end
    end
    for i = 1, #z do p[i] = p[i] / sum end
    local subspace = p[t + 1] >= TAU and 3 or best ~= t + 1 and p[best] >= TAU and 1 or 2
    local of, gap, others = subspace == 3 and t + 1 or best, 0, 0
    local terms, rest = {}, {p = 0}
    for i = 1, #z do
        if i ~= of then gap = gap + p[i] end
        if i ~= t + 1 then others = others + p[i] end
        if i == t + 1 or i == best or p[i] >= cut then
            terms[#terms + 1] = {class = i - 1, p = p[i]}
        else
            rest.p = rest.p + p[i]
        end
    end
    if #terms < #z and rest.p > 0 then terms[#terms + 1] = rest end
    for _, term in ipairs(terms) do
        local is_target = term.class == t
        if subspace == 1 then
            term.factor = is_target and -1 or term.class == best - 1 and 1 or 0
        elseif subspace == 2 then
            term.factor = is_target and -others or term.p
        else
            term.factor = 0
        end
    end
    return {subspace = subspace, p = p, best = best - 1, gap = gap, margin = z[t + 1] - z[other],
        terms = terms}
end

local function point_name(k) return "point " .. k end

local Tester = {}
Tester.__index = Tester

--- A tester for the points of a net, B images at a time; allocates its buffers.
function theorem.tester(net, B, cut)
    local shape = {B, table.unpack(net.input)}
    return setmetatable({net = net, cut = cut, shape = shape, dz = tensor.new {B, net.classes},
        value = tensor.new {B}, q = tensor.new(shape), one = tensor.new(shape),
        error = tensor.new(shape, "f64")}, Tester)
end

--- Sets dz so that row n requests the gradient of the n-th point's j-th term; rows of points with
-- fewer terms are 0. Returns whether any row is nonzero.
local function ask(dz, points, j)
    local any = false
    dz:fill(0)
    for n, point in ipairs(points) do
        local term = point.terms[j]
        if term and term.class then
            dz:set(1, n, term.class + 1)
        elseif term then
            local kept = {}
            for _, other in ipairs(point.terms) do kept[other.class or -1] = true end
            for i, p in ipairs(point.p) do
                if not kept[i - 1] then dz:set(p / term.p, n, i) end
            end
        end
        any = any or term ~= nil
    end
    return any
end

--- Tests the B points of a trace, by default the net's last one: z [B,K] are their logits, targets an
-- array of B classes, counted from 0. Returns an array of what theorem.approximate returns, and in it
--
--     error    the norm that the theorem bounds; scale: M; bound, with its share for rounding
--     held     whether error <= bound
--     grad_l2, zero_share   the norm of grad J and the share of its elements that are exactly 0
function Tester:test(z, targets, trace)
    arguments.logits(z, point_name)
    local net, rows, points = self.net, z:totable(), {}
    for n, row in ipairs(rows) do
        points[n] = theorem.approximate(row, targets[n], self.cut)
    end
    loss.ce:evaluate(z, targets, self.value, self.dz)
    net:backward(self.dz, self.q, trace) -- minus grad J
    local l2, linf, zeros = self.q:norms()
    for n, point in ipairs(points) do
        point.grad_l2, point.zero_share, point.scale = l2:get(n), zeros:get(n), 0
    end
    self.error:copy(self.q:to("f64"))
    for j = 1, math.huge do
        if not ask(self.dz, points, j) then break end
        net:backward(self.dz, self.one, trace)
        self.one:norms(l2, linf, zeros)
        for n, point in ipairs(points) do
            local term = point.terms[j]
            if term then point.scale = math.max(point.scale, l2:get(n)) end
            if term and term.factor ~= 0 then
                self.error[n]:add_(self.one[n]:to("f64"):mul_(term.factor))
            end
        end
    end
    l2 = self.error:to("f32"):norms()
    for n, point in ipairs(points) do
        point.error = l2:get(n)
        point.bound = (point.subspace == 2 and 0 or 2 * point.gap * point.scale)
            + ROUNDING * point.scale
        point.held = point.error <= point.bound
    end
    return points
end

--- The gradients of losses at one image as its margin z_t - max_{i != t} z_i grows. Only the
-- target's logit is raised, like a larger bias of its class, so every grad z_i stays unchanged.
--
-- net, x [B,C,H,W]; targets: array of B classes; losses: array; margins: array of numbers;
-- progress(m, results): optional, called after the m-th margin with the results so far; `done`:
-- optional, results of an earlier call's progress, to continue after them
--
-- Returns an array: for each loss and margin a table of arrays of B numbers: target, the target's
-- element of the loss's gradient with respect to the logits; zero_share and l2, of the direction
-- with respect to the image.
function theorem.raise_margin(net, x, targets, losses, margins, progress, done)
    local B, z, trace = #x, net:trace(x)
    arguments.logits(z, point_name)
    local raised, rows, results = z:clone(), z:totable(), done or {}
    local dz, value, q = tensor.new(z:shape()), tensor.new {B}, tensor.new(x:shape())
    local l2, linf, zeros = tensor.new({B}, "f64"), tensor.new({B}, "f64"), tensor.new({B}, "f64")
    local most = {}
    for n, row in ipairs(rows) do
        for i, v in ipairs(row) do
            if i ~= targets[n] + 1 then most[n] = math.max(most[n] or v, v) end
        end
    end
    for l = 1, #losses do results[l] = results[l] or {} end
    for m = #results[1] + 1, #margins do
        local margin = margins[m]
        for n = 1, B do raised:set(most[n] + margin, n, targets[n] + 1) end
        for l, one in ipairs(losses) do
            one:evaluate(raised, targets, value, dz)
            net:backward(dz, q, trace, "loss " .. one.name)
            one:direction(q):norms(l2, linf, zeros)
            local target = {}
            for n = 1, B do target[n] = dz:get(n, targets[n] + 1) end
            results[l][m] = {target = target, zero_share = zeros:totable(), l2 = l2:totable()}
        end
        if progress then progress(m, results) end
    end
    return results
end

--- The first margins at which image n loses: target, its target's element; first, any gradient
-- element that was not 0 at the first margin; half of those; zero, all. nan if never. `list` is
-- one loss's results of raise_margin.
function theorem.first_lost(list, margins, n)
    local lost = {target = 0 / 0, first = 0 / 0, half = 0 / 0, zero = 0 / 0}
    local base = list[1].zero_share[n]
    local function note(name, margin, happened)
        if happened and lost[name] ~= lost[name] then lost[name] = margin end
    end
    for m, margin in ipairs(margins) do
        local zeros = list[m].zero_share[n]
        note("target", margin, list[m].target[n] == 0)
        note("first", margin, zeros > base)
        note("half", margin, zeros - base >= 0.5 * (1 - base))
        note("zero", margin, zeros == 1)
    end
    return lost
end

return theorem
