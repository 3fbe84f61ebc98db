"""Verification of a promotion: its document against the ledger, and the signature over it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from millrace.contract import Artifact
from millrace.core.errors import MillraceError
from millrace.evidence import folder as signed
from millrace.evidence import signature
from millrace.evidence.finding import Finding
from millrace.evidence.subject import SIGNED, Subject, export, promotion_of
from millrace.ledger import Champion, ReleaseRequest
from millrace.rules.promotion import Promotion
from millrace.store import layout


def findings(subject: Subject) -> Iterator[Finding]:
    """What was found of the newest promotion of a version, and of its signature."""
    champion = subject.champion
    if champion is None:
        yield Finding("promotion", None, "it never was champion")
        return
    if champion.promotion is None:
        yield Finding("promotion", None, f"generation {champion.generation}, from before promotions were documents")
        yield _unsigned(subject, champion)
        return
    stored = champion.promotion
    try:
        document = promotion_of(subject.objects, stored)
        wrong = _against_ledger(subject, champion, document)
        by = ", ".join(f"{a.get('by')} ({a.get('how')})" for a in document.release.answers) or "nobody was asked"
        said = f"generation {champion.generation}, {stored.digest}; approved by {by}"
        yield Finding("promotion", not wrong, "; ".join(wrong) or said)
    except MillraceError as err:
        yield Finding("promotion", False, str(err))
    yield _signature(subject, champion, stored)


def _against_ledger(subject: Subject, champion: Champion, document: Promotion) -> list[str]:
    """Where the document and the ledger's request, promotion and champion before differ."""
    entries = subject.ledger.entries(subject.pipeline, ReleaseRequest.kind, champion.release)
    request = entries[-1].event if entries else None
    before = next(
        (c for c in subject.ledger.champions(subject.pipeline) if c.generation == champion.generation - 1), None
    )
    said = {"version": document.version, "evidence": document.evidence, "model": document.model,
            "generation": document.generation,
            "champion before": document.before and (document.before.version, document.before.model)}  # fmt: skip
    known = {"version": champion.version, "evidence": champion.evidence_digest, "model": champion.model_digest,
             "generation": champion.generation,
             "champion before": before and (before.version, before.model_digest)}  # fmt: skip
    if not isinstance(request, ReleaseRequest):
        return [f"the ledger has no release request {champion.release}"]
    said |= {name: getattr(document.release, name) for name in ("id", "reason", "rollback", "attempt")}
    known |= {name: getattr(request, name) for name in ("id", "reason", "rollback", "attempt")}
    said["answers"] = list(document.release.answers)
    known["answers"] = [answer.model_dump(mode="json") for answer in request.answers]
    wrong = [f"its {name} is not the ledger's" for name in said if said[name] != known[name]]
    if not set(document.release.requesters) <= set(request.requesters):
        wrong.append("its requesters are not the ledger's")
    return wrong


def _unsigned(subject: Subject, champion: Champion) -> Finding:
    if champion.signer is not None:
        return Finding("signature", False, f"it was signed with {champion.signer}, and the signature is gone")
    if subject.public_key is not None:
        return Finding("signature", False, "not signed, though a public key is set here")
    return Finding("signature", None, "not signed: no signing key was set when it was promoted")


def _signature(subject: Subject, champion: Champion, stored: Artifact) -> Finding:
    where = layout.model_signature(stored.uri)
    if not subject.objects.exists(where):
        return _unsigned(subject, champion)
    if subject.public_key is None:
        return Finding("signature", False, "cannot be verified: set MILLRACE_SIGNING_PUBLIC_KEY, or use --public-key")
    try:
        mine = signature.key_digest(subject.public_key.read_bytes(), str(subject.public_key))
        with TemporaryDirectory(prefix="millrace-") as place:
            made = export(subject, Path(place) / "all")
            signature.verify(made / SIGNED, made / signed.SIGNATURE, subject.public_key)
    except OSError as err:
        return Finding("signature", False, f"the public key cannot be read: {err}")
    except MillraceError as err:
        return Finding("signature", False, str(err))
    if champion.signer != mine:
        return Finding("signature", False, f"the ledger says that {champion.signer or 'nobody'} signed it, not {mine}")
    return Finding("signature", True, f"holds for Evidence, promotion and model, by the key {mine}")
