"""What Evidence of version 3 says beside what earlier ones said, complete."""

from __future__ import annotations

from typing import Any

_NAME = "sha256:" + "e" * 64
TRAINING: dict[str, Any] = {
    "learner": {"kind": "xgboost", "rounds": 20}, "half_life": None, "seed": 7, "threads": 2,
    "as_of": "2013-04-01T00:00:00+00:00", "training_set_outcome": _NAME, "outcome": _NAME, "lock": _NAME,
    "image": None, "architecture": "x86_64", "device": "cpu",
}  # fmt: skip
CHECK: dict[str, Any] = {"name": "log_loss", "passed": True, "message": "log_loss is 0.5, at most 0.68"}
PROVENANCE: dict[str, Any] = {
    "requester": None,
    "decided": None,
    "parity": [],
    "training": TRAINING,
    "metrics": {"log_loss": {"value": 0.5, "low": 0.4, "high": 0.6, "rows": 90}},
    "checks": [CHECK],
    "cost": [{"job": "train", "seconds": 1.5, "cpu_seconds": 1.4, "peak_memory_mb": 200.0}],
    "imported": None,
}
