import pytest
import torch
from jaxtyping import TypeCheckError

from saccade.models.attention_networks import pool_valid
from saccade.models.attention_sampling import draw_places, sampling_weights
from saccade.models.build import build_model


def test_a_wrong_shape_is_refused() -> None:
    with pytest.raises(TypeCheckError, match="log_probs"):
        sampling_weights(torch.zeros(3))


def test_shapes_that_disagree_are_refused() -> None:
    with pytest.raises(TypeCheckError, match="log_proposal"):
        sampling_weights(torch.zeros(2, 3), torch.zeros(2, 4))


def test_a_wrong_type_of_numbers_is_refused() -> None:
    with pytest.raises(TypeCheckError, match="log_proposal"):
        draw_places(torch.zeros(2, 3, dtype=torch.int64), 1)
    with pytest.raises(TypeCheckError, match="valid"):
        pool_valid(torch.zeros(1, 2, 2), 1)


def test_methods_are_checked_too() -> None:
    model = build_model(classes=2, attention="paper", encoder="paper")

    with pytest.raises(TypeCheckError, match="valid"):
        model.attend(torch.rand(2, 3, 8, 8), torch.ones(2, 8, 9, dtype=torch.bool))
