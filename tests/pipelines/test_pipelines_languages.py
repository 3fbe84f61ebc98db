"""languages: texts from delivery to predictions job by job, and what is wrong with texts is caught and said."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.job_by_job import JobByJob, project

from demo import media

Files = dict[str, bytes]
WEEKS = media.weeks()
WINDOW, LATER = WEEKS[6:15], WEEKS[15:18]


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> JobByJob:
    """The pipeline with twelve weeks after those of the fit."""
    from millrace.core.settings import Settings
    from millrace.feast_stores.apply import apply

    root = tmp_path_factory.mktemp("languages")
    (root / "include").mkdir()
    tree = project(root, "languages")
    apply(tree, Settings.load(root, {}))
    line = JobByJob(tree, "languages")
    for week in [*WINDOW, *LATER]:
        media.write_texts(line.incoming, week)
        line.features(week)
    return line


@pytest.fixture(scope="module")
def trained(line: JobByJob) -> dict[str, Any]:
    rows = line.training_set(WINDOW).outputs["data"]
    model = line.job("train", WINDOW, [("training_set", rows, None)], learner=None).outputs["model"]
    judged = line.job("evaluate", WINDOW, [("training_set", rows, None), ("model", model, None)])
    return {"model": model, "judged": judged}


def test_a_model_tells_the_languages_apart_by_n_grams(line: JobByJob, trained: dict[str, Any]) -> None:
    from millrace.models.files import load

    judged = trained["judged"]
    assert judged.verdict.passed, judged.verdict.failures
    assert judged.metrics["accuracy"].low > 0.6, "chance is one in eight"
    card = load(line.objects, trained["model"].uri, trained["model"].digest).card
    assert card.classes == media.LANGUAGES
    assert card.embedding == line.snapshots.manifest("languages", "features", line.published[LATER[0]].digest).source


def test_later_weeks_are_scored_as_languages_and_nothing_drifts(line: JobByJob, trained: dict[str, Any]) -> None:
    inputs = []
    for week in LATER:
        outcome = line.job("score", [week], [("features", line.published[week], week),
                                             ("model", trained["model"], None)], version="1")  # fmt: skip
        inputs.append(("predictions", outcome.outputs["data"], week))
    assert set(line.read(inputs[0][1])["prediction"].to_pylist()) <= set(media.LANGUAGES)
    features = [("features", line.published[week], week) for week in LATER]
    seen = line.job("performance", LATER, [*inputs, *features, ("evaluation", trained["judged"].outputs["evaluation"],
                                                                None)], as_of="2024-08-01T00:00:00Z")  # fmt: skip
    assert seen.facts["degraded"] is False and seen.metrics["accuracy"].value > 0.7
    current = [("current", line.published[week], week) for week in LATER]
    found = line.job("drift", LATER, [*current, *inputs, ("model", trained["model"], None)],
                     as_of="2024-08-01T00:00:00Z")  # fmt: skip
    assert found.facts["enough_rows"] is True and found.facts["broken"] == {}
    assert [c for c, facts in found.facts["columns"].items() if facts["drifted"]] == []


def test_another_language_drifts_in_the_embedding(line: JobByJob, trained: dict[str, Any]) -> None:
    # Given three weeks of Polish and Finnish, whatever their labels say
    made = []
    for week in LATER:
        changed(line, week, foreign)
        raw = line.land(week)
        assert line.gate(week, raw, "raw.texts") == []
        made.append(("current", line.job("transform", [week], [("texts", raw, week)]).outputs["data"], week))
        media.write_texts(line.incoming, week)
    found = line.job("drift", LATER, [*made, ("model", trained["model"], None)], as_of="2024-08-01T00:00:00Z")
    moved = {c for c, facts in found.facts["columns"].items() if facts["drifted"]}
    assert "unexplained" in moved and len(moved) >= 3
    assert found.facts["drifted"] is True


def changed(line: JobByJob, week: str, change: Callable[[Files], None]) -> None:
    """Deliver a week with its files changed."""
    path = media.write_texts(line.incoming, week)
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    change(files)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)


def names(files: Files) -> list[str]:
    return [name for name in files if name != "index.csv"]


def foreign(files: Files) -> None:
    from babel import Locale

    for number, name in enumerate(names(files)):
        locale = Locale(("pl", "fi")[number % 2])
        known = sorted({*locale.territories.values(), *locale.languages.values()})
        offset = int(name[8:10]) * 8 + number  # other names each week
        files[name] = "\n".join(known[(offset + 37 * n) % len(known)] for n in range(8)).encode()


def each(change: Callable[[str], bytes | str]) -> Callable[[Files], None]:
    """Change the first text that has a letter beyond ASCII."""

    def apply(files: Files) -> None:
        name = next(n for n in names(files) if not files[n].isascii())
        made = change(files[name].decode())
        files[name] = made.encode() if isinstance(made, str) else made

    return apply


def twice(files: Files) -> None:
    one, other = names(files)[:2]
    files[one] = files[other]


def relabelled(files: Files) -> None:
    header, first, *rest = files["index.csv"].decode().splitlines()
    files["index.csv"] = "\n".join([header, f"{first.rpartition(',')[0]},xx", *rest, ""]).encode()


def sent_before(files: Files) -> None:
    files[names(files)[0]] = media._texts()[len(media._texts()) * 15 // 26 - 1][1].encode()


WRONG: dict[str, tuple[Callable[[Files], None], list[str]]] = {
    "Latin-1": (each(lambda t: t.encode("latin-1", "replace")), ["column 'encoding'", "unknown", "column 'text'"]),
    "UTF-16": (each(lambda t: t.encode("utf-16")), ["column 'encoding'", "utf-16"]),
    "with a mark": (each(lambda t: b"\xef\xbb\xbf" + t.encode()), ["column 'encoding'", "utf-8-sig"]),
    "decoded twice": (each(lambda t: "ü" + t.encode().decode("latin-1")), ["another encoding"]),
    "a picture": (each(lambda t: media.png([[0] * 8] * 8)), ["column 'encoding'", "column 'text'"]),
    "short": (each(lambda t: "ø"), ["column 'characters'", "column 'words'"]),
    "empty": (each(lambda t: ""), ["column 'characters'", "column 'letters'"]),
    "long": (each(lambda t: "\n".join([t, t[::-1], t.upper(), t.title(), t.lower(), t.swapcase()])),
             ["column 'characters'"]),
    "one word": (each(lambda t: "Malmö " * 12), ["column 'distinct_words'"]),
    "numbers": (each(lambda t: "4711 0815 2024 17 3 99 1000 12 5 77 81 6 61 62 63"), ["column 'letters'"]),
    "controls": (each(lambda t: t.replace("\n", "\x00")), ["column 'controls'"]),
    "twice": (twice, ["column 'digest'", "2 of"]),
    "sent before": (sent_before, ["column 'digest'", "1 stand in 2024-04-08"]),
    "another label": (relabelled, ["column 'language'", "xx"]),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_with_a_text_fails_the_gate_with_its_name(line: JobByJob, name: str) -> None:
    change, words = WRONG[name]
    week = LATER[1]
    changed(line, week, change)
    failed = "\n".join(line.gate(week, line.land(week), "raw.texts"))
    media.write_texts(line.incoming, week)
    for word in words:
        assert word in failed
    assert len(failed.splitlines()) <= 5


def test_every_week_passes_its_gates(texts: Any) -> None:
    before: dict[str, Any] = {}
    for week in WEEKS:
        raw = texts.read("texts", week)
        assert texts.gate("suites/texts.yaml", raw, week, before) == [], week
        before[week] = raw
        if week in (WEEKS[0], WEEKS[-1]):
            assert texts.gate("suites/features.yaml", texts.transform(week), week) == [], week


def test_the_deliveries_hold_no_name_twice_in_a_language(tmp_path: Path) -> None:
    seen: dict[str, list[str]] = {}
    for week in WEEKS:
        with zipfile.ZipFile(media.write_texts(tmp_path, week)) as archive:
            for line in archive.read("index.csv").decode().splitlines()[1:]:
                name, moment, language = line.split(",")
                assert week <= moment[:10]
                seen.setdefault(language, []).extend(archive.read(name).decode().splitlines())
    assert sorted(seen) == list(media.LANGUAGES)
    for language, found in seen.items():
        assert len(found) == len(set(found)) > 1000, language
    with pytest.raises(ValueError, match="2024-01-01 to 2024-06-24"):
        media.write_texts(tmp_path, "2024-01-02")


def test_the_command_writes_the_same_bytes_each_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for place in ("a", "b"):
        media.main(["--folder", str(tmp_path / place), "texts", WEEKS[0], WEEKS[1]])
        media.main(["--folder", str(tmp_path / place), "digits", "2024-01"])
    assert "2 files" in capsys.readouterr().out
    written = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*.zip"))
    assert len(written) == 3
    assert all((tmp_path / "a" / p).read_bytes() == (tmp_path / "b" / p).read_bytes() for p in written)
