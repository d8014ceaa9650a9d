"""The PyTorch side of bench.lua: the same work on the same weights and images.

    python pytorch.py TASK.json

answers on standard output, one JSON object a line: first what it can do, then to each line of
standard input,

    run MODE STEPS    {"seconds": S}   seconds a step, after one step that is not timed
    peak              {"rss": BYTES}   the most memory that this process has had resident, or that
                                       it had of the GPU that it runs on
    cosines MODE      {LOSS: [C, ...]} of each image's gradient in that mode to the eager one

Modes: eager; channels_last; channels_last_folded, with batch norm folded into the convolutions by
torch.fx (not for training); compile, torch.compile on channels_last; bf16, autocast on
channels_last; and for attacks the libraries torchattacks and foolbox. A mode that fails is left
out and its reason told.
"""

import copy
import ctypes
import json
import math
import signal
import sys
import time

signal.signal(signal.SIGINT, signal.SIG_DFL)  # the bench tells of an interrupt, this ends at once

import torch
import torch.nn.functional as F
from torch import nn


class Normalised(nn.Module):
    """The net behind (x - mean) / std, which the attack's images go through too."""

    def __init__(self, net, mean, std):
        super().__init__()
        self.net = net
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, x):
        return self.net((x - self.mean) / self.std)


class Autocast(nn.Module):
    """The net in bf16 where PyTorch's autocast has it so; the logits are f32 again."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        with torch.autocast(x.device.type, dtype=torch.bfloat16):
            return self.net(x).float()


class Block(nn.Module):
    """A residual block of the bundled net."""

    def __init__(self, c, k, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(c, k, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(k)
        self.conv2 = nn.Conv2d(k, k, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(k)
        self.downsample = nn.Sequential(nn.Conv2d(c, k, 1, stride, bias=False), nn.BatchNorm2d(k))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(y + self.downsample(x))


class Fashion(nn.Module):
    """The bundled net, nets/fashion.lua."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(2)
        self.layer1 = Block(16, 32, 1)
        self.layer2 = Block(32, 64, 2)
        self.average = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(64, 10)

    def forward(self, x):
        x = self.pool(self.relu(self.bn1(self.conv1(x))))
        return self.fc(torch.flatten(self.average(self.layer2(self.layer1(x))), 1))


def with_plain_convolutions(net):
    """The net with convolutions of a class of their own, which pad their input to TensorFlow's
    "same", replaced by plain ones: torch.fx folds batch norm into no others."""
    for name, child in net.named_children():
        padding = getattr(child, "static_padding", None)
        if padding is None:
            with_plain_convolutions(child)
            continue
        left, right, top, bottom = getattr(padding, "padding", (0, 0, 0, 0))
        even = left == right and top == bottom
        plain = nn.Conv2d(
            child.in_channels, child.out_channels, child.kernel_size, tuple(child.stride),
            (top, left) if even else 0, groups=child.groups, bias=child.bias is not None,
        )  # fmt: skip
        plain.weight, plain.bias = child.weight, child.bias
        setattr(net, name, plain if even else nn.Sequential(padding, plain))
    return net


def build(name):
    """The net of that name, or None and why there is none."""
    if name == "fashion":
        return Fashion(), None
    if name == "efficientnet_lite0":
        try:
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError:
            return None, "no efficientnet_lite_pytorch"
        return EfficientNet.from_name("efficientnet-lite0"), None
    try:
        from torchvision import models
    except ImportError:
        return None, "no torchvision"
    if not hasattr(models, name):
        return None, "not in torchvision"
    return getattr(models, name)(weights=None), None


def entries(path):
    """name -> (shape, first byte, bytes) of a safetensors file."""
    with open(path, "rb") as f:
        size = int.from_bytes(f.read(8), "little")
        header = json.loads(f.read(size))
    return {
        name: (e["shape"], 8 + size + e["data_offsets"][0], e["data_offsets"][1] - e["data_offsets"][0])
        for name, e in header.items()
        if name != "__metadata__"
    }


def read_into(f, entry, t):
    """Reads one f32 tensor into t, without a copy between, which would count as memory."""
    shape, first, size = entry
    if list(t.shape) != shape or t.dtype != torch.float32 or not t.is_contiguous():
        raise ValueError(f"shape {shape} does not fit {list(t.shape)}")
    f.seek(first)
    if f.readinto((ctypes.c_char * size).from_address(t.data_ptr())) != size:
        raise ValueError("the file is short")


def load_weights(net, path):
    """All weights of the file into all of the net's; the same net has the same names and shapes."""
    there = entries(path)
    state = {k: v for k, v in net.state_dict().items() if not k.endswith("num_batches_tracked")}
    if set(there) != set(state):
        raise ValueError(f"not the same net: {sorted(set(there) ^ set(state))[:4]}")
    with open(path, "rb") as f:
        for name, t in state.items():
            read_into(f, there[name], t)


def load_tensors(path):
    result = {}
    with open(path, "rb") as f:
        for name, entry in entries(path).items():
            result[name] = torch.empty(entry[0])
            read_into(f, entry, result[name])
    return result


