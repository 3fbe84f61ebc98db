"""What MkDocs runs for each page: links that leave docs/ must exist, and become the path of what they name."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|#|mailto:)([^)#\s]+)(#[^)\s]*)?\)")
log = logging.getLogger("mkdocs.plugins.links")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """A site holds docs/ alone: what lies outside is named by its path in the project, and warned of when missing."""
    folder = (ROOT / "docs" / page.file.src_uri).parent

    def replace(link: re.Match[str]) -> str:
        target = Path(os.path.normpath(folder / link[3]))
        if target.is_relative_to(ROOT / "docs"):
            return link[0]
        if not target.exists():
            log.warning("%s links to %s, which does not exist", page.file.src_uri, link[3])
        path = f"`{target.relative_to(ROOT)}`"
        return path if target.name in link[2] else f"{link[2]} ({path})"

    return LINK.sub(replace, markdown)
