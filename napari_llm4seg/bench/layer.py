"""One decoder layer out of a large checkpoint: ours against loading the whole model through transformers to take it.

The checkpoint has the shape of LLaMA-3.2-1B with random bfloat16 weights, made on the spot and removed afterwards.
Every way ends with the layer ready to run in float32, which is what the network computes in. "transformers" loads the
model in float32, as the published code does. "transformers_mapped" leaves the dtype as stored, which transformers 5
maps from the file without reading it, and converts the one layer: it is reported beside the figures, so that nobody
takes them for more than they are.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from napari_llm4seg.bench.figures import (
    BenchError,
    Figure,
    Measurement,
    Say,
    Skipped,
    median,
    peak_memory,
    run_json_child,
)
from napari_llm4seg.models.registry import LLAMA

INDEX = 15
_BYTES = 2_500_000_000
_DISK_NEEDED = _BYTES + 1_500_000_000
_MEMORY_NEEDED = 9_000_000_000

# What transformers wants to know beyond a layer's shape, as the published config has it.
CONFIG: dict[str, Any] = LLAMA | {
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 128256,
    "tie_word_embeddings": True,
    "bos_token_id": 128000,
    "eos_token_id": 128001,
    "torch_dtype": "bfloat16",
}


def measure_layer(say: Say, repeats: int = 3) -> Measurement:
    """Time both ways and watch their memory, each in a fresh process with the files in the page cache."""
    if sys.platform == "win32":
        raise Skipped("peak memory is read through getrusage, which this system lacks")
    folder = Path(tempfile.mkdtemp(prefix="llm4seg-bench-"))
    try:
        _check_room(folder)
        say("layer: writing a checkpoint of 2.5 GB")
        run_json_child(["-m", __name__, "make", str(folder)])
        runs: dict[str, list[dict[str, Any]]] = {"ours": [], "transformers": [], "transformers_mapped": []}
        for repeat in range(repeats):
            for way, done in runs.items():
                _warm(folder)
                done.append(run_json_child(["-m", __name__, way, str(folder)]))
                took = done[-1]
                say(f"layer {repeat + 1}/{repeats}, {way}: {took['seconds']:.2f} s, {took['bytes'] / 1e6:.0f} MB")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    checksums = [done[0].pop("checksum") for done in runs.values()]
    if any(checksum != checksums[0] for checksum in checksums):
        raise BenchError("The ways gave different layers.")
    seconds = {way: median([run["seconds"] for run in done]) for way, done in runs.items()}
    peak = {way: median([run["bytes"] for run in done]) for way, done in runs.items()}
    for done in runs.values():
        for run in done:
            run.pop("checksum", None)
    return Measurement(
        {
            "layer_times_faster": Figure(seconds["transformers"] / seconds["ours"], "times", 30, "at least"),
            "layer_times_less_memory": Figure(peak["transformers"] / max(1, peak["ours"]), "times", 10, "at least"),
        },
        {"layer_seconds": seconds, "layer_peak_bytes": peak, "layer_runs": runs},
    )


def _check_room(folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if free < _DISK_NEEDED:
        raise Skipped(f"{free / 1e9:.1f} GB are free in '{folder.parent}'; {_DISK_NEEDED / 1e9:.0f} GB are needed")
    try:
        text = Path("/proc/meminfo").read_text(encoding="utf-8")
    except OSError:
        return
    available = next((int(row.split()[1]) * 1024 for row in text.splitlines() if row.startswith("MemAvailable")), None)
    if available is not None and available < _MEMORY_NEEDED:
        raise Skipped(f"{available / 1e9:.1f} GB of memory are free; {_MEMORY_NEEDED / 1e9:.0f} GB are needed")


def _warm(folder: Path) -> None:
    """Read every file once, so that the page cache is the same for both ways."""
    buffer = bytearray(1 << 24)
    for file in folder.iterdir():
        with file.open("rb", buffering=0) as opened:
            while opened.readinto(buffer):
                pass


def make_checkpoint(folder: Path, config: dict[str, Any] | None = None, shards: int = 4) -> None:
    """Write a checkpoint of random bfloat16 weights in ``shards`` shards of layers and one of embeddings."""
    import torch
    from safetensors.torch import save_file

    from napari_llm4seg.models.spec import LayerSpec

    config = config or CONFIG
    spec, count, hidden = LayerSpec.from_config(config), int(config["num_hidden_layers"]), int(config["hidden_size"])
    generator = torch.Generator().manual_seed(0)

    def random(shape: tuple[int, ...]) -> torch.Tensor:
        return torch.empty(shape, dtype=torch.bfloat16).normal_(0, 0.02, generator=generator)

    weight_map: dict[str, str] = {}

    def save(number: int, tensors: dict[str, torch.Tensor]) -> None:
        name = f"model-{number:05d}-of-{shards + 1:05d}.safetensors"
        save_file(tensors, folder / name, {"format": "pt"})
        weight_map.update(dict.fromkeys(tensors, name))

    ends = {"model.embed_tokens.weight": random((int(config["vocab_size"]), hidden))}
    save(1, ends | {"model.norm.weight": torch.ones(hidden, dtype=torch.bfloat16)})
    for shard in range(shards):
        tensors = {}
        for index in range(shard * count // shards, (shard + 1) * count // shards):
            for name, shape in spec.tensor_shapes().items():
                tensors[f"model.layers.{index}.{name}"] = random(shape)
        save(shard + 2, tensors)
    total = sum((folder / name).stat().st_size for name in set(weight_map.values()))
    table = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(table), encoding="utf-8")
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def _take(way: str, folder: Path) -> dict[str, Any]:
    """Take the layer, ready to run in float32; what is imported before counts neither as time nor as memory."""
    import torch

    layer: Any
    if way == "ours":
        from safetensors import safe_open  # noqa: F401

        from napari_llm4seg.models.llm_layer import LLMLayer
        from napari_llm4seg.models.packs import layer_from_checkpoint

        before, started = peak_memory(), time.perf_counter()
        layer = LLMLayer.from_tensors(*layer_from_checkpoint(folder, INDEX))
    else:
        from transformers import AutoModelForCausalLM, LlamaForCausalLM  # noqa: F401
        from transformers.utils import logging

        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        dtype = torch.float32 if way == "transformers" else "auto"
        before, started = peak_memory(), time.perf_counter()
        model = AutoModelForCausalLM.from_pretrained(folder, torch_dtype=dtype, local_files_only=True)
        layer = model.model.layers[INDEX].float()
    seconds, peak = time.perf_counter() - started, peak_memory()
    checksum = {name: float(weight.detach().sum()) for name, weight in sorted(layer.named_parameters())}
    return {"seconds": seconds, "bytes": peak - before, "checksum": checksum}


def main(arguments: list[str]) -> None:
    """Be the child: ``make FOLDER``, ``ours FOLDER`` or ``transformers FOLDER``."""
    what, folder = arguments[0], Path(arguments[1])
    if what == "make":
        make_checkpoint(folder)
        print(json.dumps({"made": str(folder)}))
    else:
        print(json.dumps(_take(what, folder)))


if __name__ == "__main__":
    main(sys.argv[1:])
