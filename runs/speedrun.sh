#!/usr/bin/env bash
# A GPT-2-grade model on a node of 8 H100 GPUs, from nothing. Run again after an interruption, it continues where it was.
#
#   bash runs/speedrun.sh
#   WANDB_RUN=speedrun bash runs/speedrun.sh     # log to wandb as well
#
# Hardware: 8×H100. Time and cost: what `python -m scripts.base_train --depth 24 --target-param-data-ratio 8 --dry-run 8xH100` estimates;
# not yet run on such a node.
# Stages: set-up, data, tokenizer, pretraining, evaluation (CORE, bits per byte, samples), SFT, evaluation (ChatCORE), report.
#   GPUS=8        how many GPUs
#   SHARDS=170    how many shards of text to download in all, about 100 MB each
#   WANDB_RUN=…   name of the run on wandb; unset: no wandb
# Everything is kept in ~/.cache/nanochat, or in $NANOCHAT_BASE_DIR.

set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

GPUS="${GPUS:-8}"
SHARDS="${SHARDS:-170}"
export OMP_NUM_THREADS=1  # ranks would otherwise fight for the cores
BASE="${NANOCHAT_BASE_DIR:-$HOME/.cache/nanochat}"

[ -d "$BASE/base_checkpoints/d24" ] || python -m nanochat.report reset

# Eight shards are enough for the tokenizer; the others come while it is trained. What is there already is not downloaded again.
python -m nanochat.dataset -n 8
python -m nanochat.dataset -n "$SHARDS" &
download=$!
trap 'kill "$download" 2>/dev/null || true' EXIT
if [ ! -f "$BASE/tokenizer/tokenizer.json" ]; then
    python -m scripts.tok_train --vocab-size 32768 --max-chars 2000000000
    python -m scripts.tok_eval
fi
wait "$download"
trap - EXIT

torchrun --standalone --nproc_per_node="$GPUS" -m scripts.base_train -- \
    --depth=24 --target-param-data-ratio=8 --fp8 --run="${WANDB_RUN:-dummy}" \
    --save-every=1000 --keep-last=2 --resume=auto

torchrun --standalone --nproc_per_node="$GPUS" -m scripts.base_eval -- --model-tag=d24 --device-batch-size=16

# Who the model is: conversations from templates. Write your own facts (--facts FILE), or have a model write them (--endpoint URL).
if [ ! -f "$BASE/identity_conversations.jsonl" ]; then
    python -m dev.gen_synthetic_data --endpoint ""
fi
torchrun --standalone --nproc_per_node="$GPUS" -m scripts.chat_sft -- \
    --model-tag=d24 --run="${WANDB_RUN:-dummy}" --save-every=500 --keep-last=2 --resume=auto
torchrun --standalone --nproc_per_node="$GPUS" -m scripts.chat_eval -- -i sft -g d24

# All of it in one page, report.md here and in the base dir
python -m nanochat.report generate --model-tag d24
