"""How a champion answers over HTTP, how a new one takes over, and what stops it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from millrace.spec.base import Mistakes, Model, Name
from millrace.spec.durations import Duration

FEATURE, TIME = "feature.{}", "time.{}"
"""Columns of served predictions: a feature that was kept, and the event time of what was read of a feature view."""
RESERVED = ("request_id", "row", "asked", "version", "model_digest", "role", "generation", "unit", "caller", "found",
            "latency_ms", "kept", "prediction")  # fmt: skip
"""Further columns of served predictions; the entity's keys stand beside them under their own names."""


Durability = Literal["durable", "buffered"]


class LogSpec(Model):
    """What is kept of each answer."""

    durability: Durability = Field(
        default="durable",
        description="durable: an answer is on the disk before it is given; buffered: the kernel has it.",
    )
    when_full: Literal["refuse", "fallback"] = Field(
        default="refuse",
        description="What is answered while nothing can be logged: 503, or the constant of `fallback`.",
    )
    inputs: float = Field(
        default=1.0, ge=0, le=1, description="Share of answers whose features are kept, by a hash of the unit."
    )
    leave_out: tuple[str, ...] = Field(default=(), description="Features that are never kept.")
    keep: Duration = Field(default=Duration("P1Y"), description="How long the served predictions are kept.")


class Limits(Model):
    """What a request may ask for, and how much may be asked."""

    body_bytes: int = Field(default=1 << 20, ge=1024, le=64 << 20, description="Largest body of a request.")
    rows: int = Field(default=256, ge=1, le=10_000, description="Most rows of a request.")
    deadline_ms: float = Field(
        default=2000.0, ge=10, le=600_000, description="Milliseconds after which a request is answered with 504."
    )
    waiting: int = Field(
        default=256, ge=1, description="Requests of this pipeline that may wait; further ones get 429."
    )
    per_second: float | None = Field(
        default=None, gt=0, description="Requests a second that each caller may make, on average; no limit if left out."
    )


class Fallback(Model):
    """What answers where a version cannot: the former champion, then the constant, then an error."""

    former: bool = Field(default=True, description="Whether the champion before answers where the present one fails.")
    constant: float | str | None = Field(
        default=None, description="The answer where no model has one, marked as such; an error if left out."
    )


class Guards(Model):
    """What a version is watched for from its first request on, beside the champion; each by unit, at any time."""

    errors: bool = Field(default=True, description="Units that met an error.")
    slow_ms: float | None = Field(
        default=1000.0, gt=0, description="Milliseconds after which an answer counts as slow; null: none is."
    )
    predictions: bool = Field(default=True, description="Whether predictions are distributed as the champion's.")
    tolerated: float = Field(
        default=1.0, ge=1, le=10, description="How many times as many errors and slow answers are not yet harm."
    )
    distribution: float = Field(
        default=1.5, ge=1, le=10,
        description="How many times as often a tenth of the champion's predictions may come from the new version.",
    )  # fmt: skip
    rate: float = Field(
        default=0.02,
        gt=0,
        lt=1,
        description="Share of units that may meet an error where no other version answers "
        "beside it: in shadow, and once it answers all. Of slow answers five times as much.",
    )
    alpha: float = Field(default=0.005, gt=0, lt=0.5, description="Chance of stopping a rollout that does no harm.")


class Outcomes(Model):
    """Judging by outcomes: the losses of both versions on the same rows, paired, a figure for each block of time."""

    tolerance: float = Field(
        default=0.02, gt=0, lt=1, description="Loss that a version may have above the champion's and be no worse."
    )
    blocks: int = Field(default=5, ge=2, description="Fewest blocks of time with outcomes before anything is said.")
    alpha: float = Field(default=0.05, gt=0, lt=0.5, description="Chance of a wrong verdict, over all looks.")


class Shadow(Model):
    """The new version predicts what the champion is asked, and nobody is given its answers."""

    share: float = Field(default=1.0, gt=0, le=1, description="Share of requests that it predicts, too.")
    at_least: Duration = Field(default=Duration("PT10M"), description="Time in shadow at least.")
    requests: int = Field(default=200, ge=1, description="Requests it has predicted at least.")
    outcomes: Outcomes | None = Field(
        default=None, description="Go on only once outcomes show that it is no worse; not waited for if left out."
    )
    longest: Duration = Field(default=Duration("P7D"), description="After which a rollout that knows too little ends.")


class Step(Model):
    """One step of a canary: a share of the units, and how much must be seen before the next."""

    share: float = Field(gt=0, lt=1, description="Share of the units that the new version answers.")
    at_least: Duration = Field(default=Duration("PT10M"), description="Time at this share at least.")
    units: int = Field(default=100, ge=1, description="Units that the new version has answered at least.")


