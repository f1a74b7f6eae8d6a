"""Which device relaxations run on, in how many processes, and how many at once."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from places import DATA

from gasearch.execution.devices import (
    NoDeviceError,
    choose_device,
    device_of_nodes,
    enough_for_batches,
    enough_in_flight,
    places_per_worker,
)


class TestPlaces:
    @pytest.mark.parametrize(
        ("device", "workers", "in_flight", "alone", "expected"),
        [
            ("cpu", 4, 4, False, 1),
            ("cpu", 4, 10, False, 3),
            ("cpu", 1, 100, False, 4),
            ("cpu", 1, 100, True, 1),
            ("cpu", 0, 3, False, 3),
            ("cuda", 8, 300, False, 300),
            ("cuda:1", 8, 300, True, 300),
            ("cuda", 0, 300, False, 300),
        ],
    )
    def test_a_device_takes_all_and_each_core_some(
        self, device, workers, in_flight, alone, expected
    ):
        assert places_per_worker(device, workers, in_flight, alone=alone) == expected

    def test_auto_keeps_each_worker_and_each_device_busy(self):
        assert [enough_in_flight("cpu", workers, 28) for workers in (0, 1, 6)] == [1, 1, 6]
        assert enough_in_flight("cuda", 1, 28) * 28 >= 8000
        assert enough_in_flight("cuda", 1, 100_000) == 16


class TestDevice:
    @pytest.fixture
    def see(self, monkeypatch):
        def see(n_devices):
            monkeypatch.setattr(torch.cuda, "is_available", lambda: n_devices > 0)
            monkeypatch.setattr(torch.cuda, "device_count", lambda: n_devices)

        return see

    @pytest.mark.parametrize(
        ("asked", "n_devices", "expected"),
        [
            ("auto", 0, "cpu"),
            ("auto", 2, "cuda"),
            ("cpu", 2, "cpu"),
            ("cuda", 1, "cuda"),
            ("cuda:1", 2, "cuda:1"),
        ],
    )
    def test_it_is_what_was_asked_for_or_what_is_there(self, see, asked, n_devices, expected):
        see(n_devices)
        assert choose_device(asked, "pmmcs", Path()) == expected

    def test_auto_leaves_a_device_that_the_potential_does_not_take(self, see):
        see(1)
        assert choose_device("auto", "./toy_potentials.py:LabelEnergy", DATA) == "cpu"
        with pytest.raises(NoDeviceError, match="takes no device"):
            choose_device("cuda", "./toy_potentials.py:LabelEnergy", DATA)

    @pytest.mark.parametrize(("asked", "n"), [("cuda", 0), ("cuda:0", 0), ("cuda:2", 2)])
    def test_one_that_is_not_there_is_refused_in_one_line(self, see, asked, n):
        see(n)
        with pytest.raises(NoDeviceError, match=f'execution.device = "{asked}": torch sees'):
            choose_device(asked, "pmmcs", Path())

    def test_the_cpu_needs_no_torch(self):
        code = (
            "import sys; from gasearch.execution.devices import choose_device; "
            "choose_device('cpu', 'pmmcs', None); assert 'torch' not in sys.modules"
        )
        subprocess.run([sys.executable, "-c", code], check=True)

    def test_nodes_elsewhere_are_taken_at_their_word(self, tmp_path):
        toy = "./toy_potentials.py:LabelEnergy"
        assert device_of_nodes("auto", "pmmcs", tmp_path, 0) == "cpu"
        assert device_of_nodes("auto", "pmmcs", tmp_path, 4) == "cuda"
        assert device_of_nodes("cpu", "pmmcs", tmp_path, 4) == "cpu"
        assert device_of_nodes("auto", toy, DATA, 4) == "cpu"
        with pytest.raises(NoDeviceError, match="takes no device"):
            device_of_nodes("cuda", toy, DATA, 4)

    def test_enough_is_in_flight_for_batches(self):
        assert enough_for_batches("cpu", 4, 28) == 32
        assert enough_for_batches("cuda", 3, 28) == 3 * enough_in_flight("cuda", 1, 28)
