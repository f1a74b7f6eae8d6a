"""The text between the tables of `search_report.py`: what flatters what, and what is left out."""

INTRODUCTION = """\
An evaluation is one structure that would be relaxed. A run is solved when it has evaluated the
ground state. Seeds count from 1 (features left out: from 101); `>` means that fewer runs than that
were solved within the cap. Medians of 30 runs carry an error of a quarter to a third.

- `gasearch`: the defaults of a run, Coulomb starts and surrogate, at in_flight = 1 (each result is
  known before the next proposal) unless said otherwise. It is told neither the goal nor a budget;
  where the budget is known, exact mode and the last look at neighbours take part.
- `gasearch, no Coulomb`: without Coulomb starts and without the Coulomb energy among the features.
- `gasearch, no surrogate`: operators and rank fitness alone, no Coulomb starts, no equivalents.
- `ase_ga`: the operators and weights of arXiv 2603.26471 on the lattice of Na/X and Fe/Ga; what
  stands in for which part is said in `benchmarks/ase_ga_baseline.py`. It skips exact repeats only,
  as in the paper. Its population was chosen beforehand, see the pilot runs.
- `parallel tempering`: four replicas (`benchmarks/tempering.py`), temperatures chosen on the two
  model landscapes of 12 f.u. Returns to a decoration are free, which flatters it a little.
- `by Coulomb energy`: all decorations by ascending Coulomb energy of the undistorted host; one run,
  since nothing is drawn.
- `random`: even draws from all raw decorations, equivalents of earlier ones skipped. A decoration
  with a small orbit comes late in it, and ground states are often such."""
FIGURE = """\
Success curves, one panel per landscape: the share of the runs that are solved within so many
evaluations."""
RELAXED = """\
Every distinct decoration of a cell was relaxed once and its energy tabulated
(`benchmarks/relaxed_table.py`). Relaxed energies are no sum over features of the undistorted host:
these are the rows to believe. `niches`: the lowest decoration of every composition,
or one that lies within 0.2 meV/f.u. of it, was evaluated; `hull`: that of every vertex of the hull.

- All compositions in one run: `gasearch` relaxes the two ends first. `random` takes one decoration
  of each composition in turn, which takes two thirds of what even draws over all compositions take
  (873 of 874 with pmmcs, since either end is one raw decoration of 12,870).
- `ase_ga` and parallel tempering search one composition. Their rows are sums over the compositions,
  each search being stopped by somebody who knows its minimum at the moment of finding it. This
  flatters them: a search that does not know the answer must go on everywhere, as `gasearch` and
  `random` do, whose count ends with the last of all minima.
- pmmcs ranks orders at one composition and no more: its hull consists of the two ends, so that no
  evaluations until the hull are counted and the search is not hull-aware.
- What the Coulomb starts are worth depends on the potential. With chgnet-nafepo4, which was trained
  on PBE+U of the 28-atom cell, the ground states have the lowest to fourth lowest Coulomb energy of
  their compositions, on 1x2x1 as on 1x3x1 at x = 5/6. The starts alone find nearly all of them, and
  `gasearch` is hardly ahead of `by Coulomb energy`. With pmmcs it is much the same on 1x2x1 since
  the audit sees Na that leaves its site (orders-2): 553 of 874 decorations have no valid energy,
  and the lowest of those that have one are found by Coulomb energy alone within 33 evaluations.
  `gasearch, no Coulomb` tells what the surrogate does on its own.
- **nafepo4-131-pmmcs has verdicts of the earlier audit** (moments-1), which did not see Na that
  leaves its site: twenty decorations end in one lowest structure. Its rows are not to be believed
  until the table is made again (`relaxed_table.py 1 3 1 -x 2/3 --potential pmmcs --workers N`).
  `ase_ga` has not searched single compositions of nafepo4-121-pmmcs since that was made again.
- One composition at a time: no end members, no budget. `gasearch` spends 20 evaluations on its
  start, half of them random, before the surrogate chooses anything. A smaller start, a twentieth of
  the decorations but at least 8, changes no median of `gasearch` with pmmcs, whose Coulomb starts
  hit at once, and without Coulomb helps at x = 1/4 and 3/8 (medians 15 and 28 against 21 and 34)
  and does not at 1/2 and 5/8 (28 and 62 against 28 and 54); it is left at 20."""
