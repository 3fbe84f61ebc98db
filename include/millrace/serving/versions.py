"""Versions: models that are loaded and prepared, as many as the memory given to them holds; the rest on demand."""

from __future__ import annotations

import ctypes
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

from millrace.contract import Means
from millrace.core.errors import ContractError, Corrupt
from millrace.core.imports import hidden
from millrace.models.classes import Class
from millrace.models.deployment import Deployment, load_deployment
from millrace.models.files import Card, load
from millrace.models.metrics import Floats
from millrace.models.protocol import Column, Matrix, Predictor, Settings
from millrace.serving.batching import Batcher, Predict
from millrace.serving.computing import Computing
from millrace.serving.encoding import RowEncoder
from millrace.serving.turns import Turns
from millrace.store import ObjectStore
from millrace.store.plans import Arm

RESIDENT = 2.0
"""Bytes of memory that a byte of weights takes once it is prepared (XGBoost, measured: `python -m bench serving`)."""
Predicting = Callable[[bytes], AbstractContextManager[None]]
_NOTHING: AbstractContextManager[None] = nullcontext()
LEAST = 64 << 10
"""What a version takes at least: card, encoder, and what Python makes of them."""


@dataclass(frozen=True)
class Ready:
    """A version that answers."""

    deployment: Deployment
    card: Card
    encoder: RowEncoder
    predictor: Predict
    batcher: Batcher
    features: tuple[str, ...]
    classes: tuple[Class, ...]
    size: int
    computing: Computing | None = None
    """ What makes its on-demand features; None where it has none. """

    async def predict(self, rows: Sequence[Mapping[str, object]], tenant: str = "") -> Floats:
        """Predictions, shape (rows,) or (rows, classes), in a turn of this tenant. Raises DataError for a value that a
        feature cannot have, and whatever the model raises."""
        return await self.batcher.predict(self.encoder.encode(rows).values, tenant)

    def predict_now(self, rows: Sequence[Mapping[str, object]]) -> Floats:
        """The same without a turn, for a process that does nothing else."""
        return self.predictor(self.encoder.encode(rows).values)


class Versions:
    """Loaded versions of one process. Safe to use from several threads; a version is loaded once however many ask.

    `most` is the memory for models in bytes; what was not used for longest goes first, never what is being loaded.
    `code`: whether models with code of their own may be opened; `threads`: of each prediction.
    """

    def __init__(self, objects: ObjectStore, *, most: int = 1 << 30, code: bool = False, threads: int = 1) -> None:
        self.objects, self.most, self.code, self.threads = objects, most, code, threads
        self.predicting: Predicting = lambda digest: _NOTHING
        """ Notes a call into the model of a digest, where somebody looks after this process; see `slots`. """
        self._turns = Turns()
        self._held: OrderedDict[str, Ready] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()
        self._loading: dict[str, threading.Lock] = {}

    def held(self, arm: Arm) -> Ready | None:
        """The version where it is loaded: without waiting."""
        found = self._held.get(arm.deployment.digest)
        if found is not None:
            try:
                self._held.move_to_end(arm.deployment.digest)
            except KeyError:  # another thread has just let it go; this caller has it still
                pass
        return found

    def get(self, arm: Arm) -> Ready:
        """The version, loaded where it was not: milliseconds from a folder, more from S3, so not on an event loop.

        Raises NotFound, Corrupt and DataError for what is not as it was stored, ContractError for a model with code
        where none may be executed.
        """
        if (found := self.held(arm)) is not None:
            return found
        key = arm.deployment.digest
        with self._lock:
            mine = self._loading.setdefault(key, threading.Lock())
        with mine:
            if (found := self.held(arm)) is not None:
                return found
            made = self._load(arm)
            with self._lock:
                self._held[key] = made
                self._size += made.size
                self._loading.pop(key, None)
                gone = self._shrink(key)
        if gone:
            _trim()
        return made

    def _noted(self, predictor: Predictor, columns: tuple[Column, ...], digest: bytes) -> Predict:
        """A predictor that leaves word of which model is called, should the process not survive it."""

        def predict(values: Floats) -> Floats:
            with self.predicting(digest):
                return predictor(Matrix(columns, values))

        return predict

    @property
    def size(self) -> int:
        """Bytes that the loaded versions are reckoned to take."""
        return self._size

    def __len__(self) -> int:
        return len(self._held)

    def _shrink(self, keep: str) -> int:
        gone = 0
        while self._size > self.most and len(self._held) > 1:
            oldest = next(key for key in self._held if key != keep)
            self._size -= self._held.pop(oldest).size
            gone += 1
        return gone

    def _load(self, arm: Arm) -> Ready:
        deployment = load_deployment(self.objects, arm.deployment)
        if deployment.code and not self.code:
            raise ContractError(
                "this server executes no code of pipelines",
                where=deployment.pipeline,
                given=f"version {deployment.version} brings "
                + ("the functions of its on-demand features" if deployment.on_demand else "trainer.py"),
                next_step="Give the pipeline a server of its own (docs/trainer.md#where-it-answers)",
            )
        means = Means(profile="pods") if self.code else None
        with _light():
            model = load(self.objects, deployment.model.uri, deployment.model.digest, means)
        card = model.card
        if deployment.on_demand != card.on_demand:
            raise Corrupt("a deployment has other on-demand features than its model", where=deployment.pipeline,
                          given=f"version {deployment.version}")  # fmt: skip
        settings = Settings(card.task, card.seed, self.threads, len(card.classes))
        predictor = model.engine.predictor(model.data, card.encoder.columns, model.params, settings)
        blamed = bytes.fromhex(model.digest.removeprefix("sha256:"))
        predict = self._noted(predictor, card.encoder.columns, blamed)
        computing = Computing(card.on_demand, deployment.version, lambda: self.predicting(blamed))
        return Ready(
            deployment=deployment,
            card=card,
            encoder=RowEncoder(card.encoder),
            predictor=predict,
            batcher=Batcher(predict, turns=self._turns),
            features=tuple(feature.name for feature in card.encoder.features),
            classes=card.classes,
            size=LEAST + int(RESIDENT * len(model.data)),
            computing=computing if card.on_demand else None,
        )


_IMPORTING = threading.Lock()


@contextmanager
def _light() -> Iterator[None]:
    """Without pandas and scikit-learn, which XGBoost brings where they are installed: 2 s and 130 MB for nothing."""
    with _IMPORTING, hidden("pandas"), hidden("sklearn"):
        yield


def _trim() -> None:
    """Give memory of models that went back to the system: glibc keeps it otherwise."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):  # another C library
        pass
