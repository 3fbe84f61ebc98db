"""Aliases that somebody changed in MLflow itself: found by what the ledger has decided, and set right."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from millrace.mlflow.registry import CHALLENGER, CHAMPION

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True)
class Strayed:
    """An alias that names another version than it should; None: no version."""

    alias: str
    names: int | None
    should: int | None

    def __str__(self) -> str:
        said = "names no version" if self.names is None else f"names version {self.names}"
        return f"alias '{self.alias}' {said}, and should name {f'version {self.should}' if self.should else 'none'}"


def strayed(found: Mapping[str, int], champion: int | None, challengers: Container[int]) -> list[Strayed]:
    """Which aliases of a registered model are not as the ledger has it. `challengers` are the versions that may be
    called so; that none is, is right too."""
    wrong = []
    if found.get(CHAMPION) != champion:
        wrong.append(Strayed(CHAMPION, found.get(CHAMPION), champion))
    if CHALLENGER in found and found[CHALLENGER] not in challengers:
        wrong.append(Strayed(CHALLENGER, found[CHALLENGER], None))
    return wrong


def revert(client: MlflowClient, name: str, wrong: list[Strayed]) -> None:
    """Let aliases name what they should."""
    for each in wrong:
        if each.should is None:
            client.delete_registered_model_alias(name, each.alias)
        else:
            client.set_registered_model_alias(name, each.alias, str(each.should))
