"""`millrace evidence`: a version's Evidence verified from store, ledger and public key; nothing else is asked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from millrace.core.errors import MillraceError
from millrace.core.settings import Settings
from millrace.evidence.finding import Finding
from millrace.evidence.subject import Subject, registered
from millrace.ledger import Ledger
from millrace.store import open_store
from millrace.store.anchors import Anchors

WORDS = {True: "holds", False: "WRONG", None: "none"}


def subject(settings: Settings, ledger: Ledger, pipeline: str, version: int, public_key: Path | None = None) -> Subject:
    """A version with all that is asked about it. Raises LedgerError for one that was never registered."""
    key = public_key or (Path(settings.signing_public_key) if settings.signing_public_key else None)
    known = registered(ledger, pipeline, version)
    return Subject(open_store(settings.store), ledger, Anchors.of(settings).read(), known, key)


def lines(findings: list[Finding]) -> Iterator[str]:
    """The findings for a person, as a table."""
    width = max(len(each.what) for each in findings)
    for each in findings:
        yield f"{WORDS[each.holds]}  {each.what:<{width}}  {each.said}"


def as_json(pipeline: str, version: int, findings: list[Finding]) -> str:
    """The findings for another program."""
    body = {
        "pipeline": pipeline,
        "version": version,
        "holds": all(each.holds is not False for each in findings),
        "findings": [vars(each) for each in findings],
    }
    return json.dumps(body, indent=1)


def card_of(given: Subject) -> bytes:
    """The model card of a version, as things stand. Raises what reading Evidence, bundle and evaluation does."""
    from millrace.evidence import card
    from millrace.evidence.subject import evidence_of, promotion_of
    from millrace.evidence.verification import verify
    from millrace.spec import PipelineSpec
    from millrace.store import bundles

    evidence, champion = evidence_of(given.objects, given.registered.evidence), given.champion
    spec = PipelineSpec.model_validate(bundles.read(given.objects, evidence.spec_digest).spec)
    stored = champion.promotion if champion else None
    found = card.read(
        given.objects,
        evidence,
        spec,
        version=given.registered.version,
        promotion=promotion_of(given.objects, stored) if stored else None,
        findings=verify(given),
    )
    return card.render(found)


def write(given: Subject, folder: Path) -> Iterator[str]:
    """Export the signed folder, and yield how another machine verifies it."""
    from millrace.evidence.subject import SIGNED, export

    if folder.exists() and any(folder.iterdir()):
        raise MillraceError("an export needs a new folder", given=str(folder))
    export(given, folder)
    yield f"wrote {folder}: the folder {SIGNED}/, and the signature model.sig if it is signed"
    yield f"verify it anywhere: model_signing verify key {folder}/{SIGNED} --signature {folder}/model.sig " \
          "--public_key public.pem"  # fmt: skip
