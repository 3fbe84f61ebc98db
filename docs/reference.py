"""Writes docs/reference: what every file, check, setting, job and command takes, from the models that read them.

python docs/reference.py            write the pages
python docs/reference.py --check    only say which are not what the models say now; exit 1 if any
"""

from __future__ import annotations

import argparse
import ast
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tables
from typer.main import get_command

import millrace
from millrace.cli.app import app
from millrace.core import errors, settings
from millrace.spec import compute, environment, gate, jobs, pipeline

FOLDER = Path(__file__).parent / "reference"
TROUBLESHOOTING = Path(__file__).parent / "troubleshooting.md"
GENERATED = "<!-- Written by docs/reference.py from the models: change those, and run it. -->\n\n"
BEGIN, END = "<!-- errors -->\n", "<!-- end of errors -->"

SUITE = """
A suite is a file in a pipeline's `suites/`: a mapping with `name`, a list `expectations` and, where wanted, a list
`checks`. `expectations` are those of Great Expectations, by its own names and with its own arguments
(`{type: expect_column_values_to_not_be_null, kwargs: {column: tailnum}}`); `millrace check` names the nearest one for
a type or an argument that does not exist. Every suite also fails where there are no rows, no columns, no expectation,
a column without a value, an infinite number, or a row outside the partition. `checks` are Millrace's own; `type` says
which.

A column that holds nothing passes where its expectation says
`meta: {millrace: {may_be_null: true}}`.
"""
OTHER_SETTINGS = {
    "MILLRACE_PROJECT": "The project's folder, where one is not inside it.",
    "MILLRACE_STORE_ROOT": "What feature_store.yaml reads for MILLRACE_STORE; set by Millrace itself.",
    "MILLRACE_DATABASE": "PostgreSQL of `millrace gate --table`, as an SQLAlchemy URL.",
    "MILLRACE_CACHE": "Folder of files fetched from an object store; a temporary one where left out.",
    "MILLRACE_WARM_MODULES": "What the executor imports before its workers fork; empty for nothing, `+a,b` for more.",
    "MILLRACE_ADMIN_PASSWORD_FILE": "File with the password of Airflow's first user, in the images.",
    "MILLRACE_IMAGE": "The image that a process runs in, for Evidence; set in pods, compose and chart.",
    "MILLRACE_JOBS_IMAGE": "Name of the jobs image, in docker-compose.yaml and the tests.",
    "MILLRACE_PLATFORM_IMAGE": "Name of the platform image, in docker-compose.yaml and the tests.",
    "MILLRACE_SERVING_IMAGE": "Name of the image of the prediction server, in docker-compose.yaml and the tests.",
    "MILLRACE_SERVING_TOKENS": "File of callers and the SHA-256 of their tokens, for the prediction server.",
    "MILLRACE_SERVING_OIDC": "File that names the issuer whose tokens the prediction server accepts.",
    "MILLRACE_HELM": "The `helm` command with which the chart is tested.",
    "MILLRACE_AIRFLOW_CHART": "Airflow's own chart, for a test that installs it beside ours.",
    "MILLRACE_TEST_CLUSTER": "1: tests may use the cluster of KUBECONFIG.",
    "MILLRACE_TEST_GPU": "1: tests of GPUs fail where there is none, and are not skipped.",
    "MILLRACE_TEST_FUZZ": "1: searching tests search for long (`make fuzz`).",
}
"""Variables that are no field of Settings, in words."""


def pages() -> dict[str, str]:
    """Every page by its file's name."""
    return {
        "pipeline.md": tables.page(
            "pipeline.yaml", pipeline.PipelineSpec, "Its file is `include/pipelines/<name>/pipeline.yaml`."
        ),
        "suites.md": tables.union("Suites and checks", SUITE, gate.GateCheck),
        "environment.md": tables.page(
            "Environments", environment.Environment,
            "MILLRACE_ENVIRONMENT names the one that counts, `dev` where it is not set.",
        ),
        "compute.md": tables.page(
            "Compute profiles and jobs", compute.Compute, "It is `include/compute.yaml`, and may be missing."
        ) + _jobs(),
        "project.md": tables.page("project.yaml", environment.Project, ""),
        "settings.md": _settings(),
        "commands.md": _commands(),
    }  # fmt: skip


def _jobs() -> str:
    rows = [
        (f"`{name}`", ", ".join(("store", *job.reaches)), *("yes" if is_so else "no" for is_so in
         (job.in_pods, job.reusable, job.runs_code)))
        for name, job in jobs.TABLE.items()
    ]  # fmt: skip
    head = ("job", "reaches", "may run in a pod", "a stored result is taken again", "runs a pipeline's own code")
    return f"\n## Jobs\n\n{tables.table(head, rows)}"


