"""Signatures of folders: of each curve, and by a key that never leaves its module."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from support.keys import keys

from millrace.core.errors import EvidenceError
from millrace.evidence import signature

MODULES = [Path(p) / "softhsm" / "libsofthsm2.so" for p in ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/opt/lib")]
SOFTHSM = next((path for path in MODULES if path.is_file() and shutil.which("softhsm2-util")), None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "signed"
    (made / "model").mkdir(parents=True)
    (made / "evidence.json").write_text("{}")
    (made / "model" / "weights.ubj").write_bytes(b"weights")
    return made


@pytest.mark.parametrize("curve", [ec.SECP256R1, ec.SECP384R1, ec.SECP521R1])
def test_a_signature_holds_for_just_these_files(folder, tmp_path, curve):
    private, public = keys(tmp_path, curve=curve)
    made = tmp_path / "model.sig"
    signature.sign(folder, made, str(private))
    signature.verify(folder, made, public)
    assert signature.key_digest(public.read_bytes(), "x") == signature.key_digest(signature.public_half(private), "x")
    for name, data in (("evidence.json", "[]"), ("model/weights.ubj", "Weights"), ("model/more", ""), (".hidden", "")):
        path = folder / name
        before = path.read_bytes() if path.exists() else None
        path.write_text(data)
        with pytest.raises(EvidenceError, match="does not hold"):
            signature.verify(folder, made, public)
        path.write_bytes(before) if before is not None else path.unlink()
    signature.verify(folder, made, public)
    (folder / "evidence.json").unlink()
    with pytest.raises(EvidenceError, match="does not hold"):
        signature.verify(folder, made, public)


def test_what_is_no_key_or_no_signature_is_said_without_its_text(folder, tmp_path):
    private, public = keys(tmp_path)
    other, _ = keys(tmp_path, "curve", ec.SECP256K1)
    for bad in (public, tmp_path / "gone", other):
        with pytest.raises(EvidenceError, match="cannot be signed") as caught:
            signature.sign(folder, tmp_path / "s", str(bad))
        assert "BEGIN" not in str(caught.value)
    (tmp_path / "s").write_text("{}")
    with pytest.raises(EvidenceError, match="does not hold"):
        signature.verify(folder, tmp_path / "s", public)
    for bad in (private, tmp_path / "gone"):
        with pytest.raises(EvidenceError, match="cannot be read"):
            signature.verify(folder, tmp_path / "s", bad)


@pytest.mark.skipif(SOFTHSM is None, reason="needs SoftHSM 2, a PKCS#11 module of software")
def test_a_key_in_a_module_signs_what_its_public_half_verifies(folder, tmp_path, monkeypatch):
    pytest.importorskip("PyKCS11")
    private, public = keys(tmp_path)
    (tmp_path / "tokens").mkdir()
    (tmp_path / "softhsm.conf").write_text(f"directories.tokendir = {tmp_path / 'tokens'}\n")
    monkeypatch.setenv("SOFTHSM2_CONF", str(tmp_path / "softhsm.conf"))
    (tmp_path / "pin").write_text("5678")
    for words in (
        ["--init-token", "--free", "--label", "millrace", "--so-pin", "1234", "--pin", "5678"],
        ["--import", str(private), "--token", "millrace", "--label", "sign", "--id", "01", "--pin", "5678"],
    ):
        subprocess.run(["softhsm2-util", *words], check=True, capture_output=True)
    uri = f"pkcs11:token=millrace;object=sign?module-path={SOFTHSM}&pin-source=file:{tmp_path / 'pin'}"
    signature.sign(folder, tmp_path / "model.sig", uri)
    signature.verify(folder, tmp_path / "model.sig", public)
    with pytest.raises(EvidenceError, match="cannot be signed"):
        signature.sign(folder, tmp_path / "s", uri.replace("object=sign", "object=other"))
