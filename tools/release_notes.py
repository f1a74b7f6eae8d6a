"""Print the part of CHANGELOG.md that belongs to a version: python tools/release_notes.py 0.1.0."""

import re
import sys
from pathlib import Path

CHANGELOG = Path(__file__).resolve().parents[1] / "CHANGELOG.md"


def notes(version: str, text: str) -> str:
    """Return what stands under `## [version]`, without that heading."""
    parts = re.split(r"^## \[([^\]]+)\].*\n", text, flags=re.MULTILINE)
    found = dict(zip(parts[1::2], parts[2::2], strict=True))
    if not found.get(version, "").strip():
        raise SystemExit(f"CHANGELOG.md has nothing under [{version}]; it has {', '.join(found)}")
    return found[version].strip()


if __name__ == "__main__":
    print(notes(sys.argv[1], CHANGELOG.read_text(encoding="utf-8")))
