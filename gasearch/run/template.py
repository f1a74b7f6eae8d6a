"""The commented run.toml that `gasearch init` writes."""

from __future__ import annotations

import json
from collections.abc import Sequence

from gasearch.crystal.declaration import HostDeclaration, SublatticeDeclaration
from gasearch.crystal.io.builtin import BUILTIN_HOSTS

_RUN_FILE = """\
# A search for ground states, by gasearch. Start it, or resume it, with: gasearch run FOLDER
# Keys marked (fixed) define the search and cannot change once it was started. Lines that begin
# with "# " and a key show what holds without them.

[host]                          # (fixed)
structure = {structure}
supercell = {supercell}         # three repeats, or three rows of a 3x3 matrix
{host}
[potential]                     # (fixed)
name = {potential}              # a registered name, "module:factory" or "./file.py:factory"
# species = {{}}                  # of a foreign model, which slot holds what: {{ "Fe3+" = "Ga" }}
# allow_charge_blind = false    # a potential that cannot tell Fe2+ from Fe3+ is refused

[search]
budget = {budget}               # candidates to relax; may be raised later
seed = {seed}                   # (fixed)
# x = "all"                     # (fixed) or a list such as [0.5, "2/3"]; the two ends come along
# in_flight = "auto"            # candidates relaxed at once; (fixed) where reproducible.
#                                 "auto": one per worker; on a GPU as many as keep it busy, which
#                                 is 8192 atoms, but 16 at least; when reproducible, as many as
#                                 on the machine that started the search
reproducible = {reproducible}   # (fixed) true: the result does not depend on timing
# stagnation = 0                # end after so many results without a better one; 0: never
# initial = 20                  # (fixed) random candidates, every other one by Coulomb energy
# population = 20               # (fixed) possible parents per composition
# max_draws = 50                # (fixed) operator draws before a random one is taken

[seeds]                         # (fixed) where the search starts, besides random candidates
# coulomb = true                # half of the initial candidates: those of lowest Coulomb energy
# structures = []               # files such as "boucher.cif", put onto the host's sites
# runs = []                     # run folders such as "../small": their ground states, repeated
# tilings_per_composition = 1   # how many of the lowest of each run

[screening]                     # (fixed) how relaxations are saved
# surrogate = true              # a model of the run's own results ranks what is relaxed next
# pool = 200                    # children ranked for each, where a composition is too large to list
# unscreened = 0.1              # share of children that are taken without the model
# aging = 0.3                   # share that goes to the composition which waited longest
# exact = true                  # compositions that the budget covers are relaxed to the last one
# refine = 0.1                  # last share of the budget: first the neighbours of hull members
# refine_sigmas = 2.0           # how surely a neighbour must lie higher to be left out
# adaptive = true               # operators whose children improve niches are drawn more often
# acquisition = "expected_improvement"  # or your own function, "./my_file.py:name"
# features = ["points", "pairs", "triplets", "surroundings", "coulomb"]
# pair_reach = 9.0              # Å
# triplet_reach = 6.0           # Å

# [operators]                   # (fixed) without this section: all registered, at their weights
# na_vacancy_swap = 2
# "./my_operators.py:MySwap" = {{ weight = 1, n_swaps = 2 }}
# "ase_ga.slab_operators:RandomSlabPermutation" = 1

[relax]                         # (fixed), but for the two tight_ keys
# fmax = 0.02                   # eV/Å
# smax = 0.002                  # eV/Å^3
# max_calls = 300               # force calls after which a candidate is "unconverged"
# long_calls = 150              # reproducible runs do not wait for a relaxation that takes more
# rattle = 0.02                 # Å, random displacements of the start structure
# tight_fmax = 0.01             # eV/Å, second relaxation of what is near the hull
# tight_window_per_fu = 0.005   # eV/f.u. above the hull
{reader:<31} # whose moments tell the order of what was relaxed: "own", or plain "chgnet"

[execution]
# device = "auto"               # "cpu", "cuda", "cuda:1"; "auto": a GPU if there is one
workers = {workers}             # processes on the CPU (on a GPU always one); 0: in the search's own
# wall_limit_s = 3600           # a relaxation that takes longer is killed and tried again
# max_crashes = 3               # times that a candidate may take its worker down; then "failed"
# engine = "local"              # this machine; "parsl": a cluster, or this machine through Parsl
# lease_s = "auto"              # what a worker does not bring back in time is proposed again
# provider = "local"            # of Parsl: "slurm", "pbs", "lsf", or "./file.py:function", which
#                                 returns a parsl.Config. With Parsl, `workers` are those of a node
# partition = ""                # or queue
# account = ""                  # or project
# nodes = 1                     # of one job of the scheduler, a block
# min_blocks = 0                # jobs at once
# max_blocks = 1
# walltime = "24:00:00"         # of a block
# gpus_per_node = 0             # each has one worker
# cpus_per_node = 0             # 0: one for each worker
# worker_init = ""              # lines of shell before a worker starts: "module load cuda"
# scheduler_options = ""        # lines for the scheduler: "#SBATCH --qos=long"
# batch_s = 120                 # structures go to a worker in batches that take so long
# poll_s = 30                   # how often the scheduler is asked

[store]
# url = ""                      # "": search.db here; or a server; its password is in PGPASSWORD or
#                                 ~/.pgpass: "postgresql+psycopg://user@host/database"
# schema_name = ""              # where the run is there; "": a name of its own
# backup_every_s = 3600         # one at most as often, in backups/
# backups = 3                   # how many are kept; 0: none

[promote]                       # which candidates deserve DFT: gasearch promote
# lowest = 3                    # of each composition
# highest = 3                   # of each composition
# of_interest = ["2/3"]         # compositions with more of the lowest, where the cell holds them
# more_of_interest = 7          # how many more
# reference = []                # structure files, such as that of an experimental phase
# above_hull_per_fu = 0.0       # eV/f.u.: all that are as near to the hull; 0: this rule is off
# nearest = 0                   # so many of those nearest to the hull; 0: this rule is off
# diversity = 0.0               # skip what is nearer to a promoted one than this; 0: none
# most = 0                      # promotions in all; 0: as many as the rules say

[dft]                           # what computes those: gasearch dft run, or export
# xc = "PBE"
# hubbard_u_eV = {{ Fe = 5.3 }}   # of elements that the host has
# smearing_eV = 0.05            # width of the occupations
# fmax = 0.05                   # eV/Å, of a relaxation at fixed cell
# max_steps = 60                # of it
# max_step_length = 0.08        # Å
# wall_limit_s = 86400          # a job that takes longer is ended, and goes on at the next start
# jobs = 1                      # at once
# ranks = 1                     # MPI ranks of a job, and the cores, or threads, of each
# cpus_per_rank = 1
# nodes = 1                     # of a job; this and what follows are for schedulers
# gpus_per_node = 0
# walltime = ""                 # "48:00:00"; "": as in [execution]
# prefix = []                   # what starts the ranks: ["srun"]; []: mpiexec, where ranks > 1
# spin_states = {{}}              # moments other than high spin: {{ "Co3+" = 0.0 }}
# surrogates = {{ "Fe3+" = "Ga", "Mn3+" = "Ga", "V3+" = "Ga", "Co3+" = "Ga" }}  # the last resort
# moments = {{}}                  # what tells species apart: {{ vasp = {{ "Fe3+" = [4.2, 4.8] }} }}

[dft.gpaw]
# cutoff_eV = 450.0             # of the plane waves
# kpoints = []                  # of the unit cell, as fractions; []: those of the shipped data for
#                                 its hosts, else a mesh
# k_spacing = 0.3               # 1/Å with 2 pi, of that mesh
# mixer = [0.1, 5, 50.0]        # share, steps, damping
# max_scf = 90                  # iterations
# energy_convergence = 5e-5     # eV per electron
# density_convergence = 6e-4    # electrons per valence electron
# eigenstates_convergence = 2e-6  # eV^2 per electron
# command = []                  # what starts Python with GPAW: ["/its/python"]; []: this Python

[dft.vasp]
# cutoff_eV = 520.0
# k_spacing = 0.3
# incar = {{}}                    # more tags, or others: {{ NCORE = 4 }}
# potcar = {{}}                   # titles: {{ Na = "Na" }}

[dft.espresso]
# cutoff_eV = 816.0             # 60 Ry
# density_cutoff_eV = 6530.0
# k_spacing = 0.3
# pseudopotentials = {{}}         # files: {{ Fe = "Fe.pbe.UPF" }}

[dft.abinit]
# cutoff_eV = 520.0
# k_spacing = 0.3
# pseudopotentials = {{}}         # files: {{ Fe = "Fe.xml" }}
"""


