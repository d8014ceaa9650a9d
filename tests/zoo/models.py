"""Logits and gradients of PyTorch models with the weights that advrt saved (tests/zoo/zoo.lua).

models.py --list prints the nets; models.py NET STATE EXPECT reads STATE, a safetensors file of the state
dict and of the images zoo.x, and writes EXPECT with logits [N,K] and the gradients with respect to the
images of log p_t and z_t, at targets 1 and 2, computed in float64 and in float32 (NAME_f32).
"""
import json
import struct
import sys

import numpy
import torch
from torch import nn
import torch.nn.functional as F

TORCHVISION = [
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "googlenet", "mobilenet_v2",
    "mobilenet_v3_large", "mobilenet_v3_small", "regnet_y_400mf", "resnet18", "resnet50", "resnext50_32x4d",
    "shufflenet_v2", "squeezenet1_1", "swin_t", "vgg16", "vit_b_16", "wide_resnet50_2",
]


class WideBlock(nn.Module):
    """The block of a wide residual net, with the names of RobustBench's checkpoints."""

    def __init__(self, inside, out, stride):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inside)
        self.conv1 = nn.Conv2d(inside, out, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.convShortcut = None if inside == out else nn.Conv2d(inside, out, 1, stride, bias=False)

    def forward(self, x):
        first = F.relu(self.bn1(x))
        y = self.conv2(F.relu(self.bn2(self.conv1(first))))
        return y + (self.convShortcut(first) if self.convShortcut is not None else x)


class Stage(nn.Module):
    def __init__(self, inside, out, stride, depth):
        super().__init__()
        self.layer = nn.Sequential(
            *[WideBlock(inside if i == 0 else out, out, stride if i == 0 else 1) for i in range(depth)])

    def forward(self, x):
        return self.layer(x)


class WideResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.block1 = Stage(16, 160, 1, 4)
        self.block2 = Stage(160, 320, 2, 4)
        self.block3 = Stage(320, 640, 2, 4)
        self.bn1 = nn.BatchNorm2d(640)
        self.fc = nn.Linear(640, 10)

    def forward(self, x):
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        return self.fc(F.relu(self.bn1(x)).mean((2, 3)))


class PreActBlock(nn.Module):
    def __init__(self, inside, out, stride):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inside)
        self.conv1 = nn.Conv2d(inside, out, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        if stride != 1 or inside != out:
            self.shortcut = nn.Sequential(nn.Conv2d(inside, out, 1, stride, bias=False))

    def forward(self, x):
        first = F.relu(self.bn1(x))
        around = self.shortcut(first) if hasattr(self, "shortcut") else x
        return self.conv2(F.relu(self.bn2(self.conv1(first)))) + around


class PreActResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        inside = 64
        for i in range(4):
            out, stride = 64 << i, 2 if i else 1
            setattr(self, f"layer{i + 1}",
                    nn.Sequential(PreActBlock(inside, out, stride), PreActBlock(out, out, 1)))
            inside = out
        self.bn = nn.BatchNorm2d(512)
        self.linear = nn.Linear(512, 10)

    def forward(self, x):
        x = self.layer4(self.layer3(self.layer2(self.layer1(self.conv1(x)))))
        return self.linear(F.relu(self.bn(x)).mean((2, 3)))


OWN = {"wide_resnet28_10": WideResNet, "preact_resnet18": PreActResNet}


def model_of(name):
    if name in OWN:
        return OWN[name]()
    import torchvision
    if name == "googlenet":
        return torchvision.models.googlenet(weights=None, aux_logits=False, init_weights=False)
    if name == "shufflenet_v2":
        name = "shufflenet_v2_x1_0"
    return getattr(torchvision.models, name)(weights=None)


def read(path):
    with open(path, "rb") as file:
        size, = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
        data = file.read()
    tensors = {}
    for name, about in header.items():
        if name == "__metadata__":
            continue
        begin, end = about["data_offsets"]
        values = numpy.frombuffer(data[begin:end], numpy.float32).reshape(about["shape"])
        tensors[name] = torch.from_numpy(values.copy())
    return tensors


def write(path, tensors):
    header, parts, at = {}, [], 0
    for name, value in tensors.items():
        part = value.detach().to(torch.float32).contiguous().numpy().tobytes()
        header[name] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": [at, at + len(part)]}
        parts.append(part)
        at += len(part)
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(parts))


def main():
    if sys.argv[1] == "--list":
        import os
        here = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../nets")
        print("\n".join(n for n in TORCHVISION + list(OWN) if os.path.exists(f"{here}/{n}.lua")))
        return
    name, state, expect = sys.argv[1:4]
    tensors = read(state)
    images = tensors.pop("zoo.x")
    model = model_of(name).eval()
    missing, unknown = model.load_state_dict(tensors, strict=False)
    missing = [n for n in missing if not n.endswith(("num_batches_tracked", "relative_position_index"))]
    if missing or unknown:
        sys.exit(f"{name}: missing {missing}, unknown {unknown}")
    try:
        from torchvision.models import GoogLeNet
        if isinstance(model, GoogLeNet):
            model.transform_input = False
    except ImportError:
        pass
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    found = {}
    for dtype, end in ((torch.float64, ""), (torch.float32, "_f32")):
        model.to(dtype)
        x = images.to(dtype).requires_grad_()
        shift, scale = (v.to(dtype).reshape(1, 3, 1, 1) for v in (mean, std))
        z = model(x if name in OWN else (x - shift) / scale)
        at = torch.arange(len(z)), torch.tensor([1, 2])
        found["logits" + end] = z
        for loss, value in (("ce", z.log_softmax(1)[at]), ("logit", z[at])):
            found[f"gradient_{loss}{end}"], = torch.autograd.grad(value.sum(), x, retain_graph=True)
    write(expect, found)


if __name__ == "__main__":
    main()