def _settings() -> str:
    home = Path("/project")
    found = settings.Settings.load(home, {})
    rows = []
    for name, field in settings.Settings.model_fields.items():
        default = str(getattr(found, name)).replace(f"{home}/.millrace", "<home>")
        variable, _, words = (field.description or "").partition(": ")
        assert variable == f"{settings.PREFIX}{name.upper()}", f"the description of {name} begins with its variable"
        shown = {"": "", "<home>": "`<project>/.millrace`"}.get(default, f"`{default}`")
        rows.append((f"`{variable}`", shown, words))
    fields = {settings.PREFIX + name.upper() for name in settings.Settings.model_fields}
    if unknown := settings.OTHERS - fields - set(OTHER_SETTINGS):
        raise SystemExit(f"docs/reference.py: say in OTHER_SETTINGS what {', '.join(sorted(unknown))} is for")
    others = [(f"`{name}`", words) for name, words in OTHER_SETTINGS.items()]
    return (
        "# Settings\n\nVariables of the environment. Where a process keeps its state; `<home>` is the value of "
        "MILLRACE_HOME. An address holds no password: PostgreSQL takes PGPASSWORD or PGPASSFILE, Redis REDISCLI_AUTH, "
        "MLflow MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, S3 the AWS variables.\n\n"
        + tables.table(("variable", "default", "what it says"), rows)
        + "\n## Further variables\n\n"
        + tables.table(("variable", "what it says"), others)
    )


def _commands() -> str:
    text = (
        "# Commands\n\n`millrace --help` says the same. Each speaks of the project whose folder one is in, or of "
        "that of `--project FOLDER`.\n"
    )
    for name, command in _leaves(get_command(app), ""):
        rows = []
        for param in command.params:
            if param.name in ("help", "project"):
                continue
            flag = "/".join(param.opts) if param.param_type_name == "option" else str(param.name).upper()
            default = "required" if param.required else _default(param)
            rows.append((f"`{flag}`", default, getattr(param, "help", None) or ""))
        text += f"\n## millrace {name}\n\n{command.help}\n"
        if rows:
            text += "\n" + tables.table(("argument", "default", "what it says"), rows)
    return text


def _default(param: Any) -> str:
    return "" if param.default in (None, False) or callable(param.default) else f"`{param.default}`"


def _leaves(command: Any, name: str) -> list[tuple[str, Any]]:
    if not hasattr(command, "commands"):
        return [(name, command)]
    return [leaf for key, sub in command.commands.items() for leaf in _leaves(sub, f"{name} {key}".strip())]


@dataclass(frozen=True)
class ErrorType:
    """What the page says of one; retry is its parent's where it says none itself."""

    name: str
    means: str
    retry: str


def error_types() -> list[ErrorType]:
    """Every error type of the package that a person may meet: core/errors.py first, then those of single rooms."""
    found = {"MillraceError": ErrorType("MillraceError", "", errors.MillraceError.retry)}
    for path in (Path(str(errors.__file__)), *sorted(Path(str(millrace.__file__)).parent.rglob("*.py"))):
        if "templates" in path.parts:
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            bases = [base.id for base in getattr(node, "bases", ()) if isinstance(base, ast.Name)]
            parent = next((found[base] for base in bases if base in found), None)
            if isinstance(node, ast.ClassDef) and parent and not node.name.startswith("_"):
                words = (ast.get_docstring(node) or "").split("\n\n")[0].replace("\n", " ")
                found[node.name] = ErrorType(node.name, words, _retry(node) or parent.retry)
    return list(found.values())[1:]


def _retry(node: ast.ClassDef) -> str | None:
    for line in node.body:
        target = line.target if isinstance(line, ast.AnnAssign) else None
        if isinstance(target, ast.Name) and target.id == "retry" and isinstance(line.value, ast.Constant):
            return str(line.value.value)
    return None


def with_errors(text: str) -> str:
    """The troubleshooting page with its table of error types as the code has it."""
    rows = [(f"[{found.name}](#{found.name.lower()})", found.means, found.retry) for found in error_types()]
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + tables.table(("error", "means", "retry"), rows) + END + rest.partition(END)[2]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    wanted = {FOLDER / name: GENERATED + text for name, text in pages().items()}
    wanted[TROUBLESHOOTING] = with_errors(TROUBLESHOOTING.read_text(encoding="utf-8"))
    stale = [path for path, text in wanted.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    for path in stale:
        if check:
            print(f"{path} is not what the models say; run: python docs/reference.py", file=sys.stderr)
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(wanted[path], encoding="utf-8")
            print(f"wrote {path}")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
