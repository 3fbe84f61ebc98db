"""feature_repo/<name>.py of a proposal: an entity for each key column, one view, one service."""

from __future__ import annotations

from millrace.proposal.guess import EVENT_TIME, Guess

_FEAST = {"string": "String", "integer": "Int64", "number": "Float64", "boolean": "Bool"}
_KEYS = {"string": "STRING", "integer": "INT64"}


def feast_file(guess: Guess, name: str) -> str:
    """The text of the Feast file."""
    keys = {guess.names[c]: guess.main.kinds[c].type for c in guess.entity}
    fields = {key: _FEAST[kind] for key, kind in {**keys, **guess.features}.items()}
    entities = [f"{key.lower()}_entity" for key in keys]
    lines = [
        f'"""Features of {name}."""',
        "",
        "from datetime import timedelta",
        "",
        "from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType",
        f"from feast.types import {', '.join(sorted(set(fields.values())))}",
        "",
        "# guessed: what a row speaks of, by the columns that tell rows apart; edit",
        *(
            f'{entity} = Entity(name="{name}_{key}", join_keys=["{key}"], value_type=ValueType.{_KEYS[kind]})'
            for entity, (key, kind) in zip(entities, keys.items(), strict=True)
        ),
        "",
        "source = FileSource(",
        f'    name="{name}_features",',
        f'    path="millrace://{name}/features",',
        f'    timestamp_field="{EVENT_TIME}",',
        ")",
        "",
        "features = FeatureView(",
        f'    name="{name}_features",',
        f"    entities=[{', '.join(entities)}],",
        "    ttl=timedelta(days=90),  # guessed: how long a value may be served; edit",
        "    schema=[",
        *(f'        Field(name="{feature}", dtype={kind}),' for feature, kind in fields.items()),
        "    ],",
        "    source=source,",
        ")",
        "",
        f'service = FeatureService(name="{name}", features=[features])',
    ]
    return "\n".join(lines) + "\n"
