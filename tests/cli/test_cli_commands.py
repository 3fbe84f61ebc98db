"""The other commands: what they write, and that a mistake is a line on stderr and never a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from millrace.spec import Placed, ProjectTree

ROOT = Path(__file__).resolve().parents[2]


def test_init_writes_a_project(millrace, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = millrace("init", "My Shop-2")
    assert said.code == 0 and "Next: cd 'My Shop-2' && millrace new my_pipeline" in said.out
    folder = tmp_path / "My Shop-2"
    assert {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()} == {
        ".gitignore", "README.md", "dags/.gitkeep", "feature_repo/feature_store.yaml", "include/environments/dev.yaml",
        "include/environments/prod.yaml", "include/pipelines/.gitkeep", "include/project.yaml",
        "include/schemas/compute.schema.json", "include/schemas/environment.schema.json",
        "include/schemas/pipeline.schema.json",
        "include/schemas/project.schema.json", "plugins/millrace_plugin.py",
    }  # fmt: skip
    # each said
    assert said.out.count("wrote ") == 13
    # a project by the folder's name, that has no problem
    monkeypatch.chdir(folder)
    assert ProjectTree.at().project.name == "my_shop_2"
    assert ".millrace/" in (folder / ".gitignore").read_text().split()
    assert millrace("check") == (0, "0 pipelines checked, no problems\n", "")
    assert (ProjectTree.at().environment("dev").approval.by, ProjectTree.at().environment("prod").approval.by) == (
        "auto", "human",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("folder", "name"), [("2024", "project_2024"), ("Ünï", "n"), ("-", "project"), ("a" * 90, "a" * 63)]
)
def test_any_folder_has_a_usable_name(millrace, tmp_path, folder, name):
    assert millrace("init", tmp_path / "x" / folder).code == 0
    assert ProjectTree(tmp_path / "x" / folder).project.name == name


@pytest.mark.parametrize("taken", ["README.md", "include/project.yaml", "include/schemas/project.schema.json"])
def test_init_overwrites_nothing(millrace, tmp_path, taken):
    # Given a folder with one of the files, and one that is no part of a project
    path = tmp_path / "shop" / taken
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    (tmp_path / "shop" / "LICENSE").write_text("mine")
    # When
    said = millrace("init", tmp_path / "shop")
    # Then nothing is written, and the file is named
    assert said.code == 1 and f"nothing was written (given: '{path}')" in said.err and said.out == ""
    assert path.read_text() == "mine"
    assert sorted(p.name for p in (tmp_path / "shop").rglob("*") if p.is_file()) == sorted(["LICENSE", path.name])


def test_init_joins_what_is_there(millrace, tmp_path):
    (tmp_path / "LICENSE").write_text("mine")
    assert millrace("init", tmp_path).code == 0
    assert (tmp_path / "LICENSE").read_text() == "mine"


def test_init_where_nobody_may_write(millrace, tmp_path):
    (tmp_path / "file").write_text("")
    said = millrace("init", tmp_path / "file" / "shop")
    assert said.code == 1 and said.err.startswith("millrace: Not a directory: ") and "Traceback" not in said.err


def test_new_writes_the_files_of_a_pipeline(written):
    names = {str(p.relative_to(written)) for p in written.rglob("*visits*") if p.is_file()}
    assert names == {"dags/visits.py", "feature_repo/visits.py", "include/pipelines/visits/suites/visits.yaml"}
    folder = written / "include" / "pipelines" / "visits"
    assert {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()} == {
        "pipeline.yaml", "transform.sql", "README.md", "suites/visits.yaml", "suites/features.yaml",
    }  # fmt: skip
    assert "__" not in (folder / "pipeline.yaml").read_text()
    # the editor finds the schema, the reader of the README real ids
    first = (folder / "pipeline.yaml").read_text().splitlines()[0]
    schema = folder / first.removeprefix("# yaml-language-server: $schema=")
    assert schema.resolve() == written / "include" / "schemas" / "pipeline.schema.json"
    readme = (folder / "README.md").read_text()
    assert "--dag-id visits__features --from-date 2024-01-01 --to-date 2024-01-20" in readme
    assert "trigger visits__training" in readme


def test_sample_data_are_alike_everywhere_and_have_something_to_learn(millrace, written, shop):
    import csv

    assert millrace("new", "again").code == 0
    days = sorted(p.name for p in (written / "data" / "visits").iterdir())
    assert days[0] == "2024-01-01.csv" and len(days) == 20
    bought: dict[str, list[int]] = {"north": [], "south": []}
    for day in days:
        text = (written / "data" / "visits" / day).read_bytes()
        assert (shop / "data" / "again" / day).read_bytes() == text
        rows = list(csv.DictReader(text.decode().splitlines()))
        assert 200 <= len(rows) <= 1000 and len({row["visit_id"] for row in rows}) == len(rows)
        assert {row["time"][:10] for row in rows} == {day[:10]}
        for row in rows:
            bought.get(row["region"], []).append(int(row["ordered"]))
    north, south = (sum(b) / len(b) for b in bought.values())
    assert south - north > 0.2


def test_the_dag_file_is_that_of_the_reference_project(written):
    assert (written / "dags" / "visits.py").read_text() == (ROOT / "dags" / "flight_delays.py").read_text().replace(
        "flight_delays", "visits"
    )
    plugin = Path("plugins/millrace_plugin.py")
    assert "MillracePlugin" in (written / plugin).read_text() and "MillracePlugin" in (ROOT / plugin).read_text()


@pytest.mark.parametrize(
    "name", ["Visits", "2visits", "my-visits", "../visits", "visits\n", "", "a" * 64, "vïsits", "a b"]
)
def test_a_bad_name_is_refused_with_the_form_of_a_good_one(millrace, shop, name):
    before = sorted(shop.rglob("*"))
    said = millrace("new", name)
    assert said.code == 1
    assert "lower-case letters, digits and underscores, beginning with a letter, at most 63" in said.err
    assert sorted(shop.rglob("*")) == before


@pytest.mark.parametrize("taken", ["dags/more.py", "feature_repo/more.py", "include/pipelines/more/transform.sql"])
def test_new_overwrites_nothing(millrace, shop, taken):
    (shop / taken).parent.mkdir(parents=True, exist_ok=True)
    (shop / taken).write_text("mine")
    before = sorted(shop.rglob("*"))
    said = millrace("new", "more")
    assert said.code == 1 and f"nothing was written (given: '{shop / taken}')" in said.err
    assert sorted(shop.rglob("*")) == before and (shop / taken).read_text() == "mine"


def test_two_pipelines_live_in_one_project(millrace, shop):
    assert millrace("new", "orders", "--project", shop / "include").code == 0
    assert millrace("check") == (0, "2 pipelines checked, no problems\n", "")
    # and both are placed in both environments
    tree = ProjectTree(shop)
    for name in tree.pipelines():
        (location,) = Placed.of(tree, "prod", name).locations().values()
        assert location == f"{shop}/data/{name}/{{year}}-{{month}}-{{day}}.csv"


def test_apply_says_what_it_did(millrace, shop):
    assert millrace("new", "orders").code == 0
    said = millrace("apply")
    assert said.code == 0, said.err
    assert {"added feature view visits_visit_features", "added feature service orders"} <= set(said.out.splitlines())
    assert (shop / ".millrace" / "feast_registry.db").is_file()
    # twice changes nothing
    assert millrace("apply").out == "nothing to do\n"
    # what no file defines any more is kept, until it is asked for
    (shop / "feature_repo" / "orders.py").unlink()
    said = millrace("apply")
    assert "kept, though no file defines it: feature service orders" in said.out.splitlines()
    said = millrace("apply", "--delete")
    assert "deleted feature service orders" in said.out.splitlines() and "visits" not in said.out
    assert millrace("apply").out == "nothing to do\n"
    # and a changed one is named
    path = shop / "feature_repo" / "visits.py"
    path.write_text(path.read_text().replace("days=90", "days=30"))
    assert "changed feature view visits_visit_features" in millrace("apply").out.splitlines()


def test_schemas_of_a_project(millrace, shop):
    assert millrace("schema", "--check") == (0, "schemas are up to date\n", "")
    path = shop / "include" / "schemas" / "pipeline.schema.json"
    path.write_text("{}")
    said = millrace("schema", "--check")
    assert said.code == 1 and "out of date (given: 'pipeline.schema.json')" in said.err
    assert path.read_text() == "{}"
    assert millrace("schema").out == f"wrote {path}\n"
    assert json.loads(path.read_text())["title"] == "PipelineSpec"
    assert millrace("schema", "--check").code == 0


def test_leftovers_are_collected(millrace, shop):
    left = shop / ".millrace" / "store" / "snapshots" / "visits" / "features" / ("0" * 64) / "data.parquet"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    assert millrace("collect").out == "0 leftover objects removed\n"
    os.utime(left, (0, 0))
    assert millrace("collect").out == "1 leftover object removed\n"
    assert not left.exists()


def test_a_misspelt_setting_is_named(millrace, shop, monkeypatch):
    monkeypatch.setenv("MILLRACE_STOER", "x")
    said = millrace("collect")
    assert said.code == 1 and "MILLRACE_STOER" in said.err and "Use MILLRACE_STORE" in said.err


def evaluated(millrace, folder):
    """What a shell's variables are after `eval "$(millrace env)"` in a project's folder."""
    said = millrace("env", "--project", folder)
    assert said.code == 0, said.err
    shell = subprocess.run(["sh", "-c", f"{said.out}\nenv -0"], capture_output=True, text=True, check=True)
    return dict(line.split("=", 1) for line in shell.stdout.split("\0") if "=" in line), said


def test_the_folder_one_is_in_comes_before_the_variables_of_the_shell(millrace, shop, tmp_path, monkeypatch):
    # Given a shell that speaks to the shop's Airflow
    variables, said = evaluated(millrace, shop)
    whose = f"project 'shop' ({shop}), environment 'dev'"
    assert whose in said.out.splitlines()[0] and whose in said.err
    for name in ("MILLRACE_PROJECT", "MILLRACE_ENVIRONMENT"):
        monkeypatch.setenv(name, variables[name])
    assert variables["MILLRACE_PROJECT"] == str(shop)
    # When one goes into another project, then that is meant, and it is said that they differ
    other = tmp_path / "other"
    assert millrace("init", other).code == 0
    monkeypatch.chdir(other)
    said = millrace("check")
    assert said.out == "0 pipelines checked, no problems\n"
    assert str(other) in said.err and f"MILLRACE_PROJECT of this shell is {shop}" in said.err
    assert "the shell's, 'dev' (MILLRACE_ENVIRONMENT)" in said.err
    # but in a folder of no project, and for a project that is named, there is nothing to say
    monkeypatch.chdir(tmp_path)
    assert millrace("ledger", "verify")[::2] == (0, "")
    assert (shop / ".millrace" / "ledger.db").is_file()
    monkeypatch.chdir(other)
    assert millrace("check", "--project", other) == (0, "0 pipelines checked, no problems\n", "")


def test_help_and_version(millrace):
    from millrace import __version__

    assert millrace("--version").out.strip() == __version__
    assert "Usage" in millrace("--help").out
    # nothing said: help; something unknown: an error of the command line
    assert "Usage" in "".join(map(str, millrace()))
    assert millrace("chekc").code == 2


@pytest.mark.parametrize(
    "words", [["check"], ["new", "x"], ["apply"], ["schema"], ["ledger", "verify"], ["collect"], ["env"]]
)
def test_outside_a_project_each_command_says_so(tmp_path, words):
    env = {k: v for k, v in os.environ.items() if not k.startswith("MILLRACE_")}
    done = subprocess.run(
        [sys.executable, "-m", "millrace.cli.app", *words],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("millrace: ") and done.stderr.count("\n") == 1
    assert "no project here" in done.stderr and "Make one with 'millrace init DIR'" in done.stderr.replace(
        "make", "Make"
    )
