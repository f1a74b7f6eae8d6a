#!/bin/sh
# System packages: of a search nothing but Python's own venv; of the tests also a virtual screen, on
# which one opens ASE GUI, a browser, in which one looks at the report, the libraries that GPAW is built
# with, and PostgreSQL, of which the tests start a server of their own. Only what is missing.
set -eu

missing=""
python3 -c 'import ensurepip, venv' 2>/dev/null || missing="python3-venv"
if [ "${1:-tests}" = tests ]; then
    for pair in Xvfb:xvfb xwininfo:x11-utils xdotool:xdotool; do
        command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair##*:}"
    done
    command -v chromium >/dev/null 2>&1 || command -v google-chrome >/dev/null 2>&1 || missing="$missing chromium"
    set -- /usr/lib/postgresql/*/bin/initdb
    [ -e "$1" ] || command -v initdb >/dev/null 2>&1 || missing="$missing postgresql"
    python3 -c 'import tkinter' 2>/dev/null || missing="$missing python3-tk"
    for pair in include/xc.h:libxc-dev include/fftw3.h:libfftw3-dev; do
        [ -e "/usr/${pair%%:*}" ] || missing="$missing ${pair##*:}"
    done
    set -- /usr/lib/*/libopenblas.so /usr/lib/libopenblas.so
    [ -e "$1" ] || [ -e "$2" ] || missing="$missing libopenblas-dev"
fi
[ -n "$missing" ] || exit 0

run=""
[ "$(id -u)" = 0 ] || run="sudo -n"
if command -v apt-get >/dev/null 2>&1 && $run true 2>/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    $run apt-get update -qq || true
    # shellcheck disable=SC2086 # a list of words
    $run apt-get install -y -qq --no-install-recommends $missing >/dev/null
else
    echo "not installed (no apt-get, or no right to use it): $missing; install them yourself, or go without what needs them" >&2
fi
