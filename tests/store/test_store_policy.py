"""The policy of a server's key: one pipeline's names, and the example that is shown is what is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from millrace.core.errors import StoreError
from millrace.store.policy import serving_policy

EXAMPLE = Path(__file__).resolve().parents[2] / "include" / "kubernetes" / "examples" / "serving-policy.json"


def test_the_example_is_what_the_command_writes():
    assert json.loads(EXAMPLE.read_text()) == serving_policy("s3://millrace/store", "orders", "orders-serving")


@pytest.mark.parametrize("root", ["s3://b", "s3://b/", "s3://b/p", "s3://b/p/q/"])
def test_no_name_of_another_pipeline_is_in_it(root: str):
    made = serving_policy(root, "orders")
    prefix = "/".join(part for part in root.removeprefix("s3://").rstrip("/").split("/")[1:])
    for each in made["Statement"]:
        for resource in each["Resource"]:
            key = resource.removeprefix("arn:aws:s3:::b").removeprefix("/").removeprefix(prefix).removeprefix("/")
            assert key == "" or key.split("/")[1] in ("orders", "orders.json"), resource
        # `orders` is the beginning of `orders2`
        assert all(name.endswith(("/orders/*", "/orders.json")) for name in each["Resource"] if name.count("/"))
    assert not {action for each in made["Statement"] for action in each["Action"]} - {
        "s3:GetObject", "s3:PutObject", "s3:ListBucket",
    }  # fmt: skip


@pytest.mark.parametrize("root", ["/a/folder", "s3://", "gs://b"])
def test_only_a_bucket_has_policies(root: str):
    with pytest.raises(StoreError, match="only a bucket"):
        serving_policy(root, "orders")
