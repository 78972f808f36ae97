from __future__ import annotations

import pytest
import torch

from napari_llm4seg.errors import DeviceError
from napari_llm4seg.predict import device as module
from napari_llm4seg.predict.device import available_devices, choose_device, describe_device


@pytest.fixture
def two_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Card")
    monkeypatch.setattr(module, "_has_mps", lambda: False)


@pytest.fixture
def nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(module, "_has_mps", lambda: False)


@pytest.mark.usefixtures("nothing")
def test_auto_takes_the_cpu_where_there_is_nothing_else() -> None:
    assert choose_device("auto") == choose_device("CPU ") == torch.device("cpu")
    assert available_devices() == {"cpu": "CPU"}


@pytest.mark.usefixtures("two_cards")
def test_cards_are_preferred_and_chosen_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_works", lambda device: True)
    assert list(available_devices()) == ["cuda:0", "cuda:1", "cpu"]
    assert choose_device("auto") == choose_device("cuda") == torch.device("cuda:0")
    assert choose_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(DeviceError, match=r"'cuda:2' is not there\. Here: cuda:0 \(Card\), cuda:1 \(Card\), cpu\."):
        choose_device("cuda:2")


@pytest.mark.usefixtures("two_cards")
def test_a_card_that_cannot_compute_is_passed_over_but_named_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_works", lambda device: False)
    assert choose_device("auto") == torch.device("cpu")
    with pytest.raises(DeviceError, match="cannot compute"):
        choose_device("cuda:0")


@pytest.mark.usefixtures("nothing")
@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps"])
def test_absent_devices_get_one_line_that_says_what_is_there(name: str) -> None:
    with pytest.raises(DeviceError, match=rf"Device '{name}' is not there\. Here: cpu\. ") as raised:
        choose_device(name)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:-1", "cuda:x", "", "cpu:0"])
def test_unknown_names(name: str) -> None:
    with pytest.raises(DeviceError, match="is unknown; use auto, cpu, cuda, cuda:N or mps"):
        choose_device(name)


def test_the_check_says_what_works() -> None:
    assert module._works(torch.device("cpu"))
    assert not module._works(torch.device("cuda:63"))


def test_description() -> None:
    assert describe_device(torch.device("cpu")) == "CPU"
    assert describe_device(torch.device("mps")) == "Apple GPU"


@pytest.mark.gpu
def test_real_card() -> None:
    chosen = choose_device("auto")
    assert chosen == torch.device("cuda:0")
    assert describe_device(chosen) == available_devices()["cuda:0"]
