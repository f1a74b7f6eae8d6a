"""Which decoration a frame belongs to, under one name for each, whatever files call it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

from gasearch.training.data.frames import Frame, by_decoration
from gasearch.training.data.same_crystal import is_moved_copy, is_same_crystal, kinds_of


def with_names(files: Sequence[Sequence[Frame]]) -> list[Frame]:
    """Return the frames of all files with one name for each decoration.

    Names within a file are trusted. A decoration that an earlier file names in another way gets
    that name; a frame without a name that of the decoration whose sites it matches, or a new one.
    """
    known = _Known()
    named: list[Frame] = []
    for frames in files:
        others = _other_names(frames, known)
        given = [_renamed(frame, others) for frame in frames]
        for name, group in by_decoration(frame for frame in given if frame.decoration).items():
            known.add(name, group[0])
        named += [
            frame if frame.decoration else replace(frame, decoration=known.name_of(frame))
            for frame in given
        ]
    return named


def _other_names(frames: Sequence[Frame], known: _Known) -> dict[str, str]:
    """Return what earlier files call decorations that this one names otherwise."""
    found: dict[str, str] = {}
    for name, group in by_decoration(frame for frame in frames if frame.decoration).items():
        earlier = None if known.has(name) else known.find(group[0])
        if earlier is not None:
            found[name] = earlier
    return found


def _renamed(frame: Frame, others: dict[str, str]) -> Frame:
    tag = frame.tag
    if frame.hop and frame.hop.other in others:
        tag = tag.removesuffix(frame.hop.other) + others[frame.hop.other]
    return replace(frame, decoration=others.get(frame.decoration, frame.decoration), tag=tag)


class _Known:
    """The decorations found so far, each with one frame."""

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._alike: dict[tuple[object, ...], list[tuple[str, Frame]]] = {}

    def has(self, name: str) -> bool:
        return name in self._names

    def add(self, name: str, frame: Frame) -> None:
        if name not in self._names:
            self._names.add(name)
            self._alike.setdefault(_contents(frame), []).append((name, frame))

    def find(self, frame: Frame) -> str | None:
        """Return the name of the decoration that a frame has; None for a new one."""
        alike = self._alike.get(_contents(frame), [])
        for is_same in (is_moved_copy, is_same_crystal):  # the first takes no time
            for name, one in alike:
                if is_same(one.atoms, frame.atoms):
                    return name
        return None

    def name_of(self, frame: Frame) -> str:
        """Return the name of a frame that has none: such as Fe4Na2O16P4-3, the third of these."""
        known = self.find(frame)
        if known is not None:
            return known
        numbers = (f"{frame.composition}-{k}" for k in itertools.count(1))
        name = next(one for one in numbers if one not in self._names)
        self.add(name, frame)
        return name


def _contents(frame: Frame) -> tuple[object, ...]:
    return tuple((kind, len(indices)) for kind, indices in kinds_of(frame.atoms).items())
