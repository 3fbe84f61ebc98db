"""The folder that is signed: `evidence.json`, `promotion.json`, and the model's files under `model/`.

It is put together from the store wherever it is needed; in the store itself lie the parts, each once, and the
signature beside the promotion.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from millrace.contract import Artifact
from millrace.core.canonical import digest, file_digest
from millrace.core.errors import Corrupt
from millrace.store import ObjectStore
from millrace.store.layout import CARD, REFERENCE

EVIDENCE, PROMOTION, MODEL, SIGNATURE = "evidence.json", "promotion.json", "model", "model.sig"


def lay(objects: ObjectStore, folder: Path, evidence: Artifact, promotion: Artifact, model: Artifact) -> Path:
    """Copy what is signed into `folder`, as it lies in the store: whether it is right is for the signature to say.

    Raises NotFound, and Corrupt for a model's card that cannot be read.
    """
    (folder / MODEL).mkdir(parents=True)
    (folder / EVIDENCE).write_bytes(objects.get(evidence.uri))
    (folder / PROMOTION).write_bytes(objects.get(promotion.uri))
    for name in model_files(objects, model):
        shutil.copyfile(objects.fetch(model.uri + name), folder / MODEL / name)
    return folder


def check_model(objects: ObjectStore, model: Artifact) -> None:
    """Raise Corrupt unless a model's card, weights and reference are the bytes that its digest stands for; NotFound
    where one is gone."""
    names = model_files(objects, model)
    text = objects.get(model.uri + CARD)
    if digest(text) != model.digest:
        raise Corrupt("model.json does not have the model's digest", where=objects.url(model.uri + CARD))
    card = json.loads(text)
    wanted = {
        REFERENCE: card.get("reference"),
        card.get("weights", {}).get("file"): card.get("weights", {}).get("digest"),
    }
    for name in names[1:]:
        if file_digest(objects.fetch(model.uri + name)) != wanted[name]:
            raise Corrupt("this file of the model does not have its digest", where=objects.url(model.uri + name))


def model_files(objects: ObjectStore, model: Artifact) -> list[str]:
    """Names of a model's files, as its card says. Raises NotFound, or Corrupt where it says none."""
    try:
        card = json.loads(objects.get(model.uri + CARD))
        weights = card.get("weights", {}).get("file")
        names = [CARD, *([str(weights)] if weights else []), *([REFERENCE] if card.get("reference") else [])]
    except (ValueError, AttributeError) as err:
        raise Corrupt("the model's card cannot be read", where=objects.url(model.uri + CARD)) from err
    if any("/" in name or name.startswith(".") for name in names):
        raise Corrupt("the model's card names a file outside its folder", where=objects.url(model.uri + CARD))
    return names
