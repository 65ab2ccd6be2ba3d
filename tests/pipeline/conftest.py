"""Every test of the pipeline runs torch on one thread."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def _calm_torch(one_thread: None) -> None:
    pass
