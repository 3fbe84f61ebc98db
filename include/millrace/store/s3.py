"""S3Store: objects in a bucket of any S3 server that honours conditional puts."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from millrace.core.errors import Conflict, NotFound, StoreError, Unavailable
from millrace.store.interface import Object, check_key

_MISSING = {"404", "NoSuchKey", "NotFound"}
_LOST = {"412", "409", "PreconditionFailed", "ConditionalRequestConflict"}


class S3Store:
    """`s3://bucket/prefix`. Endpoint: AWS_ENDPOINT_URL; keys and region: the usual AWS variables, or a named profile of
    the AWS files, before which the variables' keys do not count."""

    def __init__(self, root: str, profile: str = "") -> None:
        self.root = root.rstrip("/")
        bucket, _, prefix = self.root.removeprefix("s3://").partition("/")
        if not bucket:
            raise StoreError("an S3 store needs a bucket", given=root, allowed="s3://bucket/prefix")
        self.bucket, self.prefix = bucket, f"{prefix}/" if prefix else ""
        self.profile = profile
        self._client: Any = None

    @property
    def client(self) -> Any:
        """The boto3 client, made at first use."""
        if self._client is None:
            import boto3
            from botocore.config import Config

            # A session of its own: boto3's default one keeps the credentials it found first.
            from botocore.exceptions import ProfileNotFound

            try:
                session = boto3.session.Session(profile_name=self.profile or None)
            except ProfileNotFound as err:
                raise StoreError(
                    "no such profile in the AWS files",
                    where=self.root,
                    given=self.profile,
                    next_step="Write it to the file that AWS_SHARED_CREDENTIALS_FILE names",
                ) from err
            self._client = session.client(
                "s3", config=Config(retries={"mode": "standard", "max_attempts": 5}, connect_timeout=10)
            )
        return self._client

    def _key(self, key: str) -> str:
        return self.prefix + check_key(key)

    def get(self, key: str) -> bytes:
        """Read an object."""
        return self.get_versioned(key)[0]

    def get_versioned(self, key: str) -> tuple[bytes, str]:
        """Read an object and its ETag."""

        def read() -> tuple[bytes, str]:
            answer = self.client.get_object(Bucket=self.bucket, Key=self._key(key))
            return answer["Body"].read(), answer["ETag"]

        found: tuple[bytes, str] = self._guard(read, key)
        return found

    def download(self, key: str, target: Path) -> None:
        """Copy an object to a file in one request, so that one version of it arrives whole."""

        def read() -> None:
            body = self.client.get_object(Bucket=self.bucket, Key=self._key(key))["Body"]
            with target.open("wb") as out:
                shutil.copyfileobj(body, out, 1 << 20)

        self._guard(read, key)

    def put(self, key: str, data: bytes) -> None:
        """Write an object, replacing what was there."""
        self._call("put_object", key, Body=data)

    def put_if(self, key: str, data: bytes, version: str | None) -> None:
        """Write only while the object has `version` (None: does not exist). Raises Conflict."""
        condition = {"IfNoneMatch": "*"} if version is None else {"IfMatch": version}
        self._call("put_object", key, Body=data, **condition)

    def put_file(self, key: str, path: Path) -> None:
        """Upload a file, in parts where it is large."""
        self._guard(lambda: self.client.upload_file(str(path), self.bucket, self._key(key)), key)

    def fetch(self, key: str) -> Path:
        """Download into a private cache. The ETag names the copy, so a changed object is fetched again."""
        head = self._call("head_object", key)
        name = hashlib.sha256(f"{self.root}/{key}/{head['ETag']}".encode()).hexdigest()
        folder = Path(os.environ.get("MILLRACE_CACHE") or Path(tempfile.gettempdir()) / f"millrace-{os.getuid()}")
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if folder.stat().st_uid != os.getuid():
            raise StoreError(
                "the cache folder belongs to somebody else", where=str(folder), next_step="Set MILLRACE_CACHE"
            )
        target = folder / (name + Path(key).suffix)
        if not target.is_file():
            handle, temporary = tempfile.mkstemp(dir=folder, prefix=".tmp-")
            os.close(handle)
            try:
                self._guard(lambda: self.client.download_file(self.bucket, self._key(key), temporary), key)
                os.replace(temporary, target)
            finally:
                Path(temporary).unlink(missing_ok=True)
        return target

    def exists(self, key: str) -> bool:
        """Whether the key has an object."""
        try:
            self._call("head_object", key)
        except NotFound:
            return False
        return True

    def list(self, prefix: str = "") -> Iterator[Object]:
        """Objects whose key begins with prefix, in key order."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self.prefix + prefix)
        for page in self._guard(lambda: list(pages), prefix):
            for item in page.get("Contents", []):
                yield Object(item["Key"].removeprefix(self.prefix), item["Size"], item["LastModified"])

    def delete(self, key: str) -> None:
        """Remove an object; no error when it is gone already."""
        self._call("delete_object", key)

    def collect_temporary(self, older_than_s: float) -> int:
        """Abort uploads in parts that killed writers left unfinished; returns how many."""
        limit, count = datetime.now(UTC) - timedelta(seconds=older_than_s), 0
        pages = self.client.get_paginator("list_multipart_uploads").paginate(Bucket=self.bucket, Prefix=self.prefix)
        for page in self._guard(lambda: list(pages), self.prefix):
            for upload in page.get("Uploads", []):
                if upload["Initiated"] < limit:
                    key = upload["Key"].removeprefix(self.prefix)
                    self._call("abort_multipart_upload", key, UploadId=upload["UploadId"])
                    count += 1
        return count

    def url(self, key: str) -> str:
        """`s3://` address."""
        return f"s3://{self.bucket}/{self._key(key)}"

    def _call(self, name: str, key: str, **kwargs: Any) -> Any:
        return self._guard(lambda: getattr(self.client, name)(Bucket=self.bucket, Key=self._key(key), **kwargs), key)

    def _guard(self, call: Any, key: str) -> Any:
        from boto3.exceptions import S3UploadFailedError
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return call()
        except ClientError as err:
            code = str(err.response.get("Error", {}).get("Code", ""))
            status = err.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            if code in _MISSING:
                raise NotFound("no such object", where=self.root, given=key) from err
            if code in _LOST or status == 412:
                raise Conflict("somebody else changed the object first", where=self.root, given=key) from err
            if status >= 500:
                raise Unavailable(f"the S3 server failed ({code})", where=self.root, given=key) from err
            raise StoreError(f"the S3 server refused ({code})", where=self.root, given=key) from err
        except S3UploadFailedError as err:
            raise StoreError("the upload failed", where=self.root, given=key) from err
        except BotoCoreError as err:
            raise Unavailable(f"the S3 server cannot be reached ({type(err).__name__})", where=self.root) from err
