"""The only loss: binary (or multi-class) cross-entropy plus soft Dice, blind where nothing was annotated."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_llm4seg.config import ClassSpec, FitConfig
from napari_llm4seg.engine.data import IGNORE


class Objective(nn.Module):
    """``bce_weight`` x cross-entropy + ``dice_weight`` x Dice.

    Parameters
    ----------
    classes : sequence of ClassSpec
    head : {"sigmoid", "softmax"}
    config : FitConfig
        ``dice_batch`` sums overlaps over the batch before dividing, which keeps empty masks from dominating.
    """

    def __init__(self, classes: Sequence[ClassSpec], head: str, config: FitConfig) -> None:
        super().__init__()
        from monai.losses import DiceLoss

        self.values = [spec.value for spec in classes]
        self.head = head
        self.weights = (config.bce_weight, config.dice_weight)
        self.dice = DiceLoss(include_background=head == "sigmoid", batch=config.dice_batch)

    def members(self, labels: Tensor) -> Tensor:
        """Return which pixels belong to which class, bool (B, n classes, *grid), for label values (B, *grid)."""
        return torch.stack([labels == value for value in self.values], dim=1)

    def targets(self, labels: Tensor) -> Tensor:
        """Return one-hot targets (B, K, *grid) in the head's order, float32."""
        classes = self.members(labels).float()
        if self.head == "sigmoid":
            return classes
        return torch.cat((1 - classes.sum(1, keepdim=True), classes), dim=1)

    def predicted(self, logits: Tensor, threshold: float) -> Tensor:
        """Return which pixels belong to which class, bool (B, n classes, *grid), background left out."""
        if self.head == "sigmoid":
            return torch.sigmoid(logits) >= threshold
        winner = logits.argmax(1)
        return torch.stack([winner == i + 1 for i in range(len(self.values))], dim=1)

    def forward(self, logits: Tensor | Sequence[Tensor], labels: Tensor) -> Tensor:
        """Return the loss, a scalar.

        Parameters
        ----------
        logits : tensor (B, K, *grid), or several, fine to coarse, of a network with deep supervision
            Each next one counts half as much and is held against the labels nearest to its cells' centres, as in
            nnU-Net; the weights add up to 1.
        labels : tensor (B, *grid), label values; 255 is ignored
        """
        if isinstance(logits, Tensor):
            return self._loss(logits, labels)
        weights = [0.5**stage / (2 - 0.5 ** (len(logits) - 1)) for stage in range(len(logits))]
        losses = [
            weight * self._loss(each, _coarse(labels, each.shape[2:]))
            for weight, each in zip(weights, logits, strict=True)
        ]
        return torch.stack(losses).sum()

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        logits = logits.float()
        known = (labels != IGNORE)[:, None].float()
        targets = self.targets(labels) * known
        count = known.sum().clamp(min=1)
        if self.head == "sigmoid":
            pixelwise = F.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(1, keepdim=True)
            probabilities = torch.sigmoid(logits)
        else:
            pixelwise = -(F.log_softmax(logits, dim=1) * targets).sum(1, keepdim=True)
            probabilities = torch.softmax(logits, dim=1)
        cross_entropy = (pixelwise * known).sum() / count
        # masked after the sigmoid: a masked logit of 0 would count as a probability of one half
        dice: Tensor = self.dice(probabilities * known, targets)
        return self.weights[0] * cross_entropy + self.weights[1] * dice


def _coarse(labels: Tensor, grid: Sequence[int]) -> Tensor:
    """Return labels (B, *fine) on a coarser grid, those nearest to its cells' centres."""
    if tuple(labels.shape[1:]) == tuple(grid):
        return labels
    # one label value fits float32 exactly, which interpolation needs
    return F.interpolate(labels[:, None].float(), tuple(grid), mode="nearest-exact")[:, 0].to(labels.dtype)
