"""Average voltages between ground states, against the metal of the working ion; T = 0.

The metal's energy at a DFT level is here, that of a potential in its `model.json`.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ase.data import atomic_masses, atomic_numbers
from ase.formula import Formula

from gasearch.analysis.hull import NoEndMemberError
from gasearch.analysis.joint_hull import JointHull, Member
from gasearch.crystal.host import Host
from gasearch.errors import GasearchError, UsageError
from gasearch.potentials.shipped import DEFAULT, MODELS, shipped_names
from gasearch.store.records import POTENTIAL_PLACE

_FARADAY_mAh_PER_MOL = 96485.33212 / 3.6
_MODEL_FILE = "model.json"
GPAW_PBE_450: Mapping[str, float] = {"Na": -1.32195, "Li": -1.9006}
"""In eV per atom: GPAW, PBE, plane waves 450 eV; bcc Na, a = 4.2006 Å, 14 x 14 x 14 k-points, and
bcc Li, a = 3.44 Å, 24 x 24 x 24. The grid of the density does not matter here."""
FORMER_WEIGHTS = (
    "d1f8d233f6e2b24638bc9cd31aaf0e5b895376f8c9e57200261fd55770fff6e2",
    "7a7ec3434f85e9ba24c50b1654a71b25480c1340f5a63213fa8993295ab773b3",
)
"""Of models that learned that level and were shipped before: chgnet-nafepo4, chgnet-lifepo4."""


class NoMetalError(UsageError):
    """A voltage asked for without the energy of the metal that it is measured against."""

    def __init__(self, element: str, level: str, problem: str) -> None:
        super().__init__(element, level, problem)
        self.element = element
        self.level = level
        self.problem = problem

    def __str__(self) -> str:
        return (
            f"no voltage: {self.problem}; give the energy of {self.element} metal at the level "
            f"{self.level!r} with --metal-energy E (eV per atom)."
        )


class NoRangeError(GasearchError, ValueError):
    """A host with one composition only."""

    def __str__(self) -> str:
        return "no voltage: this host has one composition only."


class NoAnionVoltageError(UsageError):
    """A voltage asked for where an anion comes and goes."""

    def __init__(self, element: str) -> None:
        super().__init__(element)
        self.element = element

    def __str__(self) -> str:
        return (
            f"no voltage: {self.element} comes and goes as a gas, not as an ion through a cell; "
            f"formation energies per {self.element} at a chemical potential of your own follow "
            "from `gasearch hull --json`."
        )


@dataclass(frozen=True)
class Metal:
    """What voltages are measured against.

    Parameters
    ----------
    energy
        In eV per atom, at the level of the hull.
    source
        Where it comes from, in words.
    """

    element: str
    energy: float
    source: str


@dataclass(frozen=True)
class Cathode:
    """What turns energies per formula unit into voltages and capacities.

    Parameters
    ----------
    ion_charge
        Of the working ion, in e.
    ions_per_x
        Working ions per formula unit that come in as x goes from 0 to 1.
    formula
        Of the discharged formula unit, at the highest x.
    molar_mass
        Of it, in g/mol.
    """

    element: str
    ion_charge: int
    ions_per_x: float
    formula: str
    molar_mass: float

    @classmethod
    def of(cls, host: Host) -> Cathode:
        """Return the cathode that a host is."""
        if not host.has_axis:
            raise NoRangeError
        if host.working_species[0].charge < 0:
            raise NoAnionVoltageError(host.working_element)
        counts = Formula(host.compositions[-1].formula).count()
        n_units = host.n_formula_units
        mass = sum(n * float(atomic_masses[atomic_numbers[e]]) for e, n in counts.items())
        per_unit = {element: n / n_units for element, n in counts.items()}
        return cls(
            element=host.working_element,
            ion_charge=host.working_species[0].charge,
            ions_per_x=host.n_full / n_units,
            formula="".join(f"{e}{'' if n == 1 else f'{n:.4g}'}" for e, n in per_unit.items()),
            molar_mass=mass / n_units,
        )

    def voltage(self, metal: Metal, dx: float, d_energy: float) -> float:
        """Return the voltage, in V, of a step in x that changes the energy per formula unit."""
        n_ions = dx * self.ions_per_x
        return -(d_energy - n_ions * metal.energy) / (n_ions * self.ion_charge)

    def capacity(self, dx: float) -> float:
        """Return the charge of a step in x per mass of the discharged formula, in mAh/g."""
        return dx * self.ions_per_x * self.ion_charge * _FARADAY_mAh_PER_MOL / self.molar_mass


@dataclass(frozen=True)
class VoltageStep:
    """The plateau between two compositions."""

    x_from: float
    x_to: float
    voltage_V: float
    capacity_mAh_per_g: float


@dataclass(frozen=True)
class VoltageCurve:
    """Plateaus in ascending x: the end of charge first.

    Parameters
    ----------
    capacity_mAh_per_g, average_voltage_V, energy_density_Wh_per_kg
        Of the whole range; per mass of the discharged formula, the metal not weighed.
    """

    cathode: Cathode
    metal: Metal
    steps: tuple[VoltageStep, ...]
    capacity_mAh_per_g: float
    average_voltage_V: float
    energy_density_Wh_per_kg: float


def voltage_curve(
    cathode: Cathode, metal: Metal, vertices: Sequence[tuple[float, float]]
) -> VoltageCurve:
    """Return the plateaus between neighbouring points.

    Parameters
    ----------
    vertices
        (x, energy) of the hull in ascending x; energies in eV per formula unit.
    """
    if len(vertices) < 2:
        raise NoRangeError
    steps = []
    for (x_from, before), (x_to, after) in itertools.pairwise(vertices):
        voltage_V = cathode.voltage(metal, x_to - x_from, after - before)
        steps.append(VoltageStep(x_from, x_to, voltage_V, cathode.capacity(x_to - x_from)))
    capacity = sum(step.capacity_mAh_per_g for step in steps)
    density = sum(step.voltage_V * step.capacity_mAh_per_g for step in steps)
    return VoltageCurve(cathode, metal, tuple(steps), capacity, density / capacity, density)


def hull_voltage(hull: JointHull, metal_energy: float | None = None) -> VoltageCurve:
    """Return the plateaus between the ground states of a hull.

    Parameters
    ----------
    metal_energy
        Of the metal of the working ion, at the level of the hull, in eV per atom; by default that
        of the potential's model, or of the DFT level where it is known.

    Raises
    ------
    NoEndMemberError
        Where an end of the range has no valid energy.
    NoMetalError
        Where none is known, and none is given.
    """
    cathode = Cathode.of(hull.host)
    vertices = [(point.x, point.energy_eV_per_fu) for point in hull.vertices()]
    return voltage_curve(cathode, metal_of(hull.members[0], metal_energy), vertices)


def host_voltages(
    hull: JointHull, metal_energy: float | None = None
) -> dict[str, VoltageCurve | NoEndMemberError | NoRangeError]:
    """Return the plateaus of each of several hosts alone, or why one has none; {} of one host.

    Parameters
    ----------
    metal_energy
        As for `hull_voltage`.
    """
    found: dict[str, VoltageCurve | NoEndMemberError | NoRangeError] = {}
    for own in hull.by_host if len(hull.hosts) > 1 else ():
        try:
            found[own.hosts[0]] = hull_voltage(own, metal_energy)
        except (NoEndMemberError, NoRangeError) as error:
            found[own.hosts[0]] = error
    return found


def metal_of(member: Member, metal_energy: float | None = None) -> Metal:
    """Return what the voltages of a run are measured against."""
    element, level = member.host.working_element, member.level
    if metal_energy is not None:
        if not math.isfinite(metal_energy):
            raise UsageError(f"--metal-energy {metal_energy}: expected a number, in eV per atom.")
        return Metal(element, metal_energy, "given")
    if member.dft_settings is not None:
        return dft_metal(element, level.name, member.dft_settings)
    if level.weights_hash in FORMER_WEIGHTS and element in GPAW_PBE_450:
        return Metal(element, GPAW_PBE_450[element], f"former weights of {level.potential}")
    place = str(member.run.operational.get(POTENTIAL_PLACE, level.potential))
    model = _model_folder(member.folder, place)
    if model is None:
        problem = f"{level.potential!r} has no {_MODEL_FILE} with a metal reference"
        raise NoMetalError(element, level.name, problem)
    document = _model_file(model, element, level.name)
    if level.weights_hash != model_identity(document):
        problem = f"the model in {model} is not the one that this run was searched with"
        raise NoMetalError(element, level.name, problem)
    energy = document.get("working_ion_metal", {}).get(element)
    if not isinstance(energy, int | float):
        problem = f"{model / _MODEL_FILE} has no energy of {element} metal (working_ion_metal)"
        raise NoMetalError(element, level.name, problem)
    return Metal(element, float(energy), f"{_MODEL_FILE} of {document['name']}")


def dft_metal(element: str, level: str, settings: Mapping[str, Any]) -> Metal:
    """Return the metal at a level of DFT, where its code and settings are those of a known one.

    Parameters
    ----------
    settings
        Of the level. Its k set, U and smearing are the cathode's and say nothing about a metal.
    """
    known = f"GPAW, PBE, 450 eV: {', '.join(GPAW_PBE_450)}"
    own = [settings.get("code"), settings.get("xc"), settings.get("cutoff_eV")]
    if own != ["gpaw", "PBE", 450.0] or element not in GPAW_PBE_450:
        found = ", ".join("unknown" if value is None else str(value) for value in own)
        problem = f"the energy of {element} metal is known for {known}, not for {found}"
        raise NoMetalError(element, level, problem)
    return Metal(element, GPAW_PBE_450[element], known)


def _model_folder(run: Path, potential: str) -> Path | None:
    """Return where the model of a potential lies; None where it is no model."""
    name = DEFAULT if potential == "default" else potential
    if name in shipped_names():
        return MODELS / name
    folder = run / potential
    return folder if (folder / _MODEL_FILE).is_file() else None


def _model_file(model: Path, element: str, level: str) -> dict[str, Any]:
    try:
        document = json.loads((model / _MODEL_FILE).read_text("utf-8"))
    except (OSError, ValueError) as error:
        problem = f"{model / _MODEL_FILE} cannot be read ({type(error).__name__})"
        raise NoMetalError(element, level, problem) from error
    return document if isinstance(document, dict) else {}


def model_identity(document: dict[str, Any]) -> str:
    """Return the weights hash that a model's potential has, from its model.json alone."""
    known = ("architecture", "arguments", "species", "is_open", "reference")
    own = {key: document.get(key) for key in known} | {"weights": document.get("weights_sha256")}
    return hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()
