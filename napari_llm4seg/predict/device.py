"""Which device a prediction runs on."""

from __future__ import annotations

import re

import torch

from napari_llm4seg.errors import DeviceError


def _works(device: torch.device) -> bool:
    """Return whether ``device`` can really compute: an old card may be listed and yet have no kernels in this build."""
    try:
        return bool((torch.ones(2, device=device) * 2).sum().item() == 4.0)
    except (RuntimeError, AssertionError, NotImplementedError):
        return False


def _has_mps() -> bool:
    return bool(torch.backends.mps.is_available())


def available_devices() -> dict[str, str]:
    """Return what is there, fastest first: device name -> what a person calls it.

    Returns
    -------
    dict of str to str
        For instance ``{"cuda:0": "NVIDIA H200", "cpu": "CPU"}``.
    """
    found: dict[str, str] = {}
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            found[f"cuda:{index}"] = torch.cuda.get_device_name(index)
    if _has_mps():
        found["mps"] = "Apple GPU"
    found["cpu"] = "CPU"
    return found


def _listing() -> str:
    return ", ".join(
        name if title.lower() == name else f"{name} ({title})" for name, title in available_devices().items()
    )


def choose_device(name: str = "auto") -> torch.device:
    """Return the device called ``name``.

    Parameters
    ----------
    name : str
        "auto" (the fastest that works), "cpu", "cuda" (the first card), "cuda:1", "mps".

    Raises
    ------
    DeviceError
        If the name is unknown, or the device is absent or cannot compute; the message names what is there.
    """
    wanted = str(name).strip().lower()
    if wanted == "auto":
        for candidate in available_devices():
            device = torch.device(candidate)
            if device.type == "cpu" or _works(device):
                return device
    if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", wanted):
        raise DeviceError(f"Device '{name}' is unknown; use auto, cpu, cuda, cuda:N or mps. Here: {_listing()}.")
    if wanted == "cuda":
        wanted = "cuda:0"
    if wanted not in available_devices():
        raise DeviceError(f"Device '{name}' is not there. Here: {_listing()}. Choose one of these or auto.")
    device = torch.device(wanted)
    if device.type != "cpu" and not _works(device):
        raise DeviceError(f"Device '{name}' is there but cannot compute with torch {torch.__version__}. Use cpu.")
    return device


def describe_device(device: torch.device) -> str:
    """Return ``device`` as a person calls it: "CPU", "NVIDIA H200"."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return {"cpu": "CPU", "mps": "Apple GPU"}.get(device.type, str(device))


def computes_bfloat16(device: torch.device) -> bool:
    """Return whether ``device`` has bfloat16 arithmetic of its own, which makes mixed precision faster, not slower."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    # private in torch so far, but the only way to ask the processor without reading its flags
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return device.type == "cpu" and supported is not None and bool(supported())
