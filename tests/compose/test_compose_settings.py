"""One set of names for the embedded and the grown state, no secret among them, and what the compose file promises."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from millrace.core.errors import SpecError
from millrace.core.settings import OTHERS, Settings
from millrace.local.stack import airflow_environment
from millrace.serving.access import Access
from millrace.serving.refused import Refused
from millrace.spec import ProjectTree

ROOT = Path(__file__).resolve().parents[2]
STACK = ROOT / "include" / "images" / "stack.py"
SERVER = ROOT / "include" / "millrace" / "serving" / "__main__.py"
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())
SERVICES = COMPOSE["services"]
ENVIRONMENT = COMPOSE["x-environment"]
STATE = ("store", "ledger", "mlflow", "feast_registry", "feast_online")


@pytest.mark.parametrize("name", STATE)
def test_the_grown_state_has_the_names_of_the_embedded_one(name):
    given = {k: v.replace("${S3_BUCKET}", "b") for k, v in ENVIRONMENT.items() if k.startswith("MILLRACE_")}
    settings = Settings.load(ROOT, given)
    assert getattr(settings, name) == given[f"MILLRACE_{name.upper()}"]
    assert getattr(settings, name) != getattr(Settings.load(ROOT, {}), name)


def test_every_variable_of_the_containers_is_a_known_setting():
    known = {f"MILLRACE_{name.upper()}" for name in Settings.model_fields} | OTHERS
    used = {name for service in SERVICES.values() for name in service.get("environment", {})}
    assert {name for name in used if name.startswith("MILLRACE_")} - known == set()


def test_airflow_is_set_as_millrace_up_sets_it():
    tree = ProjectTree(ROOT)
    embedded = airflow_environment(tree, Settings.load(ROOT, {}))
    grown = {name.removesuffix("_CMD") for name in ENVIRONMENT}
    # What belongs to SQLite, to one user and to one machine's ports has no counterpart.
    own = re.compile(r"SQL_ALCHEMY_CONNECT_ARGS|SIMPLE_AUTH|_PORT$|_HOST$|AIRFLOW_HOME")
    missing = {name for name in embedded if name.startswith("AIRFLOW") and not own.search(name)} - grown
    assert missing == set()
    same = ["AIRFLOW__CORE__EXECUTOR", "AIRFLOW__LOGGING__NAMESPACE_LEVELS", "AIRFLOW__CORE__PARALLELISM"]
    assert {name: ENVIRONMENT[name].split() for name in same} == {name: embedded[name].split() for name in same}


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("MILLRACE_LEDGER", "postgresql://millrace:geheim@db/ledger"),
        ("MILLRACE_FEAST_ONLINE", "redis://:geheim@cache:6379/0"),
        ("MILLRACE_MLFLOW", "https://me:geheim@mlflow.example"),
    ],
)
def test_a_password_in_an_address_is_refused_and_not_repeated(name, address):
    with pytest.raises(SpecError) as caught:
        Settings.load(ROOT, {name: address})
    assert name in str(caught.value) and "no password" in str(caught.value)
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "address"), [("MILLRACE_STORE", "gs://b/p"), ("MILLRACE_LEDGER", "mysql://db/x"),
                          ("MILLRACE_FEAST_ONLINE", "http://cache")]
)  # fmt: skip
def test_state_of_a_kind_that_nobody_keeps_is_refused_at_start(name, address):
    with pytest.raises(SpecError, match="cannot be kept there"):
        Settings.load(ROOT, {name: address})


def test_addresses_without_a_password_are_taken():
    given = {"MILLRACE_LEDGER": "postgresql+psycopg2://millrace@db:5432/ledger",
             "MILLRACE_FEAST_ONLINE": "rediss://cache:6379/0", "MILLRACE_MLFLOW": "http://mlflow:5000"}  # fmt: skip
    assert Settings.load(ROOT, given).ledger == given["MILLRACE_LEDGER"]


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_service_is_closed(name):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}
    if name == "s3-volume":  # its one act needs root, and it reaches nothing else
        assert service["network_mode"] == "none" and service["cap_add"] == ["CHOWN"]
        return
    assert int(service["user"].partition(":")[0]) > 0
    if name != "prepare":
        assert service["restart"] == "unless-stopped" and "healthcheck" in service
    published = {"api-server": "8080", "mlflow": "5000", "serving": "8800"}.get(name)
    ports = service.get("ports", [])
    assert [p.rpartition(":")[2] for p in ports] == ([published] if published else [])
    assert all(p.startswith("${BIND}:") for p in ports)


def test_no_secret_stands_in_a_file_that_is_committed():
    given = {item for service in SERVICES.values() for item in service.get("environment", {}).items()}
    given.discard(("ROOT_ACCESS_KEY", "millrace"))  # the S3 server's word for a user's name
    holding = {name: value for name, value in given if re.search("PASSWORD|SECRET|_KEY|TOKEN", name)}
    assert len(holding) >= 6
    assert {n: v for n, v in holding.items() if not re.match(r"(cat )?/run/secrets/[a-z0-9-]+$", v)} == {}
    text = (ROOT / "docker-compose.yaml").read_text() + (ROOT / ".env.example").read_text()
    assert not re.search(r"://[^/@\s]+:[^/@\s]+@", text)
    assert not re.search(r"(?m)^\w*(PASSWORD|SECRET|TOKEN)=", (ROOT / ".env.example").read_text())


def test_secrets_are_strong_files_in_a_closed_folder_and_stay(tmp_path):
    settings = tmp_path / "env"
    lines = (ROOT / ".env.example").read_text()
    settings.write_text(re.sub(r"(?m)^(MILLRACE_SECRETS|MILLRACE_INCOMING)=.*", rf"\1={tmp_path}/\1", lines))
    code = "import pathlib, runpy, sys; runpy.run_path(sys.argv[1])['prepare'](pathlib.Path(sys.argv[2]))"
    write = [sys.executable, "-c", code, str(STACK), str(settings)]
    subprocess.run(write, check=True)
    folder = tmp_path / "MILLRACE_SECRETS"
    first = {path.name: path.read_text() for path in folder.iterdir()}
    token = first.pop("serving-token")  # for people; the server sees its digest
    assert set(first) == set(COMPOSE["secrets"])
    assert len(token) >= 32 and token not in "".join(first.values())
    assert folder.stat().st_mode & 0o777 == 0o700
    assert len(set(first.values())) == len(first)
    assert all(len(text) >= 16 for text in first.values())
    subprocess.run(write, check=True)
    assert {path.name: path.read_text() for path in folder.iterdir()} == {**first, "serving-token": token}
    # and the settings name the version that is here, once
    assert settings.read_text().count("MILLRACE_VERSION=") == 1


def written(folder):
    """The folder of secrets that `make up-compose` writes."""
    import runpy

    runpy.run_path(str(STACK))["write_secrets"](folder)
    return folder


def test_the_token_that_is_written_is_one_that_the_server_takes(tmp_path):
    folder = written(tmp_path / "secrets")
    access = Access.load(folder / "serving-tokens", environ={})
    access.check_host("0.0.0.0")
    token = (folder / "serving-token").read_text()
    caller = asyncio.run(access.caller({b"authorization": f"Bearer {token}".encode()}))
    assert caller.may("flight_delays")
    with pytest.raises(Refused):
        asyncio.run(access.caller({b"authorization": f"Bearer {token}x".encode()}))


def test_the_server_asks_who_it_is_and_keeps_its_log():
    serving = SERVICES["serving"]
    words = dict(zip(serving["command"][::2], serving["command"][1::2], strict=True))
    # It listens to more than its own machine, so it asks for tokens
    assert words["--host"] == "0.0.0.0"
    assert serving["environment"]["MILLRACE_SERVING_TOKENS"] == "/run/secrets/serving-tokens"
    assert "serving-tokens" in serving["secrets"]
    # what it logs outlives the container, and what was begun ends before the engine kills it
    assert f"predictions:{words['--log']}" in serving["volumes"]
    assert int(serving["stop_grace_period"].rstrip("s")) > float(words["--drain"])
    # and it sees nothing of Airflow's, nor the ledger's database
    assert set(serving["secrets"]) == {"redis-password", "aws-credentials", "serving-tokens"}
    same = set(serving["environment"]) & set(ENVIRONMENT)
    assert {n: serving["environment"][n] for n in same} == {n: ENVIRONMENT[n] for n in same} and len(same) == 6
    arguments = [word for word in serving["command"] if word.startswith("--")]
    assert set(arguments) <= set(re.findall(r'"(--[a-z-]+)"', SERVER.read_text()))


def test_the_online_store_of_an_unknown_address_is_refused():
    from types import SimpleNamespace

    from millrace.feast_stores.online_stores.addressed import EntityRowOnlineStore

    config = SimpleNamespace(online_store=SimpleNamespace(path="http://cache", password_file=None))
    with pytest.raises(SpecError, match="no online store has such an address"):
        EntityRowOnlineStore().fetch(config, "t", "v", [b"k"])
