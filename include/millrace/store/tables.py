"""Tables: named maps partition -> current Snapshot, one pointer object per partition, moved by compare-and-set."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from millrace.contract import Artifact, Classification
from millrace.core.canonical import canonical_json
from millrace.core.errors import Conflict, Corrupt, NotFound
from millrace.store import layout
from millrace.store.interface import ObjectStore

ATTEMPTS = 50


class Moved(BaseModel):
    """One move of a pointer: which Snapshot, its key prefix, and of features what made them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    snapshot: str
    uri: str
    rows: int | None = None
    recipe: str | None = Field(default=None, description="Digest of what made features (spec.recipe); None: unknown.")
    code: str | None = Field(default=None, description="Code digest of the Millrace that made them, for the record.")
    classification: Classification = Field(default="internal", description="The Snapshot's; earlier moves kept none.")

    @property
    def artifact(self) -> Artifact:
        """The Snapshot as jobs are given it."""
        return layout.snapshot_artifact(self.uri, self.snapshot, rows=self.rows, classification=self.classification)


class Pointer(BaseModel):
    """Where a partition of a Table points: `history` from the first Snapshot to the current one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    table: str
    partition: str
    generation: int = Field(description="Counts the moves, from 1.")
    history: tuple[Moved, ...] = Field(min_length=1)

    @property
    def current(self) -> Moved:
        """The Snapshot that readers get."""
        return self.history[-1]


class Tables:
    """Pointers in an ObjectStore. A Table is named `<pipeline>/<dataset>`."""

    def __init__(self, objects: ObjectStore) -> None:
        self.objects = objects

    def get(self, table: str, partition: str) -> Pointer | None:
        """The pointer of a partition, None when nothing was published."""
        return self._read(table, partition)[0]

    def pointer(self, table: str, partition: str) -> Pointer:
        """The pointer of a partition. Raises NotFound with the partitions that exist."""
        pointer = self.get(table, partition)
        if pointer is None:
            raise NotFound(
                f"table '{table}' has no such partition",
                given=partition,
                allowed=self.partitions(table)[-12:],
                next_step=f"Run the pipeline's features DAG for partition {partition} first",
            )
        return pointer

    def resolve(self, table: str, partition: str) -> Moved:
        """The current Snapshot of a partition. Raises NotFound with the partitions that exist."""
        return self.pointer(table, partition).current

    def partitions(self, table: str) -> list[str]:
        """All published partitions, sorted."""
        return [layout.partition(o.key) for o in self.objects.list(layout.table(table))]

    def recipes(self, table: str) -> dict[str, str | None]:
        """Partition -> the recipe of its current Snapshot, of all published partitions, sorted."""
        return {partition: self.resolve(table, partition).recipe for partition in self.partitions(table)}

    def move(
        self,
        table: str,
        partition: str,
        snapshot: Artifact,
        *,
        recipe: str | None = None,
        code: str | None = None,
        expect: Callable[[Pointer | None], None] | None = None,
    ) -> tuple[Pointer, bool]:
        """Point a partition at a Snapshot; returns the pointer and whether it moved.

        The same Snapshot by another recipe is a move too: it was made anew, and is the same. `expect` sees the pointer
        that would be replaced and raises to refuse. Racing movers are serialised by compare-and-set: the pointer's
        history holds every one of them.
        """
        for _ in range(ATTEMPTS):
            pointer, version = self._read(table, partition)
            if pointer is not None and _same(pointer.current, snapshot, recipe):
                return pointer, False
            if expect is not None:
                expect(pointer)
            history = pointer.history if pointer else ()
            moved = Moved(
                snapshot=snapshot.digest,
                uri=snapshot.uri,
                rows=snapshot.rows,
                recipe=recipe,
                code=code,
                classification=snapshot.classification,
            )
            new = Pointer(
                table=table,
                partition=partition,
                generation=len(history) + 1,
                history=(*history, moved),
            )
            try:
                self.objects.put_if(layout.pointer(table, partition), canonical_json(new), version)
            except Conflict:
                continue
            return new, True
        raise Conflict(f"the pointer kept changing for {ATTEMPTS} attempts", given=f"{table} {partition}")

    def _read(self, table: str, partition: str) -> tuple[Pointer | None, str | None]:
        try:
            data, version = self.objects.get_versioned(layout.pointer(table, partition))
        except NotFound:
            return None, None
        try:
            return Pointer.model_validate_json(data), version
        except ValidationError as err:
            where = self.objects.url(layout.pointer(table, partition))
            raise Corrupt("the pointer cannot be read", where=where, given=f"{table} {partition}") from err


def _same(current: Moved, snapshot: Artifact, recipe: str | None) -> bool:
    return current.snapshot == snapshot.digest and recipe in (None, current.recipe)
