"""Where the files are that tests use."""

from pathlib import Path

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
BENCHMARKS = ROOT / "benchmarks"
DATA = TESTS / "data"
HOSTS = DATA / "hosts"
TOYS = DATA / "toy_potentials.py"
DFT_FRAMES = DATA / "nafepo4-dft-frames.xyz"
SHIPPED_DATA = ROOT / "data"
SHIPPED_FRAMES = SHIPPED_DATA / "nafepo4-pbeu" / "train.xyz"
RELEASED_DATABASES = sorted((TESTS / "databases").glob("schema_*.db"))
FAKE_SLURM = TESTS / "support" / "fake_slurm.py"
KILL_DRIVER = TESTS / "integration" / "kill_driver.py"
STORE_PROCESS = TESTS / "integration" / "store_process.py"
