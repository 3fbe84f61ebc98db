"""pipeline.yaml of a proposal: features only, each guess said to be one, and a model to go on with as a comment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path

from millrace.proposal.delivery import Delivery
from millrace.proposal.guess import EVENT_TIME, Guess
from millrace.proposal.kinds import ZONE
from millrace.proposal.suites import features_suite
from millrace.proposal.texts import filled, guessed, word, words
from millrace.spec.partitions import Grain

_THRESHOLDS = {
    "binary": "log_loss: {max: 0.7}", "multiclass": "accuracy: {min: 0.5}", "regression": "rmse: {max: 1}",
}  # fmt: skip
_PACES: dict[Grain, dict[str, str]] = {
    "hour": {"window": "P28D", "block": "day", "monitored": "P7D", "known": "PT1H", "cooldown": "P7D"},
    "day": {"window": "P28D", "block": "day", "monitored": "P7D", "known": "P1D", "cooldown": "P7D"},
    "month": {"window": "P12M", "block": "day", "monitored": "P1M", "known": "P1D", "cooldown": "P1M"},
}
"""Grain -> durations with which training and monitoring can begin."""


def spec_file(guess: Guess, root: Path, words_of: Mapping[str, str]) -> str:
    """The text of pipeline.yaml. `words_of` are what templates call the pipeline's name, owner and schema."""
    lines = [*_head(guess, words_of), *_partition(guess), "", "sources:"]
    for delivery in guess.deliveries:
        lines += _source(delivery, guess, root)
    lines += ["", *_features(guess, words_of["__NAME__"]), "", *_columns()]
    return "\n".join(lines) + "\n\n" + _model(guess, words_of)


def _head(guess: Guess, words_of: Mapping[str, str]) -> Iterator[str]:
    yield f"# yaml-language-server: $schema={words_of['__SCHEMA__']}"
    yield f"# Proposed from {', '.join(word(d.named.path.name) for d in guess.deliveries)}."
    yield "# What was told from their names and values is a guess: read each line that says so."
    yield "version: 1"
    yield f"name: {words_of['__NAME__']}"
    yield f"owner: {word(words_of['__OWNER__'])}"
    yield f"description: Features of {guess.main.name}.{guessed('say in words what they are for')}"
    yield ""


def _partition(guess: Guess) -> Iterator[str]:
    grain, key = guess.main.named.grain, guess.partition
    first, last = (guess.keys[0], guess.keys[-1]) if guess.keys else (key, key)
    yield "partition:"
    yield f"  grain: {grain}{guessed('the date in the name of ' + word(guess.main.named.path.name))}"
    zone = guessed("partitions begin at this zone's midnight, and transform.sql reads hours and dates on its clocks")
    yield f"  timezone: {ZONE}{zone}"
    yield f"  start: {first}{guessed('the first file of this name that is there')}"
    yield f"  end: {last}{guessed('the last one; take this line out when more are to come')}"
    yield "  missing: fail"


def _source(delivery: Delivery, guess: Guess, root: Path) -> Iterator[str]:
    named, static = delivery.named, delivery.named.key is None
    yield f"  {delivery.name}:"
    yield "    kind: files"
    dated = "" if static else guessed("the date in the file's name")
    yield f"    location: {word(_location(delivery, root))}{dated}"
    yield f"    format: {named.format}"
    if named.compression != "none":
        yield f"    compression: {named.compression}"
    if delivery.csv:
        yield f"    csv:{guessed('how the file is written')}"
        yield from (f"      {key}: {_value(value)}" for key, value in delivery.csv.items() if key != "null_values")
        if nulls := delivery.csv.get("null_values"):
            why = "these words are all that is no value in columns of numbers or times; they are null in texts too"
            yield f"      null_values: {_value(nulls)}{guessed(why)}"
    if delivery.local:
        why = f"the zone of times that name none: {', '.join(map(word, delivery.local))}"
        yield f"    timezone: {ZONE}{guessed(why)}"
    if static:
        yield f"    partitioned: false{guessed('no date in the name of the file: one for all partitions')}"
    elif delivery is guess.main:
        yield from _event_time(guess)
    yield f"    gate: suites/{delivery.name}.yaml"
    yield f"    columns: {words(delivery.kinds)}"
    yield from (f"    # left out: {word(column)}: {why}" for column, why in delivery.left_out.items())
    yield "    types:"
    yield from (f"      {word(column)}: {kind.type}{guessed(kind.why)}" for column, kind in delivery.kinds.items())


def _event_time(guess: Guess) -> Iterator[str]:
    moment, rows = guess.moment, guess.main.table.num_rows
    if moment.column is not None and moment.outside:
        yield (
            f"    # event_time: {word(moment.column)}  # {moment.outside:,} of {rows:,} rows lie outside of "
            f"{guess.partition}: is partition.timezone right?"
        )
    elif moment.column is not None and moment.type == "timestamp":
        yield f"    event_time: {word(moment.column)}{guessed('all its times lie in the partition')}"


def _location(delivery: Delivery, root: Path) -> str:
    folder = delivery.named.path.resolve().parent
    base = folder.relative_to(root.resolve()) if folder.is_relative_to(root.resolve()) else folder
    return (base / delivery.named.pattern).as_posix()


def _value(value: object) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    text = str(value)
    if len(text) > 1:
        return word(text)
    return '"\\t"' if text == "\t" else f"'{text}'" if text != "'" else '"\'"'


def _features(guess: Guess, name: str) -> Iterator[str]:
    beside = "" if guess.main.unique(*guess.entity) else f" with {guess.moment.column}"
    yield "features:"
    yield f"  entity: {words(guess.names[c] for c in guess.entity)}{guessed('no two rows are alike in it' + beside)}"
    yield f"  event_time: {EVENT_TIME}"
    yield f"  gate: {features_suite(guess)}"
    yield f"  service: {name}"


def _columns() -> Iterator[str]:
    yield "# All columns are internal: their values stand in no message. Say which are public, and which personal:"
    yield "# columns:"
    yield "#   some_column: public"


def _model(guess: Guess, words_of: Mapping[str, str]) -> str:
    """A label and what follows from it, as a comment."""
    text = (files("millrace") / "templates" / "proposal" / "model.yaml").read_text(encoding="utf-8")
    task = next(iter(guess.labels), "binary")
    label = guess.labels.get(task, ["label"])[0]
    pace = _PACES[guess.main.named.grain or "day"]
    known = "; ".join(f"{name}: {', '.join(columns)}" for name, columns in guess.labels.items())
    meant = {
        "__CANDIDATES__": known or "none of the columns", "__LABEL__": label, "__TASK__": task,
        "__THRESHOLDS__": _THRESHOLDS[task],
        "__DRIFTING__": words(name for name in guess.features if name != label) if len(guess.features) > 1 else "[]",
        **{f"__{name.upper()}__": duration for name, duration in pace.items()},
    }  # fmt: skip
    return filled(text, {**words_of, **meant})
