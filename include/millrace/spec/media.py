"""What is measured of a delivered file that is no table: the columns beside those of the delivery's index."""

from __future__ import annotations

FILE = "file"
"""Column of the index that names a file of the delivery."""

_FILE: dict[str, str] = {"digest": "string", "size": "integer", "media_type": "string"}
MEASURED: dict[str, dict[str, str]] = {
    "images": {
        **_FILE,
        "content": "binary",
        "decoded": "boolean",
        "width": "integer",
        "height": "integer",
        "channels": "integer",
        "brightness": "number",
        "contrast": "number",
    },
    "texts": {
        **_FILE,
        "encoding": "string",
        "text": "string",
        "characters": "integer",
        "words": "integer",
        "distinct_words": "integer",
        "letters": "number",
        "controls": "integer",
    },
}
"""Format -> column -> type. A delivery's own columns cannot have these names.

All formats: `digest` of the bytes, `size` in bytes, `media_type` told from the first bytes. Images: `content` (the
bytes), `decoded` (whether they can be), size in pixels, `channels`, and `brightness` (mean) and `contrast` (standard
deviation) of grey values from 0 to 1. Texts: `encoding` (utf-8, utf-8-sig, utf-16 or unknown), the `text` where it is
UTF-8, its `characters`, `words` and `distinct_words`, the share of its characters that are `letters`, and how many
are `controls`: control and replacement characters other than tabs and line ends.
"""
CONTENT: dict[str, str] = {"images": "content", "texts": "text"}
"""Format -> column with what an embedding is made of."""
EMBEDDED = "embedded"
"""The view in which transform.sql finds the embedding: `digest` of a file, its coordinates, and `unexplained`."""
UNEXPLAINED = "unexplained"
"""Share of a file's variation, 0 to 1, that the embedding does not hold: large for what its fit never saw."""


def coordinates(dimensions: int) -> list[str]:
    """Names of the coordinates of an embedding: `e_00`, `e_01` .."""
    return [f"e_{n:02d}" for n in range(dimensions)]
