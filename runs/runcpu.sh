#!/usr/bin/env bash
# The whole pipeline on a laptop, on the embedded corpus: no GPU, and no network but for the installation.
#
#   bash runs/runcpu.sh
#
# Hardware: 2 CPU cores. Time: 1 minute with the installation, 4 s without (2026-11-21).
# Stages so far: set-up, corpus, tokenizer. Run again, it makes the corpus only if it would be another one.
# What to expect: tok_eval ends with 3.7 bytes per token on tinyworld val.
#   MEGABYTES=24      how much text to generate
#   VOCAB_SIZE=4096   how many tokens the tokenizer has

set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

MEGABYTES="${MEGABYTES:-24}"
VOCAB_SIZE="${VOCAB_SIZE:-4096}"

python -m nanochat.dataset --source tinyworld --megabytes "$MEGABYTES"
python -m scripts.tok_train --dataset tinyworld --vocab-size "$VOCAB_SIZE"
python -m scripts.tok_eval --dataset tinyworld
