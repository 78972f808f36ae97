"""Fine-tuning moves its parts alone, never learns from what judges it, and leaves the old checkpoint as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from napari_llm4seg.checkpoint import Checkpoint
from napari_llm4seg.config import (
    BackboneConfig,
    BlockConfig,
    Card,
    CheckpointConfig,
    FinetuneConfig,
    FitConfig,
    ModelConfig,
    PreprocessConfig,
)
from napari_llm4seg.corrections import SampleStore
from napari_llm4seg.engine.corrections import Correction, Corrections, from_folders, from_store
from napari_llm4seg.engine.finetune import Finetuned, Finetuner, finetune
from napari_llm4seg.engine.held_back import hold_back
from napari_llm4seg.engine.objective import Objective
from napari_llm4seg.errors import Cancelled, ConfigError, InputError
from napari_llm4seg.io import write
from napari_llm4seg.metrics import dice
from napari_llm4seg.models.llm4seg import LLM4SegNet
from napari_llm4seg.predict import Predictor
from napari_llm4seg.volume import Volume, affine_from_spacing

from .conftest import disc

FIT = FitConfig(epochs=4, batch=2, lr=0.01, warmup_epochs=0, augment="none", validate_every=2)
CONFIG = FinetuneConfig(fit=FIT, variants=2, seconds=None)
SIZE = 32


def checkpoint(block: bool = True, dims: int = 2, seed: int = 0) -> Checkpoint:
    torch.manual_seed(seed)
    backbone = {"kind": "cmunext" if dims == 2 else "unet", "spatial_dims": dims, "widths": (4, 8)}
    model = ModelConfig(
        backbone=BackboneConfig.model_validate(backbone | {"depths": (1, 1), "kernels": (3, 3)}),
        block=BlockConfig(hidden=16) if block else None,
    )
    preprocess = PreprocessConfig(size=(SIZE, SIZE), patch=(4, SIZE, SIZE) if dims == 3 else None)
    config = CheckpointConfig(model=model, preprocess=preprocess, card=Card(name="tiny"))
    return Checkpoint(config, dict(LLM4SegNet(model).trained_tensors()))


def stack(n: int = 20, spacing: tuple[float, float, float] = (2.0, 0.5, 0.5)) -> tuple[Volume, np.ndarray]:
    """Return a scan (1, n, 32, 32) of discs in noise and its mask (n, 32, 32) of 0 and 1."""
    pairs = [disc(z, SIZE) for z in range(n)]
    data = np.stack([image for image, _ in pairs])[None]
    return Volume(data, affine_from_spacing(spacing), unit="mm", name="scan"), np.stack([m for _, m in pairs]).astype(
        np.uint8
    )


def corrected(which: tuple[int, ...] = (0, 3, 6, 9, 12), scan: str = "scan") -> Corrections:
    volume, mask = stack()
    rows = [
        Correction(volume.slice_at(z), mask[z].copy(), f"slice {z}", scan, 0, z, False, (0.5, 0.5), "mm") for z in which
    ]
    return Corrections(tuple(rows), {scan: lambda: volume})


def same(a: Finetuned, b: Finetuned) -> bool:
    return all(torch.equal(tensor, b.checkpoint.tensors[name]) for name, tensor in a.checkpoint.tensors.items())


@pytest.mark.parametrize("parts", ["adapters", "adapters+decoder", "all"])
def test_the_parts_move_and_nothing_else(parts: str) -> None:
    old = checkpoint()
    before = {name: tensor.clone() for name, tensor in old.tensors.items()}
    config = CONFIG.model_copy(update={"parts": parts})
    done = finetune(old, corrected(), config, device="cpu")
    assert all(torch.equal(tensor, before[name]) for name, tensor in old.tensors.items())
    moved = {name for name, tensor in done.checkpoint.tensors.items() if not torch.equal(tensor, before[name])}
    encoder = {name for name in before if name.startswith(("backbone.stem", "backbone.encoder"))}
    decoder = {name for name in before if name.startswith("backbone.")} - encoder
    assert {"block.bridge.adapter_in.weight", "block.bridge.adapter_out.weight"} <= moved
    assert bool(moved & decoder) == (parts != "adapters")
    assert bool(moved & encoder) == (parts == "all")
    assert done.checkpoint.config.model == old.config.model
    training = done.checkpoint.config.card.training
    assert training["parent"] == {"name": "tiny", "sha256": old.digest}
    assert training["parts"] == parts
    assert len(training["samples"]) == 4
    assert len(training["held_back"]) == 1


def test_it_learns_and_the_gate_measures_what_the_checkpoints_say() -> None:
    config = CONFIG.model_copy(
        update={"fit": FIT.model_copy(update={"epochs": 30, "validate_every": 10}), "hold_back": 0.4, "parts": "all"}
    )
    old, slices = checkpoint(), corrected((0, 2, 4, 6, 8, 10, 12, 14))
    done = finetune(old, slices, config, device="cpu", name="tuned")
    assert done.gate.n == 3
    assert done.gate.difference > 0.2
    for which, said, scores in ((old, done.before, done.gate.before), (done.checkpoint, done.after, done.gate.after)):
        predictor = Predictor(which, "cpu")
        for each, labels, score in zip(done.held_back.slices, said, scores, strict=True):
            assert np.array_equal(labels, predictor.predict(each.volume).labels[0])
            assert score.dice == pytest.approx(dice(labels, each.labels))
            assert (score.true, score.pixels, score.alone) == ((np.count_nonzero(each.labels),), SIZE * SIZE, False)
            assert (score.name, score.unit) == (each.name, "mm")
    assert done.checkpoint.name == "tuned"
    assert done.checkpoint.config.card.scores["n"] == 3


def test_what_is_held_back_never_trains() -> None:
    slices = corrected()
    done = finetune(checkpoint(), slices, CONFIG, device="cpu")
    assert done.locked
    for each in slices.slices:
        if each.digest in done.locked:
            each.labels[:] = 1
    assert same(finetune(checkpoint(), slices, CONFIG, device="cpu"), done)


def test_it_stays_held_back_in_later_rounds_and_is_not_replayed() -> None:
    first = finetune(checkpoint(), corrected(), CONFIG, device="cpu")
    more = corrected((*range(0, 20, 2), 3, 9))
    told: list[tuple[int, int]] = []
    config = CONFIG.model_copy(update={"fit": FIT.model_copy(update={"epochs": 1})})
    later = finetune(
        first.checkpoint,
        more,
        config,
        device="cpu",
        locked=first.locked,
        replay=corrected(),
        on_split=lambda train, held: told.append((len(train), len(held))),
    )
    assert set(first.locked) <= set(later.locked)
    assert told == [(len(later.split.train), len(later.split.held_back))]
    used = {each["sha256"] for each in later.checkpoint.config.card.training["samples"]}
    assert not used & set(later.locked)
    assert later.checkpoint.config.card.training["replayed"] <= 4


def test_with_and_without_the_cache_alike() -> None:
    config = CONFIG.model_copy(update={"fit": FIT.model_copy(update={"augment": "strong"}), "variants": 4})
    cached = finetune(checkpoint(), corrected(), config, device="cpu")
    plain = finetune(checkpoint(), corrected(), config.model_copy(update={"cache_mb": 0.0}), device="cpu")
    for name in ("loss", "val_iou"):
        rows = [[row[name] for row in done.history if name in row] for done in (cached, plain)]
        assert rows[0] == pytest.approx(rows[1], abs=1e-4)


def test_a_tuner_begins_each_time_where_the_checkpoint_is() -> None:
    tuner = Finetuner(checkpoint(), CONFIG, "cpu")
    tuner.warm(corrected())
    known = len(tuner.cache)
    assert known == 5  # without augmentation all variants of a slice are one image
    first = tuner.train(corrected())
    assert len(tuner.cache) == known
    tuner.train(corrected(), CONFIG.model_copy(update={"parts": "all"}))
    asked = iter(range(100))
    with pytest.raises(Cancelled):
        tuner.train(corrected(), cancel=lambda: next(asked) > 3)
    assert same(tuner.train(corrected()), first)


def test_stopping_and_time_keep_the_best_so_far() -> None:
    long = CONFIG.model_copy(update={"fit": FIT.model_copy(update={"epochs": 10_000})})
    asked = iter(range(10_000))
    stopped = finetune(checkpoint(), corrected(), long, device="cpu", stop=lambda: next(asked) >= 7)
    scored = {int(row["epoch"]): row["val_iou"] for row in stopped.history if "val_iou" in row}
    best = stopped.checkpoint.config.card.training["best_epoch"]
    assert scored[best] == max(scored.values())
    assert stopped.gate.n == 1
    timed = finetune(checkpoint(), corrected(), long.model_copy(update={"seconds": 0.5}), device="cpu")
    assert 0 < timed.history[-1]["epoch"] < 10_000
    assert timed.history[-1]["seconds"] < 5


def test_a_network_without_a_block_has_no_adapters() -> None:
    slices = corrected((0, 5))
    with pytest.raises(ConfigError, match=r"no adapters to train; choose adapters\+decoder"):
        finetune(checkpoint(block=False), slices, CONFIG.model_copy(update={"parts": "adapters"}), device="cpu")
    done = finetune(checkpoint(block=False), slices, CONFIG, device="cpu")
    assert done.gate.verdict == "not measured"


def test_nothing_to_train_on_is_said() -> None:
    with pytest.raises(InputError, match="no corrected slice"):
        finetune(checkpoint(), [], CONFIG, device="cpu")
    one = corrected((4,))
    with pytest.raises(InputError, match=r"held back.*correct one further away"):
        finetune(checkpoint(), one, CONFIG, device="cpu", locked=[one.slices[0].digest])


def test_a_volumetric_checkpoint_learns_from_single_slices() -> None:
    done = finetune(checkpoint(dims=3), corrected(), CONFIG, device="cpu")
    assert done.gate.n == 1
    assert done.after[0].shape == (SIZE, SIZE)
    assert all(np.isfinite(row["loss"]) for row in done.history)
    without = Corrections(corrected().slices)
    with pytest.raises(InputError, match="not at hand as a volume"):
        finetune(checkpoint(dims=3), without, CONFIG, device="cpu")


def test_what_was_not_annotated_teaches_a_volumetric_checkpoint_nothing() -> None:
    volume, mask = stack()
    rows = []
    for z in (0, 3, 6):
        labels = mask[z].copy()
        labels[: SIZE // 2] = 255
        rows.append(Correction(volume.slice_at(z), labels, f"slice {z}", "scan", 0, z, False))
    (loaded,) = Corrections(tuple(rows), {"scan": lambda: volume}).loaded(
        checkpoint(dims=3).config.preprocess, checkpoint().config.model.classes
    )
    known = loaded.labels != 255
    assert int(known.sum()) == 3 * SIZE * SIZE // 2
    assert bool(known[[0, 3, 6], SIZE // 2 :].all())
    assert loaded.known is not None
    net = checkpoint(dims=3).build().eval()
    objective = Objective(checkpoint().config.model.classes, "sigmoid", CONFIG.fit)
    logits = net(loaded.image[None]).detach().float().requires_grad_()
    objective(logits, loaded.labels[None]).backward()
    assert logits.grad is not None
    assert bool((logits.grad[0, 0][~known] == 0).all())
    assert bool((logits.grad[0, 0][known] != 0).any())


def test_scans_of_before_that_are_gone_keep_no_volumetric_training_from_going_on() -> None:
    def gone() -> Volume:
        raise InputError("The scan is gone.")

    before = Corrections(corrected((0, 5), "before").slices, {"before": gone})
    done = finetune(checkpoint(dims=3), corrected(), CONFIG, device="cpu", replay=before)
    assert all(np.isfinite(row["loss"]) for row in done.history)
    with pytest.raises(InputError, match="gone"):
        finetune(checkpoint(dims=3), before, CONFIG, device="cpu")


def test_corrections_come_out_of_a_project_and_of_folders(tmp_path: Path) -> None:
    volume, mask = stack()
    annotated = np.zeros_like(mask[0], dtype=bool)
    annotated[:16] = True
    with SampleStore.open(tmp_path / "project", create=True) as store:
        scan = store.scan_for(volume)
        store.put(scan, 2, 0, volume.slice_at(2), mask[2], "edited")
        store.put(scan, 9, 0, volume.slice_at(9), mask[9], "edited", annotated=annotated)
        store.put(scan, 4, 1, volume.data[:, :, 4], mask[:, 4], "confirmed")
        found = from_store(store)
        assert [each.key[1:] for each in found.slices] == [(0, 2), (0, 9), (1, 4)]
        assert [each.digest for each in found.slices] == [record.image_digest for record in store.records()]
        assert found.slices[2].spacing == (2.0, 0.5)
        assert from_store(store, [scan.id]).slices[0].name == found.slices[0].name
        assert not len(from_store(store, []))
    truth = found.slices[1].truth(checkpoint().config.model.classes)
    assert np.array_equal(truth[:16], mask[9][:16])
    assert (truth[16:] == 255).all()
    items = found.items()
    assert items[0].scan == items[1].scan != items[2].scan

    whole = np.full_like(mask, 255)
    whole[[2, 9]] = mask[[2, 9]]
    for part, each in (("images", volume), ("masks", volume.with_data(whole[None], kind="label"))):
        (tmp_path / part).mkdir()
        write(tmp_path / part / "scan.nii.gz", each)
    pairs = from_folders(tmp_path / "images", tmp_path / "masks")
    assert [each.index for each in pairs.slices] == [2, 9]
    assert np.array_equal(pairs.slices[0].labels, mask[2])
    assert pairs.volume("scan").grid == volume.grid


@pytest.mark.parametrize("read_only", [True, False])
def test_a_damaged_correction_is_told_and_the_others_train(tmp_path: Path, read_only: bool) -> None:
    volume, mask = stack()
    with SampleStore.open(tmp_path, create=True) as store:
        scan = store.scan_for(volume)
        for z in (2, 9):
            store.put(scan, z, 0, volume.slice_at(z), mask[z], "edited")
    file = next(path for path in tmp_path.rglob("*.npz") if "0002" in path.name)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 255
    file.write_bytes(data)
    with SampleStore.open(tmp_path, read_only=read_only) as store:
        found = from_store(store)
    assert [each.index for each in found.slices] == [9]
    assert len(found.messages) == 1
    assert "damaged" in found.messages[0]


def test_alike_images_of_their_own_are_one_group() -> None:
    image, mask = disc(1, SIZE)
    other = disc(9, SIZE)[0]
    rows = [Correction(each[None], mask.astype(np.uint8), str(i)) for i, each in enumerate((image, other, image))]
    items = Corrections(tuple(rows)).items()
    assert items[0].scan == items[2].scan != items[1].scan
    assert all(item.z is None for item in items)


def test_images_of_one_project_train_together_and_near_duplicates_do_not_judge_each_other(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images, masks = (list(each) for each in zip(*(disc(z, SIZE) for z in (1, 4, 7, 10, 13)), strict=True))
    images.append((images[2] + rng.integers(0, 3, images[2].shape)).clip(0, 255).astype(np.uint8))  # the next frame
    masks.append(masks[2])
    with SampleStore.open(tmp_path, create=True) as store:
        for number, (image, mask) in enumerate(zip(images, masks, strict=True)):
            scan = Volume(image[None, None], name=f"image {number}")
            store.put(store.scan_for(scan), 0, 0, scan.slice_at(0), mask.astype(np.uint8), "confirmed")
        found = from_store(store)
    assert len(found) == 6
    assert all(each.alone for each in found.slices)
    twins = [i for i, each in enumerate(found.slices) if each.name in ("image 2", "image 5")]
    items = found.items()
    assert items[twins[0]].scan == items[twins[1]].scan
    for seed in range(8):
        split = hold_back(items, 0.4, seed=seed)
        assert split.held_back
        assert not (set(twins) & set(split.held_back) and set(twins) & set(split.train)), "one would tell of the other"
    done = finetune(checkpoint(), found, CONFIG, device="cpu")
    assert done.gate.n >= 1
    assert len(done.split.train) + len(done.split.held_back) + len(done.split.left_out) == 6
