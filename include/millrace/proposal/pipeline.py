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
    texts = {
        "dag.py": (templates / "pipeline" / "dag.py").read_text(encoding="utf-8"),
        "README.md": (templates / "proposal" / "README.md").read_text(encoding="utf-8"),
    }
    words = {**words, "__FIRST__": found.partition}
    for file, text in texts.items():
        for word, meant in words.items():
            text = text.replace(word, meant)
        texts[file] = text
    texts |= {
        "pipeline.yaml": spec_file(found, root, words),
        "transform.sql": sql_file(found),
        "features.py": feast_file(found, words["__NAME__"]),
        **suites(found),
    }
    return Proposal(texts, found.partition)
