"""[dft] of run.toml: what DFT computes with. Light, for every command reads run.toml."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import field_validator, model_validator

from gasearch.crystal.species import Species
from gasearch.run.execution_section import WALLTIME, known_device
from gasearch.settings import AtLeastOne, Count, NotNegative, Number, Positive, Section, key

KPoint = tuple[Number, Number, Number]
PREFIX_VALUES = ("ranks", "nodes", "cpus_per_rank")
Windows = dict[str, tuple[NotNegative, NotNegative]]
HUBBARD_U_EV = {
    "V": 3.25,
    "Cr": 3.7,
    "Mn": 3.9,
    "Fe": 5.3,
    "Co": 3.32,
    "Ni": 6.2,
    "Mo": 4.38,
    "W": 6.2,
}
"""Fitted to formation energies of oxides with PBE: Jain et al., Phys. Rev. B 84, 045115 (2011)."""
_OF_PRESETS: dict[str, dict[str, Any]] = {
    "petersen2026": {"hubbard_u_eV": {"Fe": 5.3, "Mn": 3.9, "Co": 3.32, "Ni": 6.2}, "fmax": 0.02},
}
"""What holds under a preset of [dft.vasp] where [dft] does not say otherwise."""
_CUTOFF = "of the plane waves"
_SPACING = "of the mesh, with 2 pi"


class GpawSection(Section):
    """[dft.gpaw]: the defaults are those of the shipped data set, but for the grid."""

    cutoff_eV: Positive = key(450.0, _CUTOFF, "eV")
    kpoints: tuple[KPoint, ...] = key(
        (),
        "of the unit cell, as fractions; []: those of the shipped data for its hosts, else a mesh",
    )
    k_spacing: Positive = key(0.3, _SPACING, "1/Å")
    grid_spacing: NotNegative = key(
        0.16, "of the density's grid at most; 0: GPAW's own 0.204 at 450 eV, as in data/", "Å"
    )
    basis_correction: bool = key(
        True, "energies are those of the average number of plane waves, as in data/"
    )
    mixer: tuple[Positive, AtLeastOne, Positive] = key((0.1, 5, 50.0), "share, steps, damping")
    max_scf: AtLeastOne = key(90, "iterations of self-consistency")
    energy_convergence: Positive = key(5e-5, "change of the energy", "eV per electron")
    density_convergence: Positive = key(6e-4, "change of the density", "e per valence electron")
    eigenstates_convergence: Positive = key(2e-6, "residual of the states", "eV^2 per electron")
    orbital_starts: Count = key(
        0, "other occupied d orbitals that a job begins with too, to keep the lowest; 4 is a lot"
    )
    command: tuple[str, ...] = key(
        (), 'what starts Python with GPAW: ["/its/python"]; []: this Python'
    )

    @field_validator("kpoints")
    @classmethod
    def _within_the_zone(cls, kpoints: tuple[KPoint, ...]) -> tuple[KPoint, ...]:
        if any(abs(part) > 1 for point in kpoints for part in point):
            raise ValueError("expected fractions of the unit cell's reciprocal vectors, -1 to 1")
        return kpoints


class VaspSection(Section):
    """[dft.vasp]: our settings, or those of Petersen et al. 2026 (arXiv 2603.26471)."""

    preset: Literal["gasearch", "petersen2026"] = key(
        "gasearch", "whose settings; petersen2026 relaxes the cell too, first with Ga for Fe3+"
    )
    cutoff_eV: Positive = key(520.0, _CUTOFF, "eV")
    k_spacing: Positive = key(0.3, _SPACING, "1/Å")
    mesh: tuple[AtLeastOne, ...] = key(
        (), "k-points along each vector of the supercell, [3, 1, 3]; []: by k_spacing"
    )
    incar: dict[str, Any] = key({}, "more tags, or others: { NCORE = 4 }")
    potcar: dict[str, str] = key({}, 'titles: { Na = "Na" }')

    @field_validator("mesh")
    @classmethod
    def _along_three_vectors(cls, mesh: tuple[int, ...]) -> tuple[int, ...]:
        if len(mesh) not in (0, 3):
            raise ValueError(f"expected three numbers, [3, 1, 3], got {list(mesh)}")
        return mesh


class EspressoSection(Section):
    """[dft.espresso]: Quantum ESPRESSO; you name the pseudopotential files."""

    cutoff_eV: Positive = key(816.0, "of the wave functions; 60 Ry", "eV")
    density_cutoff_eV: Positive = key(6530.0, "of the density", "eV")
    k_spacing: Positive = key(0.3, _SPACING, "1/Å")
    pseudopotentials: dict[str, str] = key({}, 'files: { Fe = "Fe.pbe.UPF" }')


class AbinitSection(Section):
    """[dft.abinit]: ABINIT with PAW sets."""

    cutoff_eV: Positive = key(520.0, _CUTOFF, "eV")
    k_spacing: Positive = key(0.3, _SPACING, "1/Å")
    pseudopotentials: dict[str, str] = key({}, 'files: { Fe = "Fe.xml" }')


class DftPotentialSection(Section):
    """[dft.potential]: what computes with code = "potential"."""

    name: str = key("chgnet-nafepo4", "any that name in [potential] takes")
    species: dict[str, str | int] = key({}, "as in [potential]")
    device: str = key("auto", "as in [execution]")

    @field_validator("device")
    @classmethod
    def _known_device(cls, device: str) -> str:
        return known_device(device)


class DftSection(Section):
    """[dft]: what computes promoted candidates: gasearch dft run, or export."""

    code: Literal["gpaw", "potential"] = key(
        "gpaw", 'what gasearch dft run computes with; "potential": one in the place of DFT'
    )
    xc: Literal["PBE"] = key("PBE", "exchange and correlation")
    hubbard_u_eV: dict[str, NotNegative] = key(
        HUBBARD_U_EV,
        "of elements that the host has; as the Materials Project has them",
        "eV",
    )
    smearing_eV: Positive = key(0.05, "width of the occupations", "eV")
    fmax: Positive = key(0.05, "of a relaxation at fixed cell", "eV/Å")
    max_steps: AtLeastOne = key(60, "of a relaxation")
    max_step_length: Positive = key(0.08, "of a relaxation", "Å")
    wall_limit_s: Positive = key(
        86_400.0, "a job that takes longer is ended, and goes on at the next start", "s"
    )
    jobs: AtLeastOne = key(1, "at once")
    ranks: AtLeastOne = key(1, "MPI ranks of a job")
    cpus_per_rank: AtLeastOne = key(1, "cores, or threads, of each rank")
    nodes: AtLeastOne = key(1, "of a job; this and what follows are for schedulers")
    gpus_per_node: Count = key(0, "of a job")
    walltime: str = key("", '"48:00:00"; "": as in [execution]')
    prefix: tuple[str, ...] = key(
        (), 'what starts the ranks: ["srun"]; []: mpiexec, where ranks > 1'
    )
    spin_states: dict[str, NotNegative] = key(
        {},
        'moments other than the usual: { "Co3+" = 4.0 }; gasearch dft export says which are taken',
        "Bohr magnetons",
    )
    surrogates: dict[str, str] = key(
        {"Fe3+": "Ga", "Mn3+": "Ga", "V3+": "Ga", "Co3+": "Ga"},
        "elements without a moment that stand for species, as the last resort",
    )
    moments: dict[str, Windows] = key(
        {}, '{ vasp = { "Fe3+" = [4.2, 4.8] } }: ranges that tell species apart', "Bohr magnetons"
    )
    gpaw: GpawSection = GpawSection()
    vasp: VaspSection = VaspSection()
    espresso: EspressoSection = EspressoSection()
    abinit: AbinitSection = AbinitSection()
    potential: DftPotentialSection = DftPotentialSection()

    @model_validator(mode="before")
    @classmethod
    def _of_preset(cls, values: Any) -> Any:
        vasp = values.get("vasp") if isinstance(values, dict) else None
        preset = vasp.get("preset") if isinstance(vasp, dict) else getattr(vasp, "preset", None)
        return {**_OF_PRESETS[preset], **values} if preset in _OF_PRESETS else values

    @field_validator("walltime")
    @classmethod
    def _hours(cls, walltime: str) -> str:
        if walltime and not WALLTIME.fullmatch(walltime):
            raise ValueError('expected hours, minutes and seconds, such as "48:00:00"')
        return walltime

    @field_validator("prefix")
    @classmethod
    def _known_values(cls, prefix: tuple[str, ...]) -> tuple[str, ...]:
        for word in prefix:
            for name in re.findall(r"{(.*?)}", word):
                if name not in PREFIX_VALUES:
                    known = ", ".join(f"{{{known}}}" for known in PREFIX_VALUES)
                    raise ValueError(f"{{{name}}} is unknown; known: {known}")
        return prefix

    @field_validator("spin_states", "surrogates")
    @classmethod
    def _species_as_keys(cls, table: dict[str, Any]) -> dict[str, Any]:
        for text in table:
            _redox(text)
        return table

    @field_validator("moments")
    @classmethod
    def _windows_of_species(cls, tables: dict[str, Windows]) -> dict[str, Windows]:
        for table in tables.values():
            for text, (low, high) in table.items():
                _redox(text)
                if low >= high:
                    raise ValueError(f"{text}: expected [lowest, highest], got [{low}, {high}]")
        return tables


def _redox(text: str) -> None:
    if Species.parse(text).is_vacancy:
        raise ValueError('expected species such as "Fe3+"')