def prepare(net, mode, training):
    """The net in that mode; the one given may be used up."""
    net.train(training)
    if mode == "channels_last_folded":
        if training:
            raise ValueError("batch norm is not folded in training")
        from torch.fx.experimental.optimization import fuse

        net = fuse(net, inplace=True)
    if mode != "eager":
        net = net.to(memory_format=torch.channels_last)
    net.requires_grad_(training)
    if mode == "bf16":
        return Autocast(net)
    return torch.compile(net) if mode == "compile" else net


def library_attack(mode, net, task, x0):
    """The attack's steps as a library makes them, in a ball too large to matter: x0 -> x."""
    steps, norm = task["attack"]["steps"], task["attack"]["norm"]
    targets = torch.tensor(task["targets"], device=x0.device)
    if mode == "torchattacks":
        from torchattacks import PGDL2

        attack = PGDL2(net, eps=steps * norm, alpha=norm, steps=steps, random_start=False)
        attack.set_mode_targeted_by_label(quiet=True)
        return lambda: attack(x0, targets)
    import foolbox

    model = foolbox.PyTorchModel(net, bounds=(0, 1), device=x0.device)
    attack = foolbox.attacks.L2BasicIterativeAttack(abs_stepsize=norm, steps=steps)
    criterion = foolbox.criteria.TargetedMisclassification(targets)
    return lambda: attack(model, x0, criterion, epsilons=[steps * norm])[1][0]


# The direction of ascent is the gradient of these sums; logits z, targets t.
LOSSES = {
    "ce": lambda z, t, kappa: -F.cross_entropy(z, t, reduction="sum"),
    "ce_sign": lambda z, t, kappa: -F.cross_entropy(z, t, reduction="sum"),
    "logit": lambda z, t, kappa: z.gather(1, t[:, None]).sum(),
    "m_logit": lambda z, t, kappa: (
        z.gather(1, t[:, None])[:, 0]
        - z.scatter(1, t[:, None], -math.inf).max(dim=1).values
    )
    .clamp(max=kappa)
    .sum(),
}


def experiment(net, o, x0, labels, targets):
    """Equal perturbation with every loss on a batch, and what a record has of each step. Returns
    how many images each loss flips."""
    flips, n = {}, len(x0)
    c, t = labels[:, None], targets[:, None]
    for loss in o["losses"]:
        x = x0.detach().clone(memory_format=torch.preserve_format)
        flipped, series = torch.zeros(n, dtype=torch.bool), []
        for i in range(o["iterations"] + 1):
            x.requires_grad_()
            z = net(x)
            q = torch.autograd.grad(LOSSES[loss](z, targets, o["kappa"]), x)[0]
            x, z = x.detach(), z.detach()
            length = q.flatten(1).norm(dim=1)
            q = q.sign() if loss == "ce_sign" else q
            norm = q.flatten(1).norm(dim=1)
            p, d = z.softmax(1), (x - x0).flatten(1)
            zeros = (q == 0).flatten(1).float().mean(1)
            series.append(
                (p.gather(1, c), p.gather(1, t), z.gather(1, c), z.gather(1, t), length, zeros,
                 d.norm(dim=1), d.abs().amax(1))
            )  # fmt: skip
            flipped |= z.argmax(1) == targets
            if i < o["iterations"]:
                a = torch.where(norm > 0, o["magnitude"] / norm, 0)
                x = (x + a.view(-1, 1, 1, 1) * q).clamp(0, 1)
        flips[loss] = flipped
    return flips


def make_step(mode, net, task, t, layout):
    """A function that makes one step and returns what agreement is told from: logits, images."""
    x0 = t["x"].contiguous(memory_format=layout)
    dz, what = t["dz"], task["what"]
    labels, targets = (torch.tensor(task[k], device=x0.device) for k in ("labels", "targets"))

    def forward():
        with torch.inference_mode():
            return net(x0), None

    def gradient():
        x = x0.detach().requires_grad_()
        z = net(x)
        return z.detach(), torch.autograd.grad(z, x, dz)[0]

    def attack():
        x = x0.detach().clone(memory_format=torch.preserve_format)
        for n in range(task["attack"]["steps"] + 1):
            x.requires_grad_()
            z = net(x)
            q = -torch.autograd.grad(F.cross_entropy(z, targets, reduction="sum"), x)[0]
            if n < task["attack"]["steps"]:
                norm = q.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
                x = (x.detach() + task["attack"]["norm"] / norm * q).clamp(0, 1)
        with torch.inference_mode():
            net((x.detach() * 255).round() / 255)
        return None, x.detach() - x0

    if mode in ("torchattacks", "foolbox"):
        if what != "attack":
            raise ValueError("attacks only")
        run = library_attack(mode, net, task, x0)
        return lambda: (None, run().detach() - x0)

    def whole():
        o, B = task["experiment"], task["experiment"]["batch"]
        for first in range(0, len(x0), B):
            part = slice(first, first + B)
            flips = experiment(net, o, x0[part], labels[part], targets[part])
            for loss, flipped in flips.items():
                count = int(flipped.sum())
                o.setdefault("flips", {})[loss] = count + (first and o["flips"][loss])
        return None, None

    if what == "training":
        o = task["sgd"]
        sgd = torch.optim.SGD(
            net.parameters(), o["rate"], momentum=o["momentum"], weight_decay=o["weight_decay"]
        )

        def training():
            sgd.zero_grad(set_to_none=True)
            z = net(x0)
            F.cross_entropy(z, labels).backward()
            sgd.step()
            return z.detach(), None

        return training
    return {"forward": forward, "gradient": gradient, "attack": attack, "experiment": whole}[what]


