"""Drift: speed against stock Evidently, false alarms and power, and what a calendar of equal count would have done.

`python -m bench.drift` prints the tables of docs/drift.md; `python -m bench.drift flights` those of the flights.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench import drift_flights
from bench.drift_streams import CHANGE, HISTORY, KINDS, MONTHS, Stream, World, calendar, governed, mean_loss
from bench.row import Row
from millrace.rules.degradation import degradation
from millrace.spec.monitoring import MonitoringSpec

SEEDS = 5
OURS = r"""
import time, sys, json
import numpy as np, pyarrow as pa
import evidently, evidently.metrics, pandas
from millrace.core.canonical import canonical_json
from millrace.drift.blocks import sample
from millrace.drift.check import Given, check
from millrace.drift.report import page
from millrace.drift.sketch import Sketch, make
exec(sys.argv[1])
(table, keys), (later, new) = rows(1), rows(2)
began = time.process_time()
held = keys < "2023-02"
made = make(table, keys, block="day", features=NAMES, label="late", predictions=(np.zeros(held.sum()), keys[held]),
            importance=dict.fromkeys(NAMES, 1.0), public=lambda c: True)
stored = canonical_json(made)
sketched = time.process_time()
place = np.sort(np.random.default_rng(7).choice(later.num_rows, 100_000, replace=False))
later, new = later.take(pa.array(place)), new[place]
found = check(Sketch.model_validate_json(stored), [Given(c, later[c], new) for c in NAMES], rate=0.01,
              minimum_rows=1000, seed=7)
page(found, "bench")
ended = time.process_time()
print(json.dumps([sketched - began, ended - sketched, len(stored)]))
"""
STOCK = r"""
import time, sys, json
import numpy as np, pyarrow as pa
from evidently import DataDefinition, Dataset, Report
from evidently.presets import DataDriftPreset
exec(sys.argv[1])
frames = [rows(seed)[0].drop_columns(["late"]).to_pandas() for seed in (1, 2)]
definition = DataDefinition(numerical_columns=NAMES[:6], categorical_columns=NAMES[6:])
began = time.process_time()
data = [Dataset.from_pandas(frame, definition) for frame in frames]
Report([DataDriftPreset()]).run(data[1], data[0]).get_html_str(as_iframe=False)
print(json.dumps([time.process_time() - began]))
"""
ROWS = r"""
NAMES = ["n0", "n1", "n2", "n3", "n4", "n5", "c0", "c1", "c2"]
def rows(seed, count=1_000_000):
    rng = np.random.default_rng(seed)
    day = np.sort(rng.integers(0, 365, count))
    level = rng.normal(size=365) * 0.2
    data = {n: rng.normal(size=count) + level[day] for n in NAMES[:6]}
    words = np.array([f"w{k:02d}" for k in range(20)])
    data |= {n: pa.array(words[rng.integers(0, 20, count)]) for n in NAMES[6:]}
    data["late"] = (rng.random(count) < 0.3).astype(float)
    keys = (np.datetime64("2023-01-01") + day.astype("timedelta64[D]")).astype(str)
    return pa.table(data), keys
