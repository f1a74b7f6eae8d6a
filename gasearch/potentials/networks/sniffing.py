"""What a model file of another package is, told by its content, whatever its name; opens nothing.

The names and words in a pickle are read without running it, so this is safe before the user has
said that he trusts the file.
"""

from __future__ import annotations

import io
import pickletools
import zipfile
from collections.abc import Iterator

TORCHSCRIPT = "torchscript"
_PARTS = 4  # pickles at the head of an old file of torch: magic number, protocol, system, object
_BY_PACKAGE = ("mace", "schnetpack")
_BY_WORDS = {
    "cpainn": {"model", "node_size", "num_layer"},
    "chgnet": {"state_dict", "model_args"},
}


def kind_of(content: bytes) -> str:
    """Return "mace", "schnetpack", "chgnet", "cpainn" or "torchscript"; "" for anything else.

    "cpainn" is the dictionary that the public cPaiNN's trainer writes, "chgnet" that of CHGNet's.
    """
    pickles = [content]
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
            if any("/code/" in name or name.endswith("/constants.pkl") for name in names):
                return TORCHSCRIPT
            pickles = [archive.read(name) for name in names if name.endswith("data.pkl")]
    words = {word for one in pickles for word in _words(one)}
    packages = {word.split()[0].partition(".")[0] for word in words if " " in word or "." in word}
    for name in _BY_PACKAGE:
        if name in packages:
            return name
    return next((name for name, known in _BY_WORDS.items() if known <= words), "")


def _words(content: bytes) -> Iterator[str]:
    """Yield the texts of the pickles at the head of a file, and what classes they name."""
    stream = io.BytesIO(content)
    for _ in range(_PARTS):
        try:
            for _, argument, _ in pickletools.genops(stream):
                if isinstance(argument, str):
                    yield argument
        except Exception:  # noqa: BLE001 -- it ends where the file is no pickle
            return
