#!/bin/sh
# GPAW, a program of its own (GPL-3), into the environment of the interpreter that is named. It is
# built from source; where that fails, gasearch works without it, and the tests that need it skip.
set -eu

python="$1"
"$python" -c 'import gpaw' 2>/dev/null && exit 0

tools="$(cd "$(dirname "$0")" && pwd)"
export GPAW_CONFIG="$tools/gpaw-siteconfig.py"
"$python" -m pip install --quiet --constraint "$tools/../constraints.txt" gpaw gpaw-data ||
    echo "not installed: GPAW; it needs libxc, OpenBLAS and FFTW with their headers" >&2