"""


def measure(root: Path, folder: Path) -> list[Row]:
    """CPU seconds of 1M against 1M rows of 9 columns, beyond import; then the streams."""
    sketch, check, size = _python(OURS)
    (stock,) = _python(STOCK)
    name = "drift, 1M against 1M rows of 9 columns"
    rows = [
        Row(
            f"{name}: sketch, check and page, against Evidently's preset",
            sketch + check,
            stock,
            "CPU-s",
            "<= 3 CPU-s",
            "Evidently",
        ),
        Row(f"{name}: a check alone", check, stock, "CPU-s", "<= 3 CPU-s"),
        Row(f"{name}: size of the sketch", size / 1e6, 1.0, "MB", "<= 1"),
    ]
    for line in streams(1):
        rows.append(Row(f"{line['stream']}: windows in which a column drifts, against a fixed 0.1", line["alarms"],
                        line["fixed"], "share", "0.01 where nothing changes"))  # fmt: skip
        rows.append(Row(f"{line['stream']}: mean loss of the default rule, against a calendar of equal count",
                        line["loss"], line["calendar_loss"], "nats", "<= 1"))  # fmt: skip
    return rows


def _python(code: str) -> list[float]:
    done = subprocess.run([sys.executable, "-c", code, ROWS], capture_output=True, text=True, check=True)
    return [float(v) for v in json.loads(done.stdout.strip().splitlines()[-1])]


def streams(seeds: int = SEEDS) -> list[dict[str, Any]]:
    """One line per kind of stream: alarms of the first model's checks before and after the change, and the policies.

    Policies start from a model of six months and see eighteen. `alone`: decisions of the drift checks where no outcome
    is ever known. The calendar has as many retrainings as the default rule made, spread evenly.
    """
    spec = MonitoringSpec.model_validate({"max_age": "P6M", "cooldown": "P1M"})
    drift_alone = MonitoringSpec.model_validate({"cooldown": "P1M"})
    windows = range(HISTORY, MONTHS)
    lines = []
    for kind in KINDS:
        quiet = [m for m in windows if kind.startswith("still") or (m < CHANGE and kind in ("sudden", "recurring"))]
        loud = [m for m in windows if m not in quiet]
        total: dict[str, list[float]] = {}

        def add(_total: dict[str, list[float]] = total, **values: float) -> None:
            for name, value in values.items():
                _total.setdefault(name, []).append(value)

        for seed in range(seeds):
            world = World(Stream(kind, seed))
            for months, side in ((quiet, "quiet"), (loud, "loud")):
                for month in months:
                    found = world.check(HISTORY - 1, month)
                    scores = [j.score for items in found.judged.values() for j in items]
                    judged = degradation(world.blocks(HISTORY - 1, month), world.model(HISTORY - 1)[1], 0.01)
                    add(**{f"{side}_alarm": float(any(found.drifted(n) for n in found.judged)),
                           f"{side}_fixed": float(any(s >= 0.1 for s in scores)),
                           f"{side}_degraded": float(bool(judged.degraded))})  # fmt: skip
            retrains = [m for m in governed(world, spec) if m < MONTHS - 1]  # one at the end helps nobody here
            losses = {
                name: mean_loss(world.loss, HISTORY - 1, windows, months)
                for name, months in (("loss", retrains), ("calendar_loss", calendar(len(retrains))), ("frozen", []),
                                     ("monthly", list(windows)))
            }  # fmt: skip
            add(retrains=len(retrains), alone=len(governed(world, drift_alone, outcomes=False)), **losses)
        means = {name: float(np.mean(values)) for name, values in total.items()}
        pairs = {
            n: means.get(f"quiet_{w}", means.get(f"loud_{w}", 0.0))
            for n, w in (("alarms", "alarm"), ("fixed", "fixed"))
        }
        lines.append({"stream": kind, **pairs, **means})
    return lines


def recovered(line: dict[str, Any], name: str) -> str:
    """Share of what monthly retraining gains; nothing where there is next to nothing to gain."""
    gain = line["frozen"] - line["monthly"]
    return f"{(line['frozen'] - line[name]) / gain:.0%}" if gain > 0.003 else "-"


def table(lines: list[dict[str, Any]]) -> str:
    """The table of docs/drift.md."""
    head = ("stream", "column drifts: before", "after", "fixed 0.1: before", "after", "degraded: before", "after",
            "retrains", "recovered", "calendar of equal count", "decisions by drift alone")  # fmt: skip
    text = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for line in lines:
        cells = [line["stream"]]
        for what in ("alarm", "fixed", "degraded"):
            cells += [f"{line[f'{s}_{what}']:.0%}" if f"{s}_{what}" in line else "" for s in ("quiet", "loud")]
        cells += [f"{line['retrains']:.1f}", recovered(line, "loss"), recovered(line, "calendar_loss"),
                  f"{line['alone']:.1f}"]  # fmt: skip
        text.append(f"| {' | '.join(cells)} |")
    return "\n".join(text)


def main(words: list[str]) -> int:
    """Print the tables."""
    began = time.monotonic()
    if words == ["flights"]:
        print(drift_flights.table())
    else:
        print(table(streams(int(words[0]) if words else SEEDS)))
    print(f"({time.monotonic() - began:.0f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
