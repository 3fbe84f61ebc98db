"""Embedder: what every embedding does, and how one is found from its spec model.

A fit gives integers, and an embedding is made of integers alone up to one correctly rounded division: whatever the
machine and its threads, the same file has the same coordinates to the last bit. Only the fit itself, an eigenvalue
problem, may differ between machines; its result is a file of the pipeline, so that nobody needs to fit again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from millrace.core.errors import SpecError
from millrace.core.imports import named

Floats = NDArray[np.float64]
Tensors = dict[str, NDArray[Any]]
UNIT = 32767
"""What 1 is in the components of a fit, which are int16."""


class Embedder(Protocol):
    """An embedding's engine."""

    def fit(self, contents: Sequence[Any], params: Any) -> Tensors:
        """Fit on contents (bytes of images, or texts), none of them null. `components`, int16, has a row each.

        Raises DataError where there are fewer contents than dimensions, or nothing in them varies.
        """

    def embed(self, tensors: Tensors, contents: Sequence[Any], params: Any) -> tuple[Floats, Floats]:
        """Coordinates, shape (contents, dimensions), and the unexplained shares, shape (contents,)."""


def engine_of(params: Any) -> Embedder:
    """Import and make the engine that an embedding's spec model names. Raises SpecError."""
    try:
        engine: Embedder = named(params.engine)()
    except ImportError as err:
        raise SpecError(f"the engine of embedding '{params.kind}' cannot be imported", given=params.engine) from err
    return engine


def components(covariance: Floats, dimensions: int) -> NDArray[np.int16]:
    """The first eigenvectors of a symmetric matrix as rows of int16, the sign of each settled."""
    _, vectors = np.linalg.eigh(covariance)
    rows = vectors[:, ::-1][:, :dimensions].T
    largest = np.abs(rows).argmax(axis=1)
    rows = rows * np.sign(rows[np.arange(len(rows)), largest])[:, None]
    return np.asarray(np.rint(rows * UNIT), dtype=np.int16)


def project(rows: Floats, tensors: Tensors) -> Floats:
    """Integer rows times the integer components, shape (rows, dimensions): exact in any order while below 2**53."""
    return np.asarray(rows @ tensors["components"].astype(np.float64).T)


def unexplained(projected: Floats, squares: Floats) -> Floats:
    """Share of each row's sum of squares that its projection lacks, 0 where there is nothing to explain."""
    held = np.zeros(len(projected))
    for column in projected.T:  # in this order on every machine
        held = held + (column / UNIT) * (column / UNIT)
    return np.clip(1.0 - held / np.where(squares > 0, squares, 1.0), 0.0, 1.0) * (squares > 0)
