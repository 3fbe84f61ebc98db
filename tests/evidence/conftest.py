"""A project in which a version was trained, registered and promoted, with a signature."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.keys import keys
from support.project import DAYS
from support.whole import Whole

from millrace.airflow.runtime.site import Site


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    """Version 1, trained on fourteen days, is champion."""
    from millrace.jobs import guard, runner

    folder = tmp_path_factory.mktemp("whole")
    private, public = keys(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(guard, "run", lambda request, fork=True: runner.run(request))
        patch.setenv("MILLRACE_SIGNING_KEY", str(private))
        patch.setenv("MILLRACE_SIGNING_PUBLIC_KEY", str(public))
        Site.at.cache_clear()
        made = Whole.made(folder / "shop")
        for day in DAYS[:14]:
            made.features(day)
        assert made.training() == 1
        assert made.release(1)["version"] == 1
        yield made
    Site.at.cache_clear()