class _Rollout(Model):
    shadow: Shadow | None = Field(default=Shadow(), description="What comes before live traffic; null: nothing.")
    watch: Duration = Field(
        default=Duration("PT1H"), description="How long guards go on watching after the new version answers all."
    )


class ShadowRollout(_Rollout):
    """Shadow, then all at once."""

    strategy: Literal["shadow"]
    shadow: Shadow = Field(default=Shadow(), description="What comes before live traffic.")


class CanaryRollout(_Rollout):
    """Growing shares of the units."""

    strategy: Literal["canary"]
    steps: tuple[Step, ...] = Field(
        default=(Step(share=0.05), Step(share=0.25), Step(share=0.5)), min_length=1, description="In rising order."
    )

    @model_validator(mode="after")
    def _rising(self) -> CanaryRollout:
        wrong = Mistakes()
        shares = [step.share for step in self.steps]
        for number, (before, share) in enumerate(zip(shares, shares[1:], strict=False), 1):
            if share <= before:
                wrong.add(f"comes after a step of {before} and is not larger", "steps", number, "share", given=share)
        wrong.done()
        return self


class BlueGreenRollout(_Rollout):
    """All at once, with the former version kept warm to go back to."""

    strategy: Literal["blue_green"]


class ABRollout(_Rollout):
    """A fixed split, judged on a metric of outcomes that the prediction itself may change."""

    strategy: Literal["ab"]
    share: float = Field(default=0.5, gt=0, lt=1, description="Share of the units that the new version answers.")
    metric: Name = Field(description="Column of the outcomes, a number or a boolean, of which more is better.")
    low: float = Field(default=0.0, description="Least value of the metric; a lower one counts as this, and is told.")
    high: float = Field(default=1.0, description="Largest value of the metric; a higher one counts as this.")
    minimum_effect: float = Field(gt=0, description="Difference of the means that is worth promoting for.")
    power: float = Field(
        default=0.8, gt=0.5, lt=1,
        description="Chance of seeing the minimum effect where it is true; the report says how long that takes.",
    )  # fmt: skip
    alpha: float = Field(default=0.05, gt=0, lt=0.5, description="Chance of a wrong verdict, over all looks.")
    longest: Duration = Field(default=Duration("P28D"), description="After which the champion stays.")

    @model_validator(mode="after")
    def _bounds(self) -> ABRollout:
        wrong = Mistakes()
        if not self.low < self.high:
            wrong.add(f"lies not above low ({self.low})", "high", given=self.high)
        elif self.minimum_effect > self.high - self.low:
            wrong.add("is more than the metric can differ", "minimum_effect", given=self.minimum_effect,
                      allowed=f"up to {self.high - self.low}")  # fmt: skip
        wrong.done()
        return self


Rollout = Annotated[ShadowRollout | CanaryRollout | BlueGreenRollout | ABRollout, Field(discriminator="strategy")]


class ServingSpec(Model):
    """One pipeline's answers over HTTP."""

    unit: Literal["entity", "request"] = Field(
        default="entity",
        description="Whom one version answers throughout a rollout: an entity, or each request by itself. A caller may "
        "name another unit, such as a user, in the header x-unit.",
    )
    missing: Literal["refuse", "fallback", "defaults"] = Field(
        default="refuse",
        description="An entity without features, or with stale ones: 404, the constant of `fallback`, or `defaults`.",
    )
    defaults: dict[str, float | str | bool | None] = Field(
        default_factory=dict, description="Feature -> value where an entity has none; null where left out."
    )
    rollout: Rollout = Field(default=CanaryRollout(strategy="canary"), description="How a new version takes over.")
    guards: Guards = Field(default=Guards(), description="What stops it.")
    fallback: Fallback = Field(default=Fallback(), description="What answers where a version cannot.")
    limits: Limits = Field(default=Limits(), description="What may be asked.")
    log: LogSpec = Field(default=LogSpec(), description="What is kept of each answer.")

    @model_validator(mode="after")
    def _whole(self) -> ServingSpec:
        wrong = Mistakes()
        if self.fallback.constant is None:
            for loc, what in ((("missing",), self.missing), (("log", "when_full"), self.log.when_full)):
                if what == "fallback":
                    wrong.add("needs fallback.constant", *loc, given=what)
        if self.defaults and self.missing != "defaults":
            wrong.add("are used with 'missing: defaults' only", "defaults", given=self.missing)
        wrong.done()
        return self
