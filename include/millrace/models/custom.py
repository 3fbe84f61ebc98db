"""What predicts by a pipeline's own code, which the model brings. What goes in cannot be changed by it, and what comes
out is checked."""

from __future__ import annotations

import copy
import random
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
from safetensors.numpy import load

from millrace.core.canonical import digest
from millrace.core.errors import CodeError, ContractError
from millrace.models.metrics import Floats, usable
from millrace.models.protocol import Code, Column, Matrix, Predictor, Settings
from millrace.spec.learner import CustomLearner
from millrace.spec.trainer import check_trainer

KINDS = "biuf"
"""Kinds of numbers that are kept: booleans, integers with and without sign, floats."""
SUM = 1e-6
"""How far from 1 the probabilities of a row may add up to."""


class CustomCode:
    """Calls `predict` of trainer.py. Raises SpecError for text that is no trainer."""

    file: ClassVar[str] = "weights.safetensors"
    media_type: ClassVar[str] = "application/vnd.safetensors"

    def __init__(self, code: Code | None = None) -> None:
        if code is None:
            raise ContractError("learner 'custom' needs the text of trainer.py")
        self.code = code
        self.lines = check_trainer(code.text, code.name)

    def predictor(
        self, weights: bytes, columns: tuple[Column, ...], params: CustomLearner, settings: Settings
    ) -> Predictor:
        """See `Engine.predictor`. Raises CodeError for an exception in the code and for predictions that cannot be
        used, and so does what it returns."""
        settings = replace(settings, device="cpu", gpus=0)
        with self.blamed("predict"):
            # Apart from what `fit` ran in: what is not in the weights is not there when others predict.
            function = self.function("predict", settings)

        def predict(rows: Matrix) -> Floats:
            unlabelled = shown(Matrix(rows.columns, rows.values))
            with self.blamed("predict"), determined(settings):
                # Weights of its own for each call, which it may write to.
                found = function(load(weights), unlabelled, copy.deepcopy(params.params), settings)
            return self._usable(found, len(rows), settings)

        return predict

    def function(self, name: str, settings: Settings) -> Callable[..., Any]:
        """Execute the text in a module of its own, and take a function of it."""
        module = ModuleType(f"millrace_trainer_{digest(self.code.text.encode())[7:19]}")
        sys.modules[module.__name__] = module  # dataclasses, for one, look their module up
        with determined(settings):
            exec(compile(self.code.text, self.code.name, "exec", dont_inherit=True), module.__dict__)
        function: Callable[..., Any] = getattr(module, name)
        return function

    @contextmanager
    def blamed(self, function: str) -> Iterator[None]:
        """An exception becomes a CodeError that says where in trainer.py."""
        try:
            yield
        except MemoryError:
            raise
        except (Exception, SystemExit) as err:
            # The deepest line of trainer.py that was at work; below it is what the code called.
            frames = [f.lineno for f in traceback.extract_tb(err.__traceback__) if f.filename == self.code.name]
            said = next(iter(str(err).splitlines()), "")[:300]
            step = "The message and the line are those of the code in trainer.py; mend it there"
            if isinstance(err, ImportError):
                step = "trainer.py is one file: what it imports must be installed where the job runs"
            raise CodeError(f"{function} raised {type(err).__name__}" + (f": {said}" if said else ""),
                            where=f"{self.code.name}:{frames[-1] if frames else self.lines[function]}",
                            next_step=step) from err  # fmt: skip

    def wrong(self, function: str, message: str, **parts: Any) -> CodeError:
        """What is wrong with a function of trainer.py, at its line."""
        return CodeError(message, where=f"{self.code.name}:{self.lines[function]}", **parts)

    def _usable(self, answer: Any, rows: int, settings: Settings) -> Floats:
        """Predictions as float64. Raises CodeError for another shape, what is no finite number, no probability."""
        shape = (rows, settings.classes) if settings.task == "multiclass" else (rows,)
        if not isinstance(answer, np.ndarray) or answer.dtype.kind not in KINDS:
            given = f"array of {answer.dtype}" if isinstance(answer, np.ndarray) else type(answer).__name__
            raise self.wrong("predict", "predict returned no array of numbers", given=given,
                              allowed=f"a numpy array of shape {shape}")  # fmt: skip
        if answer.shape != shape:
            raise self.wrong("predict", f"predict returned another shape for {rows} rows of a {settings.task} label",
                              given=answer.shape, allowed=str(shape))  # fmt: skip
        prediction = np.asarray(answer, dtype=np.float64)
        if wrong := int((~usable(prediction)).sum()):
            raise self.wrong("predict", f"predictions of {wrong} of {rows} rows are NaN, infinite or beyond float32",
                              next_step="A missing number in the rows is NaN: fill it as in fit")  # fmt: skip
        if settings.task != "regression" and ((prediction < 0) | (prediction > 1)).any():
            raise self.wrong("predict", "predictions of a "
                              f"{settings.task} label are probabilities", allowed="0 to 1")  # fmt: skip
        if settings.task == "multiclass" and (np.abs(prediction.sum(axis=1) - 1) > SUM).any():
            raise self.wrong("predict", "the probabilities of a row do not add up to 1", allowed=f"1 +- {SUM:g}")
        return prediction


def shown(rows: Matrix) -> Matrix:
    """Rows that cannot be written to: others measure the same ones."""
    values, label, weight = rows.values.view(), rows.label.view(), rows.weight.view()
    values.flags.writeable = label.flags.writeable = weight.flags.writeable = False
    return Matrix(rows.columns, values, label, weight)


@contextmanager
def determined(settings: Settings) -> Iterator[None]:
    """Chance that begins at the seed, and the request's threads, also in torch where the code uses it; everything as it
    was afterwards."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    held, legacy = random.getstate(), np.random.get_state()
    torch = sys.modules.get("torch")
    before = (torch.get_num_threads(), torch.get_rng_state()) if torch else None
    random.seed(settings.seed)
    np.random.seed(settings.seed % 2**32)
    if torch:
        torch.set_num_threads(settings.threads)
        torch.manual_seed(settings.seed)
    try:
        with threadpool_limits(limits=settings.threads):
            yield
    finally:
        random.setstate(held)
        np.random.set_state(legacy)
        if torch and before:
            torch.set_num_threads(before[0])
            torch.set_rng_state(before[1])
