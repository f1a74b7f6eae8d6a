"""An independent reader catches a charge order that was lost, whatever the labels say."""

import importlib.util
import os

import numpy as np
import pytest
from olivine import undistorted

from gasearch.analysis.findings import Findings
from gasearch.crystal.moments import MOMENT_RANGES
from gasearch.relax.audit import audit
from gasearch.run.folder import RunFolder
from gasearch.search.session import Session

if importlib.util.find_spec("chgnet") is None and not os.environ.get("CI"):
    pytest.skip("no chgnet here: pip install 'gasearch[chgnet]'", allow_module_level=True)

from gasearch.relax.moment_reader import chgnet_reader, load_reader

BLIND = {
    "potential_keys": {"allow_charge_blind": True},
    "relax": {"reader": "chgnet", "fmax": 0.3, "smax": 0.03},
}


def test_own_moments_need_no_reader():
    assert load_reader("own") is None
    assert load_reader("chgnet").ranges == MOMENT_RANGES["chgnet"]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_search_with_a_blind_potential_loses_every_mixed_order(tmp_path, make_run, workers):
    folder = make_run(tmp_path, "chgnet", budget=4, execution={"workers": workers}, **BLIND)
    Session(RunFolder(folder)).run()
    with RunFolder(folder).open_store() as store:
        verdicts = {row.x: row.verdict for row in Findings(store).ranked(verdict=None)}
    mixed = {verdict for x, verdict in verdicts.items() if 0 < x < 1}
    assert {verdicts[0.0], verdicts[1.0]} == {"ok"}
    assert mixed == {"order_lost"}


def test_the_reader_sees_the_geometry_and_not_the_labels():
    full = undistorted(1.0)
    reader = chgnet_reader()
    moments = reader.read(full)
    assert audit(full, full, moments, reader.ranges).verdict == "ok"
    relabelled = full.copy()
    charges = relabelled.get_initial_charges()
    charges[np.flatnonzero(relabelled.symbols == "Fe")] = 3
    relabelled.set_initial_charges(charges)
    assert np.array_equal(reader.read(relabelled), moments)
    assert audit(full, relabelled, moments, reader.ranges).verdict == "order_lost"