MODEL = """\
- **The `coulomb` row of `gasearch` says nothing.** This landscape is the Coulomb energy, and the
  Coulomb starts are its lowest decorations: the first or second candidate is the ground state
  by construction. The row without them is the one to read; pairs without limit of distance would
  still span this landscape exactly, and those up to 9 Å nearly do.
- `many-body` is flattered too: its random pairs (to 7 Å), triplets (to 5.75 Å) and surroundings (to
  4.5 Å) are of the form of the surrogate's features, up to their reach, and a tenth of the Coulomb
  energy is in it. What each group is worth is measured below; believe the relaxed energies.
- The weight 2 of the operator `symmetrise` was chosen on these two landscapes, which flatters the
  rows without surrogate; on five others (many-body, landscape seeds 1 to 5, search seeds 101 to
  120) the medians were 81, 137, 335, 191 and 310 with it, and 158, 183, 504, 183 and 311 with
  weight 1. The temperatures of parallel tempering were chosen on them as well."""
LARGE = """\
11,269,366,602 distinct decorations. The minimum is what parallel tempering with 32 replicas found
in all of 8 runs of 961,024 evaluations each, the earliest after 12,290; it was committed before the
screened search (`benchmarks/tables/large-landscapes.json`). No run of any row met anything lower,
which would stop the benchmark. Cap: 3,000.

- The same remarks as at 12 f.u.: Coulomb starts flatter `coulomb`, and features span `many-body`.
- `random` is hopeless: 3,000 draws hold a given decoration once in four million runs.
- `ase_ga` has no row: its symmetric permutation needs the space group of every step of its walks,
  which is a table at 12 f.u. and would be a call of spglib here, minutes for each 128 children."""
IN_FLIGHT = """\
With n in flight, candidate k knows the results of candidates up to k - n and the fingerprints of
all before it; results come in order. Evaluations are counted by the candidate's number. The first
n + 19 candidates are starts, every other one random, since too few results are there to learn from:
with 256 in flight the surrogate chooses nothing before candidate 276. A run with
`reproducible = true` has a lag of twice its slots."""
ABLATION = """\
Medians on five many-body landscapes (10,410 decorations), search seeds 101 to 110. Random pairs,
triplets and surroundings of these landscapes are of the form of the features of these names, whose
reach (9, 6 Å, and 1.4 times the nearest distance) is longer than or near theirs (7, 5.75, 4.5 Å):
all rows with a surrogate are flattered, the first most. `without Coulomb`: neither starts nor
feature; the other rows keep the Coulomb starts."""
COST = """\
Processor time of one thread, in ms. Searches over all compositions with results of random
decorations, whose energies are a random linear law over the features, a line over x and noise; then
50 proposals with their results, refits of the surrogate as they fall. `first`: the first proposal,
which computes the features of all results; compositions are listed when they are first needed,
which is in `first` or in `longest`. `refit`: one fit of the surrogate to all results. `matrix
product`: two 1,000 x 1,000 matrices of doubles in the same run, for comparison with other machines;
this one was shared with other work. Of a proposal at 24 f.u. about two thirds are the 200 children
that the operators make, a fifth the features of the pool."""
LANDSCAPES = """\
Energies in meV/f.u. Spread: standard deviation over raw decorations (24 f.u.: over a fixed sample).
Gap: from the ground state to the second lowest distinct decoration (24 f.u.: that any run met).
As low: decorations within 0.2 meV/f.u. of the ground state. Minima: distinct decorations that no
exchange of two sites of one sublattice lowers. `coulomb`: formal charges, not screened.
`many-body`: Coulomb over 10, plus random pairs, triplets and surroundings of the same spread
(`benchmarks/energies.py`)."""
PILOTS = """\
Ten runs each with seeds from 1001, which are not among those of the tables. The population with the
lowest mean was taken, unsolved runs counting as the cap; on tables of relaxed energies it serves
all compositions."""
