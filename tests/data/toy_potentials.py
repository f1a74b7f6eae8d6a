"""Potentials for tests of the engine: they cost nothing, and some of them misbehave on purpose."""

import ctypes
import itertools
import os
import time
from pathlib import Path

import numpy as np
from ase.calculators.calculator import Calculator, all_changes

CUTOFF = 5.0


def distances(atoms):
    """Return those of all pairs within the cutoff, by atom, atom and image; others are infinite."""
    cell = atoms.cell.array
    heights = 1 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    most = np.floor(CUTOFF / heights + 0.5).astype(int)
    images = np.array([*itertools.product(*(range(-n, n + 1) for n in most))])
    places = np.linalg.solve(cell.T, atoms.positions.T).T
    apart = places[:, None] - places
    nearest = apart - np.round(apart)
    r = np.linalg.norm((nearest[:, :, None] + images) @ cell, axis=-1)
    r[(r > CUTOFF) | (r == 0)] = np.inf
    return r


class LabelEnergy(Calculator):
    """Screened charges at the sites where they are; no forces, so one call is a relaxation."""

    implemented_properties = ("energy", "forces", "stress")

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        charges = atoms.get_initial_charges()
        r = distances(atoms)
        energy = float(charges @ np.sum(np.exp(-r / 2) / r, axis=-1) @ charges)
        self.results = {
            "energy": energy,
            "forces": np.zeros((len(atoms), 3)),
            "stress": np.zeros(6),
        }


class Opposite(LabelEnergy):
    """Ranks all orders the wrong way round."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.results["energy"] *= -5


class Blind(LabelEnergy):
    """Sees elements only."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        blind = atoms.copy()
        blind.set_initial_charges(blind.numbers.astype(float))
        super().calculate(blind, properties, system_changes)
        self.atoms = atoms.copy()


class Misbehaving(LabelEnergy):
    """Does `what` to candidates with exactly three sodium and more than half a charge order."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        if self.is_poison(atoms):
            self.misbehave()

    def is_poison(self, atoms):
        return np.count_nonzero(atoms.symbols == "Na") == 3

    def misbehave(self):
        raise NotImplementedError


class NotANumber(Misbehaving):
    def misbehave(self):
        self.results["energy"] = float("nan")


class Exploding(Misbehaving):
    def misbehave(self):
        self.results["forces"] = np.full_like(self.results["forces"], 1e6)


class NoFullEnd(Exploding):
    """Comes to no end where every site is filled."""

    def is_poison(self, atoms):
        return np.count_nonzero(atoms.symbols == "Na") == np.count_nonzero(atoms.symbols == "Fe")


class NoEnds(NoFullEnd):
    """Nor where all sites are empty."""

    def is_poison(self, atoms):
        return "Na" not in atoms.symbols or super().is_poison(atoms)


class Raising(Misbehaving):
    def misbehave(self):
        raise RuntimeError("the calculator gave up")


class Hanging(Misbehaving):
    def misbehave(self):
        time.sleep(3600)


class Frozen(Misbehaving):
    """Hangs in native code that lets no other thread of Python run."""

    def misbehave(self):
        ctypes.PyDLL(None).sleep(3600)


class Killer(Misbehaving):
    def misbehave(self):
        os.abort()


class KillerOnce(Misbehaving):
    """Kills its worker the first time only; a file remembers."""

    def misbehave(self):
        mark = Path(os.environ["KILLED_ONCE"])
        if not mark.exists():
            mark.touch()
            os.abort()


class Unhurried(LabelEnergy):
    """Takes its time in a worker of Parsl, so that there is something to kill."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        if "PARSL_WORKER_RANK" in os.environ:
            time.sleep(0.4)


class UnhurriedKiller(Unhurried, Killer):
    """Kills each worker that gets one of its candidates, for ever."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        if self.is_poison(atoms) and "PARSL_WORKER_RANK" in os.environ:
            os.abort()
        super().calculate(atoms, properties, system_changes)


class Oracle(LabelEnergy):
    """What DFT would say in a test: other energies across x, and a pull on each atom."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        x = np.count_nonzero(atoms.symbols == "Na") / np.count_nonzero(atoms.symbols == "Fe")
        self.results["energy"] = 0.5 * self.results["energy"] - 40 * x + 3 * x * (1 - x)
