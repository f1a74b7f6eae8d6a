"""[execution] of run.toml: what it takes, and what follows from it."""

import pytest

from gasearch.run.config import RunFileError, run_settings
from gasearch.run.execution_section import ExecutionSection


def execution(**keys):
    host = {"structure": "nafepo4-olivine", "supercell": [1, 1, 1]}
    document = {"host": host, "potential": {"name": "pmmcs"}, "execution": keys}
    return run_settings(document, "run.toml")


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"engine": "dask"}, "execution.engine = 'dask'"),
        ({"engine": "parsl", "provider": "slrum"}, 'expected "local", "slurm", "pbs", "lsf"'),
        ({"provider": "slurm"}, 'provider = "slurm" needs engine = "parsl"'),
        ({"engine": "parsl", "workers": 0}, "needs workers = 1 or more"),
        ({"engine": "parsl", "device": "cuda:1"}, "is for one machine"),
        ({"engine": "parsl", "device": "cuda"}, "needs gpus_per_node"),
        ({"walltime": "1 day"}, "expected hours, minutes and seconds"),
        ({"walltime": "00:00:00"}, "expected hours, minutes and seconds"),
        ({"min_blocks": 3, "max_blocks": 2}, "min_blocks = 3 is more than max_blocks = 2"),
        ({"lease_s": "long"}, 'expected "auto", or seconds'),
        ({"batch_s": 0.0}, "execution.batch_s = 0.0"),
        ({"gpu_per_node": 4}, "gpus_per_node"),
    ],
)
def test_what_cannot_be_is_one_line(keys, told):
    with pytest.raises(RunFileError) as error:
        execution(**keys)
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_all_of_it_may_change_on_resume():
    settings = execution(engine="parsl", workers=8)
    assert not [key for key in settings.defining() if key.startswith("execution.")]


@pytest.mark.parametrize(
    ("keys", "n_workers"),
    [
        ({"workers": 6}, 6),
        ({"engine": "parsl", "workers": 6, "nodes": 2, "max_blocks": 3}, 36),
        ({"engine": "parsl", "workers": 6, "gpus_per_node": 4, "max_blocks": 2}, 8),
        ({"engine": "parsl", "workers": 6, "gpus_per_node": 4, "device": "cpu"}, 6),
    ],
)
def test_a_gpu_has_one_worker_and_a_node_its_own(keys, n_workers):
    assert ExecutionSection(**keys).most_workers == n_workers


def test_a_lease_leaves_time_for_batches():
    assert ExecutionSection(wall_limit_s=100.0).lease_in_s == 200.0
    assert ExecutionSection(engine="parsl", wall_limit_s=100.0).lease_in_s == 680.0
    assert ExecutionSection(lease_s=7.0).lease_in_s == 7.0
