-- What a message guesses of a mistyped name: only what is near it.

local attacks = require "advrt.attacks"
local loss = require "advrt.loss"
local nearest = require "advrt.support.nearest"

local layers = {"add", "avgpool", "batchnorm", "conv", "dropout", "linear", "maxpool", "relu", "relu6"}
local attributes = {"out", "kernel", "stride", "pad", "groups", "bias"}
local options = {"--alpha", "--batch", "--epochs", "--help", "--kappa", "--limit", "--losses", "--no-figures",
    "--save-adversarial", "--seed"}
local nets = {"alexnet", "resnet18", "resnet34", "vgg16"}

describe("the nearest name", function()
    it("is the one with few mistakes for its length, or one that begins alike", function()
        for _, case in ipairs {
            {"equal-perturbation", {"equal_multiplier", "equal_perturbation"}, "equal_perturbation"},
            {"Conv2d", layers, "conv"}, {"batch_norm", layers, "batchnorm"},
            {"max_pool2d", layers, "maxpool"},
            {"reul", layers, "relu"}, {"gelu", layers, "relu"}, {"padding", attributes, "pad"},
            {"strides", attributes, "stride"}, {"kernal", attributes, "kernel"},
            {"--lossse", options, "--losses"}, {"--se", options, "--seed"},
            {"--Epoch", options, "--epochs"}, {"--no_figures", options, "--no-figures"},
            {"--save", options, "--save-adversarial"}, {"wc", attacks.names(), "cw"},
            {"pdg", attacks.names(), "pgd"}, {"ce-sign", {"ce", "ce_sign"}, "ce_sign"},
            {"fp32", {"f32", "mixed", "bf16"}, "f32"}, {"f23", {"f32", "mixed", "bf16"}, "f32"},
            {"resnet", nets, "resnet18"}, {"resnet3", nets, "resnet34"}, {"vgg-16", nets, "vgg16"},
        } do
            assert.equal(case[3], nearest(case[1], case[2]), case[1])
            assert.equal(("; did you mean '%s'?"):format(case[3]), nearest.hint(case[1], case[2]))
        end
    end)

    it("is none where all that there are differ", function()
        for _, case in ipairs {
            {"dilation", attributes}, {"--eps", options}, {"--lr", options}, {"--dilation", options},
            {"focal", {"ce", "ce_sign", "logit", "m_logit"}}, {"flatten", layers}, {"softmax", layers},
            {"concat", layers}, {"x", layers}, {"", layers}, {"jsma", attacks.names()},
            {"resnet50", nets}, {"vgg19", nets}, {("x"):rep(500), layers}, {"half", {"f32", "mixed", "bf16"}},
            {"relu", {}}, {"relu", {("relu"):rep(40)}}, {"--", options},
        } do
            assert.is_nil(nearest(case[1], case[2]), case[1])
            assert.equal("", nearest.hint(case[1], case[2]))
        end
    end)

    it("or the names there are stand in every message about a name", function()
        local messages = {select(2, loss.get "focal"), select(2, attacks.parse "deepfool"),
            select(2, attacks.parse "fgs:kappa=1")}
        local lists = {"losses: ce, ce_sign, logit, m_logit", "attacks: fgs, ifgs, pgd, lbfgs, cw",
            "it has eps, loss"}
        for i, message in ipairs(messages) do
            assert.truthy(message:find(lists[i], 1, true), message)
            assert.falsy(message:find("did you mean", 1, true), message)
        end
        assert.truthy(messages[1]:find("--require", 1, true), messages[1])
    end)

    it("leads to the file of a loss that advrt has", function()
        local _, message = loss.get "dlr"
        assert.equal("loss 'dlr' is in a file of its own: --require dlr, or loss.load 'dlr' (losses: "
            .. table.concat(loss.names(), ", ") .. ")", message)
    end)
end)
