"""sign: keep the document of a promotion, and sign it with the Evidence and the model that it is about."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from millrace.contract import Artifact, Outcome
from millrace.core.canonical import canonical_json
from millrace.core.errors import EvidenceError, NotFound
from millrace.evidence import folder as signed
from millrace.evidence import signature
from millrace.jobs.work import Work
from millrace.rules.promotion import Promotion
from millrace.store import layout


class Params(BaseModel):
    """The promotion, as the ledger would have it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    promotion: dict[str, Any] = Field(description="See millrace.rules.promotion.Promotion.")


def run(work: Work, params: Params) -> Outcome:
    """Store the document, then the signature beside it; one that is there and holds is kept, so that a kill between
    signing and promotion changes nothing.

    The means' service `signing` has the public key's file as `uri`, empty for the private key's own half, and names
    the variable with the private key. Without the service nothing is signed. Raises EvidenceError when a signature is
    asked for and cannot be made, or does not hold.
    """
    promotion = Promotion.read(params.promotion)
    evidence, model = work.request.input("evidence"), work.request.input("model")
    if (promotion.evidence, promotion.model) != (evidence.digest, model.digest):
        raise EvidenceError("the promotion speaks of another Evidence or model", given=promotion.evidence,
                            allowed=[evidence.digest])  # fmt: skip
    work.get(evidence)
    text = canonical_json(promotion)
    document = work.put("promotions", signed.PROMOTION, text, "promotion", "application/json")
    if work.objects.get(document.uri) != text:  # put keeps what is there under its digest
        work.objects.put(document.uri, text)
    service = work.request.means.services.get("signing")
    signer = None
    if service is not None:
        parts = [Artifact(uri=work.request.key(i), digest=i.digest, kind=i.kind) for i in (evidence, model)]
        signer = _sign(work, parts[0], document, parts[1], os.environ.get(service.secret or "", ""), service.uri)
    return Outcome(outputs={"promotion": document}, facts={"signer": signer})


def _sign(work: Work, evidence: Artifact, document: Artifact, model: Artifact, key: str, public_key: str) -> str:
    signed.check_model(work.objects, model)
    with TemporaryDirectory(prefix="millrace-") as place:
        files = signed.lay(work.objects, Path(place) / "signed", evidence, document, model)
        public, made = Path(place) / "public.pem", Path(place) / signed.SIGNATURE
        public.write_bytes(_public(key, public_key))
        where = layout.model_signature(document.uri)
        try:
            made.write_bytes(work.objects.get(where))
            signature.verify(files, made, public)
        except (NotFound, EvidenceError):
            if not key:
                raise EvidenceError(
                    "promotions are signed here, and this process has no key to sign with",
                    where="MILLRACE_SIGNING_KEY",
                    next_step="Set it for the process that runs the release, then clear the task",
                ) from None
            signature.sign(files, made, key)
            signature.verify(files, made, public)
            work.objects.put(where, made.read_bytes())
        return signature.key_digest(public.read_bytes(), public_key)


def _public(key: str, public_key: str) -> bytes:
    if public_key:
        try:
            return Path(public_key).read_bytes()
        except OSError as err:
            raise EvidenceError(f"the public key cannot be read: {err.strerror}", given=public_key,
                                where="MILLRACE_SIGNING_PUBLIC_KEY") from err  # fmt: skip
    if key.startswith(signature.PKCS11):
        raise EvidenceError("a key in a hardware module needs its public half in a file", where="MILLRACE_SIGNING_KEY",
                            next_step="Set MILLRACE_SIGNING_PUBLIC_KEY")  # fmt: skip
    return signature.public_half(Path(key))
