from __future__ import annotations

import threading
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from napari_llm4seg.config import PredictConfig
from napari_llm4seg.errors import Cancelled, DeviceError
from napari_llm4seg.predict import forward as module
from napari_llm4seg.predict.forward import Folding, Forward, interruptible, is_out_of_memory

OUT_OF_MEMORY = [
    torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried to ..."),
    RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"),
    MemoryError("Unable to allocate 8 GiB"),
]


class Limited(nn.Module):
    """Returns the image, but runs out of memory above ``most`` images on ``device`` type."""

    def __init__(self, most: int, error: BaseException, device: str = "cpu") -> None:
        super().__init__()
        self.most, self.error, self.device_type = most, error, device
        self.batches: list[tuple[str, int]] = []

    def forward(self, image: Tensor) -> Tensor:
        self.batches.append((image.device.type, len(image)))
        if image.device.type == self.device_type and len(image) > self.most:
            raise self.error
        return image


def runner(net: nn.Module, said: list[str], device: str = "cpu", **config: Any) -> Forward:
    settings = PredictConfig(**config)
    return Forward(net, lambda: net, "sigmoid", settings, torch.device(device), said.append)


@pytest.fixture(autouse=True)
def _no_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BATCH_SECONDS", 1e9)


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: str(error)[:12])
def test_out_of_memory_halves_the_batch_says_so_and_gives_the_same_answer(error: BaseException) -> None:
    said: list[str] = []
    net = Limited(2, error)
    forward = runner(net, said, batch=8)
    images = torch.randn(9, 1, 4, 4)
    torch.testing.assert_close(forward.probabilities(images), images.sigmoid())
    assert [size for _, size in net.batches] == [8, 4, 2, 2, 2, 2, 1]
    assert said == [
        "CPU ran out of memory at 8 images at once; went on with 4.",
        "CPU ran out of memory at 4 images at once; went on with 2.",
    ]
    assert forward.batch == 2


def test_a_full_device_falls_back_to_the_cpu() -> None:
    said: list[str] = []
    net = Limited(0, torch.cuda.OutOfMemoryError("CUDA out of memory"), device="meta")
    forward = runner(net, said, device="meta", batch=2)
    images = torch.randn(2, 1, 4, 4)
    torch.testing.assert_close(forward.probabilities(images), images.sigmoid())
    assert net.batches == [("meta", 2), ("meta", 1), ("cpu", 1), ("cpu", 1)]
    assert forward.device == torch.device("cpu")
    assert said[-1] == "meta ran out of memory even for one image; went on with the CPU, slower."


