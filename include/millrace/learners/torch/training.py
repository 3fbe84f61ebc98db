"""The training loop of the torch MLP, in one process or as one rank among several."""

from __future__ import annotations

import math

import torch
from safetensors.torch import load, save
from torch import Tensor

from millrace.core import interruption
from millrace.learners.checkpoints import Checkpoint, Checkpoints
from millrace.learners.protocol import Report, Weights, check_finite, segment_bounds
from millrace.learners.torch.adamw import AdamW
from millrace.learners.torch.compiled import Forward
from millrace.learners.torch.group import ALONE, Group
from millrace.learners.torch.loss import learn_scales, loss_of, target_of
from millrace.models.metrics import Point
from millrace.models.protocol import Matrix, Settings
from millrace.models.torch.net import Net, deterministic, outputs
from millrace.spec.learner import TorchMLPLearner

Data = tuple[Tensor, Tensor, Tensor]
"""Numbers, codes and label of all rows, on the device."""


def fit(
    train: Matrix,
    holdout: Matrix,
    params: TorchMLPLearner,
    settings: Settings,
    checkpoints: Checkpoints,
    report: Report,
    group: Group = ALONE,
) -> Weights:
    """Train; see `Learner.fit`. Asked to leave, it keeps the state after the batch it is at."""
    where = torch.device(settings.device, group.rank if settings.device == "cuda" else None)
    with deterministic(settings, where), interruption.watched():
        net = Net(train.columns, params, settings).to(where)
        learn_scales(net, train, settings.task)
        training = _Training(net, train, holdout, params, settings, group)
        last = checkpoints.last()
        group.wait()  # nobody writes before all have read
        curve = training.restore(last) if last else []
        report(curve)
        training.forward.choose(training.steps)
        for segment, (first, stop) in enumerate(segment_bounds(params.epochs, params.segments), start=1):
            if last and segment <= last.segment:
                continue
            training.begin(segment)
            points = curve[first:]  # of an epoch that a checkpoint inside this segment has
            restored = len(points)
            for epoch in range(first + restored, stop):
                if not training.epoch(epoch):
                    kept = [*curve[:first], *points]
                    if training.done(epoch):
                        checkpoints.save(segment - 1, training.state(epoch), kept, part=training.done(epoch))
                    raise interruption.Interrupted(
                        f"asked to leave during training; {len(kept)} of {params.epochs} epochs "
                        f"and {training.batch} of {training.steps} batches of the next are kept"
                    )
                points.append((epoch + 1, training.losses()))
            check_finite(points)
            curve = [*curve[:first], *points]
            checkpoints.save(segment, training.state(), curve)
            report(points[restored:])
        return Weights(save(net.tensors()), curve)


