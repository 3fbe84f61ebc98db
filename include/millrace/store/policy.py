"""Policy: what an S3 server lets the key of one pipeline's server do, in the language of Amazon's policies."""

from __future__ import annotations

from typing import Any

from millrace.core.errors import StoreError
from millrace.store import layout


def serving_policy(root: str, pipeline: str, principal: str = "") -> dict[str, Any]:
    """The policy of a key that serves one pipeline from the store at `s3://bucket/prefix`: it reads that pipeline's
    plan, deployments and models, and reads and writes its vetoes, counts and prediction log. Nothing is deleted.

    `principal` makes it a bucket's policy, for that user (an ARN, or whatever the server takes); without one it is a
    policy for the user. Raises StoreError for a store in no bucket.
    """
    bucket, _, prefix = root.removeprefix("s3://").partition("/")
    if not root.startswith("s3://") or not bucket:
        raise StoreError("only a bucket has policies", given=root, allowed="s3://bucket/prefix")
    prefix = f"{prefix.rstrip('/')}/" if prefix else ""
    reads, writes = layout.read_by_server(pipeline), layout.written_by_server(pipeline)

    def objects(keys: tuple[str, ...]) -> list[str]:
        return [f"arn:aws:s3:::{bucket}/{key}" for key in _below(prefix, keys)]

    # It lists under its own names alone: others' names, too, are nobody's business.
    listed = {"StringLike": {"s3:prefix": _below(prefix, (layout.plan(pipeline), *writes))}}
    who = {"Principal": {"AWS": principal}} if principal else {}
    return {
        "Version": "2012-10-17",
        "Statement": [
            {"Sid": "Read", "Effect": "Allow", **who, "Action": ["s3:GetObject"],
             "Resource": objects((*reads, *writes))},
            {"Sid": "Write", "Effect": "Allow", **who, "Action": ["s3:PutObject"], "Resource": objects(writes)},
            {"Sid": "List", "Effect": "Allow", **who, "Action": ["s3:ListBucket"],
             "Resource": [f"arn:aws:s3:::{bucket}"], "Condition": listed},
        ],
    }  # fmt: skip


def _below(prefix: str, keys: tuple[str, ...]) -> list[str]:
    return [f"{prefix}{key}*" if key.endswith("/") else f"{prefix}{key}" for key in keys]
