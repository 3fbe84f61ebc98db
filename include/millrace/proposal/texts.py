"""Names as the files of a pipeline write them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping

_NULL_OR_SWITCH = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}


def word(text: str) -> str:
    """A text in YAML, in quotes where it needs them; also in a comment, which it does not end."""
    plain = re.fullmatch(r"[A-Za-z_][A-Za-z0-9_./{}-]*", text) and "{" not in text[:1]
    return text if plain and text.lower() not in _NULL_OR_SWITCH else _quoted(text)


def words(texts: Iterable[str]) -> str:
    """A list in YAML."""
    return f"[{', '.join(_in_list(text) for text in texts)}]"


def _in_list(text: str) -> str:
    return _quoted(text) if "{" in text or "}" in text else word(text)


def _quoted(text: str) -> str:
    """In double quotes as YAML and JSON have them; what ends a line in YAML, or is not seen, as its number."""
    said = json.dumps(text, ensure_ascii=False)
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" if ord(c) < 1 << 16 else "?" for c in said)


def sql(name: str, keywords: frozenset[str]) -> str:
    """A name in DuckDB's SQL, in quotes where it needs them."""
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) and name.lower() not in keywords:
        return name
    return '"' + name.replace('"', '""') + '"'


def keywords() -> frozenset[str]:
    """Words that DuckDB's SQL does not take for a name everywhere."""
    import duckdb

    with duckdb.connect() as connection:
        rows = connection.execute(
            "SELECT keyword_name FROM duckdb_keywords() WHERE keyword_category <> 'unreserved'"
        ).fetchall()
    return frozenset(name for (name,) in rows)


def filled(text: str, words: Mapping[str, str]) -> str:
    """A template with its words such as `__NAME__` replaced, once: what is put in is not looked at again."""
    return re.sub("|".join(map(re.escape, words)), lambda found: words[found.group()], text)


def guessed(why: str) -> str:
    """The comment beside what nobody has said."""
    return f"  # guessed: {why}; edit"
