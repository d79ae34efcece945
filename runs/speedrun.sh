#!/usr/bin/env bash
# A GPT-2-grade model on a node of 8 H100 GPUs, from nothing, and a chat model made of it.
#
#   bash runs/speedrun.sh
#   WANDB_RUN=speedrun bash runs/speedrun.sh     # log to wandb as well
#   DEPTH=12 RL=1 bash runs/speedrun.sh          # a smaller model, and reinforcement learning after SFT
#
# Hardware: 8×H100 (80 GB); calculated, 80 GB of disk, 100 with RL. Time and cost, of pretraining alone:
#   published by others    karpathy/nanochat: 1.65 hours, at about 24 USD an hour for the node some 40 USD, with a CORE of 0.2626
#                          (its best; other settings took up to 3 hours: dev/LEADERBOARD.md)
#   calculated             2.18 hours and 52 USD, at 45 % of the peak in bf16 and 3 USD per GPU and hour: 5,568 steps, 63 GiB on each GPU
#                          (python -m scripts.base_train --depth 24 --target-param-data-ratio 8 --fp8 --dry-run 8xH100)
#   measured by us         nothing: it has not run on such a node yet. tests/test_speedrun.py runs all of it at toy size, on a CPU
# Stages: set-up; text, of which most comes while the tokenizer is trained; tokenizer; pretraining; evaluation (CORE, bits per byte, samples); who the
# model is; SFT; evaluation (ChatCORE); RL=1: reinforcement learning on GSM8K and the same evaluation; report.
# Run again after an interruption of any kind, it goes on where it was: what is finished is not done again. Ctrl-C and SIGTERM end it after the step
# that is being trained, which is saved; a lost terminal ends it without that (start it in screen or tmux), and costs up to 500 steps.
#
#   DEPTH=24               the dial
#   RATIO=8                tokens for each scaling parameter
#   FP8=1                  0: bf16, as on GPUs older than the H100
#   NPROC_PER_NODE=8       processes, one for each GPU; 1: without torchrun
#   DEVICE_BATCH_SIZE=16   rows on a GPU at a time; less takes less memory and gives the same
#   SHARDS=170             of text to download, about 100 MB each
#   TOKENIZER_SHARDS=8     of these, for the tokenizer: pretraining waits for all shards, the tokenizer only for these
#   VOCAB_SIZE=32768       tokens of the tokenizer. One that is there already is taken as it is
#   TAG=d24                folder of the checkpoints (d and the depth)
#   RL=0                   1: reinforcement learning after SFT
#   WANDB_RUN=…            name of the run on wandb; unset: no wandb
#   TRAIN_FLAGS="…"        further flags of scripts.base_train, SFT_FLAGS of scripts.chat_sft, RL_FLAGS of scripts.chat_rl, BASE_EVAL_FLAGS of
#                          scripts.base_eval, CHAT_EVAL_FLAGS of scripts.chat_eval; they win over those of the recipe
# Everything is kept in ~/.cache/nanochat, or in $NANOCHAT_BASE_DIR.

set -euo pipefail

refuse() { echo "error: $1" >&2; exit 2; }

DEPTH="${DEPTH:-24}" RATIO="${RATIO:-8}" FP8="${FP8:-1}" RL="${RL:-0}" TAG="${TAG:-d${DEPTH:-24}}"
NPROC_PER_NODE="${NPROC_PER_NODE:-8}" DEVICE_BATCH_SIZE="${DEVICE_BATCH_SIZE:-16}"
SHARDS="${SHARDS:-170}" TOKENIZER_SHARDS="${TOKENIZER_SHARDS:-8}" VOCAB_SIZE="${VOCAB_SIZE:-32768}"
for name in DEPTH NPROC_PER_NODE DEVICE_BATCH_SIZE SHARDS TOKENIZER_SHARDS VOCAB_SIZE; do
    [[ "${!name}" =~ ^[1-9][0-9]*$ ]] || refuse "$name=${!name}: it is a number from 1"
done
[[ "$RATIO" =~ ^[0-9]+(\.[0-9]+)?$ ]] || refuse "RATIO=$RATIO: it is a number, for example 8 or 10.5"
[[ "$TAG" =~ ^[A-Za-z0-9][A-Za-z0-9_.-]*$ ]] || refuse "TAG=$TAG: take letters, digits, '_', '-' and '.'"
for name in FP8 RL; do
    [[ "${!name}" =~ ^[01]$ ]] || refuse "$name=${!name}: it is 0 or 1"
