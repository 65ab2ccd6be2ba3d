"""The losses of SAOL: each by hand, where they teach and where not, and an exact CutMix."""

import math

import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2

from saccade.models.cutmix import cutmix, rectangles
from saccade.models.spatial_losses import (
    TrainingBranches,
    distillation_loss,
    label_loss,
    map_loss,
    pasted_share,
    spatial_loss,
)
from saccade.models.spatial_output import SpatialOutput


def log_classes(seed: int, *, rows: int = 2, cols: int = 3) -> Tensor:
    dice = torch.Generator().manual_seed(seed)
    return torch.randn(2, 4, rows, cols, generator=dice).log_softmax(dim=1).requires_grad_()


def numbered(count: int = 5, height: int = 6, width: int = 7) -> Tensor:
    """Images whose every pixel says which image it is of."""
    return torch.arange(count).float().view(-1, 1, 1, 1).expand(count, 1, height, width)


@pytest.mark.parametrize("seed", range(20))
def test_cutmix_counts_its_pixels(seed: int) -> None:
    images, labels = numbered(), torch.tensor([0, 1, 1, 2, 0])
    dice = torch.Generator().manual_seed(seed)

    cut = cutmix(images, labels, classes=3, generator=dice)

    own = torch.arange(5)
    shown = cut.images[:, 0].long()
    assert torch.equal(shown, torch.where(cut.mask, cut.partner[:, None, None], own[:, None, None]))
    for image in range(5):
        kept = int((~cut.mask[image]).sum()) / 42
        assert float(cut.kept[image]) == pytest.approx(kept, abs=1e-7)
        wanted = torch.zeros(3)
        wanted[labels[image]] += kept
        wanted[labels[cut.partner[image]]] += 1 - kept
        torch.testing.assert_close(cut.targets[image], wanted)


def test_cutmix_cuts_where_torchvision_does() -> None:
    theirs = v2.CutMix(num_classes=2)
    size = (23, 31)
    for seed in range(30):
        torch.manual_seed(seed)
        share = torch.rand(1)
        theirs._dist.sample = lambda _, share=share: share  # type: ignore[method-assign, misc]
        box = theirs.make_params([torch.zeros(1, 3, *size)])

        torch.manual_seed(seed)
        torch.rand(1)
        col, row = torch.randint(size[1], (1,)), torch.randint(size[0], (1,))  # their order
        mask = rectangles(share, row, col, size)[0]

        x1, y1, x2, y2 = box["box"]
        wanted = torch.zeros(size, dtype=torch.bool)
        wanted[y1:y2, x1:x2] = True
        assert torch.equal(mask, wanted)
        assert 1 - float(mask.double().mean()) == pytest.approx(box["lam_adjusted"])


def test_cutmix_draws_shares_and_places_evenly() -> None:
    """Of thousands of draws, where the middle of the image lies in the part, and how much is kept.

    With an even share s, both sides of the rectangle take r = sqrt(1 - s) of the image, so the
    middle is covered in r * r of the draws: half of them, as the mean of 1 - s.
    """
    dice = torch.Generator().manual_seed(0)
    cut = cutmix(torch.zeros(4000, 1, 21, 21), torch.zeros(4000).long(), classes=1, generator=dice)

    assert float(cut.mask[:, 10, 10].float().mean()) == pytest.approx(0.5, abs=0.06)
    turned = cut.mask.flip(1).float().mean(dim=0) - cut.mask.float().mean(dim=0)
    assert float(turned.abs().mean()) < 0.05


def test_labels_of_a_distribution_are_not_softened_again() -> None:
    log_probs = torch.tensor([[0.25, 0.75], [0.5, 0.5]]).log()
    targets = torch.tensor([[1.0, 0.0], [0.25, 0.75]])

    wanted = -(math.log(0.25) + math.log(0.5)) / 2
    assert float(label_loss(log_probs, targets)) == pytest.approx(wanted)


def test_maps_learn_nothing_where_nothing_was_pasted_in() -> None:
    mixed, source = log_classes(0), log_classes(1)

    loss = map_loss(mixed, source, torch.zeros(2, 2, 3))
    loss.backward()  # type: ignore[no-untyped-call]

    assert float(loss.detach()) == 0
    assert mixed.grad is not None
    assert torch.equal(mixed.grad, torch.zeros_like(mixed))


def test_maps_that_agree_with_their_source_cost_nothing() -> None:
    same = log_classes(0).detach()

    assert float(map_loss(same, same.clone(), torch.ones(2, 2, 3))) == 0


