"""A pipeline of the reference project, its source files read and transformed as the jobs do it, without a store."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from millrace.spec import PipelineSpec, ProjectTree


@dataclass(frozen=True)
class Pipeline:
    """A pipeline of the reference project, with its source files in `incoming`."""

    tree: ProjectTree
    spec: PipelineSpec
    incoming: Path

    @property
    def sql(self) -> str:
        return self.tree.bundle(self.spec.name).sql

    def read(self, source: str, key: str | None = None) -> Any:
        """A source's file as land reads it (Arrow)."""
        from millrace.sources.formats.tabular import read
        from millrace.sources.protocol import fill

        known = self.spec.sources[source]
        location = fill(known.location.removeprefix(".millrace/incoming/"), self.spec.partitioning, key)
        path = self.incoming / location
        return read(path, path.name, known.format, known.columns, known.types, lambda column: True, known.csv,
                    known.timezone)  # fmt: skip

    def inputs(self, key: str) -> dict[str, Any]:
        """The views that transform.sql sees for a partition, lookback included."""
        import pyarrow as pa

        found = {}
        for name, source in self.spec.sources.items():
            if source.partitioned:
                earlier = self.spec.partitioning.lookback(key, source.lookback, self.spec.partition.start)
                found[name] = pa.concat_tables([self.read(name, k) for k in [*earlier, key]])
            else:
                found[name] = self.read(name)
        if (asked := self.spec.features.embedding) is not None:
            found["embedded"] = self.embedded(found[asked.source])
        return found

    def embedded(self, files: Any) -> Any:
        """The view `embedded` over a source's files."""
        import base64

        import numpy as np
        import pyarrow as pa

        from millrace.embeddings.files import load
        from millrace.spec.media import CONTENT

        asked = self.spec.features.embedding
        fitted = load(base64.b64decode(self.tree.bundle(self.spec.name).files[asked.file]), asked)
        points, shares = fitted.engine.embed(fitted.tensors, files[CONTENT[asked.takes]].to_pylist(), asked)
        values = np.column_stack([points, shares]).T.copy()
        return pa.table(dict(zip(self.spec.features.embedded, [files["digest"], *values], strict=True)))

    def transform(self, key: str, inputs: dict[str, Any] | None = None, sql: str | None = None) -> Any:
        """The features of a partition; other inputs or other SQL where given."""
        from millrace.jobs.transform import connect, plain, select

        partitioning = self.spec.partitioning
        with tempfile.TemporaryDirectory() as folder:
            connection = connect(folder, self.spec.partition.timezone)
            for name, table in (inputs or self.inputs(key)).items():
                connection.register(name, table)
            connection.execute(
                "CREATE TABLE scope AS SELECT ?::VARCHAR AS partition_key, ?::TIMESTAMPTZ AS start_time, "
                "?::TIMESTAMPTZ AS end_time",
                [key, partitioning.start(key), partitioning.end(key)],
            )
            try:
                return plain(select(connection, sql or self.sql), self.spec)
            finally:
                connection.close()

    def gate(self, suite: str, table: Any, key: str | None = None, before: dict[str, Any] | None = None) -> list[str]:
        """Messages of the checks that fail when a suite runs on a table; none when the gate passes.

        With `key` the table is that partition, published after those `before`.
        """
        from millrace.gates.checks import beside
        from millrace.gates.engine import validate
        from millrace.spec.gate import gate_checks, references

        said = self.tree.suite(self.spec.name, suite)
        asked = gate_checks(said, suite)
        result = validate(table, said, suite, self.spec.classification)
        events = {source.gate: source.event_time for source in self.spec.sources.values()}
        other = {
            name: lambda columns, name=name: self.read(
                name, key if self.spec.sources[name].partitioned else None
            ).select(list(columns))
            for name in references(asked)
        }
        around = beside.Surroundings(
            event_time=events.get(suite, self.spec.features.event_time) if key else None,
            end=self.spec.partitioning.end(key) if key else None,
            trailing=tuple(
                beside.Trailing(k, t.num_rows, lambda columns, t=t: t.select(list(columns)))
                for k, t in (before or {}).items()
            ),
            sources=other if key else {},
        )
        if key is None:  # what the rows alone do not tell is not asked
            asked = [check for check in asked if check.type in ("rule", "bias", "schema")]
        result = result.with_checks(beside.run(table, asked, self.spec.classification, around))
        return [check.message for check in result.verdict.failures]
