"""Model checks (`millrace.spec.evaluation`, `millrace.spec.model_checks`), a module each: what makes the verdict on a
challenger.

Each check by itself: one that cannot be computed, or says nothing, fails, and hides nothing of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, get_args

from millrace.contract import Check
from millrace.core.errors import ContractError, MillraceError
from millrace.evaluation.checks import (
    artifact,
    calibration,
    custom,
    duel,
    explanations,
    fairness,
    latency,
    robustness,
    size,
    threshold,
)
from millrace.evaluation.checks.subject import Judged, Subject, TrainingSet
from millrace.spec.duel import DuelCheck
from millrace.spec.evaluation import ModelCheck, ThresholdCheck
from millrace.spec.model_checks import (
    ArtifactCheck,
    CalibrationCheck,
    CustomCheck,
    DeclaredCheck,
    ExplanationsCheck,
    FairnessCheck,
    LatencyCheck,
    RobustnessCheck,
    SizeCheck,
)

_RUN: dict[type, Callable[[Any, Subject], Judged]] = {
    ThresholdCheck: threshold.run,
    DuelCheck: duel.run,
    FairnessCheck: fairness.run,
    RobustnessCheck: robustness.run,
    ExplanationsCheck: explanations.run,
    CalibrationCheck: calibration.run,
    LatencyCheck: latency.run,
    SizeCheck: size.run,
    ArtifactCheck: artifact.run,
    CustomCheck: custom.run,
}
_DECLARED = get_args(DeclaredCheck)

__all__ = ["Judged", "Subject", "TrainingSet", "judge"]


def judge(asked: Iterable[ModelCheck], subject: Subject) -> Judged:
    """Make checks in order. Those that need a champion are left out where there is none: the others decide alone.

    Facts stand under the check's type; of types that a spec may declare several times they are a list, in its order.
    Raises only what may go well when it is tried again: a verdict is kept for good.
    """
    facts: dict[str, Any] = {}
    made = []
    for check in asked:
        if check.needs_champion and subject.champion is None:
            continue
        one = _run(check, subject)
        made.append(one)
        for key, value in one.facts.items():
            if isinstance(check, _DECLARED):
                facts.setdefault(key, []).append(value)
            else:
                facts[key] = value
    return Judged(
        checks=tuple(check for one in made for check in one.checks),
        facts=facts,
        files=_together(one.files for one in made),
        plots=_together(one.plots for one in made),
        times=_together(one.times for one in made),
        notes=tuple(note for one in made for note in one.notes),
    )


def _together(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """All names of several checks; one that an earlier check has is numbered: `2_explanations.json`."""
    found: dict[str, Any] = {}
    for part in parts:
        for name, value in part.items():
            number = 1
            while (key := name if number == 1 else f"{number}_{name}") in found:
                number += 1
            found[key] = value
    return found


def _run(asked: ModelCheck, subject: Subject) -> Judged:
    try:
        made = _RUN[type(asked)](asked, subject)
    except (OSError, MemoryError):
        raise
    except Exception as err:
        if isinstance(err, ContractError) or (isinstance(err, MillraceError) and err.retry != "never"):
            raise  # another request, or another time, may let it
        return _failed(asked, str(err) if isinstance(err, MillraceError) else type(err).__name__)  # may quote values
    return made if made.checks else _failed(asked, "it says nothing")


def _failed(asked: ModelCheck, why: str) -> Judged:
    """A check that could not be made fails; a declared one says so among the facts, too."""
    check = Check(name=asked.name, passed=False, message=f"{asked.type} could not be computed: {why}")
    facts = {asked.type: {"name": asked.name, "figures": [], "error": why}} if isinstance(asked, _DECLARED) else {}
    return Judged((check,), facts)
