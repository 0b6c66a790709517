"""Check what an sdist and the wheel built from it hold: ``distributions.py FOLDER``."""

from __future__ import annotations

import sys
import tarfile
import zipfile
from pathlib import Path

SOURCES = (".py", ".pyi", ".pyx", ".pxd", ".h")
NEEDED = ("tests/conftest.py", "tests/compat/kombu-5.7.0.json", "README.rst", "LICENSE")


def main(folder: Path) -> None:
    """Exit with what is wrong, or print the names of both."""
    (sdist,) = folder.glob("*.tar.gz")
    (wheel,) = folder.glob("*.whl")
    with tarfile.open(sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    packed = set(zipfile.ZipFile(wheel).namelist())
    tree = {path.as_posix() for path in Path("kombu").rglob("*") if path.suffix in SOURCES} | {"kombu/py.typed"}
    extensions = {Path(name).stem for name in tree if name.endswith(".pyx")}
    compiled = {Path(name).name.partition(".")[0] for name in packed if name.endswith((".so", ".pyd"))}
    problems = [f"the sdist lacks {name}" for name in sorted(tree - inside)]
    problems += [f"the wheel lacks {name}" for name in sorted(tree - packed)]
    problems += [f"the sdist has generated {name}" for name in inside if Path(name).match("kombu/**/*.c")]
    problems += [f"the wheel has generated {name}" for name in packed if name.endswith(".c")]
    problems += [f"the wheel has no compiled {name}" for name in sorted(extensions - compiled)]
    problems += [f"the wheel has {name}" for name in packed if not name.startswith("kombu")]
    problems += [f"the sdist lacks {name}" for name in NEEDED if name not in inside]
    if problems:
        sys.exit("\n".join(problems))
    print(f"{sdist.name}\n{wheel.name}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
