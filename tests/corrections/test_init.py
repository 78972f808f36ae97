from __future__ import annotations

import subprocess
import sys

from napari_llm4seg import corrections

HEAVY = ("torch", "monai", "lightning_fabric", "scipy", "skimage", "SimpleITK", "zarr", "napari", "qtpy", "dask")


def test_every_public_name_has_a_home_and_none_needs_anything_heavy() -> None:
    code = (
        "from napari_llm4seg import corrections\n"
        "for name in corrections.__all__: getattr(corrections, name)\n"
        f"import sys; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == []
    assert set(dir(corrections)) == set(corrections.__all__)