def test_the_loss_of_maps_by_hand() -> None:
    """Three places, of which one is pasted in wholly, one by half, and one not at all."""
    source = torch.tensor([[0.5, 0.2, 0.9], [0.5, 0.8, 0.1]]).log().view(1, 2, 1, 3)
    mixed = torch.tensor([[0.25, 0.6, 0.5], [0.75, 0.4, 0.5]]).log().view(1, 2, 1, 3)
    where = torch.tensor([[[1.0, 0.5, 0.0]]])

    first = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    second = 0.2 * math.log(0.2 / 0.6) + 0.8 * math.log(0.8 / 0.4)
    wanted = (first + second / 2) / 1.5
    assert float(map_loss(mixed, source, where)) == pytest.approx(wanted)

    first = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)
    second = 0.6 * math.log(0.6 / 0.2) + 0.4 * math.log(0.4 / 0.8)
    wanted = (first + second / 2) / 1.5
    assert float(map_loss(mixed, source, where, teacher="mixed")) == pytest.approx(wanted)


@pytest.mark.parametrize("teacher", ["source", "mixed"])
@pytest.mark.parametrize("detach", [True, False])
def test_the_teacher_of_maps_learns_only_if_it_may(teacher: str, detach: bool) -> None:
    mixed, source = log_classes(0), log_classes(1)

    map_loss(mixed, source, torch.ones(2, 2, 3), teacher=teacher, detach=detach).backward()

    known, pupil = (source, mixed) if teacher == "source" else (mixed, source)
    assert pupil.grad is not None
    assert (known.grad is None) == detach


@pytest.mark.parametrize("detach", [True, False])
def test_what_the_plain_classifier_learns_does_not_reach_the_layer(detach: bool) -> None:
    log_probs = torch.tensor([[0.2, 0.8]]).log().requires_grad_()
    logits = torch.zeros(1, 2, requires_grad=True)
    targets = torch.tensor([[1.0, 0.0]])

    loss = distillation_loss(log_probs, logits, targets, detach=detach)
    loss.backward()  # type: ignore[no-untyped-call]

    apart = 0.2 * math.log(0.2 / 0.5) + 0.8 * math.log(0.8 / 0.5)
    assert float(loss.detach()) == pytest.approx(apart + 0.5 * math.log(2))
    assert (log_probs.grad is None) == detach
    assert logits.grad is not None
    # Softmax less what was wanted, by the layer and, at half the weight, by the labels.
    assert logits.grad[0].tolist() == pytest.approx([0.3 - 0.25, -0.3 + 0.25])


def test_a_place_knows_how_much_of_it_was_pasted_in() -> None:
    mask = torch.zeros(1, 4, 6, dtype=torch.bool)
    mask[0, :3, :2] = True

    assert pasted_share(mask, torch.zeros(1, 2, 3)).tolist() == [[[1, 0, 0], [0.5, 0, 0]]]


def test_the_whole_loss_is_the_sum_of_its_parts_and_teaches_everything() -> None:
    torch.manual_seed(0)
    head, branches = SpatialOutput(3, 2, mid=4), TrainingBranches(3, 2, mid=4)
    images = torch.randn(4, 3, 8, 8)
    cut = cutmix(images, torch.tensor([0, 1, 0, 1]), classes=2)

    loss = spatial_loss(
        head(cut.images),
        head(images),
        branches.mask_logits(cut.images),
        branches.class_logits(cut.images),
        cut,
    )
    loss.total.backward()  # type: ignore[no-untyped-call]

    assert float(loss.total.detach()) == pytest.approx(sum(float(part.detach()) for part in loss))
    assert all(float(part.detach()) > 0 for part in loss)
    parameters = [*head.parameters(), *branches.parameters()]
    assert all(each.grad is not None and each.grad.any() for each in parameters)


def test_maps_are_held_to_the_image_that_the_part_is_from() -> None:
    """With a head that reads each place by itself, the part says the same in both images."""
    torch.manual_seed(0)
    head = SpatialOutput(3, 2, mid=4, side=1).eval()
    images = torch.randn(4, 3, 8, 8)
    drawn = cutmix(images, torch.tensor([0, 1, 0, 1]), classes=2)
    partner = torch.tensor([1, 2, 3, 0])
    mask = torch.ones_like(drawn.mask)
    cut = drawn._replace(images=images[partner], partner=partner, mask=mask)

    mixed, plain = head(cut.images), head(images)
    loss = spatial_loss(mixed, plain, torch.zeros(4, 8, 8), torch.zeros(4, 2), cut)

    everywhere = torch.ones(4, 8, 8)
    assert float(map_loss(mixed.log_classes, plain.log_classes, everywhere).detach()) > 1e-4
    assert float(loss.maps.detach()) == pytest.approx(0, abs=1e-7)
