"""What changed between two versions, and what was measured of one, as parts of what an approver is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from millrace.airflow.runtime.site import Site
from millrace.core.errors import MillraceError
from millrace.ledger import TrainingRun
from millrace.rules.changed import differing, flat, parts
from millrace.rules.evidence import Evidence
from millrace.spec import PipelineSpec
from millrace.spec.recipe import listed, short
from millrace.store import bundles

SHOWN = 40
"""Most slices that are listed, those of the largest difference first."""


def parameters(
    site: Site, mine: tuple[int, Evidence], theirs: tuple[int, Evidence], plain: Callable[[str], str]
) -> str:
    """Challenger's and champion's parameters where they differ: learner, weights, window, label, features and code."""
    (_, now), (version, before) = mine, theirs
    old, new = made_by(site, version, before), made_by(site, *mine)
    if old is None or new is None:
        same = now.spec_digest == before.spec_digest
        return f"**Changed parameters** cannot be listed, as a folder cannot be read; the spec's digest is " \
               f"{'the same' if same else 'another'}"  # fmt: skip
    found = differing(old, new)
    if not found:
        return "**Changed parameters** none"
    rows = [f"| {plain(each.what)} | {plain(each.now or '-')} | {plain(each.before or '-')} |" for each in found]
    return "\n".join(["**Changed parameters**", "", "| parameter | challenger | champion |", "|---|---|---|", *rows])


def made_by(site: Site, version: int, evidence: Evidence) -> dict[str, str] | None:
    """Name -> value of what a version was made by: its folder's parts, with the learner and the weights of its own
    training over them. None where the folder cannot be read."""
    try:
        found = parts(bundles.read(site.objects, evidence.spec_digest))
    except (MillraceError, ValidationError):
        return None
    found["code of Millrace"] = short(evidence.code_digest)
    run = _training(site, version)
    if run is not None and run.learner is not None:
        found |= dict(flat("training.learner", run.learner))
    if run is not None and run.half_life is not None:
        found["half-life of weights, in partitions"] = f"{run.half_life:g}"
    return found


def data(now: Evidence, before: Evidence) -> str:
    """Which partitions came, went, or were made anew since; by the Snapshots that each was trained on."""
    mine, theirs = _features(now), _features(before)
    new = [key for key in now.partitions if key not in {*before.partitions}]
    gone = [key for key in before.partitions if key not in {*now.partitions}]
    anew = sorted(key for key in {*mine} & {*theirs} if mine[key] != theirs[key])
    said = [
        f"{len(keys)} {what} ({listed(keys)})"
        for keys, what in ((new, "new partitions"), (gone, "no longer"), (anew, "of other features than then"))
        if keys
    ]
    return f"**Changed data** {'; '.join(said) or 'none: the same partitions'}"


def bounds(site: Site, evidence: Evidence) -> dict[str, str]:
    """Metric -> what it had to reach, by the folder that the version was judged by; empty where that is gone."""
    try:
        spec = PipelineSpec.model_validate(bundles.read(site.objects, evidence.spec_digest).spec)
    except (MillraceError, ValidationError):
        return {}
    asked = spec.evaluation.thresholds if spec.evaluation else {}
    return {name: _bound({"min": bound.min, "max": bound.max}) for name, bound in asked.items()}


def figures(document: Mapping[str, Any], plain: Callable[[str], str]) -> str:
    """What fairness, robustness and the other declared checks measured, each with its interval and its bound."""
    rows = [
        f"| {plain(name)} | {plain(each['name'])} | {each['value']:.4f}{interval(each, '.4f')} | {_bound(each)} |"
        for name, each in _figures(document)
        if isinstance(each.get("value"), int | float)
    ]
    return "\n".join(["| check | measured | value | must be |", "|---|---|---|---|", *rows]) if rows else ""


def slices(document: Mapping[str, Any], plain: Callable[[str], str]) -> str:
    """The duel by slices: difference of mean loss with its interval."""
    found = (document.get("duel") or {}).get("slices") or {}
    known = [(name, each) for name, each in found.items() if isinstance(each.get("difference"), int | float)]
    known.sort(key=lambda one: -one[1]["difference"])
    rows = [
        f"| {plain(name)} | {each['rows']} | {each['difference']:+.5f}{interval(each, '+.5f')} | "
        f"{'WORSE' if each.get('regressed') else 'too small' if each.get('regressed') is None else 'not worse'} |"
        for name, each in known[:SHOWN]
    ]
    if not rows:
        return ""
    more = [f"| and {len(known) - SHOWN} more, none of a larger difference | | | |"] if len(known) > SHOWN else []
    head = ["| slice | rows | duel: difference of mean loss | |", "|---|---|---|---|"]
    return "\n".join([*head, *rows, *more])


def interval(value: Mapping[str, Any], form: str) -> str:
    """A one-sided interval has one end; one that could not be made has none."""
    low, high = value.get("low"), value.get("high")
    if low is None and high is None:
        return ""
    ends = ["-" if end is None else format(end, form) for end in (low, high)]
    return f" ({ends[0]} to {ends[1]})"


def _figures(document: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for kind, several in sorted(document.items()):
        for one in several if isinstance(several, list) else ():
            if isinstance(one, Mapping) and isinstance(one.get("figures"), list):
                yield from ((str(one.get("name", kind)), each) for each in one["figures"])


def _bound(value: Mapping[str, Any]) -> str:
    words = (("min", "at least"), ("max", "at most"))
    return ", ".join(f"{word} {value[key]:g}" for key, word in words if value.get(key) is not None) or "-"


def _features(evidence: Evidence) -> dict[str, str]:
    return {gate.partition: gate.snapshot for gate in evidence.gates if gate.dataset == "features"}


def _training(site: Site, version: int) -> TrainingRun | None:
    registered = site.ledger.registered(site.name, version)
    return site.ledger.training_of(site.name, registered.run) if registered and registered.run else None
