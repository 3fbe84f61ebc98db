"""Losses and metrics of predictions, and their intervals by a bootstrap of whole blocks of time.

Rows of one day are not independent, so intervals resample blocks, never rows. Sums run in row order or exactly
(`math.fsum`), and random draws are integers, so that the same rows give the same numbers everywhere.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from millrace.core.errors import DataError
from millrace.models import classes
from millrace.rules.blocks import resample_counts
from millrace.rules.labels import ALLOWED, Task
from millrace.rules.numbers import LARGEST
from millrace.spec.training import METRICS

if TYPE_CHECKING:
    import pyarrow as pa

Block = Literal["hour", "day", "week"]
Floats = NDArray[np.float64]
Point = tuple[int, dict[str, float]]
"""A step of a learning curve: rounds or epochs done, and the mean loss on `train` and `holdout` after it."""

CLIP = 1e-7
"""Predicted probabilities are moved this far from 0 and 1 before their logarithm is taken."""
LOSS: dict[str, str] = {"binary": "log_loss", "multiclass": "log_loss", "regression": "squared_error"}
"""Name of what `row_losses` measures, per task."""
_CHUNK = 64  # resamples counted at once


def row_losses(task: Task, label: Any, prediction: Any) -> Floats:
    """Loss of each row: log loss in nats (binary, label 0 or 1; multiclass, label the class's place, `prediction` of
    shape (rows, classes)) or squared error (regression), shape (rows,). Not finite only where a prediction is not.

    Raises DataError for labels that are none of the task.
    """
    y, p = _pair(task, label, prediction)
    if task == "multiclass":
        return classes.log_losses(y, p, CLIP)
    if task == "binary":
        clipped = np.clip(p, CLIP, 1 - CLIP)
        return np.asarray(-np.where(y > 0.5, np.log(clipped), np.log1p(-clipped)), dtype=np.float64)
    with np.errstate(over="ignore"):
        return np.asarray((y - p) ** 2, dtype=np.float64)


def log_odds(probability: Floats) -> Floats:
    """Log-odds of probabilities, clipped as for a loss."""
    clipped = np.clip(probability, CLIP, 1 - CLIP)
    return np.asarray(np.log(clipped) - np.log1p(-clipped), dtype=np.float64)


def usable(prediction: Any) -> NDArray[np.bool_]:
    """Which rows' predictions are numbers that can be measured: neither NaN, nor infinite, nor beyond float32."""
    within = np.abs(np.asarray(prediction, dtype=np.float64)) <= LARGEST
    return np.asarray(within.all(axis=1) if within.ndim > 1 else within)


def metrics(task: Task, label: Any, prediction: Any) -> dict[str, float]:
    """Metrics of all rows: log_loss, brier, roc_auc (binary), log_loss, accuracy, macro_f1 (multiclass) or rmse, mae,
    r2 (regression). Raises DataError without rows.

    roc_auc is left out where only one class is present, r2 where all labels are equal. One prediction that is not
    usable makes every metric NaN.
    """
    y, p = _pair(task, label, prediction)
    if len(y) == 0:
        raise DataError("no rows to measure")
    if not usable(p).all():  # a rank among NaN would look like a number, and a square may overflow
        return dict.fromkeys(METRICS[task], math.nan)
    one_block = np.zeros(len(y), dtype=np.int64)
    found = _from_sums(task, _block_totals(task, y, p, one_block, 1), np.ones((1, 1)))
    return {name: float(values[0]) for name, values in found.items() if math.isfinite(values[0])}


