#!/usr/bin/env python3
"""Writes kinds.safetensors with PyTorch in float64: ten training steps of a small net with each kind of layer (needs torch, safetensors).

    make_kinds.py OUT_DIR
"""
import copy, math, sys, numpy as np, torch, torch.nn as nn, torch.nn.functional as F
from safetensors.numpy import save_file
out = sys.argv[1]; sys.argv = ["", out]
from make_golden import uniform

N, C, SIDE, WIDTH, CLASSES = 4, 2, 6, 4, 3


class Excite(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(WIDTH, 2, 1), nn.Conv2d(2, WIDTH, 1)

    def forward(self, x):
        return x * torch.sigmoid(self.fc2(F.silu(self.fc1(x.mean((2, 3), keepdim=True)))))


class Attention(nn.Module):
    """The places of an image are tokens."""

    def __init__(self):
        super().__init__()
        self.a = nn.MultiheadAttention(WIDTH, 2, batch_first=True)

    def forward(self, x):
        x = x.flatten(2).transpose(1, 2)
        return self.a(x, x, x, need_weights=False)[0]


def bias(x, l):
    """Swin's bias of each pair of 2 tokens in a row, from a table by offset."""
    return torch.stack([l.table[2 - k:4 - k] for k in (1, 2)]) + x


class Table(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.zeros(3))


# A layer's module or None, and what it makes of an image [N,4,6,6]. "features" are [N,8].
kinds = {
    "concat": (nn.Conv2d(WIDTH, 3, 1), lambda x, l: torch.cat([x, l(x)], 1)),
    "average": (None, lambda x, l: F.avg_pool2d(x, 3, 2, 1)),
    "average, ceil": (None, lambda x, l: F.avg_pool2d(x, (2, 3), (3, 2), (1, 1), ceil_mode=True)),
    "average, inside": (None, lambda x, l: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)),
    "adaptive average": (None, lambda x, l: F.adaptive_avg_pool2d(x, (4, 5))),
    "adaptive maximum": (None, lambda x, l: F.adaptive_max_pool2d(x, (2, 3))),
    "maximum": (None, lambda x, l: F.max_pool2d(x, 3, 2, 1)),
    "dilated": (nn.Conv2d(WIDTH, 3, (3, 2), (1, 2), (2, 1), (2, 3)), lambda x, l: l(x)),
    "grouped": (nn.Conv2d(WIDTH, 6, 3, 1, 1, groups=2), lambda x, l: l(x)),
    "transposed": (nn.ConvTranspose2d(WIDTH, 3, (3, 2), (2, 1), 1, (1, 0)), lambda x, l: l(x)),
    "transposed in groups": (nn.ConvTranspose2d(WIDTH, 4, 3, 2, 1, 0, 2, bias=False, dilation=2), lambda x, l: l(x)),
    "nearest": (None, lambda x, l: F.interpolate(x, size=(7, 4), mode="nearest")),
    "bilinear": (None, lambda x, l: F.interpolate(x, scale_factor=(1.7, 2), mode="bilinear")),
    "response": (None, lambda x, l: F.local_response_norm(x, 3, 0.5, 0.75, 2.0)),
    "relu": (None, lambda x, l: F.relu(x)),
    "relu6": (None, lambda x, l: F.relu6(8 * x)),
    "sigmoid": (None, lambda x, l: torch.sigmoid(x)),
    "silu": (None, lambda x, l: F.silu(x)),
    "tanh": (None, lambda x, l: torch.tanh(x)),
    "softplus": (None, lambda x, l: F.softplus(x)),
    "mish": (None, lambda x, l: F.mish(x)),
    "hardsigmoid": (None, lambda x, l: F.hardsigmoid(4 * x)),
    "hardswish": (None, lambda x, l: F.hardswish(4 * x)),
    "selu": (None, lambda x, l: F.selu(x)),
    "gelu": (None, lambda x, l: F.gelu(x)),
    "gelu by tanh": (None, lambda x, l: F.gelu(x, approximate="tanh")),
    "leakyrelu": (None, lambda x, l: F.leaky_relu(x, 0.2)),
    "elu": (None, lambda x, l: F.elu(x, 0.7)),
    "clip": (None, lambda x, l: x.clamp(-0.5, 0.8)),
    "prelu": (nn.PReLU(), lambda x, l: l(x)),
    "prelu by channels": (nn.PReLU(WIDTH), lambda x, l: l(x)),
    "layer norm": (nn.LayerNorm(SIDE), lambda x, l: l(x)),
    "layer norm of images": (nn.LayerNorm((WIDTH, SIDE, SIDE)), lambda x, l: l(x)),
    "layer norm of channels": (nn.LayerNorm(WIDTH), lambda x, l: l(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)),
    "group norm": (nn.GroupNorm(2, WIDTH), lambda x, l: l(x)),
    "instance norm": (nn.InstanceNorm2d(WIDTH, affine=True), lambda x, l: l(x)),
    "instance norm without weights": (None, lambda x, l: F.instance_norm(x)),
    "batch norm": (nn.BatchNorm2d(WIDTH), lambda x, l: l(x)),
    "attention": (Attention(), lambda x, l: l(x)),
    "squeeze and excite": (Excite(), lambda x, l: l(x)),
    "depthwise, shuffled": (nn.Conv2d(WIDTH, WIDTH, 3, 1, 1, groups=WIDTH), lambda x, l: F.channel_shuffle(l(x), 2)),
    "permuted": (nn.Linear(WIDTH, 3), lambda x, l: l(x.permute(0, 2, 3, 1))),
    "reshaped": (nn.Linear(8, 3), lambda x, l: l(x.reshape(N, 18, 8))),
    "split": (None, lambda x, l: torch.cat([x[:, :, :2].flip(3), torch.sigmoid(x[:, :, 2:])], 2)),
    "padded": (nn.Conv2d(WIDTH, 3, 3), lambda x, l: l(F.pad(x, (1, 2, 3, 0)))),
    "table of offsets": (Table(), lambda x, l: bias(x.reshape(N, -1, 2, 2), l)),
    "features, batch norm": (nn.BatchNorm1d(8), lambda x, l: l(x)),
    "features, layer norm": (nn.LayerNorm(8), lambda x, l: l(x)),
    "features, group norm": (nn.GroupNorm(2, 8), lambda x, l: l(x)),
}


