"""What a worker of Parsl does with a batch."""

import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
from tasks import Forked, relax_and_hang, source, structure

from gasearch.execution.parsl.worker import relax_batch

TOY = "./toy_potentials.py:LabelEnergy"


def relax(*arguments):
    """Relax a batch in a thread, where a worker does not watch its parent."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(relax_batch, *arguments).result()


def test_results_come_in_the_order_of_the_tasks():
    structures = [structure(n, x) for n, x in enumerate((0.25, 0.5, 0.75, 1.0))]
    result = relax(source(TOY), structures, 3, 600.0)
    assert result.unusable == ""
    lengths = [len(atoms) for atoms, _ in structures]
    assert [len(relaxed.atoms) for relaxed in result.relaxed] == lengths
    alone = [relax(source(TOY), [one], 1, 600.0) for one in structures]
    assert [one.relaxed[0].energy for one in alone] == [r.energy for r in result.relaxed]


def test_a_potential_that_cannot_be_loaded_is_reported():
    assert (
        "NotThere"
        in relax(source("./toy_potentials.py:NotThere"), [structure(1)], 1, 600.0).unusable
    )


@pytest.mark.parametrize(("name", "status"), [("Hanging", 1), ("Frozen", -signal.SIGALRM)])
def test_one_that_hangs_ends_its_worker(tmp_path, name, status):
    file = tmp_path / "came_back"
    assert Forked(relax_and_hang, f"./toy_potentials.py:{name}", file).wait() == status
    assert file.read_text() == "2\n"
