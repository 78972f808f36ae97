"""Build hook: bring the top-level ``napari.yaml`` and ``resources/`` into the package.

napari looks for the manifest inside the package only. In a wheel both are copied there. An editable install runs the
package from the checkout, so there they are linked (git ignores the links).
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = "napari_llm4seg"
SHIPPED = ("napari.yaml", "resources")


class CustomBuildHook(BuildHookInterface[Any]):
    """Runs before hatchling collects the files of a wheel or sdist."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Link (editable) or force-include (wheel) what is shipped; an sdist takes the top level as it is."""
        root = Path(self.root)
        missing = [name for name in SHIPPED if not (root / name).exists()]
        if missing:
            raise FileNotFoundError(f"{' and '.join(missing)} not found in {root}: the package cannot do without.")
        if self.target_name != "wheel":
            return
        for name in SHIPPED:
            if version == "editable":
                link(root, name)
            else:
                build_data["force_include"][str(root / name)] = f"{PACKAGE}/{name}"


def link(root: Path, name: str) -> None:
    """Make ``PACKAGE/name`` stand for the top-level ``name``: a symlink, or a copy where links are not allowed."""
    source, target = root / name, root / PACKAGE / name
    if target.is_symlink():
        if target.resolve() == source.resolve():
            return
        target.unlink()
    elif target.is_dir():
        shutil.rmtree(target)
    elif target.exists():
        target.unlink()
    try:
        target.symlink_to(os.path.join("..", name), target_is_directory=source.is_dir())
    except OSError:
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copy2(source, target)
