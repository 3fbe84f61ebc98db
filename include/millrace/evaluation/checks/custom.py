"""custom: a check from another package, which runs only where custom code may run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from millrace.core.errors import CodeError, ContractError
from millrace.core.imports import named
from millrace.evaluation.checks.subject import Figure, Judged, Subject, figured
from millrace.models.custom import determined
from millrace.models.protocol import Settings, permit_code
from millrace.spec.model_checks import CustomCheck


def run(asked: CustomCheck, subject: Subject) -> Judged:
    """Call the function that the entry point's model names in `engine`: `measure(asked, subject) -> list[Figure]`.

    Raises ContractError where the request does not let it run, or it is not there; CodeError for what is no Figure with
    a bound.
    """
    permit_code(subject.means, f"the model check '{asked.name}' of another package")
    path = getattr(type(asked.check), "engine", None)
    if not isinstance(path, str) or path.count(":") != 1:
        raise CodeError(f"model check '{asked.name}' names no engine", given=path, allowed="engine = 'module:function'")
    try:
        function = named(path)
    except ImportError as err:
        raise ContractError(
            f"the engine of model check '{asked.name}' cannot be imported: {err}",
            given=path,
            next_step="Install the package that brings this check where jobs run",
        ) from err
    card = subject.model.card
    with determined(Settings(card.task, subject.seed, card.threads, len(card.classes))):
        answer: Any = function(asked.check, subject)
    figures = list(answer) if isinstance(answer, Sequence) else [answer]
    if any(not isinstance(one, Figure) or (one.min is None and one.max is None) for one in figures):
        raise CodeError(f"model check '{asked.name}' gave something else than figures with bounds", given=path,
                        allowed="Figures of millrace.evaluation.checks.subject, each with min or max")  # fmt: skip
    return figured(asked.type, asked.name, figures)
