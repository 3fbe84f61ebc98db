"""size: the bytes of the model's files lie within a budget."""

from __future__ import annotations

from millrace.core.errors import DataError
from millrace.evaluation.checks.subject import Figure, Judged, Subject, figured
from millrace.spec.model_checks import SizeCheck


def run(asked: SizeCheck, subject: Subject) -> Judged:
    """Count what lies in the model's folder. Raises DataError where nothing does."""
    assert subject.objects is not None  # evaluate has a store
    files = {each.key.removeprefix(subject.place): each.size for each in subject.objects.list(subject.place)}
    if not files:
        raise DataError("the model's folder is empty", where=subject.place)
    figure = Figure("size of the model's files in bytes", float(sum(files.values())), max=asked.max_bytes)
    return figured(asked.type, asked.name, [figure], {"files": dict(sorted(files.items()))})
