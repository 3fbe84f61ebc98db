"""The pages under docs/: what is generated is current, what they name exists, and the site they make loads nothing."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
LOADED = r"<(?:script|img|link|iframe|source)\b[^>]*?(?:src|href)=[\"']?((?:https?:)?//[^\"' >]+)"
READMES = [ROOT / "README.md", *sorted(ROOT.glob("include/pipelines/*/README.md"))]


def reference(docs: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(docs / "reference.py"), "--check"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_the_reference_is_what_the_models_say() -> None:
    done = reference(DOCS)
    assert done.returncode == 0, done.stderr


def test_each_key_setting_and_argument_is_said_in_words() -> None:
    pages = sorted((DOCS / "reference").glob("*.md"))
    assert len(pages) == 7
    assert not [line for page in pages for line in page.read_text().splitlines() if re.search(r"\|\s*\|$", line)]


def test_a_page_that_was_changed_by_hand_is_named(tmp_path: Path) -> None:
    # Given a key that is documented otherwise than it is, and an error type that the page has not heard of
    docs = shutil.copytree(DOCS, tmp_path / "docs", ignore=shutil.ignore_patterns("*.png", "adr"))
    for name, old, new in (("reference/pipeline.md", "`P1M`", "`P2M`"), ("troubleshooting.md", "[Conflict]", "[C]")):
        (docs / name).write_text((docs / name).read_text().replace(old, new))
    # Then both are named, with what to run
    done = reference(docs)
    assert done.returncode == 1
    named = [line.split()[0] for line in done.stderr.splitlines()]
    assert named == [str(docs / "reference/pipeline.md"), str(docs / "troubleshooting.md")]
    assert "python docs/reference.py" in done.stderr


def test_each_error_type_has_its_cause_and_next_step() -> None:
    text = (DOCS / "troubleshooting.md").read_text()
    listed = re.findall(r"^\| \[(\w+)\]\(#\w+\)", text, re.MULTILINE)
    assert {"SpecError", "Unavailable", "NoGPU", "SourceMissing"} <= set(listed)
    sections = dict(re.findall(r"^### (\w+)\n(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL))
    assert list(sections) == listed
    for name, section in sections.items():
        assert "**Cause.** " in section and "**Next.** " in section, name


def test_each_invariant_names_tests_that_exist() -> None:
    text = (DOCS / "architecture.md").read_text()
    assert re.findall(r"^\| (\d+) \|", text, re.MULTILINE) == [str(number) for number in range(1, 21)]
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text)
    assert len(named) > 20
    for file, test in named:
        assert f"def {test}(" in (ROOT / file).read_text(), f"{file}::{test}"


def test_all_decisions_are_listed() -> None:
    listed = re.findall(r"^\| \[\d{4}\]\(([^)]+)\)", (DOCS / "adr/README.md").read_text(), re.MULTILINE)
    assert listed == sorted(path.name for path in (DOCS / "adr").glob("0*.md"))


@pytest.mark.parametrize("readme", READMES, ids=lambda path: path.parent.name)
def test_links_of_a_readme_lead_somewhere(readme: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", readme.read_text()):
        assert (readme.parent / target).exists(), target


def test_each_pipeline_has_a_readme() -> None:
    folders = sorted(path.parent for path in ROOT.glob("include/pipelines/*/pipeline.yaml"))
    assert [readme.parent for readme in READMES[1:]] == folders


def links() -> ModuleType:
    spec = importlib.util.spec_from_file_location("links", DOCS / "links.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_link_out_of_the_site_is_a_path_and_one_to_nowhere_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    page = SimpleNamespace(file=SimpleNamespace(src_uri="adr/README.md"))
    text = (
        "[compute.yaml](../../include/compute.yaml) [the rules](../../Makefile) [gates](../gates.md#x) [a](../../no.md)"
    )
    made = links().on_page_markdown(text, page)
    assert made == "`include/compute.yaml` the rules (`Makefile`) [gates](../gates.md#x) a (`no.md`)"
    said = [record.getMessage() for record in caplog.records]
    assert said == ["adr/README.md links to ../../no.md, which does not exist"]


def test_the_site_is_built_strictly_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=120, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > 50
    for page in pages:
        loaded = re.findall(LOADED, page.read_text())
        assert not loaded, page
    styles = [path.read_text() for path in tmp_path.rglob("*.css")]
    assert styles and not any(re.search(r"url\([\"']?(?:https?:)?//", text) for text in styles)
