"""Rollout: whether a version goes on to the next step, waits, or is stopped. Pure: from the spec, what is on record of
the rollout, what servers have counted, and the time.

It is asked again and again, and the answer rests on what is known then: nothing is remembered in between.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from millrace.rules.guards import Counts, Finding, Generation, judge, merge, sampled
from millrace.spec.durations import Duration
from millrace.spec.serving import ABRollout, CanaryRollout, Guards, ServingSpec, Shadow, Step

Action = Literal["go", "wait", "stop"]


@dataclass(frozen=True)
class Stage:
    """What a rollout waits for: in shadow (number 0), at a step (from 1), or where its version answers all."""

    name: str
    share: float
    at_least: Duration
    units: int = 0
    requests: int = 0
    longest: Duration | None = None
    outcomes: bool = False


@dataclass(frozen=True)
class Standing:
    """A rollout as the ledger has it, with the times that count."""

    version: int
    former: int | None
    stage: int | None
    planned: int
    began: datetime
    paused: bool = False
    hastened: bool = False
    paused_by: str = ""


@dataclass(frozen=True)
class Verdict:
    """What outcomes say: `better` True or False once they do, and in what words. Of an experiment they are all
    in its report (`experiment.Report`)."""

    better: bool | None
    words: str
    report: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """Go on, wait or stop, and why, for a person. `harm`: it was stopped since it did harm, so that its model is put
    into quarantine; otherwise it only knew too little. `seen` are the numbers it rests on."""

    action: Action
    why: str
    harm: bool = False
    seen: Mapping[str, Any] = field(default_factory=dict)


def stages(spec: ServingSpec) -> tuple[Stage, ...]:
    """Where a version stops before it is promoted, in order: shadow first where there is one."""
    rollout = spec.rollout
    found = [] if rollout.shadow is None else [_shadow(rollout.shadow)]
    if isinstance(rollout, CanaryRollout):
        found += [_step(number, step) for number, step in enumerate(rollout.steps, 1)]
    if isinstance(rollout, ABRollout):
        found.append(
            Stage("ab", rollout.share, Duration("PT0S"), longest=rollout.longest, outcomes=True),
        )
    return tuple(found)


def shares(spec: ServingSpec) -> tuple[float | None, tuple[float, ...]]:
    """Share of the requests in shadow (None: no shadow), and of the units at each step."""
    found = stages(spec)
    shadow = spec.rollout.shadow.share if spec.rollout.shadow is not None else None
    return shadow, tuple(stage.share for stage in found[(0 if shadow is None else 1) :])


def stage_at(spec: ServingSpec, number: int | None) -> Stage:
    """The stage of a number; None: that in which the version answers all and is watched."""
    if number is not None:
        return stages(spec)[number if spec.rollout.shadow is not None else number - 1]
    return Stage("full", 1.0, spec.rollout.watch)


def decide(
    spec: ServingSpec,
    standing: Standing,
    counts: Sequence[Counts],
    *,
    vetoes: Sequence[str] = (),
    outcomes: Verdict | None = None,
    now: datetime,
) -> Answer:
    """Whether a rollout goes on from the stage where it stands.

    `counts`: what servers have counted under the generations since it began; `vetoes`: what guards have said against
    the version, in words; `outcomes`: what they say, where the stage asks for them. Harm stops it, whether it is paused
    or hastened or not; a pause holds it; haste lets it go on at once; else it waits for time, units and outcomes.
    """
    stage = stage_at(spec, standing.stage)
    generations = merge(counts)
    old = standing.former
    findings = judge(generations, standing.version, old, spec.guards) if counts else []
    own = merge([each for each in counts if each.generation >= standing.planned])
    seen = _seen(stage, standing, own, findings, now)
    if outcomes is not None:
        seen["outcomes"] = outcomes.words
        if outcomes.report:
            seen["experiment"] = dict(outcomes.report)
    if vetoes:
        return Answer("stop", vetoes[0], harm=True, seen=seen)
    for finding in findings:
        if finding.harm:
            return Answer("stop", finding.words, harm=True, seen=seen)
    if stage.outcomes and outcomes is not None and outcomes.better is False:
        return Answer("stop", outcomes.words, seen=seen)
    if standing.paused:
        return Answer("wait", f"{stage.name}: paused by {standing.paused_by}", seen=seen)
    if standing.hastened:
        return Answer("go", f"{stage.name}: hastened", seen=seen)
    missing = _missing(stage, standing, seen, outcomes, now)
    if not missing:
        return Answer("go", f"{stage.name}: {_said(stage, seen)}", seen=seen)
    if stage.longest is not None and now >= stage.longest.after(standing.began):
        return Answer(
            "stop", f"{stage.name}: after {stage.longest} it still waits for {' and '.join(missing)}", seen=seen
        )
    return Answer("wait", f"{stage.name}: waits for {' and '.join(missing)}; {_said(stage, seen)}", seen=seen)


def _seen(
    stage: Stage, standing: Standing, own: Sequence[Generation], findings: Sequence[Finding], now: datetime
) -> dict[str, Any]:
    """The numbers of a stage, as they are kept in the ledger."""
    # Servers hold a sample of many units by name; one of it stands for all those that have no name any more.
    level = max((generation.level for generation in own), default=0)
    met = {name for generation in own for name in generation.of(standing.version).names if sampled(name, level)}
    return {
        "stage": stage.name,
        "seconds": max(0, int((now - standing.began).total_seconds())),
        "units": len(met) << level,
        "requests": sum(generation.of(standing.version).answered for generation in own),
        "dropped": sum(generation.of(standing.version).dropped for generation in own),
        "guards": [finding.words for finding in findings],
    }


def _missing(
    stage: Stage, standing: Standing, seen: Mapping[str, Any], outcomes: Verdict | None, now: datetime
) -> list[str]:
    """What a stage still waits for, in words."""
    found = []
    if now < (until := stage.at_least.after(standing.began)):
        found.append(f"{int((until - now).total_seconds()) + 1} more seconds")
    for name, needed in (("units", stage.units), ("requests", stage.requests)):
        if seen[name] < needed:
            found.append(f"{needed - seen[name]} more {name}")
    if stage.outcomes and (outcomes is None or outcomes.better is None):
        found.append("outcomes" if outcomes is None else f"outcomes ({outcomes.words})")
    return found


def _said(stage: Stage, seen: Mapping[str, Any]) -> str:
    counted = f"{seen['requests']} requests" if stage.name == "shadow" else f"{seen['units']} units"
    guards = "; ".join(seen["guards"]) or "guards have seen nothing"
    return f"{counted} in {seen['seconds']} s; {guards}"


def _shadow(shadow: Shadow) -> Stage:
    return Stage("shadow", shadow.share, shadow.at_least, requests=shadow.requests, longest=shadow.longest,
                 outcomes=shadow.outcomes is not None)  # fmt: skip


def _step(number: int, step: Step) -> Stage:
    return Stage(f"step {number}", step.share, step.at_least, units=step.units)


__all__ = ["Action", "Answer", "Guards", "Stage", "Standing", "Verdict", "decide", "shares", "stage_at", "stages"]
