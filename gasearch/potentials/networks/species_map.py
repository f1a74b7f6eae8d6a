"""From a species to its slot: the row of a network's embedding.

A network was made for elements; a charge-aware one gives Fe2+ and Fe3+ two slots, as a rule Fe's
own and one that the material does not need (Ga's, 31, is the field's convention). The map belongs
to a model and is stored with it. Nothing outside the adapters sees slots: labels stay on the atoms.
A spin state has a slot of its own where the map lists it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from ase.data import atomic_numbers, chemical_symbols

from gasearch.crystal.species import SPINS, Species
from gasearch.errors import UsageError

_LOWEST, _HIGHEST = -4, 8  # oxidation states
_WIDTH = _HIGHEST - _LOWEST + 1
_UNMAPPED = -1
_LARGEST = 999


class SpeciesMapError(UsageError):
    """A species map that makes no sense."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        return f"species map: {self.problem}."


class UnmappedSpeciesError(UsageError):
    """Atoms of a species that the map gives no slot."""

    def __init__(
        self, unmapped: tuple[str, ...], mapped: tuple[str, ...], advice: str = ""
    ) -> None:
        super().__init__(unmapped, mapped, advice)
        self.unmapped = unmapped
        self.mapped = mapped
        self.advice = advice

    def __str__(self) -> str:
        advice = self.advice or f"it maps {', '.join(self.mapped) or 'nothing'}"
        return f"the species map has no slot for {', '.join(self.unmapped)}: {advice}."


@dataclass(frozen=True)
class SpeciesMap:
    """Which slot each species has.

    Two oxidation states of one element may share a slot, and the model is charge-blind then; two
    elements may not.

    Parameters
    ----------
    slots
        Slot of each listed species.
    is_open
        Whether species that are not listed have the slot of their element, its atomic number, and
        spin states that are not listed that of their ion in high spin. A slot that a listed species
        of another element took is not available to them.
    """

    slots: Mapping[Species, int]
    is_open: bool = False
    _table: torch.Tensor = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "slots", dict(sorted(self.slots.items())))
        owners: dict[int, Species] = {}
        for species, slot in self.slots.items():
            self._check(species, slot)
            other = owners.setdefault(slot, species)
            if other.element != species.element:
                raise SpeciesMapError(f"{other} and {species} share slot {slot}")
        object.__setattr__(self, "_table", self._filled(owners))

    @classmethod
    def parse(cls, surrogates: Mapping[str, str | int]) -> SpeciesMap:
        """Return the map of `species = {"Fe3+" = "Ga"}`; what is not named keeps its element.

        Parameters
        ----------
        surrogates
            By species, the element (or the number of the slot) that stands for it in the model.
        """
        slots = {Species.parse(text): _slot(text, slot) for text, slot in surrogates.items()}
        return cls(slots, is_open=True)

    @classmethod
    def from_json(cls, document: Mapping[str, int], is_open: bool = False) -> SpeciesMap:
        """Return the map that `to_json` wrote."""
        slots = {Species.parse(text): slot for text, slot in document.items()}
        return cls(slots, is_open)

    def to_json(self) -> dict[str, int]:
        """Return the listed slots as JSON writes them: {"Fe3+": 31}."""
        return {str(species): slot for species, slot in self.slots.items()}

    @property
    def species(self) -> frozenset[Species] | None:
        """What has a slot; None for (nearly) anything."""
        return None if self.is_open else frozenset(self.slots)

    def __call__(
        self, numbers: torch.Tensor, charges: torch.Tensor, spins: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the slots (N,) of atoms with these atomic numbers and oxidation states.

        Parameters
        ----------
        spins
            Spin states as places in `SPINS`; high spin everywhere if None.

        Raises
        ------
        UnmappedSpeciesError
            Where one has none.
        """
        spins = torch.zeros_like(charges) if spins is None else spins
        state = spins * _WIDTH + (charges - _LOWEST).clamp(0, _WIDTH - 1)
        entry = numbers * _WIDTH * len(SPINS) + state
        slots = self._table.to(numbers.device)[entry]
        slots = torch.where((charges < _LOWEST) | (charges > _HIGHEST), _UNMAPPED, slots)
        unmapped = slots == _UNMAPPED
        if bool(unmapped.any()):
            self._refuse(*(column[unmapped].tolist() for column in (numbers, charges, spins)))
        return slots

    def slot(self, species: Species) -> int:
        """Return the slot of one species, or raise `UnmappedSpeciesError`."""
        labels = (species.number, species.charge, SPINS.index(species.spin))
        return int(self(*(torch.tensor([label]) for label in labels)))

    @staticmethod
    def _check(species: Species, slot: int) -> None:
        if species.is_vacancy:
            raise SpeciesMapError("a vacancy has no slot; leave it out")
        if not 1 <= slot <= _LARGEST:
            raise SpeciesMapError(f"slot {slot!r} of {species}, expected 1 to {_LARGEST}")

    def _filled(self, owners: Mapping[int, Species]) -> torch.Tensor:
        """Return (119 * 3 * 13,) slots by atomic number, spin state and oxidation state."""
        shape = (len(chemical_symbols), len(SPINS), _WIDTH)
        table = torch.full(shape, _UNMAPPED, dtype=torch.int64)
        if self.is_open:
            table[1:] = torch.arange(1, len(chemical_symbols))[:, None, None]
            for slot, owner in owners.items():
                if slot < len(table) and owner.number != slot:
                    table[slot] = _UNMAPPED
        for species, slot in self.slots.items():  # sorted: high spin before its other states
            column = species.charge - _LOWEST
            if self.is_open and not species.spin:
                table[species.number, :, column] = slot
            table[species.number, SPINS.index(species.spin), column] = slot
        return table.flatten()

    def _refuse(self, numbers: list[int], charges: list[int], spins: list[int]) -> None:
        rows = zip(numbers, charges, spins, strict=True)
        found = sorted({Species(chemical_symbols[z], q, SPINS[s]) for z, q, s in rows})
        for one in found:
            taken = [str(other) for other, slot in self.slots.items() if slot == one.number]
            if self.is_open and taken:
                advice = f"the slot of {one.element} stands for {', '.join(taken)}"
                raise UnmappedSpeciesError((str(one),), (), advice)
        raise UnmappedSpeciesError(tuple(map(str, found)), tuple(map(str, self.slots)))


def _slot(text: str, slot: str | int) -> int:
    if isinstance(slot, int):
        return slot
    if slot not in atomic_numbers or slot == "X":
        raise SpeciesMapError(f"{slot!r} for {text} is no element; write as in {{'Fe3+' = 'Ga'}}")
    return int(atomic_numbers[slot])