def cosines(net, plain, task, t):
    """Of each image's gradient in one net to that in another, by loss."""
    targets, o = torch.tensor(task["targets"], device=t["x"].device), task["experiment"]
    result = {loss: [] for loss in o["losses"]}
    for first in range(0, len(t["x"]), o["batch"]):
        part = slice(first, first + o["batch"])
        for loss in o["losses"]:
            q = []
            for one in (net, plain):
                x = t["x"][part].detach().requires_grad_()
                value = LOSSES[loss](one(x), targets[part], o["kappa"])
                q.append(torch.autograd.grad(value, x)[0].flatten(1).double())
            result[loss] += F.cosine_similarity(q[0], q[1], eps=0).nan_to_num(-2).tolist()
    return result


def difference(found, t):
    """How far this is from ours: logits relative to their largest, 1 - cosine of the images."""
    z, q = found
    result = {}
    if z is not None:
        result["logits"] = float((z - t["z"]).abs().max() / t["z"].abs().max())
    if q is not None:
        a, b = q.flatten().double(), t["q"].flatten().double()
        result["cosine"] = float(1 - a @ b / (a.norm() * b.norm()))
    # JSON has no word for what is not a number.
    return {k: v if math.isfinite(v) else 1e9 for k, v in result.items()}


def on_gpu(task):
    return task.get("device", "cpu") != "cpu"


def settle(task):
    if on_gpu(task):
        torch.cuda.synchronize(task["device"])


def set_precision(task):
    """f32 is f32 and tf32 is asked for, as on our side; the fastest algorithms are looked for."""
    tf32 = task.get("precision") == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = True


def peak_memory(task):
    if on_gpu(task):
        return torch.cuda.max_memory_allocated(task["device"])
    with open("/proc/self/status", encoding="ascii") as f:
        return next(1024 * int(line.split()[1]) for line in f if line.startswith("VmHWM:"))


def say(what):
    print(json.dumps(what), flush=True)


def main(task_path):
    with open(task_path, encoding="utf-8") as f:
        task = json.load(f)
    torch.set_num_threads(task["threads"])
    net, missing = build(task["net"])
    if net is None:
        say({"missing": missing})
        return
    load_weights(net, task["weights"])
    net = with_plain_convolutions(net)
    if task.get("mean"):
        net = Normalised(net, task["mean"], task["std"])
    t = load_tensors(task["tensors"])
    if on_gpu(task):
        if not torch.cuda.is_available():
            say({"missing": "no CUDA in it"})
            return
        set_precision(task)
        net = net.to(task["device"])
        t = {name: value.to(task["device"]) for name, value in t.items()}
    steps, nets, skipped, differences, flips = {}, {}, {}, {}, {}
    for mode in task["modes"]:
        try:
            plain = mode in ("eager", "torchattacks", "foolbox")
            layout = torch.contiguous_format if plain else torch.channels_last
            # One mode alone, whose memory counts, has the net's weights once.
            of_mode = copy.deepcopy(net) if len(task["modes"]) > 1 else net
            of_mode = prepare(of_mode, "eager" if plain else mode, task["what"] == "training")
            step = make_step(mode, of_mode, task, t, layout)
            differences[mode] = difference(step(), t)
            flips[mode] = dict(task.get("experiment", {}).get("flips", {}))
            if task["what"] != "experiment":  # which is long enough to be its own warming up
                step()
            steps[mode], nets[mode] = step, of_mode
        except Exception as e:  # one mode less, whatever PyTorch raises
            skipped[mode] = f"{type(e).__name__}: {str(e).splitlines()[0] if str(e) else ''}"
    say(
        {
            "version": torch.__version__,
            "threads": torch.get_num_threads(),
            "modes": list(steps),
            "skipped": skipped,
            "difference": differences,
            "flips": flips,
        }
    )
    for line in sys.stdin:
        words = line.split()
        if words[0] == "peak":
            say({"rss": peak_memory(task)})
            continue
        if words[0] == "cosines":
            say(cosines(nets[words[1]], nets["eager"], task, t))
            continue
        step, count = steps[words[1]], int(words[2])
        if task["what"] != "experiment":
            step()
        settle(task)
        began = time.perf_counter()
        for _ in range(count):
            step()
        settle(task)
        say({"seconds": (time.perf_counter() - began) / count})


if __name__ == "__main__":
    main(sys.argv[1])
