#!/usr/bin/env bash
# Lint and tests.
#   bash runs/test.sh                # everything
#   bash runs/test.sh -k tokenizer   # arguments go to pytest; for its debugger, -n0 --pdb
# Hardware: 2 CPU cores. Time: 10 and a half minutes with the installation (2026-11-22, Zen 4 EPYC). No network but for the installation.

set -euo pipefail
EXTRAS="${EXTRAS:+$EXTRAS,}dev"
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

python -m ruff check .
python -m ruff format --check --quiet .
# A process for each core, and a file is one process's: what its tests share is made once; tests/conftest.py has the slow ones first. Threads that wait
# should sleep: others need the core
OMP_WAIT_POLICY=passive python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder "$@"
