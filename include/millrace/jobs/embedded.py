"""The view `embedded`: coordinates of each file of a source, by the embedding that the bundle carries."""

from __future__ import annotations

import base64

import numpy as np
import pyarrow as pa

from millrace.contract import Input
from millrace.core.errors import DataError, SpecError
from millrace.embeddings.files import Fitted, load
from millrace.jobs.work import Work
from millrace.spec.media import CONTENT

ROWS = 1024
"""Contents that are embedded at once."""


def fitted(work: Work) -> Fitted | None:
    """The pipeline's embedding, None where it has none. Raises SpecError for one that was never fitted."""
    asked = work.spec.features.embedding
    if asked is None:
        return None
    packed = work.bundle.files.get(asked.file)
    if packed is None:
        raise SpecError(
            f"the embedding '{asked.kind}' was not fitted yet",
            where=f"{work.spec.name}/{asked.file}",
            next_step=f"Land the first partitions, then run 'millrace embed {work.spec.name}', and this task again",
        )
    return load(base64.b64decode(packed), asked)


def contents(work: Work, inputs: list[Input], takes: str) -> tuple[list[str], list[bytes] | list[str]]:
    """Digests and contents of a source's files, each digest once, in the order of digests; without null contents."""
    column = CONTENT[takes]
    tables = [work.read(item, ["digest", column]) for item in inputs]
    table = pa.concat_tables(tables)
    found = dict(zip(table["digest"].to_pylist(), table[column].to_pylist(), strict=True))
    digests = sorted(d for d, content in found.items() if content is not None)
    return digests, [found[d] for d in digests]


def embed(work: Work, inputs: list[Input], embedding: Fitted) -> pa.Table:
    """Columns as `spec.features.embedded` names them, a row per distinct file; no file changes another's numbers."""
    digests, given = contents(work, inputs, embedding.params.takes)
    if not digests:
        raise DataError("no file has a content that can be embedded", given=embedding.params.source)
    parts = []
    for first in range(0, len(given), ROWS):
        points, shares = embedding.engine.embed(embedding.tensors, given[first : first + ROWS], embedding.params)
        parts.append(np.column_stack([points, shares]))
    values = np.concatenate(parts)
    names = list(work.spec.features.embedded)
    return pa.table(dict(zip(names, [pa.array(digests), *values.T.copy()], strict=True)))


def embedding_of(work: Work, inputs: list[Input]) -> str | None:
    """Digest of the embedding that features Snapshots come from. Raises DataError where it is not the same for all."""
    found = {item.partition: work.snapshots.manifest_of(work.request.key(item), item.digest).source for item in inputs}
    if len(set(found.values())) > 1:
        last = found[inputs[-1].partition]
        others = [str(partition) for partition, digest in found.items() if digest != last]
        raise DataError(
            "the features come from more than one embedding",
            where=work.spec.name,
            given=f"{', '.join(others[:6])}{' ..' if len(others) > 6 else ''} from another than {inputs[-1].partition}",
            next_step=f"Make those of the older one anew: millrace rebuild {work.spec.name}",
        )
    return next(iter(found.values()))
