"""Principal components of grey pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from millrace.core.errors import DataError
from millrace.core.media import grey, open_image
from millrace.embeddings.protocol import UNIT, Floats, Tensors, components, project, unexplained
from millrace.spec.embedding import ImagePCA


class PrincipalComponents:
    """`mean` (pixels) and `components` (dimensions, pixels); coordinates in units of the full grey range."""

    def fit(self, contents: Sequence[bytes], params: ImagePCA) -> Tensors:
        """See `Embedder.fit`."""
        pixels = _pixels(contents, params)
        if len(pixels) <= params.dimensions or params.dimensions > pixels.shape[1]:
            raise DataError(
                "too few images, or pixels, for so many dimensions",
                given=f"{len(pixels)} images of {pixels.shape[1]} pixels",
                allowed=f"more than {params.dimensions} images, and as many pixels",
            )
        sums = pixels.sum(axis=0)
        covariance = pixels.T @ pixels - np.outer(sums, sums) / len(pixels)
        if not covariance.any():
            raise DataError("all images are alike; there is nothing to fit", next_step="Take other partitions")
        return {"mean": np.rint(sums / len(pixels)).astype(np.int16),
                "components": components(covariance, params.dimensions)}  # fmt: skip

    def embed(self, tensors: Tensors, contents: Sequence[bytes], params: ImagePCA) -> tuple[Floats, Floats]:
        """See `Embedder.embed`."""
        rows = _pixels(contents, params) - tensors["mean"].astype(np.float64)
        projected = project(rows, tensors)
        return projected / (UNIT * 255), unexplained(projected, (rows * rows).sum(axis=1))


def _pixels(contents: Sequence[bytes], params: ImagePCA) -> Floats:
    """Grey values 0 to 255 as rows. Raises DataError for an image that cannot be decoded: the gate let it pass."""
    rows = np.empty((len(contents), params.width * params.height))
    for number, content in enumerate(contents):
        image = open_image(content)
        if image is None:
            raise DataError(
                "an image cannot be decoded",
                given=f"the {number + 1}. of {len(contents)}",
                next_step="Let the source's gate demand that 'decoded' is true",
            )
        rows[number] = grey(image, params.width, params.height).ravel()
    return rows
