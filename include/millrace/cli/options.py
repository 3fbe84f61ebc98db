"""What commands have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ProjectOption = Annotated[Path | None, typer.Option("--project", help="Project folder; default: the one you are in.")]
