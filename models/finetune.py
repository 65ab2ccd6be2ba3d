"""Fine-tuning: which layers of an encoder learn, and how fast.

An encoder that has seen many images is changed less than what is new: it stays as it is, or only
its last block learns, or each block learns more slowly than the one after it. Attention, the
head, and what was put before or behind the trunk are new, and always learn in full.

Layer-wise rates: Clark et al., "ELECTRA", ICLR 2020, https://arxiv.org/abs/2003.10555, appendix A;
for images Bao et al., "BEiT", ICLR 2022, https://arxiv.org/abs/2106.08254. timm knows the layers of
its models.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from torch import nn

from saccade.models.attention_sampling import AttentionSampling
from saccade.models.encoders import Encoder, rest

Finetune = Literal["all", "last_block", "frozen"]

_HEAD = "the head that takes the features"


class Layers(NamedTuple):
    """The layers of a trunk, from the pixels on.

    Attributes:
        number: of the layer of each parameter, by name; 0 is nearest to the pixels.
        head: one above that of the last block. What a trunk has after its blocks, such as a last
            norm, may have it, too: it is the head's.
    """

    number: Mapping[str, int]
    head: int


class _WithHead(nn.Module):
    """The names of a trunk's parameters, and one for the head, which timm has no block for."""

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk

    def named_parameters(self, *_: Any, **__: Any) -> Iterator[tuple[str, nn.Parameter]]:
        yield from self.trunk.named_parameters()
        yield _HEAD, nn.Parameter()


def layers_of(trunk: Any) -> Layers:
    """Number the layers of a trunk: the blocks of a timm model, the stages of others.

    >>> from saccade.models.encoders import compact_encoder
    >>> layers = layers_of(compact_encoder().trunk)
    >>> layers.number["2.refine.weight"], layers.head
    (2, 3)
    """
    if hasattr(trunk, "group_matcher"):
        from timm.models import group_parameters  # timm is there already, as the trunk is its own

        matcher = trunk.group_matcher(coarse=False)
        number = group_parameters(_WithHead(trunk), matcher, reverse=True)
        return Layers(number, number.pop(_HEAD))
    stages = [name.partition(".")[0] for name, _ in trunk.named_parameters()]
    order = {stage: i for i, stage in enumerate(dict.fromkeys(stages))}
    names = (name for name, _ in trunk.named_parameters())
    return Layers({name: order[name.partition(".")[0]] for name in names}, len(order))


def choose_what_learns(encoder: Encoder, policy: Finetune) -> None:
    """Freeze those layers of an encoder that are to stay as they are.

    Args:
        encoder: to be trained.
        policy: `all` freezes nothing, `last_block` what comes before the last block, `frozen` all.
    """
    encoder.freeze(kept_as_they_are(encoder.trunk, policy))


def kept_as_they_are(trunk: nn.Module, policy: Finetune) -> list[str]:
    """Names of the parameters of a trunk that a policy freezes, as for `choose_what_learns`."""
    number, head = layers_of(trunk)
    first = {"all": 0, "last_block": head - 1, "frozen": head + 1}[policy]
    return [name for name, layer in number.items() if layer < first]


class Resting(nn.Module):
    """A network in training of whose trunk some layers stay as they are.

    These are in evaluation mode whatever `train()` says: without dropout, and with batch norms that
    neither look at the batch nor change their statistics.

    Args:
        network: to be trained.
        trunk: the part of it that a policy is for.
        policy: as for `choose_what_learns`.
    """

    def __init__(self, network: nn.Module, trunk: nn.Module, policy: Finetune) -> None:
        super().__init__()
        self.network = network
        self._frozen = frozenset(kept_as_they_are(trunk, policy))
        self._trunk = [trunk]  # in a list, so that it is no part of this for a second time
        for name in self._frozen:
            trunk.get_parameter(name).requires_grad_(False)

    def train(self, mode: bool = True) -> "Resting":
        """Set training mode, but for what is frozen."""
        super().train(mode)
        if self._frozen:
            rest(self._trunk[0], self._frozen)
        return self

    def forward(self, *inputs: Any) -> Any:
        """What the network makes of its inputs."""
        return self.network(*inputs)


def parameter_groups(
    model: AttentionSampling, *, weight_decay: float, layer_decay: float = 1.0
) -> list[dict[str, Any]]:
    """What of a model learns, in groups for an optimizer: `groups_around` its encoder's trunk."""
    return groups_around(
        model.encoder.trunk, model, weight_decay=weight_decay, layer_decay=layer_decay
    )


def groups_around(
    trunk: Any, model: nn.Module, *, weight_decay: float, layer_decay: float = 1.0
) -> list[dict[str, Any]]:
    """What learns, in groups for an optimizer.

    `lr_scale` of a group is its share of the learning rate: `layer_decay ** (head - layer)` in the
    trunk, so that the last block has `layer_decay`, the one before it its square, and so on; 1 in
    what is not of the trunk, such as attention and head. Weights decay but for norms and biases,
    which have one dimension, and what a timm model wants spared, such as embeddings of positions.

    Args:
        trunk: part of the model.
        model: frozen parameters are left out.
        weight_decay: of all that decays.
        layer_decay: by how much slower each layer learns than the one after it; 1 for alike.
    """
    number, head = layers_of(trunk)
    spared = set(trunk.no_weight_decay()) if hasattr(trunk, "no_weight_decay") else set()
    of_trunk = {id(parameter): name for name, parameter in trunk.named_parameters()}
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        name = of_trunk.get(id(parameter))
        layer = head if name is None else number[name]
        decays = parameter.ndim > 1 and name not in spared
        if parameter.requires_grad:
            groups.setdefault((layer_decay ** (head - layer), decays), []).append(parameter)
    return [
        {"params": params, "lr_scale": scale, "weight_decay": weight_decay if decays else 0.0}
        for (scale, decays), params in groups.items()
    ]
