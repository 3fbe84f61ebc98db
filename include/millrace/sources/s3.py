"""Kind `s3`: objects in a bucket. Endpoint and keys come from the AWS variables of the job's environment."""

from __future__ import annotations

from pathlib import Path

from millrace.core.errors import NotFound
from millrace.sources.protocol import SourceMissing


class S3SourceEngine:
    """Downloads the object; a later version of it is another delivery."""

    def fetch(self, location: str, folder: Path) -> Path:
        """Download `s3://bucket/key`. Raises SourceMissing, Unavailable."""
        from millrace.store.s3 import S3Store

        root, _, name = location.rpartition("/")
        target = folder / name
        try:
            S3Store(root).download(name, target)
        except NotFound as err:
            raise SourceMissing(
                "the source has no such object", given=location, next_step="Deliver it, then run the partition again"
            ) from err
        return target
