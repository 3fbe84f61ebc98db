"""`millrace try`: land, gate, transform and gate one partition in this process, in a store that is gone afterwards."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from millrace.contract import Artifact, Identity, Input, JobRequest, Means, Outcome, Place, code_digest
from millrace.core.errors import DataError
from millrace.core.settings import Settings
from millrace.spec import Bundle, PipelineSpec, Placed, ProjectTree
from millrace.spec.gate import gate_checks, references, trailing
from millrace.store import SnapshotStore, bundles, open_store

STATIC = "static"
_LOOKED_AT = 400
Given = tuple[str, Artifact, str]
Say = Callable[[str], object]


class _Missing(DataError):
    """There is no such delivery."""


def attempt(
    tree: ProjectTree, settings: Settings, pipeline: str, partition: str, say: Say, rows: int = 5, show: bool = False
) -> bool:
    """Run the jobs of the features DAG up to its second gate, and return whether both gates passed.

    Neither the project's store nor its Tables, ledger or Feast are touched. Values of columns that are not public are
    said with `show` only. Raises MillraceError for what a job cannot do.
    """
    with tempfile.TemporaryDirectory(prefix="millrace-try-") as folder:
        return _Trial(Placed.of(tree, settings.environment, pipeline), tree.bundle(pipeline), folder, say).run(
            partition, rows, show
        )


def delivered(tree: ProjectTree, settings: Settings, pipeline: str, say: Say) -> list[str]:
    """Land the newest file of each source, and return what is wrong with it in the words of the land job, a line each.

    Looks back over `_LOOKED_AT` partitions from the pipeline's last one, or from now.
    """
    placed, problems = Placed.of(tree, settings.environment, pipeline), []
    with tempfile.TemporaryDirectory(prefix="millrace-try-") as folder:
        trial = _Trial(placed, tree.bundle(pipeline), folder, say)
        bundles.keep(open_store(folder), trial.bundle)
        for name, source in placed.spec.sources.items():
            keys = islice(_from_the_last(placed.spec), _LOOKED_AT) if source.partitioned else iter([STATIC])
            try:
                if not any(trial.lands(name, key) for key in keys):
                    problems.append(f"{pipeline}: source '{name}': no file was delivered: {placed.locations()[name]}")
            except DataError as err:
                problems.append(f"{pipeline}: source '{name}': {err}")
    return problems


def _from_the_last(spec: PipelineSpec) -> Iterator[str]:
    partitioning, first = spec.partitioning, spec.partition.start
    key = spec.partition.end or partitioning.key_of(datetime.now(UTC))
    while partitioning.start(key) >= partitioning.start(first):
        yield key
        key = partitioning.previous(key)


@dataclass
class _Trial:
    placed: Placed
    bundle: Bundle
    store: str
    say: Say

    def run(self, partition: str, rows: int, show: bool) -> bool:
        spec = self.placed.spec
        spec.partitioning.check(partition)
        bundles.keep(open_store(self.store), self.bundle)
        landed = {name: self._land(name, partition) for name in spec.sources}
        passed = True
        for name, source in spec.sources.items():
            event_time = source.event_time if source.partitioned else None
            passed &= self._gate(f"raw.{name}", landed[name], source.gate, event_time, landed)
        if not passed:
            self.say("transform.sql was not run: a gate before it failed")
            return False
        inputs = [(name, data, key) for name in sorted(landed) for data, key in landed[name]]
        made = self._job("transform", partition, inputs).outputs["data"]
        self.say(f"transform.sql: {made.rows:,} rows" if made.rows is not None else "transform.sql: done")
        passed = self._gate("features", [(made, partition)], spec.features.gate, spec.features.event_time, landed)
        self._show(made, rows, show)
        return passed

    def _land(self, name: str, partition: str) -> list[tuple[Artifact, str]]:
        """Snapshots that the transform reads, the partition's own last; of a lookback those that are there."""
        spec = self.placed.spec
        source = spec.sources[name]
        own = partition if source.partitioned else STATIC
        earlier = (
            spec.partitioning.lookback(partition, source.lookback, spec.partition.start) if source.partitioned else []
        )
        found = []
        for key in [*earlier, own]:
            try:
                data = self._job("land", key, [], source=name).outputs["data"]
            except _Missing as err:
                if key == own:
                    raise
                self.say(f"{name} {key}: left out of the lookback: {err}")
                continue
            self.say(f"{name} {key}: {data.rows:,} rows landed" if data.rows is not None else f"{name} {key}: landed")
            found.append((data, key))
        return found

    def lands(self, name: str, key: str) -> bool:
        """Land one delivery; False where there is none. Raises DataError for one that cannot be landed."""
        try:
            data = self._job("land", key, [], source=name).outputs["data"]
        except _Missing:
            return False
        self.say(f"{self.placed.spec.name}: source '{name}', {key}: {data.rows or 0:,} rows land")
        return True

    def _gate(
        self,
        dataset: str,
        data: list[tuple[Artifact, str]],
        suite: str,
        event_time: str | None,
        landed: dict[str, list[tuple[Artifact, str]]],
    ) -> bool:
        """Judge the newest Snapshot, beside those before it and the sources that its checks look into."""
        checks = gate_checks(self.bundle.suites[suite], suite)
        beside = [("trailing", *item) for item in data[:-1]] if trailing(checks) else []
        beside += [(f"reference.{name}", *item) for name in references(checks) for item in landed[name][-1:]]
        artifact, key = data[-1]
        found = self._job("validate", key, [("data", artifact, key), *beside], suite=suite, event_time=event_time)
        verdict = found.verdict
        assert verdict is not None
        failed = len(verdict.failures)
        self.say(f"gate {dataset} {key}: {'passed' if verdict.passed else 'FAILED'}, {len(verdict.checks)} checks"
                 + (f", {failed} failed" if failed else ""))  # fmt: skip
        for check in verdict.failures:
            self.say(f"  FAILED  {check.message}")
            for example in check.examples:
                self.say(f"          such as {example}")
        return verdict.passed

    def _show(self, made: Artifact, rows: int, show: bool) -> None:
        if not rows:
            return
        table = SnapshotStore(open_store(self.store)).read(made.uri, made.digest).slice(0, rows)
        spec = self.placed.spec
        hidden = [c for c in table.column_names if not show and spec.classification(c) != "public"]
        for number, row in enumerate(table.to_pylist(), start=1):
            self.say(f"row {number}")
            for column, value in row.items():
                self.say(f"  {column}: {f'({spec.classification(column)})' if column in hidden else value}")
        if hidden:
            self.say("Values of columns that are not public are shown with --show")

    def _job(self, job: str, scope: str, inputs: list[Given], **params: Any) -> Outcome:
        from millrace.jobs.runner import run

        training = self.placed.spec.training
        identity = Identity(
            job=job, params=params, scope=(scope,), spec_digest=self.bundle.digest, code_digest=code_digest(),
            inputs=tuple(Input(role=r, kind=a.kind, digest=a.digest, partition=p) for r, a, p in inputs),
            **({"seed": training.seed, "threads": training.threads} if training else {}),
        )  # fmt: skip
        place = Place(store=str(Path(self.store)), inputs={a.digest: a.uri for _, a, _ in inputs})
        means = Means(locations=self.placed.locations())
        result = run(JobRequest(identity=identity, place=place, means=means))
        if result.error is not None:
            missing = result.error.type == "SourceMissing"
            raise (_Missing if missing else DataError)(f"{job}: {result.error.message}")
        assert result.outcome is not None
        return result.outcome
