"""The two core packages behind one set of names, for tests that must hold for both."""

from __future__ import annotations

import importlib
from types import ModuleType

PACKAGES = {"c": "kombu._speedups", "python": "kombu._pure"}


class Core:
    """One implementation of the core.

    Its modules are its attributes (``frames``, ``message``, ``drain``, ``pool`` ...), imported when first asked for.
    Both halves are used side by side in one process, whichever of them ``kombu`` itself runs on.

    Attributes:
        impl: ``"c"`` or ``"python"``, as in ``kombu.__impl__``.
        package: the package's name.
    """

    def __init__(self, impl: str) -> None:
        self.impl = impl
        self.package = PACKAGES[impl]

    def __repr__(self) -> str:
        return f"<Core {self.impl}>"

    def __getattr__(self, name: str) -> ModuleType:
        path = f"{self.package}.{name}"
        try:
            module = importlib.import_module(path)
        except ModuleNotFoundError as exc:
            if exc.name != path:
                raise
            raise AttributeError(f"{self!r} has no module {name!r}") from exc
        if name == "message":
            # kombu.message does this for the live core alone.
            serialization = importlib.import_module("kombu.serialization")
            compression = importlib.import_module("kombu.compression")
            self.bodies.configure(serialization.loads, compression.decompress, *serialization.registry.tables)
        setattr(self, name, module)
        return module
