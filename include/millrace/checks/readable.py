"""A spec with mistakes, as far as it can be read: what is not wrong is checked against the other files all the same."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import partial
from typing import Any

from pydantic import ValidationError

from millrace.checks.words import attempt
from millrace.core.errors import SpecError
from millrace.spec import PipelineSpec, ProjectTree
from millrace.spec.explain import explain
from millrace.spec.yaml_file import line_of, parse

Loc = tuple[Any, ...]
_ROUNDS = 12
"""A value that is taken out can leave a mapping that lacks it, and so on up to the section."""
_ALONE = ("version", "owner", "description", "name")
"""Keys that no other key has to do with."""
_ANY: dict[Loc, Any] = {
    ("version",): 1,
    ("owner",): "somebody",
    ("description",): "nothing",
    ("partition",): {"grain": "month", "start": "2000-01"},
    ("partition", "grain"): "month",
    ("partition", "start"): "2000-01",
    ("sources",): {"unknown": {"kind": "files", "location": "x", "partitioned": False, "gate": "x", "columns": ["x"]}},
    ("features",): {"entity": ["x"], "service": "x"},
    ("features", "entity"): ["x"],
    ("features", "service"): "x",
    ("label", "column"): "x",
    ("label", "task"): "binary",
    ("label", "known_after"): "PT0S",
    ("training", "window"): "P1M",
}
"""Stand for what is wrong or missing and must be there for the rest to be read; nobody is told of them."""


@dataclass(frozen=True)
class Readable:
    """`spec` without what is wrong in the file, None where too little is left; `wrong` are the keys of that."""

    spec: PipelineSpec | None
    wrong: frozenset[Loc] = frozenset()

    def knows(self, *loc: str | int) -> bool:
        """Whether the spec holds at these keys, above and below them what the file says."""
        return self.spec is not None and not any(_overlap(loc, other) for other in self.wrong)

    def knows_columns(self, source: str) -> bool:
        """Whether columns and types of a source are those of the file."""
        return all(self.knows("sources", source, key) for key in ("columns", "types", "format", "kind"))


def read_spec(tree: ProjectTree, pipeline: str, problems: list[str]) -> Readable:
    """Read pipeline.yaml, note every mistake that stands in it by itself, and return what is left."""
    path = tree.folder(pipeline) / "pipeline.yaml"
    before = len(problems)
    if (spec := attempt(problems, lambda: tree.spec(pipeline))) is not None:
        return Readable(spec)
    try:
        value, node = parse(path)
    except SpecError:
        return Readable(None)
    if not isinstance(value, dict):
        return Readable(None)
    del problems[before:]
    document, wrong = copy.deepcopy(value), set[Loc]()
    for _ in range(_ROUNDS):
        try:
            spec = PipelineSpec.model_validate(document)
        except ValidationError as err:
            # What is said of a section that a value was taken out of may be no mistake of the file.
            earlier = frozenset(wrong)
            lines = explain(err, PipelineSpec, value, path, node, partial(_is_new, earlier))
            problems += lines.splitlines()
            for kind, loc in sorted(((e["type"], _key(e["loc"])) for e in err.errors()), key=_last_first):
                wrong.add(loc)
                if kind == "missing" and loc in {*_ANY, ("name",)}:
                    held = document if len(loc) == 1 else document[loc[0]]
                    held[loc[-1]] = copy.deepcopy(_ANY.get(loc, pipeline))
                elif not _take_out(document, loc[:-1] if kind == "missing" else loc):
                    return Readable(None, frozenset(wrong))
        else:
            break
    if spec is None:
        return Readable(None, frozenset(wrong))
    if ("name",) not in wrong and spec.name != pipeline:
        problems.append(
            str(SpecError("the folder's name and the pipeline's differ", where=f"{path}:{line_of(path, 'name')}",
                          given=spec.name, allowed=[pipeline]))
        )  # fmt: skip
    return Readable(spec.model_copy(update={"name": pipeline}), frozenset(wrong))


def _key(loc: Loc) -> Loc:
    return loc[:-1] if loc and loc[-1] == "[key]" else loc


def _last_first(item: tuple[str, Loc]) -> Any:
    """Items of a list from the last one back, so that taking out one does not move the next."""
    return [(isinstance(part, str), -part if isinstance(part, int) else 0, str(part)) for part in item[1]]


def _overlap(one: Loc, other: Loc) -> bool:
    shared = min(len(one), len(other))
    return one[:shared] == other[:shared]


def _is_new(earlier: frozenset[Loc], loc: Loc) -> bool:
    sections = {other[:2] for other in earlier if other[0] not in _ALONE}
    return loc[:2] not in sections and all(len(section) > 1 for section in sections)


def _take_out(document: Any, loc: Loc) -> bool:
    """Remove what stands at the deepest of these keys that the document has; False where that is none."""
    held, last = document, None
    for part in loc:
        if not (isinstance(held, dict) and part in held) and not (isinstance(held, list) and _within(held, part)):
            break
        last, held = (held, part), held[part]
    if last is None:
        return False
    del last[0][last[1]]
    return True


def _within(held: list[Any], part: Any) -> bool:
    return isinstance(part, int) and part < len(held)