def test_a_device_without_an_operation_falls_back_too(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Forward._run

    def without_mps(self: Forward, chunk: Tensor) -> Tensor:
        if self.device.type == "mps":
            raise NotImplementedError("The operator 'aten::x' is not implemented for the MPS device")
        return run(self, chunk)

    monkeypatch.setattr(Forward, "_run", without_mps)
    said: list[str] = []
    images = torch.randn(2, 1, 4, 4)
    torch.testing.assert_close(runner(nn.Identity(), said, device="mps").probabilities(images), images.sigmoid())
    assert len(said) == 1
    assert said[0].startswith("Apple GPU lacks an operation of this network (The operator 'aten::x'")
    assert said[0].endswith("went on with the CPU, slower.")


def test_an_operation_missing_on_the_cpu_is_an_error() -> None:
    class NotThere(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            raise NotImplementedError

    with pytest.raises(NotImplementedError):
        runner(NotThere(), []).probabilities(torch.zeros(1, 1, 2, 2))


def test_not_even_one_image_on_the_cpu_is_one_clear_line() -> None:
    with pytest.raises(DeviceError, match="even for one image on the CPU") as raised:
        runner(Limited(0, MemoryError()), []).probabilities(torch.zeros(4, 1, 2, 2))
    assert "\n" not in str(raised.value)


def test_other_errors_are_not_swallowed() -> None:
    error = RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    assert not is_out_of_memory(error)
    assert not is_out_of_memory(ValueError("out of memory"))
    with pytest.raises(RuntimeError, match="mat1"):
        runner(Limited(0, error), []).probabilities(torch.zeros(1, 1, 2, 2))


def test_softmax_and_mirrored_average() -> None:
    class LeftRamp(nn.Module):
        """Logits that depend on the column alone, so that mirroring must average them."""

        def forward(self, image: Tensor) -> Tensor:
            return torch.arange(4.0).expand(len(image), 1, 2, 4)

    images = torch.zeros(3, 1, 2, 4)
    expected = (torch.arange(4.0).sigmoid() + torch.arange(3, -1, -1.0).sigmoid()) / 2
    torch.testing.assert_close(runner(LeftRamp(), [], flips=True).probabilities(images), expected.expand(3, 1, 2, 4))
    net = nn.Identity()
    logits = torch.randn(2, 3, 4, 4)
    forward = Forward(net, lambda: net, "softmax", PredictConfig(), torch.device("cpu"), print)
    torch.testing.assert_close(forward.probabilities(logits), logits.softmax(1))


def test_non_finite_output_counts_as_zero_and_is_noticed() -> None:
    forward = runner(nn.Identity(), [])
    assert forward.probabilities(torch.full((1, 1, 1, 2), torch.nan)).tolist() == [[[[0.0, 0.0]]]]
    assert forward.non_finite


def test_a_slow_device_gets_small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    class Slow(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            now[0] += 0.1 * len(image)
            return image

    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(module, "_BATCH_SECONDS", 0.35)
    forward = runner(Slow(), [], batch=8)
    assert forward.batch == 8
    forward.probabilities(torch.zeros(1, 1, 2, 2))
    assert forward.batch == 3


def test_cancel_acts_between_the_modules_of_one_forward() -> None:
    cancel = threading.Event()
    ran: list[int] = []

    class Step(nn.Module):
        def __init__(self, number: int) -> None:
            super().__init__()
            self.number = number

        def forward(self, image: Tensor) -> Tensor:
            ran.append(self.number)
            if self.number == 1:
                cancel.set()
            return image

    net = nn.Sequential(*(Step(number) for number in range(4)))
    with pytest.raises(Cancelled), interruptible(net, cancel.is_set):
        net(torch.zeros(1))
    assert ran == [0, 1]
    net(torch.zeros(1))  # the hooks are gone
    assert ran == [0, 1, 0, 1, 2, 3]


def test_cancel_of_one_thread_leaves_the_forward_of_another_alone() -> None:
    net = nn.Sequential(nn.Identity())
    answers: list[Tensor] = []
    with interruptible(net, lambda: True):
        other = threading.Thread(target=lambda: answers.append(net(torch.ones(1))))
        other.start()
        other.join(10)
    assert len(answers) == 1


def test_what_cannot_be_folded_runs_as_it_is() -> None:
    plain = nn.Identity()
    assert Folding(plain)() is plain


def test_the_fold_follows_the_block_and_is_kept_while_nothing_changes() -> None:
    class Block(nn.Module):
        state = "on"

        def running(self) -> list[nn.Module]:
            return []

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = Block()

        def folded(self) -> nn.Module:
            return nn.Identity()

    net = Net()
    fold = Folding(net)
    first = fold()
    assert fold() is first
    net.block.state = "off"
    assert fold() is not first


def test_the_fold_keeps_the_layers_it_was_made_from_and_follows_others() -> None:
    class Block(nn.Module):
        state = "random"

        def __init__(self) -> None:
            super().__init__()
            self.layers: list[nn.Module] = [nn.Identity()]

        def running(self) -> list[nn.Module]:
            return self.layers

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = Block()

        def folded(self) -> nn.Module:
            return nn.Identity()

    net = Net()
    fold = Folding(net)
    first = fold()
    gone = weakref.ref(net.block.layers[0])
    net.block.layers = []
    # while it is known by the fold, no new layer can be born under its identity
    assert gone() is not None
    net.block.layers = [nn.Identity()]
    assert fold() is not first
