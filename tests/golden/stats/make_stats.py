"""Makes stats.json, the numbers that tests/lua/stats_spec.lua holds advrt.results.stats against.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install scipy==1.17.1
    /tmp/venv/bin/python tests/golden/stats/make_stats.py > tests/golden/stats/stats.json
"""
import json
import math
import random
import sys

import numpy as np
import scipy
from scipy import stats

draw = random.Random(4)


def differences():
    """Name -> paired differences: whole numbers have ties and zeros, the others have none."""
    yield "one", [3.0]
    yield "two alike", [2.0, 2.0]
    yield "all zero but one", [0.0] * 5 + [1.0]
    for n in (5, 13, 14, 49, 50, 51, 400):
        yield f"distinct {n}", [draw.gauss(0.3, 1) for _ in range(n)]
    for n in (6, 13, 14, 50, 51, 300):
        yield f"whole {n}", [float(round(draw.gauss(0.8, 3))) for _ in range(n)]
    yield "far", [abs(draw.gauss(3, 1)) + 0.01 for _ in range(200)]
    yield "one zero", [0.0] + [draw.gauss(0.3, 1) for _ in range(20)]


def number(v):
    return None if v is None or math.isnan(v) else float(v)


def wilcoxon(name, d):
    found = stats.wilcoxon(d)  # the defaults: zero_method wilcox, correction False, two-sided, auto
    a, b = sum(v > 0 for v in d), sum(v < 0 for v in d)
    return {"name": name, "differences": d, "statistic": float(found.statistic), "p": float(found.pvalue),
            "a": a, "b": b, "sign_p": float(stats.binomtest(a, a + b).pvalue) if a + b else 1.0,
            "median": float(np.median(d))}


def holm(ps):
    order, most, out = sorted(range(len(ps)), key=lambda i: ps[i]), 0.0, [0.0] * len(ps)
    for place, i in enumerate(order):
        most = max(most, min(1.0, (len(ps) - place) * ps[i]))
        out[i] = most
    return out


def lifetimes():
    """Name -> (times, flipped): censored at the last iteration, as a run has it, and anywhere."""
    for name, n, last in (("most", 40, 60), ("few", 40, 8), ("all", 25, 10 ** 6), ("none", 6, 0)):
        times = [min(last, int(draw.expovariate(1 / 20)) + 1) for _ in range(n)]
        yield name, times, [t < last for t in times]
    yield "anywhere", [draw.randint(1, 15) for _ in range(60)], [draw.random() < 0.6 for _ in range(60)]


def survival(name, times, flipped):
    data = stats.CensoredData(uncensored=[t for t, f in zip(times, flipped) if f],
                              right=[t for t, f in zip(times, flipped) if not f])
    sf = stats.ecdf(data).sf
    interval = sf.confidence_interval(method="log-log")
    with_flip = {t for t, f in zip(times, flipped) if f}
    steps = [{"time": int(t), "share": 1 - float(s), "low": number(1 - h), "high": number(1 - l)}
             for t, s, l, h in zip(sf.quantiles, sf.probabilities, interval.low.probabilities,
                                   interval.high.probabilities) if t in with_flip]
    return {"name": name, "times": times, "flipped": flipped, "steps": steps}


np.seterr(all="ignore")
ps = [0.01, 0.04, 0.03, 0.005, 0.5, 0.03]
json.dump({"scipy": scipy.__version__, "wilcoxon": [wilcoxon(*one) for one in differences()],
           "sign": [[a, b, float(stats.binomtest(a, a + b).pvalue)] for a, b in
                    ((0, 1), (0, 12), (3, 9), (7, 7), (40, 61), (480, 520), (20000, 20500), (10, 900))],
           "holm": [ps, holm(ps)], "tails": [[z, float(2 * stats.norm.sf(z))] for z in
                    (0.0, 0.1, 1.0, 1.96, 3.5, 3.54, 6.0, 12.0, 30.0)],
           "survival": [survival(*one) for one in lifetimes()]}, sys.stdout)
sys.stdout.write("\n")
