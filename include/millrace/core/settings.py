"""Settings: where a Millrace process keeps its state, from `MILLRACE_*` variables, validated at start."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from millrace.core import online
from millrace.core.errors import SpecError, nearest

PREFIX = "MILLRACE_"
SIGNING_KEY = "MILLRACE_SIGNING_KEY"
# Variables that other rooms read themselves; named here so that a misspelt one is found.
OTHERS = {
    "MILLRACE_PLATFORM_IMAGE",
    "MILLRACE_JOBS_IMAGE",
    "MILLRACE_SERVING_IMAGE",
    "MILLRACE_IMAGE",
    "MILLRACE_HELM",
    "MILLRACE_AIRFLOW_CHART",
    "MILLRACE_DATABASE",
    "MILLRACE_PROJECT",
    "MILLRACE_CACHE",
    "MILLRACE_WARM_MODULES",
    "MILLRACE_FEAST_REGISTRY",
    "MILLRACE_FEAST_ONLINE",
    "MILLRACE_STORE_ROOT",
    "MILLRACE_ADMIN_PASSWORD_FILE",
    "MILLRACE_TEST_CLUSTER",
    "MILLRACE_SERVING_TOKENS",
    "MILLRACE_SERVING_OIDC",
}


class Settings(BaseModel):
    """State of the embedded default lies below `home`; each part can be moved by its own variable."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    home: Path = Field(description="MILLRACE_HOME: folder of the embedded state; default <project>/.millrace.")
    environment: str = Field(
        default="dev",
        description="MILLRACE_ENVIRONMENT: which include/environments file; without it the one that the state at home "
        "was last served under, at first dev.",
    )
    store: str = Field(description="MILLRACE_STORE: folder or s3://bucket/prefix.")
    ledger: str = Field(description="MILLRACE_LEDGER: SQLAlchemy URL.")
    anchors: str = Field(description="MILLRACE_ANCHORS: folder or s3://bucket/prefix of the ledger's anchors.")
    anchors_profile: str = Field(
        default="", description="MILLRACE_ANCHORS_PROFILE: AWS profile of the anchors' own credentials."
    )
    signing_key: str = Field(
        default="",
        description="MILLRACE_SIGNING_KEY: file of the private key (PEM, NIST curve) that signs promotions, or the "
        "pkcs11: URI of one in a hardware module. Where it is set, what cannot be signed is not promoted.",
    )
    signing_public_key: str = Field(
        default="",
        description="MILLRACE_SIGNING_PUBLIC_KEY: file of the public key (PEM) that signatures are verified "
        "with. Where it is set, every promotion must be signed.",
    )
    mlflow: str = Field(description="MILLRACE_MLFLOW: MLflow tracking and registry URI.")
    feast_registry: str = Field(description="MILLRACE_FEAST_REGISTRY: SQLAlchemy URL of Feast's SQL registry.")
    spark: str = Field(default="local[*]", description="MILLRACE_SPARK: Spark's master URL, where an engine is Spark.")
    duckdb_memory: str = Field(default="", description="MILLRACE_DUCKDB_MEMORY: most that a query takes, such as 8GB.")
    duckdb_temp: str = Field(default="", description="MILLRACE_DUCKDB_TEMP: folder that queries spill to.")
    duckdb_threads: str = Field(default="", description="MILLRACE_DUCKDB_THREADS: of the training-set join.")
    feast_online: str = Field(description="MILLRACE_FEAST_ONLINE: file of SQLite, postgresql://.. or redis://..")

    @classmethod
    def load(cls, root: Path, environ: Mapping[str, str] | None = None) -> Settings:
        """Read the variables for the project at `root`. Raises SpecError for one that is misspelt."""
        env = os.environ if environ is None else environ
        known = {PREFIX + name.upper() for name in cls.model_fields}
        for name in env:
            if name.startswith(PREFIX) and name not in known | OTHERS and (near := nearest(name, known)):
                raise SpecError("unknown setting", given=name, allowed=sorted(known), next_step=f"Use {near}")
        home = Path(env.get("MILLRACE_HOME") or root / ".millrace").expanduser().resolve()
        defaults = {
            "store": str(home / "store"),
            "ledger": f"sqlite:///{home / 'ledger.db'}",
            "mlflow": f"sqlite:///{home / 'mlflow.db'}",
            "feast_registry": f"sqlite:///{home / 'feast_registry.db'}",
            "feast_online": str(home / "feast_online.db"),
        }
        if served := served_under(home):
            defaults["environment"] = served
        given = {n: env[PREFIX + n.upper()] for n in cls.model_fields if env.get(PREFIX + n.upper())}
        for name, address in given.items():
            _check_address(name, address)
        defaults["anchors"] = f"{given.get('store', defaults['store']).rstrip('/')}/anchors"
        return cls(**{**defaults, **given, "home": home})


SERVED_UNDER = "environment"
"""File at home that says which environment the state there was last served under."""


def served_under(home: Path) -> str | None:
    """The environment that the state at `home` was last served under: to leave a variable out must not turn production
    into an environment where models approve themselves."""
    try:
        return (home / SERVED_UNDER).read_text().strip() or None
    except FileNotFoundError:
        return None


SCHEMES = {
    "store": ("s3",),
    "anchors": ("s3",),
    "ledger": ("sqlite", "postgresql"),
    "mlflow": ("sqlite", "postgresql", "http", "https"),
    "feast_registry": ("sqlite", "postgresql"),
    "feast_online": online.SCHEMES,
}
"""Where each part of the state can be kept, beside a folder or file for the first and the last."""


def _check_address(name: str, address: str) -> None:
    """Refuse an address of another kind, and one that holds a password: it would travel with every request."""
    if name == "signing_key" and "pin-value" in address:
        raise SpecError("an address holds no password", where=PREFIX + name.upper(),
                        next_step="Name a file that holds the PIN: pin-source=file:/..")  # fmt: skip
    scheme, found, rest = address.partition("://")
    if name not in SCHEMES or not found:
        return
    if scheme.partition("+")[0] not in SCHEMES[name]:
        allowed = [f"{each}://" for each in SCHEMES[name]]
        raise SpecError("this cannot be kept there", where=PREFIX + name.upper(), given=f"{scheme}://", allowed=allowed)
    if ":" in rest.partition("/")[0].rpartition("@")[0]:
        raise SpecError(
            "an address holds no password",
            where=PREFIX + name.upper(),
            next_step="Set PGPASSFILE or PGPASSWORD for PostgreSQL, REDISCLI_AUTH for Redis, "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD for MLflow",
        )


SQLITE_CONNECT_ARGS = {"timeout": 60}
"""For Airflow's `[database] sql_alchemy_connect_args` on SQLite: with the driver's five seconds a burst of task starts
ends the scheduler with 'database is locked'."""