class _Training:
    """A network with its data, its optimizer, and its place in the epoch: `batch` batches of `steps` are done."""

    def __init__(
        self, net: Net, train: Matrix, holdout: Matrix, params: TorchMLPLearner, settings: Settings, group: Group
    ) -> None:
        self.net, self.params, self.settings, self.group = net, params, settings, group
        self.where = net.mean.device
        sides = {"train": train, "holdout": holdout}
        self.data: dict[str, Data] = {
            side: (*net.inputs(rows), target_of(net, rows, settings.task)) for side, rows in sides.items()
        }
        self.weight = torch.from_numpy(train.weight).float().to(self.where) if len(train.weight) else None
        self.optimizer = AdamW(net.parameters(), params.weight_decay)
        self.forward = Forward(net, self.data["train"], params, settings)
        self.steps = math.ceil(len(train) / params.batch_size)
        self.batch = 0
        self.order: torch.Generator | None = None
        self.epoch_began: Tensor | None = None
        self.resumed: dict[str, Tensor] = {}

    def begin(self, segment: int) -> None:
        """Draw chance anew: alone all from one source; among ranks the order from a common one, dropout from own."""
        seed = self.settings.seed + segment
        torch.manual_seed(seed + 1_000_003 * self.group.rank)
        if self.group.size > 1:
            self.order = torch.Generator(self.where).manual_seed(seed)

    def epoch(self, epoch: int) -> bool:
        """Go through all rows once, or on from the batch of a checkpoint. False: asked to leave after `batch`."""
        params, (dense, codes, target) = self.params, self.data["train"]
        self.net.train()
        batches = torch.split(self._permutation(len(target)), params.batch_size)
        for number in range(self.batch, len(batches)):
            self.batch = number
            if self.group.leaves(number):
                return False
            done = (epoch + number / len(batches)) / params.epochs
            self.optimizer.clear()
            batch = self.group.share(batches[number])
            if len(batch):
                weight = None if self.weight is None else self.weight[batch]
                loss = loss_of(self.forward(dense[batch], codes[batch]), target[batch], self.settings.task, weight)
                (loss * (len(batch) / len(batches[number])) if self.group.size > 1 else loss).backward()
            self.group.add_gradients(self.optimizer.parameters)
            self.optimizer.step(params.learning_rate * 0.5 * (1 + math.cos(math.pi * done)))
        self.batch = 0
        return True

    def losses(self) -> dict[str, float]:
        """Mean loss of each side in units of the label, in float32 whatever the training computes in."""
        task, found = self.settings.task, {}
        for side, (dense, codes, target) in self.data.items():
            mine = self.group.part(len(target))
            wide = target[mine] if task == "multiclass" else target[mine].double()
            with torch.no_grad():
                loss = float(loss_of(outputs(self.net, dense[mine], codes[mine]).double(), wide, task))
            loss = self.group.mean(loss, len(wide), self.where)
            found[side] = loss * float(self.net.label[1]) ** 2 if task == "regression" else loss
        return found

    def done(self, epoch: int) -> int:
        """Batches since the beginning."""
        return epoch * self.steps + self.batch

    def state(self, epoch: int | None = None) -> bytes:
        """Network and optimizer; inside an epoch also the place in it and all sources of chance."""
        place: dict[str, Tensor] = {"compiled": torch.tensor(int(bool(self.forward.compiled)))}
        if epoch is not None:
            assert self.epoch_began is not None
            place |= {
                "batch": torch.tensor(self.batch),
                "epoch": torch.tensor(epoch),
                "order": self.epoch_began,
                "chance": self.group.gather(_chance(self.where), self.where),
            }
        parts = {"net": self.net.tensors(), "optimizer": self.optimizer.state(), "place": place}
        return bytes(save({f"{part}/{name}": v for part, tensors in parts.items() for name, v in tensors.items()}))

    def restore(self, last: Checkpoint) -> list[Point]:
        """Go on from a checkpoint; returns its learning curve."""
        stored = load(last.data)

        def part(name: str) -> dict[str, Tensor]:
            return {key.removeprefix(f"{name}/"): value for key, value in stored.items() if key.startswith(f"{name}/")}

        self.net.load_state_dict(part("net"))
        self.optimizer.restore(part("optimizer"))
        place = part("place")
        self.forward.compiled = bool(place["compiled"])
        if last.part:
            self.batch, self.resumed = int(place["batch"]), place
        return last.curve

    def _permutation(self, rows: int) -> Tensor:
        """This epoch's order of rows: drawn anew, or as it was drawn when a checkpoint was made inside the epoch."""
        place, self.resumed = self.resumed, {}
        here = bool(place) and place["chance"].shape == (self.group.size, len(_chance(self.where)))
        if here:  # chance of another device or number of ranks cannot be continued: then it is drawn anew
            self._set_order(place["order"])
        self.epoch_began = self._order_state()
        order = torch.randperm(rows, generator=self.order, device=self.where)
        if here:
            _set_chance(place["chance"][self.group.rank], self.where)
        return order

    def _order_state(self) -> Tensor:
        return self.order.get_state() if self.order is not None else _chance(self.where)

    def _set_order(self, state: Tensor) -> None:
        if self.order is not None:
            self.order.set_state(state)
        else:
            _set_chance(state, self.where)


def _chance(where: torch.device) -> Tensor:
    return torch.cuda.get_rng_state(where) if where.type == "cuda" else torch.get_rng_state()


def _set_chance(state: Tensor, where: torch.device) -> None:
    state = state.clone()
    if where.type == "cuda":
        torch.cuda.set_rng_state(state, where)
    else:
        torch.set_rng_state(state)
