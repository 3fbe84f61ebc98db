"""Parts of a page that loads nothing, runs nothing and can be printed. Every text that is given is escaped here."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from html import escape
from typing import Any

CSP = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
CSS = """\
:root { color-scheme: light; --line: #0002; --bad: #b3261e; --good: #1b7f3b; --soft: #0001; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 60rem; padding: 1.5rem; color: #111; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin: 1.6rem 0 .4rem; border-bottom: 2px solid var(--line); }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .25rem .6rem .25rem 0; border-bottom: 1px solid var(--line); }
td { overflow-wrap: anywhere; } th { font-weight: 600; }
.no { color: var(--bad); font-weight: 600; } .yes { color: var(--good); }
code { font-size: .85em; } img { max-width: 100%; } p.lead { font-size: 1.05rem; }
@media print { body { max-width: none; padding: 0; font-size: 11px; } h2, tr, img { break-inside: avoid; }
  h2 { break-after: avoid; } }
"""


class Html(str):
    """Text that is markup already."""


def text(value: Any) -> Html:
    """A value as inert text; what is markup already stays so."""
    return value if isinstance(value, Html) else Html(escape(str(value)))


def code(value: Any) -> Html:
    """A digest or another word of machines."""
    return Html(f"<code>{text(value)}</code>")


def passed(value: bool) -> Html:
    """Whether something passed."""
    return Html('<span class="yes">passed</span>' if value else '<span class="no">FAILED</span>')


def paragraph(value: Any, kind: str = "") -> Html:
    """A paragraph, of a class where one is given."""
    return Html(f'<p class="{escape(kind)}">{text(value)}</p>' if kind else f"<p>{text(value)}</p>")


def table(head: Iterable[Any], rows: Iterable[Iterable[Any]]) -> Html:
    """A table with a line of names; nothing without rows."""
    body = "".join(f"<tr>{''.join(f'<td>{text(cell)}</td>' for cell in row)}</tr>\n" for row in rows)
    names = "".join(f"<th>{text(name)}</th>" for name in head)
    return Html(f"<table>\n<tr>{names}</tr>\n{body}</table>") if body else Html("")


def facts(pairs: Iterable[tuple[str, Any]]) -> Html:
    """Names and values; those without a value are left out."""
    rows = "".join(
        f"<tr><th>{text(name)}</th><td>{text(value)}</td></tr>\n" for name, value in pairs if value not in (None, "")
    )
    return Html(f"<table>\n{rows}</table>") if rows else Html("")


def picture(png: bytes, what: str) -> Html:
    """A PNG inside the page."""
    return Html(f'<img alt="{escape(what)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">')


def section(title: str, *parts: Html) -> Html:
    """A heading with what stands below it; nothing where nothing does."""
    body = "\n".join(part for part in parts if part)
    return Html(f"<h2>{text(title)}</h2>\n{body}\n") if body else Html("")


def page(title: str, *parts: Html) -> bytes:
    """The whole page."""
    body = "\n".join(part for part in parts if part)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{CSP}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>\n{CSS}</style>\n</head>\n"
        f"<body>\n<h1>{text(title)}</h1>\n{body}\n</body>\n</html>\n"
    ).encode()
