--- A multilayer perceptron: one hidden layer of 256 ReLUs on Fashion-MNIST's 28x28 grey images.
return {
    name = "mlp",
    classes = 10,
    input = {1, 28, 28},
    preprocess = {},
    mean = {0.2860},
    std = {0.3530},
    build = function(b, x)
        x = b:relu(b:linear(x, "hidden", 256))
        return b:linear(x, "out", b.classes)
    end,
}