class Net(nn.Module):
    def __init__(self, name):
        super().__init__()
        layer, self.of = kinds[name]
        self.l = copy.deepcopy(layer).float() if layer else None
        self.first = nn.Linear(C * SIDE * SIDE, 8) if name.startswith("features") else nn.Conv2d(C, WIDTH, 3, 1, 1)
        self.flat = name.startswith("features")
        self.head = nn.Linear(self.body(torch.zeros(N, C, SIDE, SIDE)).shape[1], CLASSES)

    def body(self, x):
        return self.of(self.first(x.flatten(1) if self.flat else x), self.l).flatten(1)

    def forward(self, x):
        return self.head(self.body(x))


def fill(net):
    state = net.state_dict()
    for name, p in state.items():
        if not p.is_floating_point():
            continue
        u, owner, last = uniform(name, p.numel()), net.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2]
        fan_in = p.numel() // p.shape[0]
        if last == "running_var" or isinstance(owner, (nn.LayerNorm, nn.GroupNorm, nn.InstanceNorm2d, nn.BatchNorm1d, nn.BatchNorm2d)) and last == "weight": v = 0.5 + u
        elif isinstance(owner, nn.PReLU): v = 0.25 * u
        elif ".a." in name and last.endswith("weight"): v = (2 * u - 1) * math.sqrt(3 / fan_in)
        elif last.endswith("weight"): v = (2 * u - 1) * math.sqrt(6 / fan_in)
        else: v = (2 * u - 1) * 0.1
        state[name] = torch.from_numpy(v.astype(np.float32).astype(np.float64)).reshape(p.shape)
    net.load_state_dict(state)


def numbers(name, dtype):
    u = uniform(name, N * C * SIDE * SIDE).astype(np.float32)
    return torch.from_numpy(u).to(dtype).reshape(N, C, SIDE, SIDE)


def train(name, dtype):
    net, found = Net(name), {}
    fill(net.double())
    net.to(dtype).train()
    opt, losses = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4), []
    for step in range(10):
        opt.zero_grad()
        loss = F.cross_entropy(net(numbers(f"batch{step}", dtype)), torch.tensor([(i + 3 * step // 2) % CLASSES for i in range(N)]))
        loss.backward()
        opt.step()
        losses.append(loss.item())
    found["losses"] = np.array(losses)
    found["logits"] = net.eval()(numbers("batch0", dtype)).detach().numpy()
    for key, value in net.state_dict().items():
        if value.is_floating_point() and not key.startswith("head.w"): found[key] = value.detach().numpy()
    return found


save = {}
for name in kinds:
    right, single = train(name, torch.float64), train(name, torch.float32)
    off = max(np.linalg.norm(single[k] - v) / np.linalg.norm(v) for k, v in right.items())
    print(f"{name:32} float32 is off by {off:.1e}")
    for key, value in right.items(): save[f"{name}:{key}"] = np.ascontiguousarray(value, dtype=np.float32)
save_file(save, out + "/kinds.safetensors")
