"""An embedding as a file: safetensors, which hold no code, with what it was fitted on in the header."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from millrace.core.canonical import canonical_json, digest
from millrace.core.errors import SpecError
from millrace.embeddings.protocol import Embedder, Tensors, engine_of

_KEY = "millrace"  # one key: safetensors keeps no order among several


class About(BaseModel):
    """What an embedding says of itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pipeline: str
    embedding: dict[str, Any]
    """Kind and parameters."""
    fitted_on: dict[str, str]
    """Partition -> digest of the raw Snapshot."""
    rows: int


@dataclass(frozen=True)
class Fitted:
    """A fitted embedding, ready to use."""

    digest: str
    about: About
    tensors: Tensors
    params: Any
    engine: Embedder


def save(about: About, tensors: Tensors) -> bytes:
    """The file's bytes: the same for the same fit."""
    # safetensors writes an array's memory as it lies: of a transposed one that is another array.
    plain = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    return bytes(save_tensors(plain, metadata={_KEY: canonical_json(about).decode()}))


def load(data: bytes, params: Any) -> Fitted:
    """Read a file for the embedding that a spec asks for. Raises SpecError for another one, and a broken file
    or one whose numbers no fit has made."""
    try:
        size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + size])
        about = About.model_validate_json(header["__metadata__"][_KEY])
        tensors = load_tensors(data)
    except (ValueError, KeyError, TypeError, ValidationError, SafetensorError) as err:
        raise SpecError("this is no embedding", where=params.file, next_step="Fit it with 'millrace embed'") from err
    if floats := sorted(name for name, value in tensors.items() if value.dtype != np.int16):
        raise SpecError(  # coordinates are exact because all of it is integers, and so none of it is NaN
            f"the embedding holds '{floats[0]}' as {tensors[floats[0]].dtype}",
            where=params.file,
            allowed="int16",
            next_step="Fit it with 'millrace embed'",
        )
    asked = params.model_dump(mode="json")
    if changed := sorted(k for k in asked.keys() | about.embedding.keys() if asked.get(k) != about.embedding.get(k)):
        name = changed[0]
        raise SpecError(
            f"the embedding was fitted with another '{name}' than pipeline.yaml says",
            where=params.file,
            given=asked.get(name),
            allowed=[about.embedding.get(name)],
            next_step="Fit it again with 'millrace embed', and make all features anew",
        )
    return Fitted(digest(data), about, tensors, params, engine_of(params))
