"""The chance of a draw, told by the draw itself.

Draws without replacement give one unbiased estimate of the mean over all places after the other:
the attention and features of the places drawn before, and this one in the stead of all that was
left. Their mean is the estimate that `sampling_weights` makes. Given the draws before, each has the
same expectation, so they are uncorrelated, and their spread says how far their mean is off: no
second draw is needed for that.

Source: Des Raj, "Some Estimators in Sampling with Varying Probabilities without Replacement",
JASA 51 (1956), section 2: the estimates `t_r`, and their variance estimated from their squares.

Deviation: places may be drawn from another distribution than the attention, as `sampling_weights`
allows.
"""

from jaxtyping import Float
from torch import Tensor

from saccade.models.attention_sampling import undrawn_before


def estimates_by_draw(
    features: Float[Tensor, "images k features"],
    log_probs: Float[Tensor, "images k"],
    log_proposal: Float[Tensor, "images k"] | None = None,
) -> Float[Tensor, "images k features"]:
    """Estimate the attention-weighted mean feature of all places once with each draw.

    With attention a, proposal q and features f, draw j gives
    `sum over i < j of a_i f_i + a_j f_j undrawn_j / q_j`, where `undrawn_j` is what q holds before
    draw j. Each is unbiased and they are uncorrelated. So for their mean m over k draws,
    `sum (t_j - m)^2 / (k (k - 1))` has the variance of m as its expectation.

    Args:
        features: of the drawn places, in the order of the draw.
        log_probs: log attention of the drawn places.
        log_proposal: log of the distribution that they were drawn from, normalised over all
            places. None: drawn from the attention.
    """
    q = (log_probs if log_proposal is None else log_proposal).exp()
    share = log_probs.exp()[..., None] * features
    before = share.cumsum(dim=1) - share
    return before + (undrawn_before(q) / q)[..., None] * share
