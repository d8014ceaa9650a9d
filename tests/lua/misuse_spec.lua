-- What a script is told that gives a public function something else than it takes: one line with the
-- position of the script's own line, never of advrt's files.

local advrt = {}
for _, name in ipairs {"attack", "attacks", "image", "loss", "net", "plot", "record", "tensor"} do
    advrt[name] = require("advrt." .. name)
end

describe("a mistaken call", function()
    local g = assert(advrt.net.load("mlp", {init = "golden"}))
    local x = advrt.tensor.uniform("x", {1, 1, 28, 28})
    local names = setmetatable({g = g, x = x}, {
        __index = function(_, name) return advrt[name] or _G[name] end,
    })

    local function refused(code, wanted)
        local f = assert(load("local r = {" .. code .. "}", "=script", "t", names))
        local ok, problem = pcall(f)
        assert.is_false(ok, code)
        assert.equal("string", type(problem), code)
        assert.equal("script:1: " .. wanted, problem:sub(1, #wanted + 10), code)
        assert.falsy(problem:find("\n", 1, true))
    end

    for code, wanted in pairs {
        ["attack.run()"] = "bad argument #1 to 'run' (table expected, got nil)",
        ["attack.run {net = 'mlp'}"] = "attack.run: net is missing (net.load gives one), got 'mlp'",
        ["attack.run {net = g, loss = 'ce'}"] = "attack.run: loss wants a loss such as loss.ce, got string",
        ["attack.equal_perturbation(0.1, 'inf')"] =
            "the options are a table such as {norm = \"inf\"}, got 'inf'",
        ["attack.equal_perturbation(0.1, {norm = 1})"] = "norm must be 2 or \"inf\", got 1",
        ["attack.equal_multiplier '1'"] = "alpha must be a number above 0, got 1",
        ["attack.magnitude_of(g, 3)"] = "norm must be 2 or \"inf\", got 3",
        ["attacks.run()"] = "bad argument #1 to 'run' (table expected, got nil)",
        ["attacks.run {attack = attacks.pgd {}}"] =
            "attacks.run: net is missing (net.load gives one), got nil",
        ["attacks.run {net = g, attack = attacks.pgd}"] =
            "attacks.run: attack wants parameters: give attacks.pgd {}",
        ["attacks.run {net = g, attack = 'pgd'}"] = "attacks.run: attack is missing",
        ["attacks.stream()"] = "bad argument #1 to 'stream' (table expected, got nil)",
        ["attacks.pgd 'inf'"] = "pgd wants a table of parameters, got inf",
        ["attacks.pgd {epz = 1}"] = "pgd has no parameter 'epz'; did you mean 'eps'? (it has alpha, ",
        ["attacks.pgd {eps = -1}"] = "pgd: eps must be a number above 0, got -1",
        ["net.load()"] = "bad argument #1 to 'load' (string expected, got nil)",
        ["net.load {}"] = "bad argument #1 to 'load' (string expected, got {})",
        ["net.load('mlp', 'x.pth')"] = "bad argument #2 to 'load' (table expected, got 'x.pth')",
        ["net.load('mlp', {weight = 'x.pth'})"] =
            "load: option 'weight' is unknown; did you mean 'weights'? (",
        ["net.load('mlp', {device = 'cpu'})"] = "load: option 'device' is unknown (known: weights, ",
        ["net.load('mlp', {weights = 3})"] = "load: weights must be the path of a file, got 3",
        ["net.definition()"] = "bad argument #1 to 'definition' (string expected, got nil)",
        ["g.forward(x)"] = "forward is called with a colon: g:forward(x, ...)",
        ["g:forward(x[1])"] = "bad argument #1 to 'forward' (net wants [N,1,28,28], got [1,28,28])",
        ["g:forward()"] = "bad argument #1 to 'forward' (net wants [N,1,28,28], got nil)",
        ["g:gradient(x, 'ce', {1})"] = "bad argument #2 to 'gradient' (loss wants a loss such as loss.ce",
        ["g:gradient(x, loss.ce)"] = "bad argument #3 to 'gradient' (target: want 1 classes",
        ["g:backward(x)"] = "backward needs a trace before it",
        ["g:plan('forwards', 1)"] = "plan: the purpose is \"forward\" or \"gradient\", got 'forwards'",
        ["g:save()"] = "bad argument #1 to 'save' (string expected, got nil)",
        ["loss.ce:evaluate(3)"] = "bad argument #1 to 'evaluate' (advrt.tensor expected, got number)",
        ["loss.ce.evaluate(x)"] = "'evaluate' on a bad loss",
        ["loss.ce:direction(3)"] = "bad argument #1 to 'direction' (a tensor expected, got 3)",
        ["loss.ce_sign:direction()"] = "bad argument #1 to 'direction' (a tensor expected, got nil)",
        ["loss.define('f', 3)"] = "loss 'f' wants a function of logits and targets, got number",
        ["loss.ce {kappa = 1}"] = "loss.ce has no parameter 'kappa' (it has none)",
        ["loss.load()"] = "bad argument #1 to 'load' (string expected, got nil)",
        ["loss.add()"] = "bad argument #1 to 'add' (table expected, got nil)",
        ["image.load()"] = "bad argument #1 to 'load' (string expected, got nil)",
        ["image.save('x.png')"] = "bad argument #2 to 'save' (advrt.tensor expected, got nil)",
        ["image.size()"] = "bad argument #1 to 'size' (string expected, got nil)",
        ["image.show 'x'"] = "bad argument #1 to 'show' (u8 or f32 [H,W]",
        ["tensor.load()"] = "bad argument #1 to 'load' (string expected, got nil)",
        ["tensor.save 'x.safetensors'"] = "bad argument #2 to 'save' (table expected, got nil)",
        ["tensor.new(3)"] = "bad argument #1 to 'new' (table expected, got number)",
        ["x + 'a'"] = "bad argument #2 to 'add' (advrt.tensor expected, got string)",
        ["x:get(5, 5)"] = "the tensor has 4 dimensions",
        ["x:get(5, 1, 1, 1)"] = "bad argument #1 to 'get' (",
        ["plot.quote()"] = "bad argument #1 to 'quote' (string expected, got nil)",
        ["plot.styles 'ce'"] = "bad argument #1 to 'styles' (table expected, got 'ce')",
        ["plot.bars()"] = "bad argument #1 to 'bars' (string expected, got nil)",
        ["plot.draw('.')"] = "bad argument #2 to 'draw' (table expected, got nil)",
        ["record.pack()"] = "bad argument #1 to 'pack' (table expected, got nil)",
        ["record.each()"] = "bad argument #1 to 'each' (string expected, got no value)",
    } do
        it(code .. " is told of at its own line", function() refused(code, wanted) end)
    end
end)
