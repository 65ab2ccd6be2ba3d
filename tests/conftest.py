"""What all tests share: where the real slides are, and a cache of hashes that is thrown away."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

from tests.cohort import TINY, TinyCohort, make_tiny_cohort

# Every call into the models has its shapes checked, whichever test imports them first.
# An int passes for a float, as it does for mypy.
install_import_hook(
    "saccade.models", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
)

# Machines that run tests are shared, so no example is too slow; and what fails, fails again.
settings.register_profile("saccade", deadline=None, derandomize=True)
settings.load_profile("saccade")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the workflow, which takes longest, or one process would be left alone with it."""
    items.sort(key=lambda item: "workflow" not in item.path.parts)


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Folder of real slides and labelled sets."""
    folder = os.environ.get("SACCADE_TEST_DATA")
    if not folder:
        pytest.skip("SACCADE_TEST_DATA is not set: real slides are not here to be read")
    return Path(folder).resolve()


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
        yield


@pytest.fixture(scope="session")
def one_thread() -> None:
    """Keep torch from spinning on more threads than a test machine has to give."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> TinyCohort:
    """Eight tiny slides; tests must not change them."""
    return make_tiny_cohort(tmp_path_factory.mktemp("cohort"))


@pytest.fixture(scope="session")
def pyramids(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of pyramids of the tiny cohort, built once by whoever needs them first."""
    return tmp_path_factory.mktemp("pyramids")


@pytest.fixture(scope="session")
def trained(
    tmp_path_factory: pytest.TempPathFactory, cohort: TinyCohort, pyramids: Path, one_thread: None
) -> Path:
    """Folder of a finished training run on the tiny cohort; tests must not change it."""
    from saccade.pipeline.train import train

    folder = tmp_path_factory.mktemp("trained")
    train(TINY, cohort.rows, folder, pyramids=pyramids)
    return folder
