"""Signatures of folders by the OpenSSF's model-signing, with an elliptic-curve key in a file or a hardware module.

The library takes a second and 70 MB to import, so it is imported where something is signed or verified.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from millrace.core.errors import EvidenceError, MillraceError

PKCS11 = "pkcs11:"


def sign(folder: Path, signature: Path, key: str) -> None:
    """Sign a folder with the private key at a path, or at a `pkcs11:` URI.

    Raises EvidenceError where that cannot be done; nothing of the key is in the message.
    """
    config = _library("signing").Config()
    try:
        if key.startswith(PKCS11):
            config.use_pkcs11_signer(pkcs11_uri=key)
        else:
            config.use_elliptic_key_signer(private_key=Path(key))
        config.sign(folder, signature)
    except Exception as err:  # what a module or a key file is wrong with has many types
        raise EvidenceError(
            f"the model cannot be signed ({type(err).__name__})",
            where="MILLRACE_SIGNING_KEY",
            allowed="a PEM file of a private key on P-256, P-384 or P-521 without a password, or a pkcs11: URI",
            next_step="Mend the key, then clear the task: nothing is promoted unsigned where a key is set",
        ) from err


def verify(folder: Path, signature: Path, public_key: Path) -> None:
    """Raise EvidenceError unless the signature is of just these files, by the private half of this key."""
    key_digest(public_key.read_bytes() if public_key.is_file() else b"", str(public_key))
    try:
        _library("verifying").Config().use_elliptic_key_verifier(public_key=public_key).verify(folder, signature)
    except MillraceError:
        raise
    except Exception as err:  # the library's own are ValueError; of malformed files come many others
        said = " ".join(str(err).split()) or type(err).__name__
        raise EvidenceError(f"the signature does not hold: {said}") from err


def key_digest(pem: bytes, where: str) -> str:
    """Digest of a public key, as signatures name it. Raises EvidenceError for what is none."""
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        return _digest(load_pem_public_key(pem))
    except ValueError as err:
        raise EvidenceError("the public key that signatures are verified with cannot be read", given=where,
                            next_step="Let MILLRACE_SIGNING_PUBLIC_KEY name a PEM file") from err  # fmt: skip


def public_half(private_key: Path) -> bytes:
    """The public key (PEM) of a private one. Raises EvidenceError."""
    from cryptography.hazmat.primitives import serialization as form

    try:
        key = form.load_pem_private_key(private_key.read_bytes(), None).public_key()
        return key.public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    except (OSError, ValueError, TypeError) as err:
        raise EvidenceError(f"the signing key cannot be read ({type(err).__name__})",
                            where="MILLRACE_SIGNING_KEY") from err  # fmt: skip


def _digest(key: Any) -> str:
    from cryptography.hazmat.primitives import serialization as form

    pem = key.public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    return "sha256:" + hashlib.sha256(pem).hexdigest()


def _library(name: str) -> Any:
    from importlib import import_module

    try:
        return import_module(f"model_signing.{name}")
    except ImportError as err:
        raise EvidenceError(f"model-signing is not installed here: {err}", next_step="Install millrace[jobs]") from err
