"""Networks that compute in fewer bits than their weights have."""

import torch
from torch import Tensor, nn


def in_dtype(dtype: torch.dtype | None, network: nn.Module, *inputs: Tensor) -> Tensor:
    """Run a network under autocast; what it returns is float32, for sums that need the digits.

    Args:
        dtype: what convolutions and products compute in; None for that of the weights, untouched.
        network: whose weights stay as they are.
        inputs: of the network; the first one says the device.
    """
    if dtype is None:
        result: Tensor = network(*inputs)
        return result
    with torch.autocast(inputs[0].device.type, dtype):
        result = network(*inputs)
    return result.float()