done

source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"  # before anything is installed, wrong variables have been refused
source runs/stages.sh
set -f  # flags are parted at spaces, and a * in them stands for no files
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"  # ranks would otherwise fight for the cores
BASE="${NANOCHAT_BASE_DIR:-$HOME/.cache/nanochat}"
run="${WANDB_RUN:-dummy}"
launch=(python)
if [ "$NPROC_PER_NODE" -gt 1 ]; then launch=(torchrun --standalone --nproc_per_node="$NPROC_PER_NODE"); fi

stage() {  # $1: what it is called, then a command. The recipe ends if it fails, or if somebody has asked to stop
    local name="$1" status=0
    shift
    echo "--- $name"
    stages_run "$@" || status=$?
    end_unless_well "$name" "$status"
}

end_unless_well() {  # $1: what it is called, $2: its status
    stages_stop_if_asked "$1"
    if [ "$2" = 0 ]; then return 0; fi
    echo "error: $1 ended with status $2. What went wrong is said above; the same command goes on from there" >&2
    exit "$2"
}

end_download() {
    if [ -z "$download" ]; then return 0; fi
    kill "$download" 2>/dev/null || true
    wait "$download" 2>/dev/null || true
}

download=""
trap end_download EXIT
stages_listen

if [ ! -d "$BASE/base_checkpoints/$TAG" ]; then stage "a new report" python -m nanochat.report reset; fi

# The tokenizer's shards first; the others come while it is trained. What is there already is not downloaded again
first=$((SHARDS < TOKENIZER_SHARDS ? SHARDS : TOKENIZER_SHARDS))
stage "text for the tokenizer" python -m nanochat.dataset -n "$first"
python -m nanochat.dataset -n "$SHARDS" &
download=$!
if [ ! -f "$BASE/tokenizer/tokenizer.json" ]; then
    stage "tokenizer" python -m scripts.tok_train --vocab-size "$VOCAB_SIZE" --max-shards "$first"
fi
if [ ! -f "$BASE/tokenizer/compression.json" ]; then stage "evaluation of the tokenizer" python -m scripts.tok_eval; fi
status=0
wait "$download" || status=$?
end_unless_well "the download of the text" "$status"
download=""

fp8=()
if [ "$FP8" = 1 ]; then fp8=(--fp8); fi
stage "pretraining" "${launch[@]}" -m scripts.base_train -- \
    --depth="$DEPTH" --target-param-data-ratio="$RATIO" ${fp8[@]+"${fp8[@]}"} --device-batch-size="$DEVICE_BATCH_SIZE" --model-tag="$TAG" \
    --run="$run" --save-every=500 --keep-last=2 --resume=auto ${TRAIN_FLAGS:-}
stage "evaluation of the base model" "${launch[@]}" -m scripts.base_eval -- \
    --model-tag="$TAG" --device-batch-size="$DEVICE_BATCH_SIZE" --resume=auto ${BASE_EVAL_FLAGS:-}

# Who the model is: conversations from templates. Write your own facts (--facts FILE), or have a model write them (--endpoint URL)
if [ ! -f "$BASE/identity_conversations.jsonl" ]; then
    stage "conversations about who the model is" python -m dev.gen_synthetic_data --endpoint ""
fi
stage "SFT" "${launch[@]}" -m scripts.chat_sft -- \
    --model-tag="$TAG" --run="$run" --save-every=200 --keep-last=2 --resume=auto ${SFT_FLAGS:-}
stage "evaluation after SFT" "${launch[@]}" -m scripts.chat_eval -- -i sft -g "$TAG" --resume=auto ${CHAT_EVAL_FLAGS:-}

if [ "$RL" = 1 ]; then
    stage "RL" "${launch[@]}" -m scripts.chat_rl -- --model-tag="$TAG" --run="$run" --keep-last=2 --resume=auto ${RL_FLAGS:-}
    stage "evaluation after RL" "${launch[@]}" -m scripts.chat_eval -- -i rl -g "$TAG" --resume=auto ${CHAT_EVAL_FLAGS:-}
fi

# All of it in one page, report.md here and in the base dir
stage "report" python -m nanochat.report generate --model-tag "$TAG"
echo "talk to it: source .venv/bin/activate; python -m scripts.chat_web -g $TAG   (or scripts.chat_cli)"
