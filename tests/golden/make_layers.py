#!/usr/bin/env python3
"""Writes layers.safetensors with PyTorch in float64: what single layers make of one small image, and the image's gradient (needs torch, safetensors).

    make_layers.py OUT_DIR
"""
import math, sys, numpy as np, torch, torch.nn.functional as F
from safetensors.numpy import save_file
out = sys.argv[1]; sys.argv = ["", out]
from make_golden import uniform

C, H, W = 4, 5, 6


def numbers(name, *shape):
    u = uniform(name, math.prod(shape)).astype(np.float32).astype(np.float64)
    return torch.from_numpy(u).reshape(shape)


def weight(*shape):
    u = uniform("c.weight", math.prod(shape))
    v = (2 * u - 1) * math.sqrt(6.0 / math.prod(shape[1:]))
    return torch.from_numpy(v.astype(np.float32).astype(np.float64)).reshape(shape)


def bias(n):
    return torch.from_numpy(((2 * uniform("c.bias", n) - 1) * 0.1).astype(np.float32).astype(np.float64))


layers = {
    "average": lambda x: F.avg_pool2d(x, 3, 2, 1),
    "average, ceil": lambda x: F.avg_pool2d(x, (2, 3), (3, 2), (1, 1), ceil_mode=True),
    "average, ceil, inside": lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True, count_include_pad=False),
    "average, inside": lambda x: F.avg_pool2d(x, (2, 3), 2, 1, count_include_pad=False),
    "adaptive average": lambda x: F.adaptive_avg_pool2d(x, (3, 4)),
    "adaptive maximum": lambda x: F.adaptive_max_pool2d(x, (1, 3)),
    "dilated": lambda x: F.conv2d(x, weight(3, 4, 3, 2), bias(3), (1, 2), (2, 1), (2, 3)),
    "dilated in groups": lambda x: F.conv2d(x, weight(4, 1, 3, 3), bias(4), 1, 2, 2, 4),
    "transposed": lambda x: F.conv_transpose2d(x, weight(4, 3, 3, 2), bias(3), (2, 1), 1, (1, 0)),
    "transposed in groups": lambda x: F.conv_transpose2d(x, weight(4, 2, 3, 3), None, 2, 1, 0, 2, 2),
    "nearest": lambda x: F.interpolate(x, size=(7, 4), mode="nearest"),
    "nearest, exact": lambda x: F.interpolate(x, size=(7, 4), mode="nearest-exact"),
    "nearest by factors": lambda x: F.interpolate(x, scale_factor=(2, 1.7), mode="nearest"),
    "bilinear": lambda x: F.interpolate(x, size=(8, 4), mode="bilinear"),
    "bilinear by factors": lambda x: F.interpolate(x, scale_factor=(1.7, 2), mode="bilinear"),
    "bilinear, corners": lambda x: F.interpolate(x, size=(8, 4), mode="bilinear", align_corners=True),
    "shuffle": lambda x: F.channel_shuffle(x, 2),
    "pad": lambda x: F.pad(x, (1, 2, 3, 0)),
    "permute": lambda x: x.permute(0, 3, 1, 2),
    "chunks": lambda x: torch.cat(x.chunk(4, 3)[::-1], 3),
    "response": lambda x: F.local_response_norm(x, 3, 0.5, 0.75, 2.0),
    "response, even": lambda x: F.local_response_norm(x, 2),
}
save = {}
for name, layer in layers.items():
    x = numbers("input", 1, C, H, W).requires_grad_()
    y = layer(x)
    save[name + ":value"] = y.detach().numpy().astype(np.float32).ravel()
    q = torch.autograd.grad((y * numbers("dy", *y.shape)).sum(), x)[0]
    save[name + ":gradient"] = q.numpy().astype(np.float32).ravel()
save_file(save, out + "/layers.safetensors")
