"""artifact: the model's folder holds what model.json names and nothing else, whole, in a format that holds no code."""

from __future__ import annotations

from collections.abc import Iterator

from millrace.contract import Check
from millrace.core.canonical import digest
from millrace.core.errors import DataError
from millrace.evaluation.checks.subject import Judged, Subject
from millrace.models.formats import check_weights
from millrace.spec.model_checks import ArtifactCheck
from millrace.store.layout import CARD, REFERENCE


def run(asked: ArtifactCheck, subject: Subject) -> Judged:
    """Read every file of the folder again, and open none with what would load it."""
    assert subject.objects is not None  # evaluate has a store
    card, place = subject.model.card, subject.place
    wanted = {CARD: subject.model.digest, card.weights.file: card.weights.digest}
    wanted |= {REFERENCE: card.reference} if card.reference else {}
    found = {each.key.removeprefix(place): subject.objects.get(each.key) for each in subject.objects.list(place)}
    kind = card.weights.file.rpartition(".")[2]
    problems = list(_problems(asked, wanted, found, kind, card.weights.file))
    if not problems:
        text = f"{asked.name}: {len(found)} files as model.json names them, weights as {kind}"
        checks = [Check(name=asked.name, passed=True, message=text)]
    else:
        checks = [Check(name=asked.name, passed=False, message=f"{asked.name}: {problem}") for problem in problems]
    facts = {"name": asked.name, "figures": [], "format": kind, "files": dict(sorted(wanted.items())),
             "formats": list(asked.formats)}  # fmt: skip
    return Judged(tuple(checks), {asked.type: facts})


def _problems(
    asked: ArtifactCheck, wanted: dict[str, str], found: dict[str, bytes], kind: str, weights: str
) -> Iterator[str]:
    for name in sorted(found.keys() - wanted.keys()):
        yield f"'{name}' lies beside the model, and model.json does not name it; another tool might execute it"
    for name, named in wanted.items():
        if name not in found:
            yield f"'{name}' is missing"
        elif digest(found[name]) != named:
            yield f"'{name}' does not have its digest"
    if kind not in asked.formats:
        yield f"weights are {kind}, and allowed are {', '.join(asked.formats)}"
    elif weights in found:
        try:
            check_weights(weights, found[weights])
        except DataError as err:
            yield err.message
