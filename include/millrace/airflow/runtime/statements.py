"""What other systems say of a release: statements in the store, signed with keys whose public halves are known here.

A statement is JSON `{"statement": {..}, "signature": ".."}`: the signature, in base64, is that of Ed25519 (RFC 8032)
over the statement's canonical JSON (keys sorted, no spaces), and the statement says of which pipeline, version, release
and Evidence it speaks, and `verdict`: approve or reject. One of another release or Evidence says nothing.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from millrace.airflow.runtime.decided import note_denied
from millrace.airflow.runtime.site import Site
from millrace.core.canonical import canonical_json
from millrace.core.errors import NotFound, SpecError
from millrace.ledger import Answer, ReleaseRequest
from millrace.spec.environment import ExternalApprover
from millrace.store import layout


def heard(site: Site, request: ReleaseRequest) -> ReleaseRequest:
    """Record what has come from the systems that the environment asks, and return the request as it stands."""
    policy = site.placed.approval
    names = [system.name for system in policy.external]
    for system in policy.external:
        if request.state != "waiting":
            break
        if any(answer.how == "external" and answer.by == system.name for answer in request.answers):
            continue
        verdict = _verdict(site, request, system)
        if verdict is not None:
            said = Answer(by=system.name, verdict=verdict, how="external")
            request = site.ledger.answer(site.name, request.id, said, enough=policy.needed, external=names)
    return request


def expected(request: ReleaseRequest, verdict: str) -> dict[str, Any]:
    """The statement that says this of a request."""
    return {
        "pipeline": request.pipeline,
        "version": request.version,
        "release": request.id,
        "evidence": request.evidence,
        "verdict": verdict,
    }


def _verdict(site: Site, request: ReleaseRequest, system: ExternalApprover) -> Any:
    """approve or reject, None where nothing came that its key has signed about this request."""
    from cryptography.exceptions import InvalidSignature

    key = layout.statement(site.name, request.id, system.name)
    try:
        given = json.loads(site.objects.get(key))
        statement, signature = given["statement"], base64.b64decode(given["signature"], validate=True)
        _key(site, system).verify(signature, canonical_json(statement))
    except NotFound:
        return None
    except (ValueError, KeyError, TypeError, InvalidSignature) as err:
        note_denied(site, f"the statement of {system.name} in {key} is not signed by its key ({type(err).__name__})")
        return None
    for verdict in ("approve", "reject"):
        if statement == expected(request, verdict):
            return verdict
    note_denied(site, f"the statement of {system.name} in {key} speaks of another release, or of other Evidence")
    return None


def _key(site: Site, system: ExternalApprover) -> Any:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    path = site.tree.root / system.public_key
    where = f"approval.external of environment '{site.settings.environment}'"
    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError) as err:
        raise SpecError(f"the public key of '{system.name}' cannot be read: {err}", where=where,
                        given=system.public_key) from err  # fmt: skip
    if not isinstance(key, Ed25519PublicKey):
        raise SpecError(f"the public key of '{system.name}' is none of Ed25519", where=where, given=system.public_key)
    return key
