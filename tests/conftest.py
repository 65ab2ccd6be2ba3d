"""What all tests share: where the real slides are, and a cache of hashes that is thrown away."""

import os
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

# Every call into the models has its shapes checked, whichever test imports them first.
# An int passes for a float, as it does for mypy.
install_import_hook(
    "saccade.models", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
)


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Folder of real slides and labelled sets."""
    folder = os.environ.get("SACCADE_TEST_DATA")
    if not folder:
        pytest.skip("SACCADE_TEST_DATA is not set: real slides are not here to be read")
    return Path(folder).resolve()


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
