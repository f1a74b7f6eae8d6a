"""What belongs to a model beside its weights: species, references, thresholds, training domain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ase import Atoms
from ase.formula import Formula

from gasearch.crystal.species import MomentRanges, Species
from gasearch.potentials.contract import species_of
from gasearch.potentials.networks.committee import Committee
from gasearch.potentials.networks.species_map import SpeciesMap
from gasearch.potentials.networks.surroundings import USUAL, Surroundings

_ROUNDING = 1e-6


@dataclass(frozen=True)
class TrainingDomain:
    """What a model has seen. Other species are refused; beyond the rest it extrapolates.

    Parameters
    ----------
    species
        With labels in the training frames.
    formulas
        Distinct cells, as ASE writes them: ("Fe4O16P4", "Fe4Na4O16P4").
    n_atoms
        Of the smallest and the largest cell.
    volume_per_atom
        The smallest and the largest, in Å^3.
    surroundings
        Of the atoms in the training frames; empty in older models, and then nothing is compared.
    """

    species: tuple[Species, ...]
    formulas: tuple[str, ...]
    n_atoms: tuple[int, int]
    volume_per_atom: tuple[float, float]
    surroundings: Surroundings = field(default_factory=lambda: Surroundings({}))

    @classmethod
    def from_frames(cls, frames: Sequence[Atoms]) -> TrainingDomain:
        """Return the domain of labelled frames."""
        volumes = [atoms.cell.volume / len(atoms) for atoms in frames]
        counts = [len(atoms) for atoms in frames]
        return cls(
            species=tuple(sorted(frozenset().union(*map(species_of, frames)))),
            formulas=tuple(sorted({atoms.symbols.get_chemical_formula() for atoms in frames})),
            n_atoms=(min(counts), max(counts)),
            volume_per_atom=(round(min(volumes), 4), round(max(volumes), 4)),
            surroundings=Surroundings.from_frames(frames),
        )

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> TrainingDomain:
        """Return the domain that `to_json` wrote."""
        return cls(
            species=tuple(Species.parse(text) for text in document["species"]),
            formulas=tuple(document["formulas"]),
            n_atoms=_pair(document["n_atoms"], int),
            volume_per_atom=_pair(document["volume_per_atom"], float),
            surroundings=Surroundings.from_json(document.get("surroundings", {})),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the domain as JSON writes it."""
        return {
            "species": [str(species) for species in self.species],
            "formulas": list(self.formulas),
            "n_atoms": list(self.n_atoms),
            "volume_per_atom": list(self.volume_per_atom),
            "surroundings": self.surroundings.to_json(),
        }

    def extrapolations(self, atoms: Atoms) -> tuple[str, ...]:
        """Return by what a crystal lies outside the domain, each in a few words; () inside."""
        untrained = sorted(species_of(atoms) - set(self.species))
        found = [f"species {species}" for species in untrained]
        found += self._composition(atoms)
        low, high = self.n_atoms
        if not low <= len(atoms) <= high:
            found.append(f"{len(atoms)} atoms (trained on {low} to {high})")
        volume = atoms.cell.volume / len(atoms)
        small, large = self.volume_per_atom
        if not small - 1e-3 <= volume <= large + 1e-3:
            found.append(f"{volume:.2f} Å^3 per atom (trained on {small:.2f} to {large:.2f})")
        distance = self.surroundings.distance(atoms)
        if not untrained and distance > USUAL:
            found.append(
                "another crystal than it was trained on: what surrounds its atoms differs by "
                f"{distance:.2f}, where {USUAL:g} is usual, and its energies are not to be trusted"
            )
        return tuple(found)

    def _composition(self, atoms: Atoms) -> list[str]:
        known = [_fractions(formula) for formula in self.formulas]
        found = []
        for element, fraction in _fractions(atoms.symbols.get_chemical_formula()).items():
            seen = [one.get(element, 0.0) for one in known]
            if not min(seen) - _ROUNDING <= fraction <= max(seen) + _ROUNDING:
                span = f"{min(seen):.3f} to {max(seen):.3f}"
                found.append(f"{fraction:.3f} of the atoms {element} (trained on {span})")
        return found


@dataclass(frozen=True)
class ModelCard:
    """What makes a potential of a network.

    Parameters
    ----------
    name
        Shown to people, and part of the level of theory: "chgnet-nafepo4".
    species_map
        From oxidation states to slots.
    reference
        Energy per atom of each slot, in eV, added in float64 outside the network; 0 where a slot is
        missing. The two slots of Fe2+ and Fe3+ have the same: neutral cells cannot tell them apart.
    moment_ranges
        Lowest and highest moment (Bohr magnetons) that this model gives a species; empty where it
        gives none, or where they do not tell oxidation states apart.
    working_ion_metal
        Energy per atom of the metal of working ions at the level of the training data, in eV, by
        symbol: the reference of voltages.
    domain
        What it was trained on; None where that is unknown.
    data_hash
        sha256 of the training data, or "".
    committee
        By which the model knows how certain it is; None for one that does not. No part of what
        energies depend on: a model with and without it is one level of theory.
    notes
        Anything else that a reader should know (split, errors, licence, what not to use it for); as
        JSON writes it.
    """

    name: str
    species_map: SpeciesMap
    reference: Mapping[int, float] = field(default_factory=dict)
    moment_ranges: MomentRanges = field(default_factory=dict)
    working_ion_metal: Mapping[str, float] = field(default_factory=dict)
    domain: TrainingDomain | None = None
    data_hash: str = ""
    committee: Committee | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def species(self) -> frozenset[Species] | None:
        """What the model may be asked about; None for anything that its map has a slot for."""
        return self.species_map.species if self.domain is None else frozenset(self.domain.species)


def _fractions(formula: str) -> dict[str, float]:
    counts = Formula(formula).count()
    total = sum(counts.values())
    return {element: count / total for element, count in sorted(counts.items())}


def _pair(values: Sequence[Any], kind: type) -> tuple[Any, Any]:
    low, high = values
    return kind(low), kind(high)
