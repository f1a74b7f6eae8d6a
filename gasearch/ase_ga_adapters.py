"""An earlier name of `gasearch.operators.ase_ga`, which scripts of users may import."""

from gasearch.operators.ase_ga import (
    AseGaOperator,
    LatticeOperator,
    StockOperatorError,
    from_candidate,
    to_candidate,
)

__all__ = [
    "AseGaOperator",
    "LatticeOperator",
    "StockOperatorError",
    "from_candidate",
    "to_candidate",
]
