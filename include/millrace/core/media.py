"""Images and texts as bytes: what they are, and decoding them without trusting them. Needs Pillow for images."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST_PIXELS = 4096 * 4096
"""Largest image that is decoded: a small file can claim a huge one."""
FORMATS = ("PNG", "JPEG")
_MAGIC = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif",
          b"%PDF": "application/pdf", b"PK\x03\x04": "application/zip", b"\x1f\x8b": "application/gzip"}  # fmt: skip
_CHANNELS = {"1": 1, "L": 1, "I;16": 1, "I": 1, "F": 1, "LA": 2, "P": 3, "RGB": 3, "YCbCr": 3, "RGBA": 4, "CMYK": 4}


def media_type(data: bytes) -> str:
    """Media type told from the first bytes; text/plain where they are UTF-8."""
    for magic, name in _MAGIC.items():
        if data.startswith(magic):
            return name
    return "application/octet-stream" if encoding_of(data) == "unknown" else "text/plain"


def encoding_of(data: bytes) -> str:
    """utf-8, utf-8-sig (with its mark), utf-16 (by its mark), or unknown."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return "unknown"
    return "utf-8-sig" if data.startswith(b"\xef\xbb\xbf") else "utf-8"


def decode_text(data: bytes) -> str | None:
    """The text of UTF-8, without the mark; None for another encoding."""
    return data.decode("utf-8-sig") if encoding_of(data).startswith("utf-8") else None


def open_image(data: bytes) -> Any:
    """The decoded Pillow image; None for what is no whole PNG or JPEG of at most `MOST_PIXELS`."""
    from PIL import Image

    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        if image.width * image.height > MOST_PIXELS:
            return None
        image.load()  # here a file that was cut off or changed is found out
    except Exception:  # whatever a decoder raises on bytes that anyone may have sent
        return None
    return image


def channels(image: Any) -> int:
    """Channels of a decoded image: 1 grey, 2 grey with alpha, 3 colours (or a palette), 4 colours with alpha."""
    return _CHANNELS.get(image.mode, len(image.getbands()))


def grey(image: Any, width: int | None = None, height: int | None = None) -> NDArray[np.uint8]:
    """Grey values, shape (height, width), scaled to a size where one is given and it is another."""
    import numpy as np
    from PIL import Image

    plain = image.convert("L")
    if width is not None and height is not None and plain.size != (width, height):
        plain = plain.resize((width, height), Image.Resampling.BOX)
    return np.asarray(plain, dtype=np.uint8)
