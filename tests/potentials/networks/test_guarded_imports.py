"""Imports that leave the process as they found it."""

import importlib.util
import os
import subprocess
import sys

import pytest

from gasearch.potentials.networks.architectures import MissingPackageError
from gasearch.potentials.networks.guarded_imports import import_mace, import_schnetpack

PACKAGES = ("schnetpack", "mace")
if any(importlib.util.find_spec(name) is None for name in PACKAGES) and not os.environ.get("CI"):
    pytest.skip("no mace or no schnetpack here: see README", allow_module_level=True)

CODE = """
import os, sys
from gasearch.potentials.mace import network as mace
from gasearch.potentials.painn import network as painn
assert not {"mace", "schnetpack", "e3nn"} & set(sys.modules)
from gasearch.potentials.networks.guarded_imports import import_mace, import_schnetpack
mace.MaceNetwork([8, 26], hidden_irreps="4x0e")
painn.PainnNetwork([8, 26])
assert "mace.modules" in sys.modules and "schnetpack" in sys.modules
assert "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD" not in os.environ
import_mace("mace.calculators")
assert "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD" not in os.environ
import torch
assert slice not in torch.serialization.get_safe_globals()
assert torch.get_default_dtype() == torch.float32
"""


def test_packages_come_late_and_change_neither_output_nor_torch_load():
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TORCH_FORCE")}
    environment["MPLBACKEND"] = "agg"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", CODE],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_user_s_own_setting_of_torch_load_stays(monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "0")
    import_mace()
    assert os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] == "0"


@pytest.mark.parametrize(
    ("package", "imported", "extra"),
    [("mace", import_mace, "mace"), ("schnetpack", import_schnetpack, "schnetpack")],
)
def test_a_missing_package_is_told_in_one_line(monkeypatch, package, imported, extra):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackageError) as error:
        imported()
    text = str(error.value)
    assert text.startswith(f"No {package} here; try: pip install 'gasearch[{extra}]'")
    assert "\n" not in text


def test_a_broken_package_shows_its_own_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "e3nn.o3", None)
    with pytest.raises(ModuleNotFoundError, match=r"e3nn\.o3"):
        import_mace()
