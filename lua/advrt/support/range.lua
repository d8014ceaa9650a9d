--- The range of a net's input values: the box that attacks hold images in, by default [0,1]. A net
-- definition states another as range = {low, high}, each a number or a list of one for each channel or
-- feature.

local count_of = require "advrt.support.count"
local tensor = require "advrt.tensor"

local range = {}

local Range = {}
Range.__index = Range

local CHUNK = 1 << 20 -- values that are looked at together

--- A number as a float holds it.
local function as_float(v) return string.unpack("<f", string.pack("<f", v)) end

--- One number for each of C channels, from a number or a list of 1 or C; nil where v is neither.
local function side(v, C)
    if type(v) == "number" then v = {v} end
    if type(v) ~= "table" or #v ~= 1 and #v ~= C then return nil end
    local list = {}
    for c = 1, C do
        local one = #v == 1 and v[1] or v[c]
        if not math.type(one) or one ~= one or math.abs(one) >= 0x1p128 then return nil end
        list[c] = as_float(one)
    end
    return list
end

--- The range of values of an input {C, H, W}. given: nil for [0,1], or {low, high}. Returns nil and what is
-- wrong where it is none.
--
-- Fields: low, high, lists of C numbers; unit, whether it is [0,1]; picture, whether the input is an image
-- as files hold it: of one channel or three, more than one pixel, and values in [0,1].
function range.new(given, input)
    local C = input[1]
    given = given == nil and {0, 1} or given
    if type(given) ~= "table" or #given ~= 2 then return nil, "is {low, high}" end
    local self = setmetatable({low = side(given[1], C), high = side(given[2], C), input = input,
        unit = true}, Range)
    if not (self.low and self.high) then
        return nil, ("is {low, high}, each one finite number or a list of %d"):format(C)
    end
    local square = 0
    for c = 1, C do
        local low, high = self.low[c], self.high[c]
        if low > high then
            return nil, ("has low %g above high %g%s"):format(low, high,
                C > 1 and " in channel or feature " .. c or "")
        end
        self.unit = self.unit and low == 0 and high == 1
        square = square + (high - low) ^ 2
    end
    if square == 0 then return nil, "leaves no value to change: low is high" end
    self.square = square / C
    self.picture = (C == 1 or C == 3) and input[2] * input[3] > 1 and self.unit
    return self
end

--- The two sides as f32 [C,H,W], for the operations of the core; none where they are 0 and 1.
function Range:sides()
    if self.unit then return nil, nil end
    if not self.low_side then
        local C = self.input[1]
        local function whole(list)
            return tensor.new(self.input):add_(tensor.from(list, "f32", {C, 1, 1}))
        end
        self.low_side, self.high_side = whole(self.low), whole(self.high)
    end
    return self.low_side, self.high_side
end

--- Holds x, f32 [C,H,W] or [N,C,H,W], in the range, in place; returns it.
function Range:clamp_(x)
    if self.unit then return x:clamp_(0, 1) end
    local low, high = self:sides()
    return x:copy(x:max(low):min(high))
end

--- The root of the mean square of the widths: 1 for [0,1]. What suits [0,1] as a distance suits the range
-- when multiplied by it; a multiplier of gradients, by its square.
function Range:width() return math.sqrt(self.square) end

local function interval(low, high) return ("[%.9g,%.9g]"):format(low, high) end

--- The range in words: "[-1,1]", or "the net's range" where channels differ.
function Range:text()
    for c = 2, #self.low do
        if self.low[c] ~= self.low[1] or self.high[c] ~= self.high[1] then return "the net's range" end
    end
    return interval(self.low[1], self.high[1])
end

--- Why the input is no image, in words; nil where it is one.
function Range:no_picture()
    local C, H, W = table.unpack(self.input)
    if self.picture then return nil end
    if H * W == 1 then return count_of(C, "feature") end
    if C ~= 1 and C ~= 3 then return count_of(C, "channel") end
    return "values in " .. self:text()
end

--- Whether all of x, f32 [C,H,W] or [N,C,H,W], is inside; NaN is not.
local function inside(self, x)
    if self.unit then return x:minimum() >= 0 and x:maximum() <= 1 end
    local low, high = self:sides()
    return (x - low):minimum() >= 0 and (high - x):minimum() >= 0
end

--- What is wrong with x, f32 [C,H,W]: its first value that is outside, where it stands and what it may be;
-- nil where nothing is.
function Range:problem(x)
    if inside(self, x) then return nil end
    local C, H, W = table.unpack(self.input)
    for i, v in ipairs(x:reshape {C * H * W}:totable()) do
        local c, at = (i - 1) // (H * W) + 1, (i - 1) % (H * W)
        local low, high = self.low[c], self.high[c]
        if not (v >= low and v <= high) then
            local where = H * W == 1 and ("feature %d"):format(c)
                or ("channel %d, row %d, column %d"):format(c, at // W + 1, at % W + 1)
            return ("%s is %.9g, outside of %s"):format(where, v, interval(low, high))
        end
    end
end

--- The first of x, f32 [N,C,H,W], that is not inside: its number from 1 and what is wrong with it; nil.
function Range:first_outside(x)
    local N, each = #x, x:numel() // #x
    local rows = math.max(1, CHUNK // each)
    for first = 1, N, rows do
        local count = math.min(rows, N - first + 1)
        if not inside(self, x:narrow(first, count)) then
            for i = first, first + count - 1 do
                local problem = self:problem(x[i])
                if problem then return i, problem end
            end
        end
    end
end

--- Whether all of [0,1] is inside, as the pixels of image files and bytes are.
function Range:holds_pixels()
    for c = 1, #self.low do
        if self.low[c] > 0 or self.high[c] < 1 then return false end
    end
    return true
end

--- The least low and the largest high of all channels.
function Range:ends()
    local low, high = self.low[1], self.high[1]
    for c = 2, #self.low do low, high = math.min(low, self.low[c]), math.max(high, self.high[c]) end
    return low, high
end

--- What to say of a ball of a radius in norm 2 or "inf" that holds the whole range from any point of it, as
-- 8 does in norm "inf" where 8/255 is meant; nil where it bounds something.
function Range:doubt(radius, norm)
    local widest = 0
    for c = 1, #self.low do widest = math.max(widest, self.high[c] - self.low[c]) end
    local C, H, W = table.unpack(self.input)
    local most = norm == 2 and math.sqrt(self.square * C * H * W) or widest
    if radius <= most then return nil end
    local of_bytes = self.unit and norm ~= 2 and radius >= 2
    return ("warning: eps %.4g bounds nothing: values of %s are at most %.4g apart in the %s norm%s")
        :format(radius, self:text(), most, norm == 2 and "L2" or "Linf",
            of_bytes and ("; %g/255 is %.4g"):format(radius, radius / 255) or "")
end

--- The unit of values and distances, for axes and tables. picture: whether the input is an image.
function range.unit(picture) return picture and "pixels in [0,1]" or "the net's input values" end

--- The range of a net, or [0,1] of what has none.
function range.of(g) return g.range or assert(range.new(nil, g.input)) end

return range
