"""Provenance: the parts of Evidence of version 3 that say where a model comes from and how it was judged. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from millrace.contract import Metric
from millrace.contract.artifact import DIGEST_PATTERN

Digest = Annotated[str, Field(pattern=DIGEST_PATTERN)]
Text = Annotated[str, Field(min_length=1)]
FEATURES = "features"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Made(_Part):
    """A raw Snapshot that features were made of."""

    dataset: Text
    partition: Text
    snapshot: Digest


class GateRecord(_Part):
    """The verdict on one Snapshot that the model was trained on."""

    dataset: Text
    partition: Text
    snapshot: Digest
    outcome: Digest = Field(description="Digest of the validate job's outcome.")
    passed: bool
    made_of: tuple[Made, ...] | None = Field(
        default=None,
        exclude_if=lambda value: value is None,
        description="The raw Snapshots behind features, each of which has a verdict of its own; left out where none "
        "were kept, and of raw ones.",
    )


class CheckRecord(_Part):
    """How one model check ended."""

    name: Text
    passed: bool
    message: str


class Training(_Part):
    """How a model was trained: what `millrace reproduce` needs beside the Snapshots, and where it ran as observed."""

    learner: dict[str, Any] = Field(description="Kind and all parameters, as used.")
    half_life: float | None = Field(description="Of the weight of rows, in partitions; null: all counted alike.")
    seed: int
    threads: int
    as_of: Text = Field(description="Until when labels counted as known, ISO 8601.")
    training_set_outcome: Digest = Field(description="Digest of the build_training_set job's outcome.")
    outcome: Digest = Field(description="Digest of the train job's outcome.")
    lock: str | None = Field(description="Digest of the packages, `name==version` a line, where it was trained.")
    image: str | None = Field(description="The image that it was trained in; null outside containers.")
    architecture: str | None = Field(description="Such as x86_64.")
    device: str | None = Field(description="cpu, or cuda.")


class Decided(_Part):
    """The retrain decision, as the ledger has it."""

    id: Text
    partition: Text
    reason: Text = Field(description="Such as drift, degraded, gain.")
    words: str = Field(description="For a person, with all partitions that asked.")


class Cost(_Part):
    """What one job used."""

    job: Text
    seconds: float | None
    cpu_seconds: float | None
    peak_memory_mb: float | None


class Imported(_Part):
    """A model that was trained elsewhere: which file it is, and who brought it in."""

    file: Digest
    format: Text
    by: Text


def gaps(
    *,
    gates: tuple[GateRecord, ...],
    parity: tuple[GateRecord, ...] | None,
    metrics: Mapping[str, Metric] | None,
    checks: tuple[CheckRecord, ...] | None,
    cost: tuple[Cost, ...] | None,
    training: Training | None,
    imported: Imported | None,
) -> Iterator[str]:
    """What Evidence of version 3 lacks, in plain words."""
    passed = {(g.dataset, g.partition, g.snapshot) for g in gates if g.passed}
    for features in gates:
        for each in features.made_of or ():
            if (each.dataset, each.partition, each.snapshot) not in passed:
                yield f"no passed gate for {each.dataset} {each.partition}, which the features of " \
                      f"{features.partition} were made of"  # fmt: skip
    if parity is None:
        yield "it does not say whether online and offline features agree"
    for each_parity in parity or ():
        if not each_parity.passed:
            yield f"online and offline features of {each_parity.partition} differ"
    if not metrics:
        yield "it holds no metrics"
    if not checks:
        yield "it holds no model checks"
    yield from (f"the model check {check.name} did not pass" for check in checks or () if not check.passed)
    if not cost:
        yield "it does not say what it cost"
    if imported is not None:
        if training is not None:
            yield "it was imported, and claims a training here"
        return
    if training is None:
        yield "it does not say how it was trained"
        return
    if not training.lock:
        yield "it does not say with which packages it was trained"
    if not training.architecture:
        yield "it does not say on which architecture it was trained"
