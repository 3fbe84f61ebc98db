"""What an image says of itself, asked of the registry that holds it."""

from __future__ import annotations

import re
from typing import Any

import httpx

from millrace.contract import CONTRACT_VERSION

CODE_LABEL, CONTRACT_LABEL = "io.millrace.code-digest", "io.millrace.contract"
TIMEOUT = httpx.Timeout(3.0, connect=1.0)
REFERENCE = re.compile(
    r"(?P<host>localhost(?::\d+)?|[^/]*[.:][^/]*)/(?P<name>[^:@]+)(?::(?P<tag>[^@]+))?(?:@(?P<digest>\S+))?"
)
"""`host[:port]/name[:tag][@digest]`; a name without a host is the container engine's own or needs a token."""
MANIFESTS = ", ".join(
    f"application/vnd.{kind}+json"
    for kind in (
        "oci.image.manifest.v1",
        "oci.image.index.v1",
        "docker.distribution.manifest.v2",
        "docker.distribution.manifest.list.v2",
    )
)


def built_otherwise(image: str, code_digest: str) -> str | None:
    """Why an image cannot answer a request of this code; None where it can, or its registry does not tell."""
    labels = labels_of(image) or {}
    for label, wanted, what in (
        (CODE_LABEL, code_digest, "code"), (CONTRACT_LABEL, CONTRACT_VERSION, "contract"),
    ):  # fmt: skip
        if labels.get(label, wanted) not in (wanted, "unknown"):
            return (
                f"image {image} was built with another {what} ({labels[label]}, the request is of {wanted}): build it "
                "again from the Millrace that runs here ('make images'), and let include/compute.yaml name that"
            )
    return None


def labels_of(image: str) -> dict[str, str] | None:
    """The labels of an image; None where its registry cannot be reached without a password.

    Reads the manifest and the image's configuration as the OCI distribution specification 1.1 says, of the first
    image where there are several platforms.
    """
    if not (found := REFERENCE.fullmatch(image)):
        return None
    host = found["host"]
    scheme = "http" if re.match(r"(localhost|127\.)", host) else "https"
    base = f"{scheme}://{host}/v2/{found['name']}"
    try:
        with httpx.Client(timeout=TIMEOUT, follow_redirects=True) as client:

            def read(path: str) -> Any:
                answer = client.get(f"{base}/{path}", headers={"Accept": MANIFESTS})
                answer.raise_for_status()
                return answer.json()

            manifest = read(f"manifests/{found['digest'] or found['tag'] or 'latest'}")
            if "manifests" in manifest:
                manifest = read(f"manifests/{manifest['manifests'][0]['digest']}")
            labels = read(f"blobs/{manifest['config']['digest']}").get("config", {}).get("Labels")
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, LookupError, TypeError, AttributeError):
        return None
    return dict(labels or {})
