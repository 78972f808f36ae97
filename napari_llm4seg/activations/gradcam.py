"""Grad-CAM of the bottleneck, the familiar reference beside the maps of attention.

For class c with logits y_c over its predicted pixels P (all pixels where it has none), and features A (C, *grid):
w_k = mean over cells of d(sum over P of y_c) / d A_k, and the map is max(0, sum_k w_k A_k).
Sources: Selvaraju et al. (arXiv 1610.02391); for segmentation, Vinogradova et al. (arXiv 2002.11434).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_llm4seg.activations.inspection import Inspection
from napari_llm4seg.activations.replay import Replay
from napari_llm4seg.errors import ConfigError


def grad_cam(
    inspection: Inspection, value: int | None = None, point: Literal["bottleneck", "decoder"] = "bottleneck"
) -> npt.NDArray[np.float32]:
    """Return the map, (N,), at least 0.

    Parameters
    ----------
    inspection : Inspection
    value : int, optional
        Label value of the class; by default the one with the most pixels, the first where the mask is empty.
    point : {"bottleneck", "decoder"}
        Before the language-model block, through which the gradient then goes, or behind it.
    """
    if point not in ("bottleneck", "decoder"):
        raise ConfigError(f"Grad-CAM is taken at 'bottleneck' or 'decoder', not at '{point}'.")
    model = inspection.predictor.checkpoint.config.model
    labels = inspection.normal.labels
    values = [spec.value for spec in model.classes]
    if value is None:
        value = max(values, key=lambda each: int(np.count_nonzero(labels == each)))
    if value not in values:
        raise ConfigError(f"There is no class of label {value}; the model has {', '.join(map(str, values))}.")
    channel = values.index(value) + (model.head == "softmax")
    replay = inspection.replay(mirrored=False)
    inside = torch.from_numpy(np.ascontiguousarray(inspection.frame.to_grid(labels) == value))
    with inspection.predictor.network(), torch.enable_grad():
        features, logits = _forward(replay, point)
        score = logits[0, channel]
        score = score[inside.to(score.device)].sum() if bool(inside.any()) else score.sum()
        (gradient,) = torch.autograd.grad(score, features)
    weights = gradient.flatten(2).mean(-1)
    cam = torch.relu(torch.einsum("bc,bcn->bn", weights, features.detach().flatten(2)))
    result: npt.NDArray[np.float32] = cam[0].float().cpu().numpy()
    return result


def _forward(replay: Replay, point: str) -> tuple[Tensor, Tensor]:
    """Return the features at ``point`` as a leaf, and the logits that follow from them."""
    view, block = replay.views[0], replay.block
    stages = [each.detach() for each in view.features]
    if point == "bottleneck":
        leaf = stages[-1].clone().requires_grad_()
        tokens = block.through(block.bridge.enter(leaf), view.grid, replay.layers)
        stages[-1] = block.add(leaf, block.bridge.leave(tokens, view.grid))
    else:
        with torch.no_grad():
            left = block.add(stages[-1], block.bridge.leave(replay.normal()[0], view.grid))
        leaf = left.clone().requires_grad_()
        stages[-1] = leaf
    return leaf, replay.net.decode(stages, view.image_grid)
