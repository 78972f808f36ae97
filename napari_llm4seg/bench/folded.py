"""The folded block against the block it is made from: a LLaMA-3.2-1B-sized layer behind 256 channels and 256 tokens."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

from napari_llm4seg.bench.figures import BenchError, Figure, Measurement, Say, median, run_json_child
from napari_llm4seg.bench.layer import CONFIG

if TYPE_CHECKING:
    from torch import Tensor, nn

    from napari_llm4seg.models.llm4seg import LLM4SegNet

REPEATS = 21


def measure_folded(say: Say, repeats: int = REPEATS) -> Measurement:
    """Time both blocks on the CPU and compare a CMUNeXt's probabilities with either."""
    found = run_json_child(["-m", __name__, json.dumps({"repeats": repeats})])
    whole, folded = median(found["whole_s"]), median(found["folded_s"])
    say(f"folded: {folded * 1e3:.0f} ms against {whole * 1e3:.0f} ms, largest difference {found['difference']:.1e}")
    return Measurement(
        {
            "folded_times_faster": Figure(whole / folded, "times", 1.2, "at least"),
            "folded_probability_difference": Figure(found["difference"], "probability", 1e-4),
        },
        {
            "folded_block_s": folded,
            "unfolded_block_s": whole,
            "block_changes_probabilities_by": found["effect"],
            "folded_threads": found["threads"],
        },
    )


def compare(config: dict[str, Any], widths: tuple[int, ...], size: int, repeats: int) -> dict[str, Any]:
    """Return seconds of both blocks, run in turn, and the largest difference in probability on one image.

    Parameters
    ----------
    config : Hugging Face config of the language model the random layer is shaped like
    widths : channels of CMUNeXt's five stages; the last are those of the bottleneck
    size : side of the image in pixels; the bottleneck has (size / 16)² tokens
    repeats : timed runs of each block
    """
    import torch

    from napari_llm4seg.config import BackboneConfig, BlockConfig, LayerRef, ModelConfig
    from napari_llm4seg.models.llm4seg import LLM4SegNet
    from napari_llm4seg.models.llm_layer import LLMLayer
    from napari_llm4seg.models.spec import LayerSpec

    spec = LayerSpec.from_config(config)
    ref = LayerRef(repository="random", index=0, sha256="0" * 64)
    block = BlockConfig(layers=(ref,), hidden=spec.hidden)
    torch.manual_seed(0)
    net = LLM4SegNet(ModelConfig(backbone=BackboneConfig(widths=widths), block=block), [LLMLayer.random(spec)]).eval()
    image = torch.randn(1, 1, size, size)
    _liven(net, image)
    twin = net.folded()
    assert net.block is not None
    assert twin.block is not None
    features = torch.randn(1, widths[-1], size // 16, size // 16)
    with torch.inference_mode():
        whole = net(image).sigmoid()
        difference = float((whole - twin(image).sigmoid()).abs().max())
        seconds: dict[str, list[float]] = {"whole_s": [], "folded_s": []}
        for repeat in range(repeats + 2):
            for name, module in (("whole_s", net.block), ("folded_s", twin.block)):
                took = _seconds(module, features)
                if repeat >= 2:  # the first runs set up memory and kernels
                    seconds[name].append(took)
        net.set_block("off")
        effect = float((whole - net(image).sigmoid()).abs().max())
    if effect < 0.01:  # then equal probabilities would say nothing about the block
        raise BenchError(f"The block changes no probability by more than {effect:.1e}.")
    return seconds | {"difference": difference, "effect": effect, "threads": torch.get_num_threads()}


def _liven(net: LLM4SegNet, image: Tensor) -> None:
    """Give a fresh network the statistics and the spread of a trained one; its probabilities are all alike without."""
    import torch

    norms = [module for module in net.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        net.train()(torch.cat((image, image.flip(-1))))
        logits = net.eval()(image)
        head = next(module for module in reversed(list(net.modules())) if isinstance(module, torch.nn.Conv2d))
        head.weight *= 2 / logits.std()


def _seconds(module: nn.Module, features: Any) -> float:
    started = time.perf_counter()
    module(features)
    return time.perf_counter() - started


if __name__ == "__main__":
    print(json.dumps(compare(CONFIG, (16, 32, 128, 160, 256), 256, int(json.loads(sys.argv[1])["repeats"]))))