def block_keys(event_time: pa.Array | pa.ChunkedArray, block: Block, timezone: str) -> NDArray[np.str_]:
    """Key of each row's block in local time: '2013-05-01T13', '2013-05-01', or the week's Monday.

    A timestamp without zone is read as UTC. Raises DataError for a null.
    """
    import pyarrow as pa

    if event_time.null_count:
        raise DataError(f"{event_time.null_count} rows have no event time")
    zoned = pa.types.is_timestamp(event_time.type) and event_time.type.tz is not None
    moments = event_time.cast(pa.timestamp("us", "UTC" if zoned else None), safe=False).cast(pa.int64()).to_numpy()
    # The offset from UTC changes at quarter hours only; Python's own tz database serves slim images too.
    quarter = 15 * 60 * 1_000_000
    quarters, where = np.unique(moments // quarter, return_inverse=True)
    zone = ZoneInfo(timezone)
    offsets = np.array(
        [_offset_us(datetime.fromtimestamp(int(q) * 900, UTC).astimezone(zone)) for q in quarters], dtype=np.int64
    )
    local = (moments + offsets[where.ravel()]).view("datetime64[us]")
    if block == "hour":
        starts = local.astype("datetime64[h]")
    else:
        starts = local.astype("datetime64[D]")
        if block == "week":  # 1970-01-01 was a Thursday
            starts = starts - ((starts.view(np.int64) + 3) % 7).astype("timedelta64[D]")
    names, index = np.unique(starts, return_inverse=True)
    return names.astype(str)[index.ravel()]


def block_sums(keys: NDArray[np.str_], losses: Floats) -> dict[str, tuple[float, int]]:
    """Sum of losses and number of rows of each block, in key order."""
    names, index = np.unique(keys, return_inverse=True)
    sums = np.bincount(index.ravel(), weights=losses, minlength=len(names))
    rows = np.bincount(index.ravel(), minlength=len(names))
    return {str(n): (float(s), int(r)) for n, s, r in zip(names, sums, rows, strict=True)}


def block_bootstrap(
    task: Task, label: Any, prediction: Any, keys: NDArray[np.str_], *, seed: int, samples: int = 400
) -> dict[str, tuple[float, float]]:
    """95 % intervals (low, high) of each metric, by resampling whole blocks with replacement; of usable predictions.

    A metric has no interval where there is one block only, or where no resample defines it.
    """
    y, p = _pair(task, label, prediction)
    names, index = np.unique(keys, return_inverse=True)
    if len(names) < 2:
        return {}
    totals = _block_totals(task, y, p, index.ravel(), len(names))
    found = _from_sums(task, totals, resample_counts(len(names), seed=seed, samples=samples))
    intervals = {}
    for name, values in found.items():
        kept = values[np.isfinite(values)]
        if len(kept):
            low, high = np.quantile(kept, [0.025, 0.975])
            intervals[name] = (float(low), float(high))
    return intervals


def rounded(value: float, digits: int = 10) -> float:
    """The value to `digits` significant digits: what an outcome carries, so that the last bits of a CPU's
    vector unit do not change its digest."""
    return float(f"{value:.{digits}g}")


def _pair(task: Task, label: Any, prediction: Any) -> tuple[Floats, Floats]:
    y, p = np.asarray(label, dtype=np.float64), np.asarray(prediction, dtype=np.float64)
    if y.shape != p.shape[:1] or y.ndim != 1 or p.ndim != (2 if task == "multiclass" else 1):
        raise DataError(f"labels and predictions differ in shape: {y.shape} and {p.shape}")
    good = {"binary": (y == 0) | (y == 1), "multiclass": y >= -1, "regression": np.abs(y) <= LARGEST}[task]
    if not good.all():
        raise DataError(f"{int((~good).sum())} of {len(y)} labels are none of a {task} task", allowed=ALLOWED[task])
    return y, p


def _offset_us(local: datetime) -> int:
    offset = local.utcoffset()
    return 0 if offset is None else round(offset.total_seconds()) * 1_000_000


def _block_totals(task: Task, y: Floats, p: Floats, index: NDArray[np.int64], blocks: int) -> dict[str, Floats]:
    """Per-block sums from which every metric of any resample follows; `pairs` is a matrix (blocks, blocks)."""
    single = blocks == 1

    def total(values: Floats) -> Floats:
        if single:
            return np.array([math.fsum(values)])
        return np.asarray(np.bincount(index, weights=values, minlength=blocks), dtype=np.float64)

    totals = {"rows": total(np.ones(len(y))), "loss": total(row_losses(task, y, p))}
    if task == "multiclass":
        totals |= classes.block_counts(y, p, index, blocks)
    elif task == "binary":
        totals["brier"] = total((y - p) ** 2)
        totals["positive"] = total(y)
        totals["pairs"] = _ordered_pairs(y, p, index, blocks)
    else:
        centred = y - (math.fsum(y) / len(y) if len(y) else 0.0)
        totals |= {"absolute": total(np.abs(y - p)), "label": total(centred), "square": total(centred**2)}
    return totals


def _ordered_pairs(y: Floats, p: Floats, index: NDArray[np.int64], blocks: int) -> Floats:
    """Entry (b, c): pairs of a positive in b and a negative in c that are ranked rightly, ties as a half.

    Mann-Whitney's U, split by block; all entries are multiples of a half and therefore exact.
    """
    _, rank = np.unique(p, return_inverse=True)
    rank = rank.ravel()
    levels = int(rank.max()) + 1 if len(rank) else 0
    positive = y > 0.5
    pairs = np.zeros((blocks, blocks))
    order = np.argsort(index, kind="stable")
    bounds = np.searchsorted(index[order], np.arange(blocks + 1))
    for c in range(blocks):
        mine = order[bounds[c] : bounds[c + 1]]
        at = np.bincount(rank[mine[~positive[mine]]], minlength=levels).astype(np.float64)
        score = np.cumsum(at) - at / 2
        pairs[:, c] = np.bincount(index[positive], weights=score[rank[positive]], minlength=blocks)
    return pairs


def _from_sums(task: Task, totals: dict[str, Floats], counts: Floats) -> dict[str, Floats]:
    """Each metric for each resample (row of `counts`); NaN where it is not defined."""

    def drawn(name: str) -> Floats:
        return np.asarray(counts @ totals[name], dtype=np.float64)

    rows = drawn("rows")
    with np.errstate(divide="ignore", invalid="ignore"):
        if task == "multiclass":
            return {"log_loss": drawn("loss") / rows} | classes.from_counts(rows, drawn)
        if task == "binary":
            positive = drawn("positive")
            ordered = np.concatenate(
                [
                    ((part @ totals["pairs"]) * part).sum(axis=1)
                    for part in np.split(counts, range(_CHUNK, len(counts), _CHUNK))
                ]
            )
            return {
                "log_loss": drawn("loss") / rows,
                "brier": drawn("brier") / rows,
                "roc_auc": ordered / (positive * (rows - positive)),
            }
        error = drawn("loss")
        spread = drawn("square") - drawn("label") ** 2 / rows
        return {
            "rmse": np.sqrt(error / rows),
            "mae": drawn("absolute") / rows,
            "r2": np.where(spread > 0, 1 - error / spread, np.nan),
        }
