"""What pipeline.yaml asks for and its windows can never give: reasons to retrain, duels, and experiments."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

from millrace.rules.blocks import MINIMUM_BLOCKS
from millrace.rules.duel import FEWEST
from millrace.rules.experiment import days_needed
from millrace.spec import PipelineSpec, ProjectTree
from millrace.spec.durations import Duration
from millrace.spec.serving import ABRollout
from millrace.spec.yaml_file import line_of

_LOOKED_AT = 100
"""Partitions whose windows are counted: months are not of one length."""


def check_triggers(tree: ProjectTree, spec: PipelineSpec) -> list[str]:
    """One line for each reason of `monitoring.retrain_on` that can never come true, for duels never judged, and for an
    experiment that cannot be won."""
    path = tree.folder(spec.name) / "pipeline.yaml"
    return [
        f"{path}:{line_of(path, *loc)}: {'.'.join(loc)}: {text}"
        for loc, text in (*_unable(spec), *_unjudged(spec), *_unwon(spec))
    ]  # fmt: skip


def _unable(spec: PipelineSpec) -> Iterator[tuple[tuple[str, ...], str]]:
    monitoring, training, label = spec.monitoring, spec.training, spec.label
    if monitoring is None or training is None or label is None:
        return
    from millrace.drift.calibration import LEAST_BLOCKS

    holdout, on = training.holdout, monitoring.retrain_on
    trained = _most(spec, training.window)
    if on.performance:
        never, instead = "performance can never fire", "or say retrain_on: {performance: false}"
        seen = _most(spec, monitoring.window)
        said = f"{monitoring.window or f'one {spec.partition.grain}'} has {_blocks(seen, holdout.block)}"
        if seen < MINIMUM_BLOCKS:
            text = (
                f"{never}: {said} (training.holdout.block), and it is judged by {MINIMUM_BLOCKS} or more; look back "
                f"further, hold out shorter blocks, {instead}"
            )
            yield ("monitoring", "window"), text
        elif spec.partition.end is None:
            known = _most(spec, monitoring.window, label.known_after)
            text = (
                f"{never}: {said}, but a window is judged once its last partition is scored, and then the labels of "
                f"{_blocks(known, holdout.block)} are known (label.known_after: {label.known_after}) where it takes "
                f"{MINIMUM_BLOCKS}; look back further, {instead}"
            )
            if known < MINIMUM_BLOCKS:
                yield ("monitoring", "window"), text
        if (held := holdout.share * trained) < MINIMUM_BLOCKS:
            text = (
                f"{never}, or only by chance: of {_blocks(trained, holdout.block)} in training.window "
                f"({training.window}) about {held:.1f} are held out, and the champion's own loss is taken from "
                f"{MINIMUM_BLOCKS} or more; train on a longer window, hold out a larger share, {instead}"
            )
            yield ("training", "holdout"), text
    age = monitoring.max_age if on.age is not False else None
    first, last = spec.partition.start, spec.partition.end
    if age and last is not None and first in spec.partitioning.window(last, age):
        text = (
            f"age can never fire: partition.end is {last}, and even a champion that was trained to the first partition "
            f"({first}) is no older than {age} then; shorten it, or leave it out"
        )
        yield ("monitoring", "max_age"), text
    if on.drift and trained < LEAST_BLOCKS:
        text = (
            f"drift can never fire: {training.window} has {_blocks(trained, holdout.block)} (training.holdout.block), "
            f"and thresholds are drawn from {LEAST_BLOCKS} or more; train on a longer window, hold out shorter "
            "blocks, or say retrain_on: {drift: false}"
        )
        yield ("training", "window"), text


def _unjudged(spec: PipelineSpec) -> Iterator[tuple[tuple[str, ...], str]]:
    if spec.training is None:
        return
    window, holdout = spec.training.window, spec.training.holdout
    trained = _most(spec, window)
    if (held := holdout.share * trained) < FEWEST:
        text = (
            f"no model can become champion, or only by chance: of {_blocks(trained, holdout.block)} in training.window "
            f"({window}) about {held:.1f} are held out, and a duel is judged by {FEWEST} or more; train on a longer "
            "window, hold out a larger share, or hold out shorter blocks"
        )
        yield ("training", "holdout"), text


def _unwon(spec: PipelineSpec) -> Iterator[tuple[tuple[str, ...], str]]:
    rule = spec.serving.rollout if spec.serving is not None else None
    if not isinstance(rule, ABRollout) or spec.label is None:
        return
    began = datetime(2024, 1, 1, tzinfo=UTC)
    days = max(0, (spec.label.known_after.before(rule.longest.after(began)) - began).days)
    needed = days_needed(rule, 0.0)
    if needed is None or needed > days:
        most = "no number of days" if needed is None else f"{needed} days"
        text = (
            f"the experiment can never be won: {most} of outcomes show an effect of {rule.minimum_effect:g} of a "
            f"metric from {rule.low:g} to {rule.high:g}, even where no day differs from the next, and {days} are known "
            f"after {rule.longest} (label.known_after: {spec.label.known_after}); wait longer, say closer bounds (low, "
            "high) if the metric keeps them, or ask for a larger effect"
        )
        yield ("serving", "rollout", "longest" if "longest" in rule.model_fields_set else "minimum_effect"), text


def _blocks(count: int, block: str) -> str:
    return f"{count} {block} block{'' if count == 1 else 's'}"


def _most(spec: PipelineSpec, window: Duration | None, unknown: Duration | None = None) -> int:
    """Most holdout blocks that a window has, the `unknown` end of it left out, over many windows."""
    assert spec.training is not None
    partitioning, zone = spec.partitioning, ZoneInfo(spec.partition.timezone)
    block, most = spec.training.holdout.block, 0
    for last in islice(_keys(spec), _LOOKED_AT):
        end, begin = partitioning.end(last), partitioning.start(last)
        if window:
            local = end.astimezone(zone).replace(tzinfo=None) - window.calendar
            begin = min(begin, partitioning.start(partitioning.key_of(partitioning.first_moment(local) - window.clock)))
        if spec.partition.end is not None:  # no data before, and none to come
            begin = max(begin, partitioning.start(spec.partition.start))
        if unknown is not None:
            end = unknown.before(end)
        if begin < end:
            moments = (begin.astimezone(zone), (end - timedelta(microseconds=1)).astimezone(zone))
            most = max(most, _number(moments, block))
    return most


def _keys(spec: PipelineSpec) -> Iterator[str]:
    """Partitions from the last one back, or from the first one on where there is no last."""
    partitioning, first, last = spec.partitioning, spec.partition.start, spec.partition.end
    key = last or first
    while True:
        yield key
        if last is not None and key == first:
            return
        key = partitioning.next(key) if last is None else partitioning.previous(key)


def _number(moments: tuple[datetime, datetime], block: str) -> int:
    """Blocks from the first moment to the last, by clocks on the wall."""
    first, last = (m.replace(tzinfo=None) for m in moments)
    if block == "hour":
        return (last.replace(minute=0, second=0) - first.replace(minute=0, second=0)) // timedelta(hours=1) + 1
    days = (last.date(), first.date())
    if block == "week":
        days = (days[0] - timedelta(days=days[0].weekday()), days[1] - timedelta(days=days[1].weekday()))
    return (days[0] - days[1]).days // (7 if block == "week" else 1) + 1
