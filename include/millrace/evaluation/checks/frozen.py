"""The frozen slice of a duel: rows that neither model was trained on, with what both say of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from millrace.core.errors import DataError
from millrace.evaluation.checks.subject import Subject, TrainingSet
from millrace.models.classes import Classes
from millrace.models.encoding import labels
from millrace.models.files import Card, Model
from millrace.models.metrics import Floats, row_losses
from millrace.models.on_demand import with_on_demand

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Side:
    """What one model says of the rows: predictions, its own places of the labels, losses, shape (rows, ..)."""

    prediction: Floats
    label: Floats
    losses: Floats
    classes: Classes


@dataclass(frozen=True)
class Frozen:
    """The rows, their blocks, and both sides. `against` says what the challenger meets."""

    rows: pa.Table
    blocks: NDArray[np.str_]
    challenger: Side
    champion: Side
    against: str


def freeze(subject: Subject) -> Frozen:
    """The rows that both models held out, of which is shown that neither was trained on any of them; losses are weighed
    as the challenger was trained.

    Without a champion the other side says the same of every row: the constant that has the least loss on the rows that
    the challenger was trained on. Raises DataError where there is no honest duel between the two, saying why.
    """
    if subject.training_set is None:
        raise DataError("the training set is not at hand")
    check_identity("challenger", subject.model, subject.training_set)
    mine = subject.model.card
    measured, champion = subject.measured, subject.champion
    if champion is None:
        _no_overlap(measured.rows, mine, ("challenger", mine, subject.training_set))
        prediction = subject.model.predict(measured.rows)
        side = Side(prediction, measured.label, measured.losses, mine.classes)
        other = constant(subject.training_set.rows, side, mine)
        return weighed(Frozen(measured.rows, measured.blocks, side, other, "constant"), subject.weight)
    theirs = _opponent(subject.model, champion)
    if subject.champion_training_set is None:
        raise DataError("the rows that the champion was trained on are not at hand: the evaluation was not given its "
                      "training set")  # fmt: skip
    check_identity("champion", champion, subject.champion_training_set)
    held, _ = theirs.holdout.mask(measured.rows[mine.event_time])
    if not held.any():
        raise DataError("no row was held out by both models; the spec's holdout has changed")
    import pyarrow as pa

    rows = measured.rows.filter(pa.array(held))
    for trained in (
        ("challenger", mine, subject.training_set),
        ("champion", theirs, subject.champion_training_set),
    ):
        _no_overlap(rows, mine, trained)
    try:
        # Its own functions made other on-demand features than the challenger's.
        own = rows if theirs.on_demand == mine.on_demand else with_on_demand(rows, theirs.on_demand)
        prediction = champion.predict(own)
        label = labels(rows, theirs.label, theirs.task, theirs.classes)  # its own classes, where they differ
    except DataError as err:
        raise DataError(f"the champion cannot score these rows: {err}") from err
    ours = Side(subject.model.predict(rows), measured.label[held], measured.losses[held], mine.classes)
    side = Side(prediction, label, row_losses(mine.task, label, prediction), theirs.classes)
    weight = None if subject.weight is None else subject.weight[held]
    return weighed(Frozen(rows, measured.blocks[held], ours, side, "champion"), weight)


def weighed(frozen: Frozen, weight: Floats | None) -> Frozen:
    """The same rows with the losses of both sides weighed alike. A model that was to forget what is past would lose a
    duel on the past, and one that forgot nothing would stay champion of a world that is gone."""
    if weight is None:
        return frozen
    mean = weight / weight.mean()
    ours, theirs = (replace(side, losses=side.losses * mean) for side in (frozen.challenger, frozen.champion))
    return replace(frozen, challenger=ours, champion=theirs)


def check_identity(who: str, model: Model, given: TrainingSet) -> None:
    """Raise DataError where the training set is not the one that the model says it was trained on: the roles were
    swapped, or one of the two is not the one that was asked about."""
    if model.card.training_set != given.digest:
        raise DataError(
            f"the {who} {model.digest} was trained on another training set than the one given; "
            "a role is swapped or stale",
            given=given.digest,
            allowed=[model.card.training_set],
        )


def constant(rows: pa.Table, like: Side, card: Card) -> Side:
    """The constant with the least loss on the rows of a training set that were trained on: the share of each class for
    a log loss, the mean for a squared error."""
    import pyarrow as pa

    held, _ = card.holdout.mask(rows[card.event_time])
    known = labels(rows.filter(pa.array(~held)), card.label, card.task, card.classes)
    if card.task == "multiclass":
        shares = np.bincount(known.astype(np.int64), minlength=len(card.classes)) / len(known)
        prediction = np.tile(shares, (len(like.label), 1))
    else:
        prediction = np.full(len(like.label), known.mean())
    return Side(prediction, like.label, row_losses(card.task, like.label, prediction), card.classes)


def _opponent(model: Model, champion: Model) -> Card:
    """The champion's card, of a model that can be compared with this one."""
    mine, theirs = model.card, champion.card
    if model.digest == champion.digest:
        raise DataError(f"challenger and champion are the same model {model.digest}")
    if theirs.pipeline != mine.pipeline:
        raise DataError(f"the champion {champion.digest} is a model of the pipeline '{theirs.pipeline}'")
    if (mine.task, mine.label) != (theirs.task, theirs.label):
        raise DataError(f"the champion predicts '{theirs.label}' ({theirs.task}), another label")
    if (mine.entity, mine.event_time) != (theirs.entity, theirs.event_time):
        raise DataError(f"the champion knows rows by {', '.join((*theirs.entity, theirs.event_time))}, another key")
    return theirs


def _no_overlap(rows: pa.Table, card: Card, trained: tuple[str, Card, TrainingSet]) -> None:
    """Raise DataError where rows of the slice are among those that a model was trained on, by entity and event time."""
    who, of, given = trained
    if found := overlap(rows, given.rows, of, [*card.entity, card.event_time]):
        raise DataError(f"the {who} was trained on {found} of the {rows.num_rows} rows of the frozen slice")


def overlap(rows: pa.Table, training_set: pa.Table, card: Card, keys: list[str]) -> int:
    """How many rows have the key of a row of a training set that a model did not hold out. Raises DataError where their
    keys cannot be compared."""
    import pyarrow as pa

    if lacking := set(keys) - set(training_set.column_names):
        raise DataError(f"the training set lacks the key {', '.join(sorted(lacking))}")
    mine = rows.select(keys)
    try:
        known = training_set.select(keys).cast(mine.schema)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as err:
        raise DataError("the keys of both training sets have other types: no row can be found again") from err
    met = known.join(mine, keys, join_type="left semi")
    if not met.num_rows:
        return 0
    held, _ = card.holdout.mask(met[card.event_time])
    trained = met.filter(pa.array(~held))
    return int(mine.join(trained, keys, join_type="left semi").num_rows)
