--- ONNX's elementwise operators, as formulas (the builder's map). If only one node reads a
-- formula's value, the formula is substituted into that node's. So a chain of operators becomes
-- one layer.


local fold = require "advrt.nets.onnx.fold"
local help = require "advrt.nets.onnx.help"

local operators = {}
local copy, value, weight = help.copy, help.value, help.weight

local function number(v) return ("(%.17g)"):format(v) end

-- One value -----------------------------------------------------------------

--- The value of a formula of the first input, which is $1.
local function of_one(formula)
    return function(d, n, a)
        return d:formula(n, value(n, a, 1).shape, formula, {a[1]}, {1})
    end
end

-- exp(t) - 1 = tanh(t / 2) (exp(t) + 1), which stays accurate near 0
local EXPM1 = "(tanh(select($1 > 0, 0, %s) / 2) * (exp(select($1 > 0, 0, %s)) + 1))"
local function expm1(of) return EXPM1:format(of, of) end

for op, formula in pairs {
    Sigmoid = "sigmoid($1)", Tanh = "tanh($1)", Erf = "erf($1)", Exp = "exp($1)", Log = "log($1)",
    Sqrt = "sqrt($1)", Abs = "abs($1)", Neg = "(0 - $1)", Reciprocal = "(1 / $1)", Sign = "sign($1)",
    Softplus = "softplus($1)", Softsign = "($1 / (1 + abs($1)))", Floor = "floor($1)",
    Ceil = "(0 - floor(0 - $1))", Mish = "($1 * tanh(softplus($1)))", Not = "(1 - $1)",
    HardSwish = "select($1 > 3, $1, select($1 < -3, 0, $1 * ($1 / 6 + 0.5)))",
} do
    operators[op] = of_one(formula)
end

--- The same for formulas with attributes: their names and defaults, in the order of the formula's
-- %s.
local function with_attributes(formula, ...)
    local names = {...}
    return function(d, n, a)
        local numbers = {}
        for i, one in ipairs(names) do numbers[i] = number(n:attr(one[1], one[2])) end
        return of_one(formula:format(table.unpack(numbers)))(d, n, a)
    end
end

operators.LeakyRelu = with_attributes("select($1 > 0, $1, %s * $1)", {"alpha", 0.01})
operators.ThresholdedRelu = with_attributes("select($1 > %s, $1, 0)", {"alpha", 1.0})
operators.HardSigmoid = with_attributes("min(1, max(0, %s * $1 + %s))", {"alpha", 0.2}, {"beta", 0.5})
operators.Elu = with_attributes("select($1 > 0, $1, %s * " .. expm1("$1") .. ")", {"alpha", 1.0})
operators.Selu = with_attributes("(%s * select($1 > 0, $1, %s * " .. expm1("$1") .. "))",
    {"gamma", 1.0507009873554805}, {"alpha", 1.6732632423543772})

function operators.Celu(d, n, a)
    local alpha = number(n:attr("alpha", 1.0))
    return of_one(("select($1 > 0, $1, %s * %s)"):format(alpha, expm1("$1 / " .. alpha)))(d, n, a)
end

function operators.Gelu(d, n, a)
    local how = n:attr("approximate", "none")
    return of_one(how == "tanh" and "(0.5 * $1 * (1 + tanh(0.7978845608028654 * ($1 + 0.044715 * $1^3))))"
        or "(0.5 * $1 * (1 + erf($1 * 0.7071067811865476)))")(d, n, a)
end

function operators.Swish(d, n, a)
    return of_one(("($1 * sigmoid(%s * $1))"):format(number(n:attr("alpha", 1.0))))(d, n, a)
end

--- Relu and Clip to 0 .. cap are separate layers, which can be fused into others.
function operators.Relu(d, n, a)
    local x = value(n, a, 1)
    return d:value(x.shape, d.b:relu(d:v(x)))
end

local LARGEST = 3.4e38

function operators.Clip(d, n, a)
    local x = value(n, a, 1)
    local low = a[2] and weight(n, a, 2, "bound"):single() or n:attr("min", -math.huge)
    local high = a[3] and weight(n, a, 3, "bound"):single() or n:attr("max", math.huge)
    if low == 0 and high == 6 then return d:value(x.shape, d.b:relu6(d:v(x))) end
    if low == 0 and high >= LARGEST then return d:value(x.shape, d.b:relu(d:v(x))) end
    local formula = "$1"
    if low > -LARGEST then formula = ("max(%s, %s)"):format(formula, number(low)) end
    if high < LARGEST then formula = ("min(%s, %s)"):format(formula, number(high)) end
    if formula == "$1" then return x end
    return of_one(formula)(d, n, a)
