"""The product and a project apart: the wheel in another environment, projects elsewhere, two of them in one Airflow."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from support.driven import driven

ROOT = Path(__file__).resolve().parents[2]
DRIVER = Path(__file__).with_name("driver.py")
LIMIT_S = 900


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> Path:
    """Python of a fresh environment with millrace from its wheel.

    The other packages are those of this environment, by a path file: a path file's own path files are not read, so
    the editable millrace of this checkout cannot be seen from there.
    """
    folder = tmp_path_factory.mktemp("wheel")
    uv = Path(sys.executable).parent / "uv"
    subprocess.run([uv, "build", "--wheel", "--out-dir", str(folder), str(ROOT)], check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert not [n for n in names if "flight_delays" in n or n.endswith("pipelines/")], "the wheel holds a pipeline"
    venv.create(folder / "env")
    found = folder / "env" / "bin" / "python"
    subprocess.run([uv, "pip", "install", "--python", found, "--no-deps", wheel], check=True, capture_output=True)
    site = next((folder / "env" / "lib").glob("python3*/site-packages"))
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    where = subprocess.run(
        [found, "-c", "import millrace; print(millrace.__file__)"], capture_output=True, text=True, check=True
    )
    assert str(folder) in where.stdout
    return found


def millrace(python: Path, cwd: Path, *words: str) -> str:
    done = subprocess.run(
        [python, "-m", "millrace.cli.app", *words], cwd=cwd, env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def environment() -> dict[str, str]:
    import os

    return {k: v for k, v in os.environ.items() if not k.startswith(("MILLRACE_", "AIRFLOW", "MLFLOW", "PYTHON"))}


@pytest.mark.loop
@pytest.mark.timeout(LIMIT_S + 60)
def test_two_projects_made_elsewhere_run_in_one_airflow(python, tmp_path):
    # Given two projects written by the installed command
    for name, pipeline in (("shop", "orders"), ("branch", "visits")):
        millrace(python, tmp_path, "init", str(tmp_path / name))
        millrace(python, tmp_path / name, "new", pipeline)
        assert "no problems" in millrace(python, tmp_path / name, "check")
    millrace(python, tmp_path / "shop", "apply")
    # and a person who approves the first one's releases
    environment_file = tmp_path / "shop" / "include" / "environments" / "dev.yaml"
    environment_file.write_text(environment_file.read_text().replace("by: auto", "by: human"))
    # and blocks of hours: five days are too few for a duel
    spec = tmp_path / "shop" / "include" / "pipelines" / "orders" / "pipeline.yaml"
    spec.write_text(spec.read_text().replace("block: day", "block: hour"))
    # When the first runs its loop, with the second in the same Airflow
    days = ("2024-01-01", "2024-01-05", "2024-01-06", "2024-01-07")
    command = [python, DRIVER, tmp_path / "shop", "orders", *days, tmp_path / "branch"]
    done = driven(command, tmp_path / "shop", environment(), seconds=LIMIT_S)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    seen = json.loads(done.stdout.strip().splitlines()[-1])
    # Then its loop went through, and the other's DAGs are there too
    assert seen["published"] == [f"2024-01-0{day}" for day in range(1, 8)]
    assert seen["monitored"] == seen["published"]
    assert seen["predicted"] == ["2024-01-06", "2024-01-07"]
    assert seen["first_champion"]["version"] == 1
    assert [a["state"] for a in seen["approvals"]] == ["waiting", "approved", "promoted"]
    assert [answer["by"] for answer in seen["approvals"][1]["answers"]] == ["admin"]
    assert set(seen["decisions"]) == {"2024-01-06", "2024-01-07"}
    assert sorted(seen["other_dags"]) == [f"visits__{p}" for p in ("features", "monitoring", "release", "training")]
    assert not (ROOT / "data" / "orders").exists()
