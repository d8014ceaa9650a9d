"""advrt: how loss functions shape gradient-based adversarial attacks.

The program is in this package's folder bundle/, with every library that it needs; the command `advrt`
starts it. load_run reads what an experiment has written.
"""

import csv
import json
import os
import sys

__version__ = "@VERSION@"


def main():
    """The command `advrt`: this process becomes the program."""
    program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bundle", "bin", "advrt")
    try:
        os.execv(program, [program] + sys.argv[1:])
    except OSError as problem:
        sys.exit("advrt: cannot start %s: %s; install the wheel again" % (program, problem.strerror))


def _numpy():
    try:
        import numpy
        return numpy
    except ImportError:
        return None


def _column(texts):
    """A column's texts as whole numbers, else as numbers, else as they are."""
    values = texts
    for kind in (int, float):
        try:
            values = [kind(text) for text in texts]
            break
        except ValueError:
            pass
    numpy = _numpy()
    return numpy.array(values) if numpy else values


def _table(path):
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    names = rows[0] if rows else []
    return {name: _column([row[i] for row in rows[1:]]) for i, name in enumerate(names)}


def _records(path):
    try:
        import msgpack
    except ImportError:
        raise ImportError("load_run reads %s with the package msgpack, which is not installed: "
                          "pip install msgpack" % path) from None
    numpy = _numpy()
    with open(path, "rb") as file:
        records = list(msgpack.Unpacker(file, strict_map_key=False))
    for record in records if numpy else []:
        for key, value in record.items():
            if isinstance(value, list):
                record[key] = numpy.array(value)
    return records


class Run:
    """A finished run: its folder, `settings` (run.json), `tables` and `records`."""

    def __init__(self, folder):
        self.folder = os.fspath(folder)
        with open(os.path.join(self.folder, "run.json"), encoding="utf-8") as file:
            self.settings = json.load(file)
        self.tables = {name[:-4]: _table(os.path.join(self.folder, name))
                       for name in sorted(os.listdir(self.folder)) if name.endswith(".csv")}
        self._read = None

    @property
    def records(self):
        """A dict for each image and loss, as records.msgpack has them; read when first asked for."""
        if self._read is None:
            self._read = _records(os.path.join(self.folder, "records.msgpack"))
        return self._read

    def __repr__(self):
        return "<advrt run %s: tables %s>" % (self.folder, ", ".join(self.tables))


def load_run(folder):
    """Reads the folder of a finished run.

    Returns a Run. tables["table1"]["iterations_mean"] is a column of table1.csv: a list, or an array where
    NumPy is installed. records needs the package msgpack.
    """
    return Run(folder)
