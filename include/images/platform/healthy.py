"""Whether a component of the stack is healthy: exit 0 or 1. For health checks; imports nothing heavy.

healthy.py scheduler | mlflow | serving | api-server | dag-processor | triggerer. The first three answer for themselves;
the last two have no server, and the API server tells when it last heard of them.
"""

import http.client
import json
import os
import ssl
import sys
import urllib.request


def main(component: str) -> bool:
    """Ask whoever knows."""
    if component == "mlflow":
        return fetch("http://localhost:5000/health") is not None
    if component == "scheduler":
        return fetch("http://localhost:8974/health") is not None  # 503 without a heartbeat
    if component == "serving":
        at = "localhost:8800/v2/health/ready"
        return any(fetch(f"{scheme}://{at}") is not None for scheme in ("http", "https"))
    api = os.environ["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"].removesuffix("/").removesuffix("/execution")
    seen = fetch(f"{api}/api/v2/monitor/health")
    return status(seen, {"api-server": "metadatabase"}.get(component, component.replace("-", "_")))


def fetch(url: str) -> bytes | None:
    """The answer's body, None for any other than 200."""
    own = ssl._create_unverified_context()  # this machine's own server, whose certificate bears another name
    try:
        with urllib.request.urlopen(url, timeout=8, context=own) as answer:
            return answer.read() if answer.status == 200 else None
    except (OSError, http.client.HTTPException):
        return None


def status(body: bytes | None, part: str) -> bool:
    """Whether a part is called healthy."""
    return body is not None and (json.loads(body).get(part) or {}).get("status") == "healthy"


if __name__ == "__main__":
    sys.exit(0 if main(sys.argv[1]) else 1)
