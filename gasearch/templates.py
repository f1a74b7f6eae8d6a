"""The commented run.toml that `gasearch init` writes."""

from __future__ import annotations

import json
from collections.abc import Sequence

from gasearch.builtin_hosts import BUILTIN_HOSTS
from gasearch.host_declaration import HostDeclaration

_RUN_FILE = """\
# A search for ground states, by gasearch. Start it, or resume it, with: gasearch run FOLDER
# Keys marked (fixed) define the search and cannot change once it was started.

[host]                          # (fixed)
structure = {structure}
supercell = {supercell}         # three repeats, or three rows of a 3x3 matrix
{host}
[potential]                     # (fixed)
name = {potential}              # a registered name, "module:factory" or "./file.py:factory"
# allow_charge_blind = false    # a potential that cannot tell Fe2+ from Fe3+ is refused

[search]
budget = {budget}               # candidates to relax; may be raised later
seed = {seed}                   # (fixed)
# x = "all"                     # (fixed) or a list such as [0.5, "2/3"]; the two ends come along
in_flight = {in_flight}         # candidates relaxed at once; (fixed) where reproducible
reproducible = {reproducible}   # (fixed) true: the result does not depend on timing
# stagnation = 0                # end after so many results without a better one; 0: never
# initial = 20                  # (fixed) random candidates before operators take over
# population = 20               # (fixed) possible parents per composition
# max_draws = 50                # (fixed) operator draws before a random one is taken

# [operators]                   # (fixed) without this section: all registered, at their weights
# na_vacancy_swap = 2
# "./my_operators.py:MySwap" = {{ weight = 1, n_swaps = 2 }}
# "ase_ga.slab_operators:RandomSlabPermutation" = 1

[relax]                         # (fixed), but for the two tight_ keys
# fmax = 0.02                   # eV/Å
# smax = 0.002                  # eV/Å^3
# max_calls = 300               # force calls after which a candidate is "unconverged"
# rattle = 0.02                 # Å, random displacements of the start structure
# tight_fmax = 0.01             # eV/Å, second relaxation of what is near the hull
# tight_window_per_fu = 0.005   # eV/f.u. above the hull

[execution]
workers = {workers}             # processes; 0: in the process of the search itself
# wall_limit_s = 3600           # a relaxation that takes longer is killed and tried again

[store]
# backup_every_s = 3600
# backups = 3                   # how many are kept, in backups/; 0: none
"""


def run_file_text(
    declaration: HostDeclaration,
    structure: str,
    supercell: Sequence[int],
    potential: str,
    budget: int,
    seed: int,
    workers: int = 1,
) -> str:
    """Return a run.toml for a host; one from a file comes with its sublattices written out."""
    text = _RUN_FILE.format(
        structure=_quoted(structure),
        supercell=list(supercell),
        host="" if structure in BUILTIN_HOSTS else _declared(declaration),
        potential=_quoted(potential),
        budget=budget,
        seed=seed,
        in_flight=workers,
        reproducible="true",
        workers=workers,
    )
    return "\n".join(_aligned(line) for line in text.split("\n"))


def _declared(declaration: HostDeclaration) -> str:
    lines = [
        f"formula_unit = {_quoted(declaration.formula_unit)}",
        f"symprec = {declaration.symprec:g}",
        "",
        "# A first guess: check the species, and which sites hold them.",
    ]
    for declared in declaration.sublattices:
        lines += [
            "[[host.sublattice]]",
            f"kind = {_quoted(declared.kind)}",
            f"sites = {json.dumps(list(declared.sites))}",
            f"species = {json.dumps([str(species) for species in declared.species])}",
        ]
        if declared.elements == "free":
            shares = ", ".join(f"{e} = {share:g}" for e, share in declared.fractions.items())
            lines += ['elements = "free"', f"fractions = {{ {shares} }}"]
        lines.append("")
    lines.append("[host.framework]")
    lines += [f"{e} = {_quoted(str(species))}" for e, species in declaration.framework.items()]
    return "\n".join([*lines, ""])


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _aligned(line: str) -> str:
    """Put the comment that follows a value into one column."""
    value, mark, comment = line.partition("  # ")
    if not mark or not value.strip() or value.startswith("# A"):
        return line
    return f"{value.rstrip():<31} # {comment.lstrip()}"
