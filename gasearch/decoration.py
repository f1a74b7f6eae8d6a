"""An earlier name of `gasearch.crystal.decoration`, which operators of users may import."""

from gasearch.crystal.decoration import Decoration

__all__ = ["Decoration"]
