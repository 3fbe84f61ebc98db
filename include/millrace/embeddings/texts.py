"""Truncated SVD of hashed character n-grams."""

from __future__ import annotations

import unicodedata
import zlib
from collections.abc import Sequence

import numpy as np

from millrace.core.errors import DataError
from millrace.embeddings.protocol import UNIT, Floats, Tensors, components, project, unexplained
from millrace.spec.embedding import TextNgrams

MOST = 255
"""An n-gram that stands more often in a text counts this often: sums stay below 2**53."""


class HashedNgrams:
    """`weights` (buckets), from 0 for what every text has to 255, and `components` (dimensions, buckets).

    Coordinates are those of a text's weighted counts, divided by their length; a text without n-grams has zeros.
    """

    def fit(self, contents: Sequence[str], params: TextNgrams) -> Tensors:
        """See `Embedder.fit`."""
        if len(contents) <= params.dimensions or params.dimensions > params.buckets:
            raise DataError(
                "too few texts, or buckets, for so many dimensions",
                given=f"{len(contents)} texts, {params.buckets} buckets",
                allowed=f"more than {params.dimensions} texts, and as many buckets",
            )
        counts = _counts(contents, params)
        rarity = np.log((1 + len(contents)) / (1 + (counts > 0).sum(axis=0)))
        weights = np.rint(255 * rarity / max(float(rarity.max()), 1e-9)).astype(np.int16)
        rows = counts * weights
        lengths = np.sqrt((rows * rows).sum(axis=1, keepdims=True))
        if not lengths.any():
            raise DataError("all texts are alike; there is nothing to fit", next_step="Take other partitions")
        rows = rows / np.where(lengths > 0, lengths, 1.0)
        return {"weights": weights, "components": components(rows.T @ rows, params.dimensions)}

    def embed(self, tensors: Tensors, contents: Sequence[str], params: TextNgrams) -> tuple[Floats, Floats]:
        """See `Embedder.embed`."""
        rows = _counts(contents, params) * tensors["weights"]
        squares = (rows * rows).sum(axis=1)  # of integers: exact
        projected = project(rows, tensors)
        lengths = np.sqrt(np.where(squares > 0, squares, 1.0))
        return projected / (UNIT * lengths[:, None]), unexplained(projected, squares)


def _counts(contents: Sequence[str], params: TextNgrams) -> Floats:
    """How often n-grams of each bucket stand in each text, shape (texts, buckets)."""
    counts = np.zeros((len(contents), params.buckets))
    for row, text in zip(counts, contents, strict=True):
        places = [
            zlib.crc32(gram.encode("utf-8", "surrogatepass")) % params.buckets
            for word in unicodedata.normalize("NFC", text).casefold().split()
            for gram in _ngrams(f" {word} ", params.longest)
        ]
        row += np.bincount(np.array(places, dtype=np.int64), minlength=params.buckets)
    return np.minimum(counts, MOST)


def _ngrams(word: str, longest: int) -> list[str]:
    """All n-grams of a word with a space on both sides, but for the space alone."""
    grams = (word[start : start + n] for n in range(1, longest + 1) for start in range(len(word) - n + 1))
    return [gram for gram in grams if gram != " "]
