"""All files of a pipeline that is proposed from delivered files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files as package
from pathlib import Path
from typing import NamedTuple

from millrace.proposal.delivery import deliver
from millrace.proposal.feast_file import feast_file
from millrace.proposal.guess import guess, one_partition
from millrace.proposal.naming import named
from millrace.proposal.spec_file import spec_file
from millrace.proposal.sql_file import sql_file
from millrace.proposal.suites import suites
from millrace.proposal.texts import filled


class Proposal(NamedTuple):
    """Text of each file, by the names of the scaffold's templates, and the partition that was looked at."""

    texts: dict[str, str]
    partition: str


def propose(root: Path, files: Sequence[Path], words: Mapping[str, str]) -> Proposal:
    """Read the files and propose a pipeline of them; writes nothing, and changes none of them.

    `words` are what stands in templates for the pipeline's name, owner and schema. Raises SpecError for files that
    cannot be sources of one pipeline, DataError for those that `land` would not take.
    """
    called = [named(path) for path in files]
    one_partition(called)
    found = guess([deliver(one) for one in called])
    templates = package("millrace") / "templates"
    words = {**words, "__FIRST__": found.partition}
    texts = {
        "dag.py": filled((templates / "pipeline" / "dag.py").read_text(encoding="utf-8"), words),
        "README.md": filled((templates / "proposal" / "README.md").read_text(encoding="utf-8"), words),
        "pipeline.yaml": spec_file(found, root, words),
        "transform.sql": sql_file(found),
        "features.py": feast_file(found, words["__NAME__"]),
        **suites(found),
    }
    return Proposal(texts, found.partition)
