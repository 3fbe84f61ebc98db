"""`millrace up` and `millrace down`: Airflow and the MLflow UI for one project on one machine, no container engine."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from millrace.core.errors import MillraceError
from millrace.core.settings import SERVED_UNDER, Settings
from millrace.local import record, users
from millrace.local.processes import Process, free_ports, start, stop
from millrace.local.record import Running
from millrace.local.serving import servers, serving_command, serving_environment
from millrace.spec import ProjectTree

AIRFLOW = (sys.executable, "-m", "airflow")
POOL = "millrace_compute"
PORTS = ("api", "execution", "scheduler_log", "triggerer_log", "mlflow")
THREADS_PER_TASK = 2
START_LIMIT_S = 180


def airflow_environment(
    tree: ProjectTree, settings: Settings, others: list[ProjectTree] | None = None
) -> dict[str, str]:
    """Environment of every Airflow process of a project; also what a shell needs for the `airflow` command."""
    home = settings.home / "airflow"
    bundles = [
        {
            "name": each.project.name,
            "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
            "kwargs": {"path": str(each.root / "dags"), "refresh_interval": 30},
        }
        for each in (tree, *(others or []))
    ]
    env = {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__EXECUTOR": "millrace.airflow.runtime.executor.WarmLocalExecutor",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(tree.root / "plugins"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(tree.root / "dags"),
        "AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "5",
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(bundles),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONNECT_ARGS": "millrace.core.settings.SQLITE_CONNECT_ARGS",
        "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
        # What the libraries say at import is no news of a task.
        "AIRFLOW__LOGGING__NAMESPACE_LEVELS": (
            "great_expectations._docs_decorators=WARNING great_expectations.expectations.registry=WARNING "
            "alembic.runtime.migration=WARNING"
        ),
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": users.setting(settings.home),
        "MILLRACE_PROJECT": str(tree.root),
        "MILLRACE_ENVIRONMENT": settings.environment,
        # Nothing calls home, MLflow runs no jobs of its own and never unpickles.
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "DO_NOT_TRACK": "1",
        "FEAST_USAGE": "False",
        "GX_ANALYTICS_ENABLED": "false",
        "GIT_PYTHON_REFRESH": "quiet",
    }
    ports = settings.home / "ports.json"
    if ports.is_file():
        env.update(_port_variables(json.loads(ports.read_text())))
    for name, file in (("AIRFLOW__API_AUTH__JWT_SECRET", "jwt"), ("AIRFLOW__API__SECRET_KEY", "session")):
        env[name] = _secret(home / f".{file}")
    return env


def up(
    tree: ProjectTree,
    settings: Settings,
    others: list[ProjectTree] | None = None,
    people: Mapping[str, str] | None = None,
) -> Running:
    """Start what is not running (any more) and return when Airflow is healthy. Raises MillraceError naming the log.

    `people` are further users, name -> role; they stay, and are known to Airflow from its start on.
    """
    with record.locked(settings.home) as lock:
        if people:
            users.add(settings.home, people, running=record.read(settings.home) is not None)
        try:
            running = _started(tree, settings, others, lock)
            if not running.ready:
                _wait(running, settings.home)
                slots = max(1, (os.cpu_count() or 1) // THREADS_PER_TASK)
                running.api.set_pool(POOL, slots, "cores / threads of a job")
                running = replace(running, ready=True)
                record.write(settings.home, running)
        except BaseException:
            _end(settings.home)
            raise
        return running


def down(settings: Settings) -> bool:
    """Stop what `up` started and all that came of it; returns whether anything was running. State stays.

    Raises MillraceError for what could not be ended; it stays on record.
    """
    if not settings.home.is_dir():
        return False
    with record.locked(settings.home):
        return _end(settings.home)


def current(settings: Settings) -> Running | None:
    """What the last `up` started, None when nothing is recorded."""
    return record.read(settings.home)


def _end(home: Path) -> bool:
    running = record.read(home)
    if running is None:
        return False
    found, left = stop(running.processes)
    if left:
        raise MillraceError(
            f"could not end {', '.join(left)}",
            next_step="End these processes as their owner ('kill -9 ID'), then run 'millrace down' again",
        )
    record.forget(home)
    return bool(found)


def _started(tree: ProjectTree, settings: Settings, others: list[ProjectTree] | None, lock: int) -> Running:
    """What runs now, each process on record before it does anything."""
    home, before = settings.home, record.read(settings.home)
    alive = [p for p in before.processes if p.alive] if before else []
    if before is not None and before.ready and len(alive) == len(before.processes):
        return before
    (home / "airflow").mkdir(parents=True, exist_ok=True)
    (home / "logs").mkdir(exist_ok=True)
    (home / SERVED_UNDER).write_text(settings.environment + "\n")
    passwords = users.passwords(home)
    # Workers of a killed scheduler would go on with their tasks.
    stop(p for p in (before.processes if before else ()) if not p.alive)
    trees = (tree, *(others or []))
    serving = servers(trees, settings)
    # Where some are alive, they know each other by these.
    ports = json.loads((home / "ports.json").read_text()) if alive else {}
    wanted = [name for name in (*PORTS, *serving) if name not in ports]
    ports.update(zip(wanted, free_ports(len(wanted)), strict=True))
    (home / "ports.json").write_text(json.dumps(ports))
    env = {**os.environ, **airflow_environment(tree, settings, others)}
    binaries = Path(sys.executable).parent
    env["PATH"] = f"{binaries}{os.pathsep}{env.get('PATH', '')}"
    # A database file that several processes open first loses that race in its migrations; made here, once.
    log = home / "logs" / "prepare.log"
    served = settings.mlflow.startswith(("http://", "https://"))  # a server of the site, which has its own UI
    commands = {name: [*AIRFLOW, *words] for name, words in _components(ports).items()}
    if not served:
        commands["mlflow"] = _mlflow_command(settings, ports["mlflow"])
    for name, only in serving.items():
        commands[name] = serving_command(trees, settings, port=ports[name], only=only)
    if not alive:
        if not served:
            prepare = "import sys; from millrace.mlflow.registry import ensure_database; ensure_database(sys.argv[1])"
            _run([sys.executable, "-c", prepare, settings.mlflow], env, log, lock)
        _run([*AIRFLOW, "db", "migrate"], env, log, lock)
    running = Running(
        airflow_url=f"http://localhost:{ports['api']}",
        mlflow_url=settings.mlflow if served else f"http://localhost:{ports['mlflow']}",
        user=users.ADMIN,
        password_file=str(passwords),
        processes=alive,
        serving_urls={
            ", ".join(only) or "all others" if len(serving) > 1 else "all": f"http://localhost:{ports[name]}"
            for name, only in serving.items()
        },
    )
    for name in [name for name in commands if name not in {p.name for p in alive}]:
        seen = serving_environment(settings, env) if name in serving else env
        process = start(name, commands[name], seen, home, partial(_keep, home, running))
        running = running.with_(process)
    return running


def _keep(home: Path, running: Running, process: Process) -> None:
    record.write(home, running.with_(process))


def _wait(running: Running, home: Path) -> None:
    limit = time.monotonic() + START_LIMIT_S
    while time.monotonic() < limit:
        if ended := [p.name for p in running.processes if not p.alive]:
            raise MillraceError(f"{', '.join(ended)} ended while starting",
                                next_step=f"Read {home / 'logs' / f'{ended[0]}.log'}")  # fmt: skip
        if Path(running.password_file).is_file() and running.api.healthy():
            return
        time.sleep(0.3)
    raise MillraceError(
        f"Airflow was not healthy after {START_LIMIT_S} s", next_step=f"Read the files in {home / 'logs'}"
    )


def _components(ports: Mapping[str, int]) -> dict[str, list[str]]:
    """Airflow's processes. Not `airflow standalone`: on SQLite its one API server deadlocks.

    There a public write (trigger, unpause) commits its audit row on the event loop and waits for the write lock that
    a task's start holds, whose own commit needs that loop. Two servers, one for people and one for tasks, cannot.
    """
    return {
        "scheduler": ["scheduler"],
        "dag-processor": ["dag-processor"],
        "api-server": ["api-server", "--apps", "core", "--port", str(ports["api"])],
        "execution-api": ["api-server", "--apps", "execution", "--port", str(ports["execution"])],
        "triggerer": ["triggerer"],
    }


def _mlflow_command(settings: Settings, port: int) -> list[str]:
    return [
        sys.executable, "-m", "mlflow", "server", "--backend-store-uri", settings.mlflow,
        "--default-artifact-root", str(settings.home / "mlflow"), "--host", "127.0.0.1", "--port", str(port),
        "--workers", "1", "--allowed-hosts", f"localhost:{port},127.0.0.1:{port}",
    ]  # fmt: skip


def _port_variables(ports: Mapping[str, int]) -> dict[str, str]:
    return {
        "AIRFLOW__API__PORT": str(ports["api"]),
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__BASE_URL": f"http://localhost:{ports['api']}",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://localhost:{ports['execution']}/execution/",
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(ports["scheduler_log"]),
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(ports["triggerer_log"]),
    }


def _run(command: list[str], env: dict[str, str], log: Path, lock: int) -> None:
    """Run a command to its end. It holds the lock too: where this process is killed, the next one waits for it."""
    with log.open("ab") as handle:
        done = subprocess.run(
            command, env=env, stdin=subprocess.DEVNULL, stdout=handle, stderr=handle, pass_fds=(lock,)
        )
        if done.returncode:
            raise MillraceError(f"'{' '.join(command[1:4])}' failed", next_step=f"Read {log}")


def _secret(path: Path, make: Callable[[], str] = lambda: secrets.token_urlsafe(48)) -> str:
    """A random secret of this installation, made once and kept in a file that only its owner reads."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_file():
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".tmp-")  # readable by its owner only
        with os.fdopen(handle, "w") as file:
            file.write(make())
        try:
            os.link(temporary, path)  # the first of several wins, and nobody sees half a secret
        except FileExistsError:
            pass
        finally:
            os.unlink(temporary)
    return path.read_text()