def run_file_text(
    declaration: HostDeclaration,
    structure: str,
    supercell: Sequence[int],
    potential: str,
    budget: int,
    seed: int,
    workers: int = 1,
    *,
    has_reader: bool = False,
) -> str:
    """Return a run.toml for a host; one from a file comes with its sublattices written out.

    Parameters
    ----------
    has_reader
        Whether plain CHGNet reads the charge order of relaxed structures.
    """
    text = _RUN_FILE.format(
        structure=_quoted(structure),
        supercell=list(supercell),
        host=_BUILT_IN if structure in BUILTIN_HOSTS else _declared(declaration),
        potential=_quoted(potential),
        budget=budget,
        seed=seed,
        reproducible="true",
        reader='reader = "chgnet"' if has_reader else '# reader = "own"',
        workers=workers,
    )
    return "\n".join(_aligned(line) for line in text.split("\n"))


_BUILT_IN = """\
# symprec = 0.01                # Å, tolerance of the symmetry search
# min_site_distance = 2.0       # Å, closer working-ion sites are refused
"""


def _declared(declaration: HostDeclaration) -> str:
    lines = [
        f"formula_unit = {_quoted(declaration.formula_unit)}  # energies are per this unit",
        f"symprec = {declaration.symprec:g}  # Å, tolerance of the symmetry search",
        "# min_site_distance = 2.0  # Å, closer working-ion sites are refused",
        "",
        "# A first guess: check the species, and which sites hold them.",
    ]
    for declared in declaration.sublattices:
        lines += [
            "[[host.sublattice]]",
            f"kind = {_quoted(declared.kind)}",
            f"sites = {json.dumps(list(declared.sites))}  # elements, or indices from 0",
            f"species = {json.dumps([str(species) for species in declared.species])}",
            *_free(declared),
            "",
        ]
    lines.append("[host.framework]  # charges of all other elements")
    lines += [f"{e} = {_quoted(str(species))}" for e, species in declaration.framework.items()]
    return "\n".join([*lines, ""])


def _free(declared: SublatticeDeclaration) -> list[str]:
    if declared.elements == "fixed":
        return ['# elements = "fixed"  # or "free": elements may exchange places, as Fe and Mn']
    shares = ", ".join(f"{e} = {share:g}" for e, share in declared.fractions.items())
    return ['elements = "free"  # they may exchange places', f"fractions = {{ {shares} }}"]


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _aligned(line: str) -> str:
    """Put the comment that follows a value into one column."""
    value, mark, comment = line.partition("  # ")
    if not mark or not value.strip():
        return line
    return f"{value.rstrip():<31} # {comment.lstrip()}"
