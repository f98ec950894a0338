"""Formats of exported models, one file each. A new file in this folder that calls `register` is the whole change."""

import importlib
import pkgutil

from fer.artifact.formats.base import FORMATS, Format, get, register

__all__ = ["FORMATS", "Format", "get", "register"]

for _module in pkgutil.iter_modules(__path__, f"{__name__}."):
    importlib.import_module(_module.name)
