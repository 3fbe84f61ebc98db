"""A shell whose variables are those of another project than the folder that one is in."""

from __future__ import annotations

import os
import sys

from millrace.core.errors import MillraceError
from millrace.spec import ProjectTree


def foreign() -> str | None:
    """What to know where the shell's variables (`millrace env`) are those of another project than the folder's."""
    try:
        named, here = ProjectTree.at(os.environ["MILLRACE_PROJECT"]), ProjectTree.at()
    except (KeyError, MillraceError):
        return None
    if here.root == named.root or "--project" in sys.argv:
        return None
    environment = os.environ.get("MILLRACE_ENVIRONMENT")
    return f"taking the project of this folder ({here.root}), though MILLRACE_PROJECT of this shell is {named.root}" + (
        f"; the environment is the shell's, '{environment}' (MILLRACE_ENVIRONMENT)" if environment else ""
    )
