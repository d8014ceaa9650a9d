"""Exports torchvision's classifiers to ONNX, with what PyTorch computes of two images (tests/zoo/exported.lua).

exported.py --list prints the smallest net of each family, --list all every classifier, each with its number
of parameters; exported.py NET FOLDER EXPORTER... writes FOLDER/EXPORTER.onnx of each exporter and
FOLDER/expect.safetensors: x, and logits and gradients as models.py has them. Exporters: torchscript (opset
17, the weights inside) and dynamo (opset 20, the weights beside the model). Every parameter is random, so
that none can be left out.
"""
import logging
import sys
import warnings

import torch
import torchvision

from models import write

# Nets that want one size of images, or no small ones; the others get small ones.
WANTS_224 = ("vit", "swin", "maxvit")
SIZE = 96


def create(name):
    more = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    if name == "googlenet":
        more["aux_logits"] = False
    return torchvision.models.get_model(name, weights=None, **more)


def family(name):
    """The start of a name that its family shares: regnet_y, mobilenet_v3, swin_v2."""
    for start in ("regnet_x", "regnet_y", "mobilenet_v2", "mobilenet_v3", "efficientnet_v2", "shufflenet",
                  "swin_v2", "squeezenet", "wide_resnet", "mnasnet"):
        if name.startswith(start):
            return start
    return name.rstrip("0123456789").split("_")[0].rstrip("0123456789")


def listed(every):
    sizes, smallest = {}, {}
    for name in torchvision.models.list_models(module=torchvision.models):
        sizes[name] = next(iter(torchvision.models.get_model_weights(name))).meta["num_params"]
    for name, count in sizes.items():
        start = family(name)
        smallest[start] = min(smallest.get(start, (count, name)), (count, name))
    chosen = sizes if every else {name for _, name in smallest.values()}
    for name in sorted(chosen):
        print(name, sizes[name])


def randomise(net):
    """Weights keep torchvision's start; what starts at 0 or 1 would hide a mistake."""
    generator = torch.Generator().manual_seed(1)
    for name, p in list(net.named_parameters()) + list(net.named_buffers()):
        if not p.is_floating_point():
            continue
        last, u = name.rpartition(".")[2], torch.rand(p.shape, generator=generator)
        if last == "running_var" or p.dim() == 1 and last == "weight":
            p.data.copy_(0.75 + 0.5 * u)
        elif p.dim() == 1 or last in ("class_token", "pos_embedding", "relative_position_bias_table"):
            p.data.copy_(0.2 * u - 0.1)
        elif last == "layer_scale":
            p.data.copy_(0.1 + 0.1 * u)
        elif last in ("weight", "in_proj_weight") and p.dim() > 1:
            p.data.copy_((2 * u - 1) * (4 / p[0].numel()) ** 0.5)


def export(net, x, exporter, path):
    if exporter == "torchscript":
        torch.onnx.export(net, (x,), path, dynamo=False, opset_version=17, input_names=["image"],
                          output_names=["logits"], dynamic_axes={"image": {0: "N"}, "logits": {0: "N"}})
    else:
        torch.onnx.export(net, (x,), path, dynamo=True, opset_version=20, external_data=True,
                          input_names=["image"], output_names=["logits"], verbose=False)


def main():
    if sys.argv[1] == "--list":
        return listed(sys.argv[2:] == ["all"])
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    name, folder = sys.argv[1:3]
    net = create(name).eval()
    if hasattr(net, "transform_input"):
        net.transform_input = False
    randomise(net)
    size = 224 if name.startswith(WANTS_224) else SIZE
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(2))
    for exporter in sys.argv[3:]:
        export(net, images[:1], exporter, f"{folder}/{exporter}.onnx")
    found = {"x": images}
    for dtype, end in ((torch.float64, ""), (torch.float32, "_f32")):
        net.to(dtype)
        x = images.to(dtype).requires_grad_()
        z = net(x)
        at = torch.arange(len(z)), torch.tensor([1, 2])
        found["logits" + end] = z
        for loss, value in (("ce", z.log_softmax(1)[at]), ("logit", z[at])):
            found[f"gradient_{loss}{end}"], = torch.autograd.grad(value.sum(), x, retain_graph=True)
    write(f"{folder}/expect.safetensors", found)


if __name__ == "__main__":
    main()
