#!/usr/bin/env python3
"""`make up-compose` and `make down-compose`: start and stop docker-compose.yaml with secrets of this installation.

Up writes what is missing: `.env` from `.env.example`, and strong secrets as files. The folder of the secrets is closed
to others (700); the files in it are not, because containers read them as users that this machine does not know. A
secret that is there is never changed: databases were made with it. Needs only Python and Docker's compose plugin.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import os
import re
import secrets
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ("api-server", "scheduler", "dag-processor", "triggerer", "mlflow", "serving")
S3_USER = "millrace"
WAIT_S = 420


def main() -> int:
    """Exit 0, or compose's own exit code after its own words."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=["up", "down"])
    parser.add_argument("--env-file", type=Path, default=ROOT / ".env", help="settings, as .env.example names them")
    parser.add_argument("--data", action="store_true", help="down: remove the data too")
    args = parser.parse_args()
    if args.action == "down":
        return compose(args.env_file, "down", "--remove-orphans", *(["--volumes"] if args.data else []))
    settings = prepare(args.env_file)
    profiles = settings.get("COMPOSE_PROFILES", "").split(",")
    started = [*(["s3"] if "s3" in profiles else []), *SERVICES]
    if code := compose(args.env_file, "up", "--detach", "--remove-orphans", "--wait", "--wait-timeout", str(WAIT_S),
                       *started):  # fmt: skip
        sys.stderr.write(f"The stack did not become healthy. Look at: docker compose --env-file {args.env_file} logs\n")
        return code
    password = Path(settings["MILLRACE_SECRETS"]) / "admin-password"
    sys.stdout.write(
        f"Airflow  http://localhost:{settings['AIRFLOW_PORT']}  user admin, password in {password}\n"
        f"MLflow   http://localhost:{settings['MLFLOW_PORT']}\n"
        f"Serving  http://localhost:{settings['SERVING_PORT']}  token in {password.with_name('serving-token')}\n"
    )
    return 0


def prepare(env_file: Path) -> dict[str, str]:
    """Write what is missing and return the settings, folders made absolute."""
    if not env_file.is_file():
        env_file.write_text((ROOT / ".env.example").read_text())
    text = env_file.read_text()
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.M)
    assert version
    line = f"MILLRACE_VERSION={version[1]}"
    if line not in text.splitlines():
        text = re.sub(r"^MILLRACE_VERSION=.*\n", "", text, flags=re.M)
        env_file.write_text(f"{text.rstrip()}\n\n# Of the code that lies here; make up-compose keeps it.\n{line}\n")
    settings = dict(
        re.findall(r"^([A-Z0-9_]+)=(.*)$", (ROOT / ".env.example").read_text() + env_file.read_text(), re.M)
    )
    for name in ("MILLRACE_SECRETS", "MILLRACE_INCOMING", "MILLRACE_PROJECT_DIR"):
        settings[name] = str((ROOT / settings[name]).resolve())
    write_secrets(Path(settings["MILLRACE_SECRETS"]))
    # Docker would make a missing folder, as root.
    for folder in (settings["MILLRACE_INCOMING"], f"{settings['MILLRACE_PROJECT_DIR']}/plugins"):
        Path(folder).mkdir(parents=True, exist_ok=True)
    return settings


def write_secrets(folder: Path) -> None:
    """Make the secrets that are missing."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    for name in ("postgres-password", "redis-password", "jwt-secret", "session-key", "s3-secret-key"):
        write(folder / name, secrets.token_urlsafe(32))
    write(folder / "admin-password", secrets.token_urlsafe(12))
    write(folder / "fernet-key", base64.urlsafe_b64encode(secrets.token_bytes(32)).decode())
    key = (folder / "s3-secret-key").read_text()
    write(folder / "serving-token", secrets.token_urlsafe(32))
    digest = hashlib.sha256((folder / "serving-token").read_bytes()).hexdigest()
    # A caller of this machine's own; the server sees digests of tokens alone. See docs/serving-security.md.
    write(folder / "serving-tokens", f'local: {{sha256: "{digest}", pipelines: ["*"], tester: true}}\n')
    write(folder / "aws-credentials", f"[default]\naws_access_key_id = {S3_USER}\naws_secret_access_key = {key}\n")


def write(path: Path, text: str) -> None:
    """Write a file that is not there yet, whole or not at all."""
    if path.exists():
        return
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text)
    temporary.chmod(0o444)
    temporary.rename(path)


def compose(env_file: Path, *words: str) -> int:
    """Run compose on the project's file; a variable of the shell goes before one of the file, as compose has it."""
    command = ["docker", "compose", "--project-directory", str(ROOT), "--env-file", str(env_file), *words]
    return subprocess.run(command, env={**os.environ, "DOCKER_BUILDKIT": "1"}).returncode


if __name__ == "__main__":
    sys.exit(main())
