--- Tries a loss that a script has defined before any attack relies on it: on sample logits its
-- gradient must be what finite differences of its value say, and an image's numbers must not depend
-- on its neighbours; on ties both must be numbers.
--
-- All is computed in float, as in the attacks. A slope from points h apart carries the rounding of
-- the values over h, and, where the loss bends, h times its curvature; so several h are tried, and
-- one at which the gradient lies between the slopes to the left and to the right, give or take the
-- rounding, will do. At a kink every gradient between its two slopes is right.

local tensor = require "advrt.tensor"

local DISTANCES = {1 / 16, 1 / 128, 1 / 1024}
local EPSILON = 2.0 ^ -24 -- half a unit in the last place of 1
local ROUNDINGS = 16      -- that a value may carry, of the values and of logits times the steepest slope
local SHARE = 0.01        -- of the gradient, by which the slope may differ
local EACH = 12           -- up to so many classes, each is a direction

-- K random logits in low .. high for each of N images, and targets that differ.
local function random(N, K, low, high)
    local z = tensor.uniform(("loss.define/%d/%d/%g"):format(N, K, low), {N, K}) * (high - low) + low
    local target = {}
    for n = 1, N do target[n] = (n * 7) % K end
    return z, target
end

-- The samples: what they are, logits [N,K], targets. All K are at least the loss's min_classes.
local function samples(fewest)
    local list = {}
    local function add(what, z, target)
        list[#list + 1] = {what = what, z = z, target = target, N = z:size(1), K = z:size(2)}
    end
    local some, many = math.max(fewest, 10), math.max(fewest, 1000)
    add(fewest == 1 and "1 class" or fewest .. " classes", random(8, fewest, -4, 4))
    -- With so many classes a few stand out, as they do in a net's logits: a thousand that crowd
    -- would bend a loss of the largest ones within any distance.
    local crowd, wanted = random(2, many, -8, 5)
    for n = 1, 2 do
        for i = 1, 5 do
            crowd:set(5.3 + 0.9 * i + 0.2 * n * i, n, (wanted[n] + 150 * (i + n - 2)) % many + 1)
        end
    end
    add(many .. " classes", crowd, wanted)
    add("logits that are all negative", random(4, some, -40, -1))
    local z, target = random(4, some, -3, 2)
    for n, margin in ipairs {8, 25, 60, 120} do
        z:set(margin, n, (target[n] + (some > 1 and 3 or 0)) % some + 1)
    end
    add("large margins of another class", z, target)
    z, target = random(4, some, -2, 3)
    for n, margin in ipairs {4, 12, 40, 120} do z:set(margin, n, target[n] + 1) end
    add("a target that is already first", z, target)
    return list
end

-- Samples in which logits tie.
local function ties(fewest)
    local list = {}
    for _, K in ipairs {fewest, math.max(fewest, 10), math.max(fewest, 1000)} do
        local z, target = tensor.new {3, K}, {0, K - 1, K // 2}
        z[1]:fill(0)
        z[2]:copy(tensor.uniform("loss.define/ties", {K}))
        z:set(5, 2, 1) -- the target among the first
        z:set(5, 2, K)
        z[3]:fill(-1) -- the target below all others
        z:set(-2, 3, K // 2 + 1)
        list[#list + 1] = {what = ("ties among %d classes"):format(K), z = z, target = target, N = 3,
            K = K}
    end
    return list
end

local function finite(t)
    local low, high = t:minimum(), t:maximum()
    return low > -math.huge and high < math.huge
end

-- Evaluates; value, gradient, or nil and the reason.
local function evaluate(loss, z, target)
    return loss:attempt(z, tensor.from(target, "i64"))
end

-- The directions along which image n of a sample is tried, arrays of {class (from 1), step}.
local function directions(sample, n)
    local list = {}
    local classes, K = {}, sample.K
    for k = 1, math.min(K, EACH) do classes[k] = k end
    if K > EACH then
        local _, index = sample.z[n]:topk(4, 1)
        classes = {sample.target[n] + 1}
        for _, k in ipairs(index:totable()) do
            if k ~= sample.target[n] then classes[#classes + 1] = k + 1 end
        end
    end
    for i, k in ipairs(classes) do list[i] = {{k, 1}} end
    local all, step = {}, tensor.uniform("loss.define/direction", {K}) * 2 - 1
    for k = 1, K do all[k] = {k, step:get(k)} end
    list[#list + 1] = all
    return list
end

-- The rows z_n - h d and z_n + h d of every image, direction and distance, and their targets.
local function moved(sample)
    local rows, targets = {}, {}
    for n = 1, sample.N do
        for _, direction in ipairs(directions(sample, n)) do
            for _, h in ipairs(DISTANCES) do
                for side = -1, 1, 2 do
                    local row = sample.z[n]:clone()
                    for _, part in ipairs(direction) do
                        row:set(row:get(part[1]) + side * h * part[2], part[1])
                    end
                    rows[#rows + 1], targets[#targets + 1] = row, sample.target[n]
                end
            end
        end
    end
    return tensor.stack(rows), targets
end

local function largest(t) return math.max(-t:minimum(), t:maximum()) end

-- Whether slope `g` agrees with values to the left and right at one distance; `size` is that of the
-- numbers that were rounded.
local function agrees(g, left, centre, right, h, size)
    local a, b = (centre - left) / h, (right - centre) / h
    local room = ROUNDINGS * EPSILON * size / h
        + SHARE * math.max(math.abs(a), math.abs(b), math.abs(g))
    return g >= math.min(a, b) - room and g <= math.max(a, b) + room
end

-- The first direction in which gradient and differences disagree, as a reason; nil: none.
-- `steepest` is the largest element of any gradient so far: where a loss is flat here, what it adds up
-- may still be of the size that it has elsewhere.
local function compare(loss, sample, value, dz, steepest)
    local z, targets = moved(sample)
    local moved_value, reason = evaluate(loss, z, targets)
    if not moved_value then return reason end
    local at, size = 0, largest(value) + largest(sample.z) * largest(dz) + steepest
    for n = 1, sample.N do
        for _, direction in ipairs(directions(sample, n)) do
            local g, good, slope = 0, false, nil
            for _, part in ipairs(direction) do g = g + dz:get(n, part[1]) * part[2] end
            for _, h in ipairs(DISTANCES) do
                local left, right = moved_value:get(at + 1), moved_value:get(at + 2)
                at = at + 2
                slope = (right - left) / (2 * h)
                good = good or agrees(g, left, value:get(n), right, h, size)
            end
            if not good then
                return ("its gradient %s is %g, finite differences say %g"):format(
                    #direction == 1 and ("with respect to the logit of class %d"):format(direction[1][1] - 1)
                    or "along a random direction", g, slope)
            end
        end
    end
end

-- Whether each image alone has the numbers that it has among the others.
local function alone(loss, sample, value, dz)
    for n = 1, sample.N do
        local v, d = evaluate(loss, sample.z:narrow(n, 1), {sample.target[n]})
        if not v then return d end
        if not (v:equal(value:narrow(n, 1)) and d:equal(dz:narrow(n, 1))) then
            return "an image's value or gradient depends on the other images of the batch"
        end
    end
end

-- A hint where a function fails on the fewest classes and not on more.
local function hint(loss, K)
    for more = K + 1, K == loss.min_classes and 10 or 0 do
        if evaluate(loss, random(2, more, -4, 4)) then
            return ("; does it need min_classes = %d?"):format(more)
        end
    end
    return ""
end

-- Value and gradient of a sample, or nil and the reason: not computed, misshapen, no numbers.
local function numbers(loss, sample)
    local value, dz = evaluate(loss, sample.z, sample.target)
    if not value then return nil, dz .. hint(loss, sample.K) end
    if not finite(value) then
        return nil, ("its value is %g"):format(value:minimum() > -math.huge and value:maximum()
            or value:minimum())
    end
    if not finite(dz) then return nil, "its gradient holds numbers that are not finite" end
    return value, dz
end

--- nil where a defined loss (an object of advrt.loss) passes, else the reason as one line.
return function(loss)
    local steepest = 0
    for _, sample in ipairs(samples(loss.min_classes)) do
        local value, dz = numbers(loss, sample)
        local reason = dz
        if value then
            steepest = math.max(steepest, largest(dz))
            reason = alone(loss, sample, value, dz) or compare(loss, sample, value, dz, steepest)
        end
        if reason then return ("with %s %s"):format(sample.what, reason) end
    end
    if steepest == 0 then return "its gradient is 0 on every sample" end
    for _, sample in ipairs(ties(loss.min_classes)) do
        local value, reason = numbers(loss, sample)
        if not value then return ("with %s %s"):format(sample.what, reason) end
    end
end
