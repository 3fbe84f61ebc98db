"""What an installation finds by address, run on this machine at the node's address: databases, S3, MLflow."""

from __future__ import annotations

import base64
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from chart_cluster import Cluster
from relay import Relay

INITDB = shutil.which("initdb") or next((str(p) for p in Path("/usr/lib/postgresql").glob("*/bin/initdb")), None)
BUCKET = "millrace"
S3_KEY, S3_SECRET = "test-access", "test-secret-key"
"""Of the S3 server that all tests share."""


@dataclass(frozen=True)
class Services:
    """Addresses as the cluster's pods see them, and what a Secret of the release holds."""

    host: str
    postgres: int
    redis: int
    mlflow: int
    s3: int
    secret: dict[str, str]

    def database(self, name: str, password: bool = False) -> str:
        """SQLAlchemy URL of a database; with the password for use by the test alone."""
        user = f"millrace:{self.secret['postgres-password']}" if password else "millrace"
        return f"postgresql+psycopg2://{user}@{self.host}:{self.postgres}/{name}"

    @property
    def addresses(self) -> dict[str, str]:
        """The chart's `services`."""
        return {
            "airflow": self.database("airflow"),
            "ledger": self.database("ledger"),
            "registry": self.database("feast"),
            "online": f"redis://{self.host}:{self.redis}/0",
            "mlflow": f"http://{self.host}:{self.mlflow}",
            "store": f"s3://{BUCKET}/store",
            "logs": f"s3://{BUCKET}/logs",
            "s3": f"http://{self.host}:{self.s3}",
        }


def address_here(cluster: Cluster) -> str:
    """Where the cluster's pods reach servers that this machine starts. Skips the test where that is not to be had."""
    address = str(next(a.address for a in cluster.core.list_node().items[0].status.addresses if a.type == "InternalIP"))
    with socket.socket() as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            pytest.skip("services are started here, and pods reach them only where this machine is the cluster's node")
    needed = (("postgresql", INITDB), ("redis-server", shutil.which("redis-server")))
    if lacking := [what for what, there in needed if not there]:
        pytest.skip(f"not installed here: {', '.join(lacking)}")
    return address


@contextmanager
def services(host: str, s3_endpoint: str, folder: Path) -> Iterator[Services]:
    """Start them; each listens on `host` alone and asks for a password. `s3_endpoint` is a server on loopback."""
    strong = ("postgres-password", "redis-password", "jwt-secret", "session-key", "admin-password")
    secret = {name: secrets.token_urlsafe(24) for name in strong}
    secret["fernet-key"] = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    secret["aws-credentials"] = f"[default]\naws_access_key_id = {S3_KEY}\naws_secret_access_key = {S3_SECRET}\n"
    with ExitStack() as stack:
        ports = {name: free_port(host) for name in ("postgres", "redis", "mlflow", "s3")}
        made = Services(host=host, secret=secret, **ports)
        stack.enter_context(_postgres(made))
        stack.enter_context(_redis(made, host, folder))
        # it listens on loopback only
        stack.enter_context(Relay("127.0.0.1", urlsplit(s3_endpoint).port or 80, (host, made.s3)))
        stack.enter_context(_mlflow(made, folder))
        for port in ports.values():
            _answers(host, port)
        yield made


@dataclass(frozen=True)
class StoreAndOnline:
    """The two that a prediction server finds by address, and what its Secret holds."""

    redis: int
    s3: int
    secret: dict[str, str]


@contextmanager
def store_and_online(host: str, s3_endpoint: str, folder: Path) -> Iterator[StoreAndOnline]:
    """Start an online store on Redis, and lead to `s3_endpoint`, a server on loopback; both listen on `host` alone."""
    secret = {
        "redis-password": secrets.token_urlsafe(24),
        "aws-credentials": f"[default]\naws_access_key_id = {S3_KEY}\naws_secret_access_key = {S3_SECRET}\n",
    }
    made = StoreAndOnline(free_port(host), free_port(host), secret)
    with _redis(made, host, folder), Relay("127.0.0.1", urlsplit(s3_endpoint).port or 80, (host, made.s3)):
        for port in (made.redis, made.s3):
            _answers(host, port)
        yield made


def free_port(host: str) -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


@contextmanager
def _postgres(made: Services) -> Iterator[None]:
    assert INITDB is not None
    user = None
    if os.geteuid() == 0:  # as root it refuses to run
        known = {u.pw_name for u in pwd.getpwall()}
        user = next(name for name in ("postgres", "nobody") if name in known)
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    password = folder / "password"
    password.write_text(made.secret["postgres-password"])
    if user:
        for path in (folder, password):
            shutil.chown(path, user)
    subprocess.run(
        [INITDB, "-D", folder / "data", "-U", "millrace", "-A", "scram-sha-256", "--pwfile", password, "--no-sync",
         "-E", "UTF8"],
        check=True, capture_output=True, user=user, cwd=folder,
    )  # fmt: skip
    with (folder / "data" / "pg_hba.conf").open("a") as rules:
        rules.write("host all all all scram-sha-256\n")
    options = {"listen_addresses": made.host, "port": made.postgres, "fsync": "off", "max_connections": 300}
    words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
    binary = Path(INITDB).resolve().parent / "postgres"
    with _process([str(binary), "-D", str(folder / "data"), "-k", str(folder), *words], user=user, stop=signal.SIGINT):
        yield
    shutil.rmtree(folder)


@contextmanager
def _redis(made: Services | StoreAndOnline, host: str, folder: Path) -> Iterator[None]:
    settings = folder / "redis.conf"
    settings.write_text(
        f'bind {host}\nport {made.redis}\nsave ""\ndir {folder}\nrequirepass {made.secret["redis-password"]}\n'
    )
    with _process(["redis-server", str(settings)]):
        yield


@contextmanager
def _mlflow(made: Services, folder: Path) -> Iterator[None]:
    backend = f"sqlite:///{folder / 'mlflow.db'}"
    env = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    prepare = "import sys; from millrace.mlflow.registry import ensure_database; ensure_database(sys.argv[1])"
    subprocess.run([sys.executable, "-c", prepare, backend], env=env, check=True, capture_output=True)
    command = [
        sys.executable, "-m", "mlflow", "server", "--backend-store-uri", backend, "--host", made.host,
        "--port", str(made.mlflow), "--workers", "1", "--serve-artifacts",
        "--artifacts-destination", str(folder / "artifacts"), "--allowed-hosts", f"{made.host}:{made.mlflow}",
    ]  # fmt: skip
    with _process(command, env=env):
        yield


@contextmanager
def _process(
    command: list[str], user: str | None = None, env: dict[str, str] | None = None, stop: int = signal.SIGTERM
) -> Iterator[None]:
    """A server in a process group of its own, ended with all its children."""
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(
            command,
            user=user,
            env=env,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            yield
        finally:
            server.send_signal(stop)
            try:
                server.wait(20)
            finally:
                try:
                    os.killpg(server.pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass


def _answers(host: str, port: int) -> None:
    limit = time.monotonic() + 60
    while time.monotonic() < limit:
        try:
            socket.create_connection((host, port), 1).close()
            return
        except OSError:
            time.sleep(0.2)
    raise TimeoutError(f"nothing answers on port {port}")
