"""Running from the source tree, without an installation: `PYTHONPATH=. python -m normbench`.

Two packages lie elsewhere in the source tree than in an installation, as pyproject.toml says. `Finder`
finds them there; where the package is installed, Python finds them first by itself.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parent.parent
PLACES = {"normbench.conf": "conf", "hydra_plugins.normbench": "normbench/cli/launcher"}


class Finder:
    """A finder of `sys.meta_path`, to be put behind all others."""

    @classmethod
    def find_spec(
        cls, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Where one of PLACES, or the namespace of Hydra's plugins, is; None for all else."""
        if name == "hydra_plugins":
            namespace = ModuleSpec(name, None, is_package=True)
            namespace.submodule_search_locations = []
            return namespace
        file = ROOT / PLACES.get(name, "") / "__init__.py"
        if name not in PLACES or not file.is_file():
            return None
        folders = [str(file.parent)]
        return importlib.util.spec_from_file_location(
            name, file, submodule_search_locations=folders
        )
