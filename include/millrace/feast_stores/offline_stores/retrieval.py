"""Retrieval: a query of the offline store that runs when its rows are asked for."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from feast.data_format import ParquetFormat
from feast.errors import SavedDatasetLocationAlreadyExists
from feast.infra.offline_stores.file_source import FileSource, SavedDatasetFileStorage
from feast.infra.offline_stores.offline_store import RetrievalJob, RetrievalMetadata
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.saved_dataset import SavedDatasetStorage

from millrace.core.errors import SpecError
from millrace.sql.duck import Limits, connection, text

Prepare = Callable[[duckdb.DuckDBPyConnection], str]
"""Prepares a fresh connection and returns the query of the rows."""


class DuckDBRetrievalJob(RetrievalJob):
    """Rows as Arrow, pandas, or a Parquet file that is written without holding them all in memory."""

    def __init__(
        self,
        prepare: Prepare,
        limits: Limits,
        repo: Path,
        *,
        metadata: RetrievalMetadata | None = None,
        full_feature_names: bool = False,
        on_demand: Sequence[OnDemandFeatureView] = (),
    ) -> None:
        self._prepare, self._limits, self._repo = prepare, limits, repo
        self._metadata, self._full, self._on_demand = metadata, full_feature_names, list(on_demand)

    @property
    def full_feature_names(self) -> bool:
        """Whether features carry their view's name."""
        return self._full

    @property
    def on_demand_feature_views(self) -> list[OnDemandFeatureView]:
        """Views that Feast computes from the retrieved rows."""
        return self._on_demand

    @property
    def metadata(self) -> RetrievalMetadata | None:
        """Features, keys and time range of a point-in-time join."""
        return self._metadata

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        with connection(self._limits) as opened:
            table = opened.sql(self._prepare(opened)).to_arrow_table()
        # One chunk per column: Feast's conversion for the online store reads the first chunk and drops the others.
        return table.combine_chunks()

    def _to_df_internal(self, timeout: int | None = None) -> Any:
        return self._to_arrow_internal(timeout).to_pandas()

    def persist(self, storage: SavedDatasetStorage, allow_overwrite: bool = False, timeout: int | None = None) -> None:
        """Write the rows, on-demand features included, as one Parquet file; a reader never sees half of it.

        Raises SavedDatasetLocationAlreadyExists unless it may be overwritten.
        """
        if not isinstance(storage, SavedDatasetFileStorage) or not isinstance(
            storage.file_options.file_format, ParquetFormat | None
        ):
            raise SpecError("a saved dataset is a Parquet file here", given=type(storage).__name__)
        options = storage.file_options
        uri = FileSource.get_uri_for_file_path(self._repo, options.uri)
        if uri.startswith("s3://"):
            self._persist_s3(uri, options.s3_endpoint_override, allow_overwrite)
            return
        path = Path(uri)
        if path.exists() and not allow_overwrite:
            raise SavedDatasetLocationAlreadyExists(location=options.uri)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".tmp-")
        os.close(handle)
        try:
            self._write(Path(temporary))
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, path)
        finally:
            Path(temporary).unlink(missing_ok=True)

    def _write(self, path: Path) -> None:
        import pyarrow.parquet as pq

        if self._on_demand:  # computed in Python, on all rows
            pq.write_table(self.to_arrow(), path)
            return
        with connection(self._limits) as opened:
            opened.execute(f"COPY ({self._prepare(opened)}) TO {text(str(path))} (FORMAT parquet, COMPRESSION zstd)")

    def _persist_s3(self, uri: str, endpoint: str, allow_overwrite: bool) -> None:
        import pyarrow.fs as fs

        filesystem, key = FileSource.create_filesystem_and_path(uri, endpoint)
        if not allow_overwrite and filesystem.get_file_info(key).type != fs.FileType.NotFound:
            raise SavedDatasetLocationAlreadyExists(location=uri)
        with tempfile.TemporaryDirectory(prefix="millrace-", dir=self._limits.temp_directory) as folder:
            path = Path(folder) / "data.parquet"
            self._write(path)
            fs.copy_files(str(path), key, source_filesystem=fs.LocalFileSystem(), destination_filesystem=filesystem)


def _umask() -> int:
    """The process's umask, which can be read only by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
