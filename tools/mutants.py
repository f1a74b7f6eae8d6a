"""Deliberate faults, each of which the tests named beside it must catch: `mutants.py [NUMBER...]`.

Each fault is put into a copy of the working tree, and its tests are run there. Whoever shortens
tests runs this before and after: the same faults must be caught.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]


class Mutant(NamedTuple):
    """A fault: in `file`, `right` becomes `wrong`; one of `tests` must fail."""

    name: str
    file: str
    right: str
    wrong: str
    tests: str


MUTANTS = (
    Mutant(
        "decorations are counted too often",
        "gasearch/crystal/counting.py",
        "math.factorial(n) for n in counts",
        "math.factorial(n) for n in counts[1:]",
        "tests/crystal/test_counting.py tests/crystal/test_host.py",
    ),
    Mutant(
        "start moments are those of the first species everywhere",
        "gasearch/crystal/decoration.py",
        "moments[host.sites] = host.moments[rows, self.occupation]",
        "moments[host.sites] = host.moments[rows, 0 * self.occupation]",
        "tests/crystal/test_decoration.py",
    ),
    Mutant(
        "the hull bends the wrong way",
        "gasearch/analysis/hull.py",
        "(c[1] - a[1]) > (b[1] - a[1])",
        "(c[1] - a[1]) < (b[1] - a[1])",
        "tests/analysis/test_hull.py",
    ),
    Mutant(
        "voltages forget the metal",
        "gasearch/analysis/voltage.py",
        "return -(d_energy - n_ions * metal.energy) /",
        "return -d_energy /",
        "tests/analysis/test_voltage.py",
    ),
    Mutant(
        "a low moment never contradicts a label",
        "gasearch/relax/audit.py",
        "and not window[0] <= abs(moments[i]) <= window[1]",
        "and not abs(moments[i]) <= window[1]",
        "tests/relax/test_audit.py",
    ),
    Mutant(
        "working ions may go twice as far",
        "gasearch/relax/working_sites.py",
        "if (shifts <= self.reach[own]).all():",
        "if (shifts <= 2 * self.reach[own]).all():",
        "tests/relax/test_working_sites.py",
    ),
    Mutant(
        "parts of a batch keep the numbers of the whole",
        "gasearch/potentials/contract.py",
        "self.system[atoms] - rows.start,",
        "self.system[atoms],",
        "tests/relax/batched tests/potentials/test_contract.py",
    ),
    Mutant(
        "a step up moves the base of a minimization",
        "gasearch/relax/batched/minimizer.py",
        "self.base = torch.where(rises[:, None], self.base, position)",
        "self.base = position",
        "tests/relax/batched",
    ),
    Mutant(
        "a late result counts",
        "gasearch/store/sql/transaction.py",
        'found.state == "relaxing" and found.attempt == lease.attempt',
        'found.state == "relaxing"',
        "tests/store/test_population_store.py",
    ),
    Mutant(
        "two drivers share a database",
        "gasearch/store/sqlite/lock.py",
        "fcntl.LOCK_EX | fcntl.LOCK_NB",
        "fcntl.LOCK_SH | fcntl.LOCK_NB",
        "tests/store/sqlite/test_database.py",
    ),
    Mutant(
        "check does not follow the numbers of results",
        "gasearch/store/checks/events.py",
        'if data["result"] != self.n_results:',
        'if data["result"] > self.n_results:',
        "tests/store/checks",
    ),
    Mutant(
        "proposals see results too early",
        "gasearch/search/visibility.py",
        "due = max(self._next, number - self._lag + 1)",
        "due = max(self._next, number)",
        "tests/search/test_visibility.py",
    ),
    Mutant(
        "known decorations are proposed again",
        "gasearch/search/proposer.py",
        "if child.decoration.fingerprint not in self.history.seen:",
        "if child.decoration.fingerprint:",
        "tests/search/test_proposer.py tests/search/test_search.py",
    ),
    Mutant(
        "misspelt keys of run.toml are ignored",
        "gasearch/settings.py",
        'extra="forbid"',
        'extra="ignore"',
        "tests/run/test_config.py",
    ),
    Mutant(
        "slow relaxations are not reported",
        "gasearch/execution/local/pool.py",
        "[Slow(worker.attempts[number].task) for number in slow]",
        "[]",
        "tests/execution/local",
    ),
    Mutant(
        "the range of Fe3+ of GPAW is off",
        "gasearch/crystal/moments.py",
        '"gpaw": {"Fe2+": (3.2, 3.9), "Fe3+": (4.1, 4.7)}',
        '"gpaw": {"Fe2+": (3.2, 3.9), "Fe3+": (4.3, 4.7)}',
        "tests/dft/test_classify.py",
    ),
    Mutant(
        "validation frames are trained on",
        "gasearch/training/data/splitting.py",
        "tuple(frame for frame in every if frame.decoration not in names)",
        "every",
        "tests/training/data tests/training/test_train.py",
    ),
    Mutant(
        "changed weights are loaded",
        "gasearch/potentials/networks/checkpoint.py",
        'if hashlib.sha256(weights).hexdigest() != document["weights_sha256"]:',
        'if not document["weights_sha256"]:',
        "tests/potentials/networks/test_checkpoint.py",
    ),
    Mutant(
        "pickles are opened without trust",
        "gasearch/potentials/trust.py",
        "if _digest(content) not in _recorded(record_path()):",
        "if not content:",
        "tests/potentials/test_trust.py",
    ),
    Mutant(
        "candidates near the hull are not relaxed tightly",
        "gasearch/search/near_hull.py",
        "if above <= window_per_fu and",
        "if above < 0 and",
        "tests/search/test_near_hull.py tests/search/test_search.py",
    ),
    Mutant(
        "a charge is paid in part",
        "operators/gasearch_operators/charges.py",
        "    return charge == 0\n",
        "    return True\n",
        "tests/operators/test_operators.py",
    ),
    Mutant(
        "a candidate that kills workers is tried five times more",
        "gasearch/search/dispatcher.py",
        "lease.n_crashes + 1 < self._settings.execution.max_crashes",
        "lease.n_crashes + 1 < self._settings.execution.max_crashes + 5",
        "tests/search/test_dispatcher.py",
    ),
    Mutant(
        "another U joins a level",
        "gasearch/dft/codes/outputs.py",
        "_U_TOLERANCE_eV = 1e-3",
        "_U_TOLERANCE_eV = 10.0",
        "tests/dft/codes",
    ),
    Mutant(
        "names in the report are markup",
        "gasearch/report/page.py",
        'return f"<p{kind}>{html.escape(block.text)}</p>"',
        'return f"<p{kind}>{block.text}</p>"',
        "tests/report/test_page.py tests/report/test_collect.py",
    ),
)


def main(numbers: list[str]) -> int:
    """Try the mutants with these numbers, or all; return how many were not caught."""
    chosen = [int(number) for number in numbers] or range(1, len(MUTANTS) + 1)
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        ignored = shutil.ignore_patterns(".git", ".venv", "build", "__pycache__", ".*_cache")
        shutil.copytree(ROOT, tree, ignore=ignored)
        caught = [_is_caught(number, tree) for number in chosen]
    return caught.count(False)


def _is_caught(number: int, tree: Path) -> bool:
    mutant = MUTANTS[number - 1]
    path = tree / mutant.file
    text = path.read_text(encoding="utf-8")
    if text.count(mutant.right) != 1:
        print(f"{number:2} NOT FOUND  {mutant.name}: {mutant.file}", flush=True)
        return False
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = f"{tree}{os.pathsep}{tree / 'operators'}"
    command = [sys.executable, "-m", "pytest", "-x", "-q", *mutant.tests.split()]
    path.write_text(text.replace(mutant.right, mutant.wrong), encoding="utf-8")
    try:
        done = subprocess.run(
            command, cwd=tree, env=environment, capture_output=True, text=True, check=False
        )
    finally:
        path.write_text(text, encoding="utf-8")
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    verdict = "caught  " if done.returncode == 1 else "SURVIVED"
    print(f"{number:2} {verdict}   {mutant.name}  {' '.join(failed[:1])[:100]}", flush=True)
    return done.returncode == 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
