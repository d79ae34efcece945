#!/usr/bin/env bash
# Lint and tests.
#   bash runs/test.sh                # everything
#   bash runs/test.sh -k tokenizer   # arguments go to pytest
# Hardware: 2 CPU cores. Time: 17 minutes with the installation (2026-11-21, Zen 4 EPYC). No network but for the installation.

set -euo pipefail
EXTRAS="${EXTRAS:+$EXTRAS,}dev"
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

python -m ruff check .
python -m ruff format --check --quiet .
python -m pytest "$@"
