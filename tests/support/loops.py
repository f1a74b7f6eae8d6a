"""Learning loops of tests: over the sixteen orders of 1x1x1, with a toy in the place of DFT."""

from contextlib import contextmanager

import ase.io
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator

from gasearch.learning.folder import LearnFolder
from gasearch.learning.loop import Loop
from gasearch.search.session import Session

TINY = """
[train]
architecture = "painn"
settings = { epochs = 3, save_every_s = 0.001 }
network = { n_features = 8, n_interactions = 1, n_radial = 6, cutoff = 3.0 }
"""


def write_loop(make_run, folder, learn="", **sections):
    """Write a loop over the sixteen orders of 1x1x1, whose DFT is a toy."""
    dft = {"code": "potential", "jobs": 2, "potential": {"name": "./toy.py:Oracle"}}
    make_run(folder, relax={"rattle": 0.0}, dft=dft, **sections)
    (folder / "learn.toml").write_text(learn + TINY)
    return LearnFolder(folder)


NOTHING_BESIDE = "[geometries]\nhalfway = 0\nstrained = 0\nrattled = 0\nswapped = 0\n"


class Quiet:
    """What a loop is given: searches run in this process, lines are kept."""

    def __init__(self):
        self.lines = []

    def search(self, folders):
        for folder in folders:
            Session(folder).run()

    def say(self, line):
        self.lines.append(line)

    def dft(self, text):
        pass

    @contextmanager
    def training(self, output):
        yield lambda progress: None


def run(place, **options):
    tools = Quiet()
    return Loop(place, tools, **options).run(), tools.lines


def write_external(make_run, folder):
    """Write a loop whose DFT is computed elsewhere."""
    learn_text = (
        '[rounds]\njobs = 3\nmost = 1\nexternal = "espresso"\n'
        "[geometries]\nhalfway = 0\nstrained = 0\nrattled = 1\nswapped = 0\n"
    )
    names = {name: f"{name}.UPF" for name in ("Na", "Fe", "P", "O")}
    place = write_loop(make_run, folder, learn_text)
    run_file = place.path / "run.toml"
    listed = ", ".join(f'{k} = "{v}"' for k, v in names.items())
    run_file.write_text(
        run_file.read_text().replace(
            "[dft]\n", f'[dft]\n"espresso" = {{ "pseudopotentials" = {{ {listed} }} }}\n'
        )
    )
    return place


def compute_elsewhere(job):
    """Leave what a code could have written, in a format of ASE."""
    atoms = ase.io.read(job.path / "start.traj")
    moments = np.where(atoms.get_initial_charges() == 3, 4.3, 0.0)
    moments[(atoms.symbols == "Fe") & (atoms.get_initial_charges() == 2)] = 3.7
    atoms.calc = SinglePointCalculator(
        atoms, energy=-100.0, forces=np.full((len(atoms), 3), 0.01), magmoms=moments
    )
    ase.io.write(job.path / "result.traj", atoms)
