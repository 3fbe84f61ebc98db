"""A gate's page loads nothing, runs nothing, shows what failed, and is the same bytes each time."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from html.parser import HTMLParser

import pyarrow as pa
import pytest

from millrace.gates import gx, page
from millrace.gates.engine import validate
from millrace.gates.result import GateResult

EVIL = [
    "<script>alert(1)</script>",
    "</td></table><img src=x onerror=alert(1)>",
    "<style>@import 'http://evil.example/x.css'</style>",
    "<svg/onload=alert(1)>",
    "\" onmouseover=\"alert(1)",
    "' onfocus='alert(1)",
    "[x](javascript:alert(1))",
    "${expectation_type} $icon $$x {{ 7 * 7 }} {% for x in y %}",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "<!--<a href='http://evil.example'>",
]  # fmt: skip
ALLOWED = {"class", "id", "href", "lang", "charset", "http-equiv", "content", "name"}


class Tags(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(autouse=True)
def rendered_without_error(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """GX logs what it cannot render and goes on; hear it."""
    monkeypatch.setattr(gx, "SILENT", logging.ERROR)
    yield
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR] == []


def gate(values: list[str], column: str = "s", suite: str = "raw") -> GateResult:
    table = pa.table({column: values, "n": list(range(len(values)))})
    allowed = ["ok", *values[:1]]
    given = {
        "name": suite,
        "expectations": [
            {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": column, "value_set": allowed}},
            {"type": "expect_column_most_common_value_to_be_in_set", "kwargs": {"column": column, "value_set": ["ok"]}},
            {"type": "expect_column_distinct_values_to_equal_set", "kwargs": {"column": column, "value_set": allowed}},
            {"type": "expect_column_max_to_be_between", "kwargs": {"column": "n", "max_value": 0}},
            {"type": "expect_column_values_to_be_unique", "kwargs": {"column": column + "?"}},
            {"type": "expect_column_mean_to_be_between", "kwargs": {"column": column, "max_value": 0}},
        ],
    }  # fmt: skip
    return validate(table, given, "suites/raw.yaml", lambda column: "public")


def assert_inert(html: str) -> Tags:
    found = Tags(html)
    for tag, attributes in found.tags:
        assert tag in page.TAGS | {"html", "head", "body", "meta", "title", "style"}, tag
        assert set(attributes) <= ALLOWED, (tag, attributes)
        assert re.fullmatch(r"#section-\d+", attributes.get("href") or "#section-1"), attributes
    assert [t for t, _ in found.tags].count("style") == 1
    style = html[html.index("<style>") : html.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    return found


@pytest.mark.parametrize("evil", EVIL)
def test_markup_in_values_column_names_and_suite_names_is_inert(evil: str) -> None:
    html = page.render(gate([evil, evil, evil + "2"], evil, evil), evil).decode()
    found = assert_inert(html)
    plain = len(assert_inert(page.render(gate(["a", "a", "a2"], "b", "raw"), "c").decode()).tags)
    assert len(found.tags) == plain, "the values brought tags of their own"
    assert evil in found.text, "the value is shown as the text that it is"


def test_the_page_forbids_what_it_does_not_need() -> None:
    html = page.render(gate(["a", "b"]), "raw").decode()
    policy = re.search(r'<meta http-equiv="Content-Security-Policy" content="([^"]+)">', html)
    assert policy is not None
    assert policy[1] == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert html.index(policy[0]) < html.index("<style>")
    assert "http://" not in html
    assert "https://" not in html


def test_the_page_shows_each_check_with_its_counts_and_examples() -> None:
    result = gate(["a", "b", "c"])
    text = " ".join(Tags(page.render(result, "flights, 2013-01").decode()).text.split())
    for check in result.verdict.checks:
        assert check.message in text
    assert "flights, 2013-01" in text
    assert "Failed" in text
    assert "2 unexpected values found" in text


def test_a_page_of_a_passed_gate_says_so() -> None:
    table = pa.table({"n": [1]})
    given = {"name": "raw", "expectations": [{"type": "expect_column_to_exist", "kwargs": {"column": "n"}}]}
    text = Tags(page.render(validate(table, given, "x", lambda c: "public"), "t").decode()).text
    assert "Succeeded" in text
    assert "Failed" not in text


def test_two_renderings_are_the_same_bytes_and_hold_no_time_or_id() -> None:
    first, second = (page.render(gate([f"v{i}" for i in range(50)]), "raw") for _ in range(2))
    assert first == second
    assert not re.search(rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}|20[2-9]\d-\d\d|1\.24", first)


def test_a_gate_that_could_not_run_still_has_a_page() -> None:
    result = validate(pa.table({}), {"name": "raw", "expectations": []}, "x", lambda c: "public")
    assert "at least one row expected" in Tags(page.render(result, "t").decode()).text
