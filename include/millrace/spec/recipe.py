"""Recipe: what features of a partition are made by, beside the data; two recipes make features of two meanings.

A features Table's pointer keeps the recipe of every Snapshot it ever pointed at. A training set takes partitions of the
present recipe, and of those that the spec declares compatible (ADR 0026).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from millrace.core.canonical import digest
from millrace.spec.bundle import Bundle
from millrace.spec.pipeline import UNRECORDED, PipelineSpec

TRANSFORM_VERSION = 1
"""Raised when landing or the transform would make other features of the same files, SQL and spec."""
_ELSEWHERE = {"location", "compression", "gate"}
"""Of a source: where its bytes come from and what refuses them, which does not change what they mean."""


@dataclass(frozen=True)
class Recipe:
    """A bundle's recipe, and which others its spec takes for the same."""

    digest: str
    compatible: tuple[str, ...]

    @classmethod
    def of(cls, bundle: Bundle) -> Recipe:
        """The recipe of a pipeline's folder: its SQL, what the spec says of sources and features, the embedding.

        Keys at their defaults are left out, so that a version with further keys makes no features stale.
        """
        spec = PipelineSpec.model_validate(bundle.spec)
        features = spec.features
        made = {
            "transform": TRANSFORM_VERSION,
            "sql": bundle.sql,
            "partition": {"grain": spec.partition.grain, "timezone": spec.partition.timezone},
            "sources": {
                name: source.model_dump(mode="json", exclude_defaults=True, exclude=_ELSEWHERE)
                for name, source in spec.sources.items()
            },
            "features": features.model_dump(
                mode="json", exclude_defaults=True, exclude={"gate", "service", "compatible"}
            ),
            "embedding": digest(bundle.files.get(features.embedding.file, "")) if features.embedding else None,
        }
        return cls(digest(made), features.compatible)

    def takes(self, recorded: str | None) -> bool:
        """Whether features of a recorded recipe (None: made before recipes were kept) may stand beside new ones."""
        if recorded is None:
            return UNRECORDED in self.compatible
        return recorded == self.digest or any(short(recorded, len(c)) == c for c in self.compatible)


def short(recipe: str | None, length: int = 12) -> str:
    """A recipe as people read and write it."""
    return UNRECORDED if recipe is None else recipe.removeprefix("sha256:")[:length]


def listed(partitions: Iterable[str], most: int = 3) -> str:
    """A few partitions, and how many more there are."""
    given = list(partitions)
    more = f" and {len(given) - most:,} more" if len(given) > most else ""
    return ", ".join(given[:most]) + more
