"""What predicts by an ONNX graph: onnxruntime on the CPU, from bytes that `check_graph` has judged."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, ClassVar

import numpy as np
import onnxruntime as ort

from millrace.core.errors import DataError
from millrace.models.metrics import Floats
from millrace.models.protocol import Column, Matrix, Predictor, Settings
from millrace.spec.learner import OnnxModel

MEMORY = 2 * 2**30
"""Most bytes that graphs of a process may take while they compute."""
BLOCK = 32
"""Rows of every call, the last of a block repeated where there are fewer: onnxruntime rounds otherwise for other
numbers of rows, so that a row would not have the same prediction alone and in a batch."""
_WORTH = 64
"""Blocks from which on threads share them."""
_QUIET = 4
_FLOATS = {"tensor(float)": np.float32, "tensor(double)": np.float64}


class Onnx:
    """Predicts by a graph that takes all features as one matrix, or each by its name."""

    file: ClassVar[str] = "weights.onnx"
    media_type: ClassVar[str] = "application/onnx"

    def predictor(
        self, weights: bytes, columns: tuple[Column, ...], params: OnnxModel, settings: Settings
    ) -> Predictor:
        """See `Engine.predictor`. Raises DataError for a graph that takes or gives something else."""
        session = _session(weights)
        feeds = _inputs(session, columns)
        output = _output(session)

        def batch(values: Floats) -> Floats:
            given = {name: values[:, places].astype(kind) if wide else values[:, places[0]].astype(kind)
                     for name, places, kind, wide in feeds}  # fmt: skip
            try:
                (found,) = session.run([output], given)
            except Exception as err:  # onnxruntime's have no other base; their text may hold values of rows
                raise DataError("onnxruntime cannot compute this graph for rows of these features",
                                given=f"{len(columns)} features, {type(err).__name__}",
                                next_step="Try the file with onnxruntime where it was made") from err  # fmt: skip
            return _shaped(np.asarray(found, dtype=np.float64), BLOCK, settings)

        def predict(rows: Matrix) -> Floats:
            count = len(rows)
            places = np.minimum(np.arange(-(-max(count, 1) // BLOCK) * BLOCK), max(count - 1, 0))
            values = rows.values[places] if count else np.zeros((BLOCK, len(columns)))
            blocks = [values[at : at + BLOCK] for at in range(0, len(values), BLOCK)]
            if settings.threads == 1 or len(blocks) < _WORTH:
                return np.concatenate([batch(each) for each in blocks])[:count]
            with ThreadPoolExecutor(settings.threads) as pool:
                return np.concatenate(list(pool.map(batch, blocks)))[:count]

        return predict


@cache
def _quiet_and_bounded() -> None:
    """Once in a process: no word on stderr, nothing sent anywhere, and memory that graphs share and that has an end."""
    ort.set_default_logger_severity(_QUIET)
    ort.disable_telemetry_events()
    place = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    ort.create_and_register_allocator(place, ort.OrtArenaCfg({"max_mem": MEMORY}))


def _session(weights: bytes) -> Any:
    _quiet_and_bounded()
    options = ort.SessionOptions()
    # One: trees are summed in another order by several. Threads take whole blocks instead.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.use_deterministic_compute = True
    options.enable_profiling = False
    options.log_severity_level = _QUIET
    # Less native code that reads the graph: what it saves beyond this is for images.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.add_session_config_entry("session.load_model_format", "ONNX")
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return ort.InferenceSession(weights, options, providers=["CPUExecutionProvider"], enable_fallback=0)
    except Exception as err:  # onnxruntime's have no other base
        raise DataError(f"onnxruntime cannot read this graph: {str(err)[:300]}", given=Onnx.file,
                        next_step="Try the file with onnxruntime where it was made") from err  # fmt: skip


def _inputs(session: Any, columns: tuple[Column, ...]) -> list[tuple[str, list[int], Any, bool]]:
    """What each input is given: places of its columns, its type, and whether it has a second dimension."""
    inputs, names = session.get_inputs(), [column.name for column in columns]
    for each in inputs:
        if each.type not in _FLOATS or len(each.shape) not in (1, 2):
            raise DataError(f"input '{each.name}' is no matrix of floating point numbers",
                            given=f"{each.type}, {len(each.shape)} dimensions", allowed=sorted(_FLOATS))  # fmt: skip
        if isinstance(each.shape[0], int):
            raise DataError(f"input '{each.name}' takes a fixed number of rows", given=each.shape[0],
                            next_step="Export the model with a free first dimension")  # fmt: skip
    if len(inputs) == 1 and len(inputs[0].shape) == 2:
        _same_width(inputs[0], len(columns))
        return [(inputs[0].name, list(range(len(columns))), _FLOATS[inputs[0].type], True)]
    if {each.name for each in inputs} != set(names):
        raise DataError("the graph's inputs are not the features", given=", ".join(sorted(e.name for e in inputs)),
                        allowed=sorted(names))  # fmt: skip
    for each in inputs:
        if len(each.shape) == 2:
            _same_width(each, 1)
    return [(each.name, [names.index(each.name)], _FLOATS[each.type], len(each.shape) == 2) for each in inputs]


def _same_width(found: Any, width: int) -> None:
    if isinstance(found.shape[1], int) and found.shape[1] != width:
        raise DataError(f"input '{found.name}' is of another width than the features", given=found.shape[1],
                        allowed=str(width))  # fmt: skip


def _output(session: Any) -> str:
    """The output that predicts: the one of floating point, or the one called `probabilities`."""
    fit = [each.name for each in session.get_outputs() if each.type in _FLOATS]
    if len(fit) == 1 or "probabilities" in fit:
        return fit[0] if len(fit) == 1 else "probabilities"
    raise DataError(
        "the graph has several outputs that could be the prediction" if fit else "the graph gives no floating point",
        given=", ".join(fit) or ", ".join(each.type for each in session.get_outputs()),
        allowed="one output of floating point numbers, or one that is named probabilities",
        next_step="Export the model with that one alone",
    )


def _shaped(found: Floats, rows: int, settings: Settings) -> Floats:
    """Of a regression and a binary label one number a row, of classes one for each."""
    allowed: list[tuple[int, ...]]
    if settings.task == "multiclass":
        allowed = [(rows, settings.classes)]
    elif settings.task == "binary":
        allowed = [(rows,), (rows, 1), (rows, 2)]
    else:
        allowed = [(rows,), (rows, 1)]
    if found.shape not in allowed:
        raise DataError(f"the graph does not give what a {settings.task} label asks for", given=str(found.shape),
                        allowed=", ".join(str(shape) for shape in allowed))  # fmt: skip
    if settings.task == "multiclass":
        return found
    return found[:, -1] if found.ndim == 2 else found
