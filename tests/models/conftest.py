"""Attention, features and proposals that several tests of the models share."""

import json
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def golden(test_data: Path) -> dict[str, Any]:
    """Numbers produced by running the published implementation of attention sampling."""
    file = test_data.parent / "golden" / "attention_sampling.json"
    if not file.exists():
        pytest.skip("the reference's numbers do not lie beside SACCADE_TEST_DATA")
    vectors: dict[str, Any] = json.loads(file.read_text())
    return vectors
