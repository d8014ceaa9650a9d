"""tests/wheel.py WHEEL RUN [records]: run by a virtual environment in which WHEEL is installed. RUN is the folder
of a run of four images and five iterations. With `records`, msgpack is installed."""

import base64
import csv
import hashlib
import io
import os
import stat
import sys
import zipfile

import advrt

wheel, folder = sys.argv[1:3]

# RECORD names every file of the wheel, with its digest and size; programs keep their mode.
with zipfile.ZipFile(wheel) as archive:
    record = [name for name in archive.namelist() if name.endswith(".dist-info/RECORD")][0]
    rows = {row[0]: row[1:] for row in csv.reader(io.StringIO(archive.read(record).decode()))}
    files = [entry for entry in archive.infolist() if not entry.is_dir()]
    assert sorted(rows) == sorted(entry.filename for entry in files)
    for entry in files:
        if entry.filename == record:
            continue
        data = archive.read(entry)
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        assert rows[entry.filename] == ["sha256=" + digest, str(len(data))], entry.filename
        if data[:4] == b"\x7fELF":
            assert entry.external_attr >> 16 & stat.S_IXUSR, entry.filename
            installed = os.path.join(os.path.dirname(os.path.dirname(advrt.__file__)), entry.filename)
            assert os.access(installed, os.X_OK), installed

run = advrt.load_run(folder)
assert run.settings["setting"] == "equal_perturbation", run.settings
for name in ("table1", "curves", "paired", "survival", "least_perturbation", "left_out"):
    with open(os.path.join(folder, name + ".csv"), newline="") as file:
        rows = list(csv.DictReader(file))
    table = run.tables[name]
    assert all(len(column) == len(rows) for column in table.values()), name
    for row, i in zip(rows, range(len(rows))):
        for key, text in row.items():
            value = table[key][i]
            assert str(value) == text or float(text) == value or value != value, (name, key, text, value)
assert list(run.tables["table1"]["loss"]) == ["ce", "ce_sign", "logit", "m_logit"]
assert run.tables["table1"]["images"][0] == 4
try:
    import numpy
    assert isinstance(run.tables["curves"]["p_target"], numpy.ndarray)
    assert run.tables["curves"]["p_target"].dtype == float
except ImportError:
    assert isinstance(run.tables["curves"]["p_target"][1], float)

if "records" in sys.argv[3:]:
    # The curves are means of the records, in another precision of text.
    series = [r["p_target"] for r in run.records if r["loss"] == "ce"]
    curve = [p for p, loss in zip(run.tables["curves"]["p_target"], run.tables["curves"]["loss"]) if loss == "ce"]
    assert len(series) == 4 and len(curve) == 6, (len(series), len(curve))
    for i, p in enumerate(curve):
        assert abs(sum(s[i] for s in series) / 4 - p) <= 1e-8 * max(1, abs(p)), i
else:
    try:
        run.records
        raise AssertionError("records without msgpack")
    except ImportError as problem:
        assert "pip install msgpack" in str(problem) and "\n" not in str(problem), problem
for wrong in ("/nowhere", os.path.dirname(folder)):
    try:
        advrt.load_run(wrong)
        raise AssertionError(wrong)
    except FileNotFoundError as problem:
        assert "run.json" in str(problem)
