"""Makes the models of this folder: one small net of each family of torchvision's, exported by either of
PyTorch's exporters, with inputs, logits and the gradients of the logits' sum, computed in float64.

    pip install torch torchvision onnx onnxscript safetensors
    python generate.py [NAME]...

tests/lua/onnx_golden_spec.lua holds advrt to them. Every parameter is random, so that none can be left out.
"""
import sys
import warnings

import torch
from functools import partial
from safetensors.torch import save_file
from torch import nn
from torchvision import models
from torchvision.models import convnext, densenet, efficientnet, maxvit, mobilenetv3, swin_transformer

warnings.filterwarnings("ignore")
CLASSES = 10


class Thin(nn.Module):
    """A residual net with a Softmax at its end and its normalisation in front."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 3, 1, 1, groups=4)
        self.bn2 = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, CLASSES)

    def forward(self, x):
        return torch.softmax(self.logits(x), 1)

    def logits(self, x):
        x = (x - 0.45) / 0.25
        x = torch.relu(self.bn1(self.conv1(x)))
        x = nn.functional.max_pool2d(x, 3, 2, 1)
        x = torch.relu(x + self.bn2(self.conv2(x)))
        return self.fc(x.mean((2, 3)))


class Activations(nn.Module):
    """Every activation in turn, and reductions, group and instance norm."""

    def __init__(self):
        super().__init__()
        kinds = [nn.LeakyReLU(0.2), nn.PReLU(8), nn.ELU(0.7), nn.SELU(), nn.Tanh(), nn.Softplus(),
                 nn.GELU(), nn.GELU("tanh"), nn.SiLU(), nn.Mish(), nn.Hardswish(), nn.Hardsigmoid(),
                 nn.CELU(0.6), nn.Softsign(), nn.Hardtanh(-0.5, 0.9)]
        self.steps = nn.ModuleList(kinds)
        self.convs = nn.ModuleList([nn.Conv2d(8 if i else 3, 8, 3, padding=1) for i in range(len(kinds))])
        self.group, self.instance = nn.GroupNorm(4, 8), nn.InstanceNorm2d(8, affine=True)
        self.fc = nn.Linear(8, CLASSES)

    def forward(self, x):
        for i, (conv, step) in enumerate(zip(self.convs, self.steps)):
            x = step(conv(x)) * 1.5
            if i == 5:
                x = self.group(x)
            if i == 10:
                x = self.instance(x)
        x = x / (x.pow(2).mean(1, keepdim=True) + 1).sqrt()
        return self.fc(x.amax((2, 3)) + x.mean((2, 3)))


def mobilenet_v3():
    conf = partial(mobilenetv3.InvertedResidualConfig, width_mult=1.0)
    return models.MobileNetV3(
        [conf(8, 3, 16, 8, True, "RE", 2, 1), conf(8, 5, 24, 16, True, "HS", 2, 1)], 32, num_classes=CLASSES)


def efficientnet_tiny():
    conf = efficientnet.MBConvConfig
    return models.EfficientNet([conf(1, 3, 1, 8, 8, 1), conf(4, 3, 2, 8, 16, 2)], 0.2, num_classes=CLASSES,
                               last_channel=32)


def convnext_tiny():
    conf = convnext.CNBlockConfig
    return models.ConvNeXt([conf(16, 32, 1), conf(32, None, 2)], num_classes=CLASSES)


def vit():
    return models.VisionTransformer(32, 8, 2, 2, 32, 64, num_classes=CLASSES)


def swin(**more):
    return models.SwinTransformer([4, 4], 8, [2], [2], [4, 4], num_classes=CLASSES, **more)


def swin_v2():
    return swin(block=swin_transformer.SwinTransformerBlockV2,
                downsample_layer=swin_transformer.PatchMergingV2)


def max_vit():
    return models.MaxVit((32, 32), 8, 4, [8], [1], 4, 0.0, num_classes=CLASSES)


class Upsampled(nn.Module):
    """Transposed convolution, resizing, padding, slices and joins."""

    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(3, 8, 3, 2, 1, dilation=1)
        self.wide = nn.Conv2d(8, 8, 3, 1, 2, dilation=2)
        self.up = nn.ConvTranspose2d(8, 4, 3, 2, 1, output_padding=1)
        self.fc = nn.Linear(16, CLASSES)

    def forward(self, x):
        x = torch.relu(self.wide(torch.relu(self.down(x))))
        y = self.up(x)
        z = nn.functional.interpolate(x, scale_factor=2, mode="nearest")
        u = nn.functional.interpolate(x[:, ::2], scale_factor=2, mode="bilinear", align_corners=False)
        x = torch.cat([y, z, u], 1)
        x = nn.functional.pad(x, (1, 2, 0, 1), mode="reflect")
        x = nn.functional.pad(x.flip(3), (0, 1, 2, 0), value=0.5)
        return self.fc(nn.functional.avg_pool2d(x, 5, 3, 2, count_include_pad=False).mean((2, 3)))


NETS = {
    "thin": (Thin, "ts"),
    "activations": (Activations, "ts"),
    "upsampled": (Upsampled, "ts"),
    "densenet": (lambda: models.DenseNet(4, (2, 2), 8, num_classes=CLASSES), "dynamo"),
    "shufflenet": (lambda: models.ShuffleNetV2([2, 1, 1], [8, 16, 32, 64, 32], num_classes=CLASSES), "ts"),
    "mobilenet_v3": (mobilenet_v3, "ts"),
    "efficientnet": (efficientnet_tiny, "dynamo"),
    "convnext": (convnext_tiny, "ts"),
    "vit": (vit, "ts"),
    "vit_dynamo": (vit, "dynamo"),
    "swin": (swin, "ts"),
    "swin_v2": (swin_v2, "dynamo"),
    "maxvit": (max_vit, "dynamo"),
}


def owner_of(net, name):
    return net.get_submodule(name.rpartition(".")[0])


def randomise(net, generator):
    """Parameters whose start is 0 or 1 would hide a mistake."""
    for name, p in list(net.named_parameters()) + list(net.named_buffers()):
        if not p.is_floating_point():
            continue
        u = torch.rand(p.shape, generator=generator)
        last = name.split(".")[-1]
        if last in ("running_var",):
            p.data.copy_(u + 0.5)
        elif last == "logit_scale":
            p.data.copy_(u + 1)
        elif p.dim() <= 1 and last == "weight":
            p.data.copy_(u + 0.5)
        elif p.dim() <= 1 or last in ("class_token", "pos_embedding", "layer_scale"):
            p.data.copy_((u - 0.5) * 0.4)
        elif last in ("weight", "in_proj_weight"):
            fan_in = p[0].numel() if not isinstance(owner_of(net, name), nn.ConvTranspose2d) else p[:, 0].numel()
            p.data.copy_((2 * u - 1) * (3 / fan_in) ** 0.5)


def main(names):
    for name in names or NETS:
        make, exporter = NETS[name]
        torch.manual_seed(1)
        generator = torch.Generator().manual_seed(2)
        net = make().eval()
        randomise(net, generator)
        x = torch.rand(2, 3, 32, 32, generator=generator)
        file = name + ".onnx"
        if exporter == "ts":
            torch.onnx.export(net, (x[:1],), file, dynamo=False, opset_version=17, input_names=["image"],
                              output_names=["logits"], dynamic_axes={"image": {0: "N"}, "logits": {0: "N"}})
        else:
            torch.onnx.export(net, (x[:1],), file, dynamo=True, opset_version=20, external_data=False,
                              input_names=["image"], output_names=["logits"], verbose=False)
            import onnx
            model = onnx.load(file)  # without the traces of where each node was made
            for node in model.graph.node:
                del node.metadata_props[:]
                node.doc_string = ""
            for value in list(model.graph.value_info) + list(model.graph.input) + list(model.graph.output):
                del value.metadata_props[:]
            del model.metadata_props[:], model.graph.metadata_props[:], model.graph.value_info[:]
            onnx.save(model, file)
        net, x = net.double(), x.double().requires_grad_()
        logits = getattr(net, "logits", net)(x)
        logits.sum().backward()
        save_file({"x": x.detach().float(), "logits": logits.detach().float(), "gradients": x.grad.float()},
                  name + ".safetensors")
        print(name, [float(v) for v in logits.detach().std(1)], float((logits[0] - logits[1]).detach().norm()))


if __name__ == "__main__":
    main(sys.argv[1:])
