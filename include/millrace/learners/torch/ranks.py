"""Several GPUs in one pod: the training runs as ranks that torchrun starts, one for each GPU.

This process writes the rows into a folder, starts `python -m torch.distributed.run ... millrace.learners.torch.ranks
FOLDER`, passes the learning curve on as it comes, and reads the weights. Nothing is pickled: arrays are .npy files,
the rest is JSON.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from millrace.core import interruption, orphans
from millrace.core.errors import DataError, MillraceError, Retry
from millrace.learners.checkpoints import Checkpoints
from millrace.learners.protocol import Report, Weights
from millrace.learners.torch import training
from millrace.learners.torch.group import Group
from millrace.models.metrics import Point
from millrace.models.protocol import Column, Matrix, Settings
from millrace.spec.learner import TorchMLPLearner
from millrace.store import open_store

_WORK, _WEIGHTS, _CURVE, _ERROR, _LOG = "work.json", "weights.safetensors", "curve.jsonl", "error.json", "ranks.log"
_SIDES = ("train", "holdout")
_PATIENCE = timedelta(minutes=10)  # for a rank that is late for an exchange
_ERRORS: dict[str, type[Exception]] = {
    "Interrupted": interruption.Interrupted,
    "DataError": DataError,
    "OutOfMemoryError": MemoryError,
}

logger = logging.getLogger(__name__)


class RankLost(MillraceError):
    """A rank was killed, or the GPUs stopped talking to each other."""

    retry: ClassVar[Retry] = "resume"


def fit(
    train: Matrix,
    holdout: Matrix,
    params: TorchMLPLearner,
    settings: Settings,
    checkpoints: Checkpoints,
    report: Report,
    *,
    ranks: int,
) -> Weights:
    """Train in `ranks` processes; see `Learner.fit`. Each holds all rows and computes its share of every batch, so
    that the result is that of one process but for the order of sums (and, with dropout, other draws)."""
    with tempfile.TemporaryDirectory(prefix="millrace-ranks-") as name, interruption.watched():
        folder = Path(name)
        for side, rows in zip(_SIDES, (train, holdout), strict=True):
            np.save(folder / f"{side}.values.npy", rows.values, allow_pickle=False)
            np.save(folder / f"{side}.label.npy", rows.label, allow_pickle=False)
            np.save(folder / f"{side}.weight.npy", rows.weight, allow_pickle=False)
        work = {
            "columns": [asdict(column) for column in train.columns],
            "params": params.model_dump(mode="json"),
            "settings": asdict(settings),
            "store": checkpoints.objects.root if checkpoints.objects else None,
            "checkpoints": [checkpoints.prefix, checkpoints.request],
        }
        (folder / _WORK).write_text(json.dumps(work))
        curve = _run(folder, ranks, settings, report)
        return Weights((folder / _WEIGHTS).read_bytes(), curve)


def _run(folder: Path, ranks: int, settings: Settings, report: Report) -> list[Point]:
    """Start the ranks, watch over them, and return the whole learning curve. Raises what ended rank 0."""
    curve: list[Point] | None = None
    own = os.getpid()
    with (folder / _LOG).open("wb") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"),
                *("--nproc-per-node", str(ranks), "--max-restarts", "0", "-m", __name__, str(folder)),
            ],
            stdout=log,
            stderr=log,
            env={
                **os.environ,
                "OMP_NUM_THREADS": str(settings.threads),
                # All ranks are in this pod, whose own name may resolve to nothing.
                "GLOO_SOCKET_IFNAME": "lo",
                "NCCL_SOCKET_IFNAME": "lo",
            },
            start_new_session=True,
            preexec_fn=lambda: orphans.end_with(own, signal.SIGTERM),
        )
        stopped = False
        try:
            while process.poll() is None:
                curve = _tell(folder, curve, report)
                if interruption.asked() and not stopped:
                    process.terminate()  # torchrun passes it on to the ranks
                    stopped = True
                if stopped and not interruption.seconds_left():
                    break
                time.sleep(0.1)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    curve = _tell(folder, curve, report)
    if (folder / _WEIGHTS).exists():
        return curve or []
    if (folder / _ERROR).exists():
        error = json.loads((folder / _ERROR).read_text())
        raise _ERRORS.get(error["type"], MillraceError)(error["message"])
    if interruption.asked():
        raise interruption.Interrupted("asked to leave during training; what the last checkpoint has is kept")
    log_lines = (folder / _LOG).read_text(errors="replace").strip().splitlines()
    logger.error("the last lines of the ranks:\n%s", "\n".join(log_lines[-60:]))
    raise RankLost(
        f"a rank of {ranks} ended without a word (exit code {process.returncode})",
        next_step="The last lines of the ranks are in this job's log; the next try goes on from the last checkpoint",
    )


def _tell(folder: Path, curve: list[Point] | None, report: Report) -> list[Point] | None:
    """Report what rank 0 has written since, at first also nothing; a line that is not ended yet waits."""
    path = folder / _CURVE
    if not path.exists():
        return curve
    lines = path.read_text().split("\n")[:-1]
    known = curve or []
    new: list[Point] = [(step, losses) for step, losses in map(json.loads, lines[len(known) :])]
    if new or curve is None:
        report(new)
    return [*known, *new]


class _Reader(Checkpoints):
    """Checkpoints of a rank that writes none."""

    def save(self, segment: int, data: bytes, curve: list[Point], part: int = 0) -> None:
        """Leave it to rank 0."""


def _rank(folder: Path) -> None:
    """One rank: train with the others; rank 0 writes checkpoints, the curve, and the weights last."""
    work: dict[str, Any] = json.loads((folder / _WORK).read_text())
    settings, params = Settings(**work["settings"]), TorchMLPLearner.model_validate(work["params"])
    columns = tuple(Column(**column) for column in work["columns"])
    group = Group(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    objects = open_store(work["store"]) if work["store"] else None
    checkpoints = (_Reader if group.rank else Checkpoints)(objects, *work["checkpoints"])

    def side(name: str) -> Matrix:
        parts = (np.load(folder / f"{name}.{part}.npy") for part in ("label", "weight"))  # an empty file has no map
        return Matrix(columns, np.load(folder / f"{name}.values.npy", mmap_mode="c"), *parts)

    def report(points: list[Point]) -> None:
        if group.rank == 0:
            with (folder / _CURVE).open("a") as file:
                file.writelines(json.dumps(point) + "\n" for point in points)

    if settings.device == "cuda":
        torch.cuda.set_device(group.rank)
    torch.distributed.init_process_group("nccl" if settings.device == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        train, holdout = (side(name) for name in _SIDES)
        weights = training.fit(train, holdout, params, settings, checkpoints, report, group)
    except Exception as err:
        _say(folder, err)
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)  # an orderly end would wait for ranks that wait for this one
    if group.rank == 0:
        temporary = folder / f".tmp-{_WEIGHTS}"
        temporary.write_bytes(weights.data)
        temporary.replace(folder / _WEIGHTS)
    torch.distributed.destroy_process_group()


def _say(folder: Path, err: Exception) -> None:
    """Leave the first error of any rank for the process that started it; a lost connection only follows from one."""
    if isinstance(err, torch.distributed.DistError | ConnectionError):
        return
    try:
        with (folder / _ERROR).open("x") as file:
            json.dump({"type": type(err).__name__, "message": str(err)}, file)
    except FileExistsError:
        pass


if __name__ == "__main__":
    with interruption.watched():
        signal.signal(signal.SIGTERM, lambda *_: interruption.ask())
        _rank(Path(sys.argv[1]))
