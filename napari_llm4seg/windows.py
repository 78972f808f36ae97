"""Windows: which values are shown, or given to a model, from black to white."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy.typing as npt

# The part of the values that a percentile window spans, in percent: MRI has no unit, and few voxels are very bright.
PERCENTILES = (0.5, 99.5)

# CT numbers of air lie at -1000 HU and of fat at -100 HU; what goes below this is no other modality's.
_AIR = -200


@dataclass(frozen=True)
class Window:
    """A range of values by its ``centre`` and ``width`` (above 0), in HU for CT: what a viewer calls level and width.

    The limits are centre - width / 2 and centre + width / 2, as in DICOM PS3.3 C.11.2.1.3 ("LINEAR_EXACT").
    """

    centre: float
    width: float

    @property
    def limits(self) -> tuple[float, float]:
        return self.centre - self.width / 2, self.centre + self.width / 2

    @classmethod
    def of(cls, low: float, high: float) -> Window:
        return cls((low + high) / 2, high - low)


# In HU. Customary values, which differ a little between institutions: lung, bone and brain as in Radiopaedia,
# "Windowing (CT)" (https://radiopaedia.org/articles/windowing-ct), whose ranges for soft tissue (350-400 wide, centre
# 20-60) hold the first; for the liver narrower windows than for soft tissue are usual, this one for contrast scans.
CT_WINDOWS: Mapping[str, Window] = {
    "soft tissue": Window(40, 400),
    "lung": Window(-600, 1500),
    "bone": Window(400, 1800),
    "brain": Window(40, 80),
    "liver": Window(60, 160),
}
DEFAULT_CT = "soft tissue"


def limits_of_name(name: str) -> tuple[float, float]:
    """Return the limits in HU of the CT window ``name``, spelled with spaces, hyphens or underscores.

    Raises
    ------
    ValueError
        If there is none; the message names those there are.
    """
    plain = " ".join(name.lower().replace("_", " ").replace("-", " ").split())
    if plain not in CT_WINDOWS:
        raise ValueError(f"there is no CT window of that name; there are {', '.join(CT_WINDOWS)}, or give two numbers")
    return CT_WINDOWS[plain].limits


def is_ct(modality: str, lowest: float | None = None) -> bool:
    """Return whether a scan holds CT numbers: it is said to be CT, or has values that only air in CT has.

    Parameters
    ----------
    modality : str
        A DICOM code or words; empty where nothing is known.
    lowest : float, optional
        The smallest value known.
    """
    said = modality.lower().replace("_", " ").replace("-", " ").split()
    return "ct" in said or (lowest is not None and lowest < _AIR)


def percentile_limits(values: npt.NDArray[Any]) -> tuple[float, float] | None:
    """Return the window from the 0.5 to the 99.5 percentile of the finite ``values``; None where it has no width."""
    import numpy as np

    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    if not finite.size:
        return None
    low, high = (float(value) for value in np.percentile(finite, PERCENTILES))
    return (low, high) if high > low else None
