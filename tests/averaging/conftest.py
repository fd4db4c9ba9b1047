"""Settings of these tests: one thread (tensors are tiny, threads would only wait for each other), fixed examples."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

from .processes import Teams

torch.set_num_threads(1)
settings.register_profile("fixed", derandomize=True, database=None, deadline=None)
settings.load_profile("fixed")


@pytest.fixture(scope="session")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Teams]:
    """Run a function in several processes; an exception in one of them fails the test."""
    teams = Teams(tmp_path_factory.mktemp("teams"))
    yield teams
    teams.end()
