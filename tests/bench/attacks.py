"""The libraries' attacks for peers.lua: the same attacks on the same net and images.

    python attacks.py TASK.json

prints one JSON object a line: first the libraries' versions, then for each entry of the task's
"attacks" how many images stay right over all seeds, the distances at which the others fell, and
seconds; or "missing", why it cannot be run.
"""

import json
import sys
import time

import torch

from pytorch import Fashion, Normalised, load_tensors, load_weights

LIBRARIES = ("torch", "torchattacks", "pyautoattack", "foolbox")


def of_pyautoattack(net, spec, seed):
    """APGD, FAB, Square and AutoAttack as AutoAttack's authors wrote them."""
    from pyautoattack import AutoAttack

    norm = {"inf": "Linf", 2: "L2"}[spec["norm"]]
    if spec["kind"] == "standard":
        whole = AutoAttack(net, norm=norm, eps=spec["eps"], version="standard", seed=seed)
        whole.verbose = False

        def run(x, y, t):
            found = whole.run_standard_evaluation(x, y, batch_size=len(x))
            return found[0] if isinstance(found, tuple) else found

        return run
    whole = AutoAttack(net, norm=norm, eps=spec["eps"], version="custom", attacks=[], seed=seed)
    kind = spec["kind"]
    if kind in ("apgd-ce", "apgd-dlr"):
        one, one.loss = whole.apgd, kind[5:]
    elif kind == "apgd-t":
        one = whole.apgd_targeted
    elif kind in ("fab", "fab-t"):
        one, one.targeted = whole.fab, kind == "fab-t"
    else:
        one, one.n_queries = whole.square, spec["steps"]
        one.rescale_schedule = spec.get("rescale", False)
    if kind != "square":
        one.n_iter = spec["steps"]
        # those of APGD's budget that its constructor derives
        if hasattr(one, "n_iter_orig"):
            one.n_iter_orig = spec["steps"]
    one.n_restarts, one.seed = 1, seed
    return lambda x, y, t: one.perturb(x, y)


def of_torchattacks(net, spec, seed):
    import torchattacks

    torch.manual_seed(seed)
    if spec["kind"] == "pgd":
        attack = torchattacks.PGD(net, eps=spec["eps"], alpha=spec["alpha"], steps=spec["steps"])
    else:
        attack = torchattacks.DeepFool(net, steps=spec["steps"])
    return lambda x, y, t: attack(x, y)


def of_foolbox(net, spec, seed):
    import foolbox

    torch.manual_seed(seed)
    model = foolbox.PyTorchModel(net, bounds=(0, 1))
    kind, norm = spec["kind"], spec["norm"]
    if kind == "ddn":
        attack = foolbox.attacks.DDNAttack(steps=spec["steps"])
    elif kind == "fmn":
        attack = {2: foolbox.attacks.L2FMNAttack, "inf": foolbox.attacks.LInfFMNAttack}[norm](
            steps=spec["steps"]
        )
    else:
        attack = {2: foolbox.attacks.L2DeepFoolAttack, "inf": foolbox.attacks.LinfDeepFoolAttack}[
            norm
        ](steps=spec["steps"])

    def run(x, y, t):
        criterion = (
            foolbox.criteria.TargetedMisclassification(t)
            if spec.get("targeted")
            else foolbox.criteria.Misclassification(y)
        )
        _, best, _ = attack(model, x, criterion, epsilons=None)
        return best

    return run


MAKERS = {"pyautoattack": of_pyautoattack, "torchattacks": of_torchattacks, "foolbox": of_foolbox}


def measure(net, spec, x, y, t):
    robust, distances, began = 0, [], time.perf_counter()
    for seed in range(spec["seeds"]):
        torch.manual_seed(seed)
        found = MAKERS[spec["library"]](net, spec, seed)(x, y, t).detach()
        with torch.no_grad():
            prediction = net(found).argmax(1)
        far = (found - x).double().flatten(1)
        far = far.norm(dim=1) if spec["norm"] == 2 else far.abs().amax(1)
        won = prediction == t if spec.get("targeted") else prediction != y
        if spec.get("eps"):
            won &= far <= spec["eps"] * (1 + 1e-5)
        robust += int((~won).sum())
        distances += far[won].tolist()
    return {"robust": robust, "distances": distances, "seconds": time.perf_counter() - began}


def versions():
    from importlib import metadata

    found = {}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            pass
    return found


def main(path):
    with open(path) as f:
        task = json.load(f)
    torch.set_num_threads(task["threads"])
    net = Fashion()
    load_weights(net, task["weights"])
    net = Normalised(net, task["mean"], task["std"]).eval().requires_grad_(False)
    x = load_tensors(task["tensors"])["x"]
    y, t = torch.tensor(task["labels"]), torch.tensor(task["targets"])
    print(json.dumps(versions()), flush=True)
    for spec in task["attacks"]:
        try:
            answer = measure(net, spec, x, y, t)
        except Exception as problem:  # a library that is not there, or that fails
            answer = {"missing": f"{type(problem).__name__}: {problem}".split("\n")[0]}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
