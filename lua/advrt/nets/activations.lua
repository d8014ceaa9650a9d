--- The formulas of activations (the builder's map), by name.

return {
    sigmoid = "sigmoid(x)",
    silu = "x * sigmoid(x)",
    tanh = "tanh(x)",
    softplus = "softplus(x)",
    mish = "x * tanh(softplus(x))",
    hardsigmoid = "select(x >= 3, 1, select(x <= -3, 0, x / 6 + 0.5))",
    hardswish = "select(x > 3, x, select(x < -3, 0, x * (x / 6 + 0.5)))",
    -- exp(t) - 1 = tanh(t / 2) (exp(t) + 1), which stays accurate near 0
    selu = "1.0507009873554805 * select(x > 0, x, 1.6732632423543772"
        .. " * (tanh(select(x > 0, 0, x) / 2) * (exp(select(x > 0, 0, x)) + 1)))",
    gelu = "0.5 * x * (1 + erf(x * 0.7071067811865476))",
}
