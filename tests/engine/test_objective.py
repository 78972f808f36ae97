"""The loss has an exact answer."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_llm4seg.config import ClassSpec, FitConfig
from napari_llm4seg.engine.data import IGNORE
from napari_llm4seg.engine.objective import Objective

ONE = (ClassSpec(value=1, name="lesion"),)
TWO = (ClassSpec(value=3, name="liver"), ClassSpec(value=7, name="spleen"))


def test_sigmoid_loss_equals_the_formula_written_out() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 1, 5, 6), torch.randint(0, 2, (2, 5, 6), dtype=torch.uint8)
    p, t = torch.sigmoid(logits[:, 0]).double(), labels.double()
    bce = -(t * p.log() + (1 - t) * (1 - p).log()).mean()
    dice = 1 - (2 * (p * t).sum() + 1e-5) / (p.sum() + t.sum() + 1e-5)
    loss = Objective(ONE, "sigmoid", FitConfig(bce_weight=0.5, dice_weight=1.0, dice_batch=True))(logits, labels)
    assert float(loss) == pytest.approx(float(0.5 * bce + dice), rel=1e-5)


def test_softmax_loss_equals_the_formula_written_out() -> None:
    torch.manual_seed(1)
    logits = torch.randn(2, 3, 4, 4)
    index = torch.randint(0, 3, (2, 4, 4))
    labels = torch.tensor([0, 3, 7], dtype=torch.uint8)[index]
    p = torch.softmax(logits, 1).double()
    t = torch.nn.functional.one_hot(index, 3).movedim(-1, 1).double()
    ce = -(p.log() * t).sum(1).mean()
    overlap, size = (p * t).sum((0, 2, 3))[1:], (p + t).sum((0, 2, 3))[1:]
    dice = (1 - (2 * overlap + 1e-5) / (size + 1e-5)).mean()
    loss = Objective(TWO, "softmax", FitConfig(bce_weight=1.0, dice_weight=1.0))(logits, labels)
    assert float(loss) == pytest.approx(float(ce + dice), rel=1e-5)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), head=st.sampled_from(["sigmoid", "softmax"]))
def test_what_was_not_annotated_does_not_count(seed: int, head: str) -> None:
    generator = torch.Generator().manual_seed(seed)
    objective = Objective(TWO, head, FitConfig())
    channels = 2 if head == "sigmoid" else 3
    logits = torch.randn(1, channels, 6, 6, generator=generator)
    labels = torch.tensor([0, 3, 7, IGNORE], dtype=torch.uint8)[torch.randint(0, 4, (1, 6, 6), generator=generator)]
    other = torch.where((labels == IGNORE)[:, None], torch.randn(logits.shape, generator=generator) * 5, logits)
    assert torch.allclose(objective(logits, labels), objective(other, labels), rtol=1e-5, atol=1e-7)


def test_a_perfect_answer_costs_almost_nothing_and_a_wrong_one_much() -> None:
    labels = torch.zeros(1, 4, 4, dtype=torch.uint8)
    labels[0, :2] = 1
    right = torch.where(labels[:, None] == 1, 20.0, -20.0)
    objective = Objective(ONE, "sigmoid", FitConfig())
    assert float(objective(right, labels)) < 1e-4
    assert float(objective(-right, labels)) > 5


def test_deep_supervision_halves_the_weight_of_each_coarser_stage() -> None:
    torch.manual_seed(2)
    labels = torch.tensor([0, 3, 7, IGNORE], dtype=torch.uint8)[torch.randint(0, 4, (2, 4, 8, 8))]
    fine, middle, coarse = (torch.randn(2, 3, *grid) for grid in ((4, 8, 8), (4, 4, 4), (2, 2, 2)))
    objective = Objective(TWO, "softmax", FitConfig())
    whole = (
        4 * objective(fine, labels)
        + 2 * objective(middle, labels[:, :, 1::2, 1::2])
        + objective(coarse, labels[:, 1::2, 2::4, 2::4])
    )
    assert float(objective((fine, middle, coarse), labels)) == pytest.approx(float(whole) / 7, rel=1e-6)
    assert float(objective((fine,), labels)) == pytest.approx(float(objective(fine, labels)))


def test_predicted_classes_follow_the_head() -> None:
    logits = torch.tensor([[[[2.0]], [[-1.0]]]])
    assert Objective(TWO, "sigmoid", FitConfig()).predicted(logits, 0.5).flatten().tolist() == [True, False]
    logits = torch.tensor([[[[0.0]], [[1.0]], [[3.0]]]])
    assert Objective(TWO, "softmax", FitConfig()).predicted(logits, 0.5).flatten().tolist() == [False, True]
