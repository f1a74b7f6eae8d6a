"""[dft] of run.toml: what DFT computes with. Light, for every command reads run.toml."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from gasearch.crystal.species import Species

_Positive = Annotated[float, Field(strict=True, gt=0)]
_NotNegative = Annotated[float, Field(strict=True, ge=0)]
_Number = Annotated[float, Field(strict=True)]
_AtLeastOne = Annotated[int, Field(strict=True, ge=1)]
KPoint = tuple[_Number, _Number, _Number]
PREFIX_VALUES = ("ranks", "nodes", "cpus_per_rank")
Windows = dict[str, tuple[_NotNegative, _NotNegative]]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class GpawSection(_Section):
    """[dft.gpaw]: the defaults are those of the shipped data set."""

    cutoff_eV: _Positive = 450.0
    kpoints: tuple[KPoint, ...] = ()
    k_spacing: _Positive = 0.3
    mixer: tuple[_Positive, _AtLeastOne, _Positive] = (0.1, 5, 50.0)
    max_scf: _AtLeastOne = 90
    energy_convergence: _Positive = 5e-5
    density_convergence: _Positive = 6e-4
    eigenstates_convergence: _Positive = 2e-6
    command: tuple[str, ...] = ()

    @field_validator("kpoints")
    @classmethod
    def _within_the_zone(cls, kpoints: tuple[KPoint, ...]) -> tuple[KPoint, ...]:
        if any(abs(part) > 1 for point in kpoints for part in point):
            raise ValueError("expected fractions of the unit cell's reciprocal vectors, -1 to 1")
        return kpoints


class VaspSection(_Section):
    """[dft.vasp]: the defaults are those of Petersen et al. 2026 (arXiv 2603.26471)."""

    cutoff_eV: _Positive = 520.0
    k_spacing: _Positive = 0.3
    incar: dict[str, Any] = {}
    potcar: dict[str, str] = {}


class EspressoSection(_Section):
    """[dft.espresso]: Quantum ESPRESSO; the user names the pseudopotential files."""

    cutoff_eV: _Positive = 816.0
    density_cutoff_eV: _Positive = 6530.0
    k_spacing: _Positive = 0.3
    pseudopotentials: dict[str, str] = {}


class AbinitSection(_Section):
    """[dft.abinit]: ABINIT with PAW sets."""

    cutoff_eV: _Positive = 520.0
    k_spacing: _Positive = 0.3
    pseudopotentials: dict[str, str] = {}


class DftSection(_Section):
    """[dft]: what all codes share; energies in eV, lengths in Å."""

    xc: Literal["PBE"] = "PBE"
    hubbard_u_eV: dict[str, _NotNegative] = {"Fe": 5.3}
    smearing_eV: _Positive = 0.05
    fmax: _Positive = 0.05
    max_steps: _AtLeastOne = 60
    max_step_length: _Positive = 0.08
    wall_limit_s: _Positive = 86_400.0
    jobs: _AtLeastOne = 1
    ranks: _AtLeastOne = 1
    cpus_per_rank: _AtLeastOne = 1
    nodes: _AtLeastOne = 1
    gpus_per_node: Annotated[int, Field(strict=True, ge=0)] = 0
    walltime: str = ""
    prefix: tuple[str, ...] = ()
    spin_states: dict[str, _NotNegative] = {}
    surrogates: dict[str, str] = {"Fe3+": "Ga", "Mn3+": "Ga", "V3+": "Ga", "Co3+": "Ga"}
    moments: dict[str, Windows] = {}
    gpaw: GpawSection = GpawSection()
    vasp: VaspSection = VaspSection()
    espresso: EspressoSection = EspressoSection()
    abinit: AbinitSection = AbinitSection()

    @field_validator("walltime")
    @classmethod
    def _hours(cls, walltime: str) -> str:
        if walltime and not re.fullmatch(r"\d+:[0-5]\d:[0-5]\d", walltime):
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