end

-- Several values ------------------------------------------------------------

--- The value of a formula of all inputs, $1, $2 ..., broadcast.
local function of_all(formula, count)
    return function(d, n, a)
        local shape, list, places = {}, {}, {}
        for i = 1, count do
            list[i], places[i] = a[i] or n:wrong("has no input %d", i), i
            shape = fold.broadcast_shape(n, shape, a[i].shape)
        end
        return d:formula(n, shape, formula, list, places)
    end
end

for op, formula in pairs {
    Sub = "($1 - $2)", Mul = "($1 * $2)", Div = "($1 / $2)",
    Greater = "($1 > $2)", GreaterOrEqual = "($1 >= $2)", Less = "($1 < $2)", LessOrEqual = "($1 <= $2)",
    And = "($1 * $2)", Or = "max($1, $2)",
} do
    operators[op] = of_all(formula, 2)
end
local prelu = of_all("select($1 > 0, $1, $2 * $1)", 2)

--- Before opset 7 a list of slopes had one per channel.
function operators.PRelu(d, n, a)
    local x, slope = value(n, a, 1), a[2] or n:wrong("has no slope")
    if n.opset >= 7 or #slope.shape ~= 1 or slope.shape[1] == 1 then return prelu(d, n, a) end
    local shape = {slope.shape[1]}
    for i = 3, #x.shape do shape[i - 1] = 1 end
    return prelu(d, n, {x, weight(n, a, 2, "slope"):reshape(shape), n = 2})
end

operators.Where = of_all("select($1, $2, $3)", 3)

function operators.Pow(d, n, a)
    local power = help.is_constant(a[2]) and a[2]:single()
    if power == 2 then return d:formula(n, value(n, a, 1).shape, "($1 * $1)", {a[1]}, {1}) end
    if power == 0.5 then return of_one("sqrt($1)")(d, n, a) end
    return of_all("pow($1, $2)", 2)(d, n, a)
end

--- A bias that is added to a convolution or linear layer becomes part of it.
local function as_bias(d, n, a)
    for i = 1, 2 do
        local x, c = a[i], a[3 - i]
        if help.is_constant(c) and x and x.join and d:once(n, i) then
            local own = copy(x.shape)
            for k in ipairs(own) do own[k] = 1 end
            own[x.axis] = x.shape[x.axis]
            if c:count() == own[x.axis] and #c.shape <= #own
                and help.same(fold.broadcast_shape(n, c.shape, own), own) then
                return x.join(c)
            end
        end
    end
end

function operators.Add(d, n, a)
    if not a[1] or not a[2] then n:wrong("has one input") end
    local joined = as_bias(d, n, a)
    if joined then return joined end
    local x, y = a[1], a[2]
    local alike = not help.is_constant(x) and not help.is_constant(y) and help.same(x.shape, y.shape)
    if not alike or x.expression or y.expression then return of_all("($1 + $2)", 2)(d, n, a) end
    local body = help.body(x.shape)
    return d:value(x.shape, d.b:add(d:as(x, body), d:as(y, body)))
end

--- Combines any number of inputs, two at a time.
local function variadic(two)
    return function(d, n, a)
        local y = a[1] or n:wrong("has no input")
        for i = 2, a.n do
            local pair = {y, a[i], n = 2}
            if help.is_constant(y) and help.is_constant(a[i]) then
                y = fold.operators[n.op](n, pair)
            else
                y = two(d, n, pair)
            end
        end
        return y
    end
end

local add = variadic(of_all("($1 + $2)", 2))

function operators.Sum(d, n, a) return (a.n == 2 and operators.Add or add)(d, n, a) end

operators.Max = variadic(of_all("max($1, $2)", 2))
operators.Min = variadic(of_all("min($1, $2)", 2))

function operators.Mean(d, n, a)
    local sum = operators.Sum(d, n, a)
    return d:formula(n, sum.shape, ("($1 * %s)"):format(number(1 / a.n)), {sum}, {})
end

return operators
