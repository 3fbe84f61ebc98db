"""`millrace gate`: run a suite on rows that are not in the store, a Parquet file or a table in PostgreSQL."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from millrace.core.errors import DataError, SpecError
from millrace.spec import ProjectTree

if TYPE_CHECKING:
    from millrace.gates.result import GateResult

DATABASE = "MILLRACE_DATABASE"
"""Address of the database of `--table`; a variable, since a command line is shown to others."""


def run(tree: ProjectTree, pipeline: str, suite: str, file: Path | None, table: str | None) -> GateResult:
    """Run a pipeline's suite on a file, or on a table where it lies; its `checks`, which need partitions, are left out.

    Raises SpecError for an unknown suite or for neither or both of the places, DataError for a file that is no
    Parquet, Unavailable where the database cannot be reached.
    """
    bundle, spec = tree.bundle(pipeline), tree.spec(pipeline)
    if suite not in bundle.suites:
        raise SpecError("the pipeline has no such suite", where=pipeline, given=suite, allowed=sorted(bundle.suites))
    if (file is None) == (table is None):
        raise SpecError("a gate looks at one place: give a Parquet file, or --table")
    if file is not None:
        import pyarrow.parquet as pq
        from pyarrow import ArrowException

        from millrace.gates import engine

        try:
            rows = pq.read_table(file)
        except (ArrowException, OSError) as err:
            raise DataError("the file cannot be read as Parquet", where=str(file)) from err
        return engine.validate(rows, bundle.suites[suite], suite, spec.classification)
    address = os.environ.get(DATABASE)
    if not address:
        raise SpecError(
            f"the database of --table is not named; set {DATABASE}",
            given=table,
            next_step=f"export {DATABASE}=postgresql://host/database, the password in PGPASSWORD or ~/.pgpass",
        )
    from millrace.gates.database import validate_table

    return validate_table(address, str(table), bundle.suites[suite], suite, spec.classification)
