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
import json
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
    code = ["serving-code"] if settings.get("CODE_PIPELINE") else []
    started = [*(["s3"] if "s3" in profiles else []), *SERVICES, *code]
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
    if name := settings.get("CODE_PIPELINE"):
        token = password.with_name("code-token")
        sys.stdout.write(f"Serving  http://localhost:{settings['CODE_PORT']}  {name} alone, token in {token}\n")
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
    if pipeline := settings.get("CODE_PIPELINE"):
        write_code_secrets(Path(settings["MILLRACE_SECRETS"]), pipeline, settings.get("CODE_FEATURES", "").split())
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
    write_caller(folder, "serving", "*")
    write(folder / "aws-credentials", f"[default]\naws_access_key_id = {S3_USER}\naws_secret_access_key = {key}\n")


def write_code_secrets(folder: Path, pipeline: str, features: list[str]) -> None:
    """Make what the server of one pipeline with code has for itself: users of S3 and Redis, and a token. Raises
    SystemExit for what could be read as another word of Redis' configuration."""
    for word in (pipeline, *features):
        if not re.fullmatch(r"[A-Za-z0-9_.:-]+", word):
            sys.exit(f"CODE_PIPELINE, CODE_FEATURES: {word!r} is no name of a pipeline or a hash")
    if not features:
        sys.exit("CODE_FEATURES: name the hashes that the pipeline reads, <project>_<feature view> (docs/compose.md)")
    write(folder / "code-redis-password", secrets.token_urlsafe(32))
    key, password = secrets.token_urlsafe(32), (folder / "code-redis-password").read_text()
    credentials = folder / "code-aws-credentials"
    write(credentials, f"[default]\naws_access_key_id = {pipeline}\naws_secret_access_key = {key}\n")
    key = credentials.read_text().rpartition(" = ")[2].strip()
    # These two follow the others: whose they are, and which rows, may change.
    user = {"access": pipeline, "secret": key, "role": "user"}
    replace(folder / "s3-users", json.dumps({"accessAccounts": {pipeline: user}}))
    keys = " ".join(f"~{each}" for each in features)
    replace(folder / "redis-users", f"user {pipeline} on >{password} resetkeys resetchannels {keys} -@all +hmget\n")
    write_caller(folder, "code", pipeline)


def write_caller(folder: Path, name: str, pipelines: str) -> None:
    """Make a token for this machine, and the file that the server sees, with its digest. See serving-security.md."""
    write(folder / f"{name}-token", secrets.token_urlsafe(32))
    digest = hashlib.sha256((folder / f"{name}-token").read_bytes()).hexdigest()
    write(folder / f"{name}-tokens", f'local: {{sha256: "{digest}", pipelines: ["{pipelines}"], tester: true}}\n')


def write(path: Path, text: str) -> None:
    """Write a file that is not there yet, whole or not at all."""
    if not path.exists():
        replace(path, text)


def replace(path: Path, text: str) -> None:
    """Write a file, whole or not at all."""
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
