#!/usr/bin/env python3
"""Writes transformer.safetensors with PyTorch in float64: logits, gradients and ten training steps of a transformer's encoder of two blocks (needs torch, safetensors).

    make_transformer.py OUT_DIR
"""
import math, sys, numpy as np, torch, torch.nn as nn, torch.nn.functional as F
from safetensors.numpy import save_file
out = sys.argv[1]; sys.argv = ["", out]
from make_golden import uniform

N, C, L, D, CLASSES = 4, 3, 6, 16, 4


class Encoder(nn.Module):
    """The rows of each of the image's channels are tokens: three windows of six."""

    def __init__(self):
        super().__init__()
        block = nn.TransformerEncoderLayer(D, 4, 32, dropout=0.0, activation="gelu", batch_first=True, norm_first=True)
        self.embed = nn.Linear(10, D)
        self.positions = nn.Parameter(torch.zeros(L, D))
        self.encoder = nn.TransformerEncoder(block, 2, nn.LayerNorm(D), enable_nested_tensor=False)
        self.head = nn.Linear(C * L * D, CLASSES)

    def forward(self, x):
        x = (self.embed(x) + self.positions).reshape(-1, L, D)
        return self.head(self.encoder(x).reshape(-1, C * L * D))


def fill(net):
    state = net.state_dict()
    for name, p in state.items():
        u = uniform(name, p.numel())
        if "norm" in name and name.endswith("weight"): v = 0.5 + u
        elif "self_attn" in name and name.endswith("weight"): v = (2 * u - 1) * math.sqrt(3.0 / p.shape[1])
        elif name.endswith("weight"): v = (2 * u - 1) * math.sqrt(6.0 / p.shape[1])
        else: v = (2 * u - 1) * 0.1
        state[name] = torch.from_numpy(v.astype(np.float32).astype(np.float64)).reshape(p.shape)
    net.double().load_state_dict(state)
    return net


def numbers(name):
    return torch.from_numpy(uniform(name, N * C * L * 10).astype(np.float32).astype(np.float64)).reshape(N, C, L, 10)


keep = lambda t: np.ascontiguousarray(t.detach().numpy(), dtype=np.float32)
save, net, targets = {}, fill(Encoder()), torch.tensor([0, 1, 2, 3])
x = numbers("input").requires_grad_()
save["logits"] = keep(net(x))
save["gradient"] = keep(torch.autograd.grad(-F.cross_entropy(net(x), targets, reduction="sum"), x)[0])
opt = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
for step in range(10):
    opt.zero_grad()
    F.cross_entropy(net(numbers(f"batch{step}")), torch.tensor([(i + 3 * step) % CLASSES for i in range(N)])).backward()
    opt.step()
save["trained.logits"] = keep(net(numbers("input")))
for name in ("positions", "encoder.layers.0.self_attn.in_proj_bias", "encoder.layers.1.norm1.weight", "encoder.layers.0.linear2.bias"):
    save["trained." + name] = keep(net.state_dict()[name])
save_file(save, out + "/transformer.safetensors")
