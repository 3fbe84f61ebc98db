"""Who may answer a release request. Pure: the answer of whoever may not is not counted, whatever Airflow let him do."""

from __future__ import annotations

from collections.abc import Collection


def barred(
    user: str, user_id: str | None, *, approves: bool, approvers: Collection[str], requesters: Collection[str]
) -> str | None:
    """Why a user's answer does not count, in words; None where it does.

    `approvers`: the names that the environment lists, empty where anybody may who can answer in Airflow. Whoever
    asked for the release, or for the training behind it, cannot approve it; to withdraw it by a rejection is open to
    him. A user is known by his name or his id, as Airflow's auth manager has them.
    """
    names = {name for name in (user, user_id) if name}
    asked = bool(names & set(requesters))
    if approves and asked:
        return f"{user} asked for it, and who asks cannot approve"
    if approvers and not asked and not names & set(approvers):
        return f"{user} is no approver of this environment ({', '.join(sorted(approvers))})"
    return None
