"""Page: data docs of a gate as one HTML file that loads nothing, runs nothing, and is the same bytes each time."""

from __future__ import annotations

import re
from html import escape
from html.parser import HTMLParser
from typing import Any

from millrace.gates import gx, words
from millrace.gates.result import CheckResult, GateResult
from millrace.gates.style import CSS

CSP = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
TAGS = {"nav", "ol", "ul", "li", "a", "div", "p", "span", "strong", "h1", "h2", "h3", "h4", "h5", "h6", "br", "table",
        "thead", "tbody", "tr", "th", "td", "code", "pre", "i", "em", "b"}  # fmt: skip
VOID = {"br"}
DROPPED = {"head", "script", "style", "title", "footer", "button", "form", "select", "option", "textarea", "svg",
           "iframe", "object", "template", "label"}  # fmt: skip
"""Elements left out with all that is in them; other elements outside TAGS lose their tags alone."""
NOT_CONTENT = {"sticky-top", "modal", "collapse", "mb-3"}
"""Classes of what makes sense only on a site with scripts: logo bar, walkthrough, folded run info, filter buttons."""
SECTION = re.compile(r"^#?section-\d+$")
# GX puts texts into templates where `<`, `"`, `$` or a brace would have a meaning. They travel as private-use
# characters, which mean nothing anywhere, and become entities after the last step.
SHIELD = {ord(c): 0xE000 + i for i, c in enumerate("<>&\"'$`{}[]*_\\#|~!")}
UNSHIELD = {0xE000 + i: f"&#{ord(c)};" for i, c in enumerate("<>&\"'$`{}[]*_\\#|~!")}


def render(gate: GateResult, title: str) -> bytes:
    """Render a gate with GX's page renderer; every text in it that came from data or suite is inert."""
    gx.load()
    from great_expectations.core import ExpectationSuiteValidationResult
    from great_expectations.render.renderer import ValidationResultsPageRenderer
    from great_expectations.render.view import DefaultJinjaPageView

    with gx.quiet():
        results = [_result(each) for each in gate.results]
        passed = sum(each.check.passed for each in gate.results)
        validation = ExpectationSuiteValidationResult(
            success=gate.verdict.passed,
            suite_name=_shield(gate.suite),
            results=results,
            statistics={
                "evaluated_expectations": len(results),
                "successful_expectations": passed,
                "unsuccessful_expectations": len(results) - passed,
                "success_percent": 100 * passed / len(results),
            },
            meta={"batch_spec": {"data_asset_name": _shield(title)}},
        )
        document = ValidationResultsPageRenderer().render(validation)
        html = DefaultJinjaPageView().render(document, show_how_to_buttons=False)
    body = _Clean.body(html)
    page = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{CSP}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{CSS}</style>\n</head>\n"
        f"<body>\n<h1>{escape(title)}</h1>\n{body}\n</body>\n</html>\n"
    )
    return page.encode()


def _result(item: CheckResult) -> Any:
    """One row of the page. The carrier's type decides only under which heading the row stands."""
    from great_expectations.core import ExpectationValidationResult
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    check = item.check
    column = {"column": _shield(check.column)} if check.column is not None else {}
    carrier = "expect_column_to_exist" if column else "expect_table_row_count_to_be_between"
    kwargs: dict[str, Any] = column or {"min_value": 1}
    result = {k: v for k, v in item.result.items() if k not in ("observed_value", "partial_unexpected_list")}
    if "unexpected_percent" not in result:
        result.pop("unexpected_count", None)  # of distinct values: GX's page would look for their share of rows
    if (observed := item.result.get("observed_value")) is not None:
        result["observed_value"] = _shield(words.shown(observed, 200))
    if sample := item.result.get("partial_unexpected_list"):
        result["partial_unexpected_list"] = [_shield(words.shown(value)) for value in sample]
    return ExpectationValidationResult(
        success=check.passed,
        expectation_config=ExpectationConfiguration(
            type=carrier, kwargs=kwargs, description=_shield(f"{check.message} ({item.type})")
        ),
        result=result,
        exception_info={"raised_exception": False, "exception_message": None, "exception_traceback": None},
    )


def _shield(text: str) -> str:
    return words.shown(text, 2000).translate(SHIELD)


class _Clean(HTMLParser):
    """Writes again what may stay of a page: known tags, classes, and links inside the page."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.out: list[str] = []
        self.skipping: list[str] = []

    @classmethod
    def body(cls, html: str) -> str:
        """The clean inside of a page's body."""
        parser = cls()
        parser.feed(html)
        parser.close()
        text = re.sub(r"[ \t]*\n\s*", "\n", "".join(parser.out))
        return text.strip().translate(UNSHIELD)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        classes = given.get("class", "").split()
        if self.skipping:
            if tag == self.skipping[0]:
                self.skipping.append(tag)
            return
        folds = given.get("data-toggle") == "collapse"
        if tag in DROPPED or (tag in TAGS - VOID and (folds or NOT_CONTENT.intersection(classes))):
            self.skipping.append(tag)
            return
        if tag not in TAGS:
            return
        kept = ""
        if classes:
            kept += f' class="{escape(" ".join(classes))}"'
        if SECTION.match(given.get("id", "")):
            kept += f' id="{given["id"]}"'
        if tag == "a" and SECTION.match(given.get("href", "")):
            kept += f' href="{given["href"]}"'
        self.out.append(f"<{tag}{kept}>")

    def handle_endtag(self, tag: str) -> None:
        if self.skipping:
            if tag == self.skipping[0]:
                self.skipping.pop()
            return
        if tag in TAGS - VOID:
            self.out.append(f"</{tag}>")

    def handle_data(self, data: str) -> None:
        if not self.skipping:
            self.out.append(escape(data))
