"""What a run was asked by hand: its form, or the conf of the CLI and REST, which may hold anything."""

from __future__ import annotations

from airflow.sdk import get_current_context
from airflow.sdk.exceptions import AirflowFailException

from millrace.airflow.runtime.site import Site
from millrace.core.errors import nearest


def known_fields(site: Site) -> None:
    """Raise AirflowFailException where the run's conf has a key that the form has not: it would do nothing, silently.

    Airflow checks what the form's fields hold, and lets every other key pass.
    """
    context = get_current_context()
    given, allowed = set(context["dag_run"].conf or {}), set(context["params"])
    for key in sorted(given - allowed):
        near = nearest(key, allowed)
        hint = f" Did you mean '{near}'?" if near else ""
        raise AirflowFailException(
            f"{site.name}: this run was given '{key}', which is no field of its form "
            f"(fields: {', '.join(sorted(allowed))}).{hint} Nothing is done"
        )
