"""How the weights of a network begin."""

from torch import nn


def glorot_uniform(network: nn.Module) -> None:
    """Start convolutions and linear layers as Keras does: Glorot uniform, biases at zero.

    The attention sampling paper trained in Keras; torch's own default starts about half as wide,
    and lets the signal fade from layer to layer.

    Source: Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural
    networks", AISTATS 2010, equation 16.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
