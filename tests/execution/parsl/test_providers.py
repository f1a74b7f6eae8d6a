"""What Parsl is given of [execution]."""

import os
import sys
from pathlib import Path

import pytest

from gasearch.execution.contract import ExecutionError, Resources
from gasearch.execution.engines import open_engine
from gasearch.execution.parsl.providers import make_provider, make_setup, start_lines
from gasearch.run.execution_section import ExecutionSection

if "CI" not in os.environ:
    pytest.importorskip("parsl", reason="parsl is not installed")


def test_a_worker_finds_this_python_and_has_one_thread():
    lines = start_lines(ExecutionSection(worker_init="module load x"), for_workers=True)
    assert lines.splitlines()[0] == "module load x"
    assert f"export PATH={Path(sys.executable).parent}" in lines
    assert "export OMP_NUM_THREADS=1" in lines


def test_gpus_have_one_worker_each(tmp_path):
    section = ExecutionSection(engine="parsl", gpus_per_node=4, workers=9)
    executor = make_setup(section, tmp_path).executor
    assert executor.available_accelerators == ["0", "1", "2", "3"]
    assert executor.max_workers_per_node == 4


@pytest.mark.parametrize("provider", ["slurm", "pbs", "lsf"])
def test_schedulers_get_what_run_toml_says(provider):
    section = ExecutionSection(
        engine="parsl",
        provider=provider,
        partition="gpu",
        account="me",
        nodes=2,
        max_blocks=3,
        walltime="02:00:00",
        gpus_per_node=4,
        cpus_per_node=32,
    )
    made = make_provider(section)
    assert (made.nodes_per_block, made.max_blocks, made.walltime) == (2, 3, "02:00:00")
    assert "gpu" in (getattr(made, "partition", ""), getattr(made, "queue", ""))
    job = make_provider(section, Resources(nodes=1, ranks=16, walltime="10:00:00"))
    assert (job.nodes_per_block, job.walltime) == (1, "10:00:00")


def test_a_config_of_the_users_is_taken_with_its_errors_told(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from parsl.config import Config\n"
        "from parsl.executors import HighThroughputExecutor, ThreadPoolExecutor\n"
        "def good():\n"
        "    return Config([HighThroughputExecutor(\n"
        "        address='127.0.0.1', max_workers_per_node=3)])\n"
        "def threads():\n"
        "    return Config([ThreadPoolExecutor()])\n"
        "def broken():\n"
        "    raise KeyError('account')\n"
        "def nothing():\n"
        "    return None\n"
    )

    def setup(name):
        section = ExecutionSection(engine="parsl", provider=f"./mine.py:{name}")
        return make_setup(section, tmp_path)

    good = setup("good")
    assert good.is_local
    assert good.executor.max_workers_per_node == 3
    assert "gasearch.execution.parsl.guard" in good.executor.launch_cmd
    assert good.executor.block_error_handler.__name__ == "noop_error_handler"
    problems = {
        "threads": "needs one executor",
        "nothing": "NoneType, not a",
        "broken": "fails: KeyError: 'account'",
    }
    for name, problem in problems.items():
        with pytest.raises(Exception, match=problem) as error:
            setup(name)
        assert "\n" not in str(error.value)


def test_a_missing_parsl_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "parsl", None)
    with pytest.raises(ExecutionError, match=r'no Parsl here; .*pip install "gasearch\[parsl'):
        open_engine(ExecutionSection(engine="parsl"), tmp_path)
