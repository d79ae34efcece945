#!/usr/bin/env bash
# What runs/scaling_laws.sh and runs/miniseries.sh have in common; they source this file. It sets up, prepares text and tokenizer, and trains one run
# after the other: what is finished is not done again, what was interrupted goes on, what fails does not keep the others from being done.
#
#   SERIES=…            name of the series: model tags begin with it, and its results are in the folder of that name
#   SCALE=gpu           cpu: tinyworld and tiny models, on a laptop
#   NPROC_PER_NODE=8    processes on each node, one for each GPU (SCALE=cpu: 1, without torchrun)
#   NNODES=1            nodes. With more, start the recipe on each of them, with the same variables but for NODE_RANK, and NANOCHAT_BASE_DIR on a
#                       file system that all of them share
#   NODE_RANK=0         which of them this is; 0 prepares the data and writes the results
#   MASTER_ADDR=…       where they meet: the address of one of them, the same on all
#   MASTER_PORT=29400   and its port
#   WANDB_RUN=…         log to wandb, each run as $WANDB_RUN-<model tag>; unset: no wandb
#   TRAIN_FLAGS="…"     further flags of scripts.base_train; they win over those of the recipe
#   SHARDS=300          SCALE=gpu: how many shards of text to download, about 100 MB each
#   MEGABYTES=24        SCALE=cpu: how much text to generate
#   VOCAB_SIZE=32768    how many tokens the tokenizer has (SCALE=cpu: 1024). All runs of a series have the same; another one is refused
#
# SCALE=cpu keeps text, tokenizer, runs and results in a base dir of its own, series_cpu in the one that is set, since runs/runcpu.sh wants another
# tokenizer for the same text. To look at them afterwards: NANOCHAT_BASE_DIR=~/.cache/nanochat/series_cpu python -m dev.scaling_analysis fit SERIES

set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
source runs/stages.sh

series_begin() {  # check what was asked for, and prepare; $1: default name of the series
    local pattern
    SERIES="${SERIES:-$1$([ "$SCALE" = gpu ] || echo "_$SCALE")}"
    NNODES="${NNODES:-1}" NODE_RANK="${NODE_RANK:-0}" MASTER_PORT="${MASTER_PORT:-29400}"
    BASE="${NANOCHAT_BASE_DIR:-$HOME/.cache/nanochat}"
    case "$SCALE" in
        gpu)
            DATASET=climbmix NPROC_PER_NODE="${NPROC_PER_NODE:-8}" VOCAB_SIZE="${VOCAB_SIZE:-32768}"
            WHAT="climbmix, ${SHARDS:-300} shards, $VOCAB_SIZE tokens"
            export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"  # ranks would otherwise fight for the cores
            COMMON=(--eval-every=1000000 --save-every=500)  # evaluated before the first step and after the last
            ;;
        cpu)
            DATASET=tinyworld NPROC_PER_NODE="${NPROC_PER_NODE:-1}" VOCAB_SIZE="${VOCAB_SIZE:-1024}"
            export NANOCHAT_BASE_DIR="$BASE/series_cpu"
            BASE="$NANOCHAT_BASE_DIR"
            WHAT="tinyworld, ${MEGABYTES:-24} MB, $VOCAB_SIZE tokens"
            export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"  # so small matrices are not worth sharing
            # Learning rates for small batches and short runs, as in runs/runcpu.sh, which says why
            COMMON=(--aspect-ratio=32 --head-dim=8 --max-seq-len=128 --device-batch-size=8 --total-batch-size=1024 --warmup-steps=20
                --matrix-lr=0.16 --embedding-lr=2.4 --unembedding-lr=0.064 --scalar-lr=1 --weight-decay=0.1 --compile=off
                --eval-every=1000000 --eval-tokens=65536 --save-every=200)
            ;;
        *) series_refuse "SCALE=$SCALE: it is gpu or cpu" ;;
    esac
    [[ "$SERIES" =~ ^[A-Za-z0-9][A-Za-z0-9_.-]*$ ]] || series_refuse "SERIES=$SERIES: take letters, digits, '_', '-' and '.'"
    for pattern in NPROC_PER_NODE NNODES VOCAB_SIZE; do
        [[ "${!pattern}" =~ ^[1-9][0-9]*$ ]] || series_refuse "$pattern=${!pattern}: it is a number from 1"
    done
    [[ "$NODE_RANK" =~ ^[0-9]+$ ]] && [ "$NODE_RANK" -lt "$NNODES" ] || series_refuse "NODE_RANK=$NODE_RANK: it is a number below NNODES=$NNODES"
    if [ "$NNODES" -gt 1 ] && [ -z "${MASTER_ADDR:-}" ]; then series_refuse "NNODES=$NNODES needs MASTER_ADDR, the address where the nodes meet"; fi
    COMMON+=(--dataset="$DATASET" --keep-last=1 --sample-every=-1 --resume=auto)
    failed=()
    if [ "$NODE_RANK" = 0 ]; then series_prepare; else series_await; fi
    stages_listen
}

series_refuse() { echo "error: $1" >&2; exit 2; }

series_check_list() {  # $1: name of the variable, $2: what its words look like, $3: an example
    local word
    [ -n "${!1// /}" ] || series_refuse "$1 is empty; for example $1=\"$3\""
    for word in ${!1}; do
        [[ "$word" =~ $2 ]] || series_refuse "$1 has $word; write it like $1=\"$3\""
    done
}

series_prepare() {
    if [ "$DATASET" = tinyworld ]; then
        python -m nanochat.dataset --source tinyworld --megabytes "${MEGABYTES:-24}"
        if [ ! -f "$BASE/tokenizer_tinyworld/tokenizer.json" ]; then
            python -m scripts.tok_train --dataset tinyworld --vocab-size "$VOCAB_SIZE"
        fi
    else
        python -m nanochat.dataset -n "${SHARDS:-300}"
        if [ ! -f "$BASE/tokenizer/tokenizer.json" ]; then
            python -m scripts.tok_train --vocab-size "$VOCAB_SIZE" --max-chars 2000000000
        fi
    fi
    python -m dev.scaling_analysis check "$SERIES" --dataset "$DATASET" --vocab-size "$VOCAB_SIZE"
    mkdir -p "$BASE/$SERIES"
    echo "$WHAT" >"$BASE/$SERIES/.prepared"  # last: other nodes wait for it
}

series_await() {
    while [ "$(cat "$BASE/$SERIES/.prepared" 2>/dev/null)" != "$WHAT" ]; do
        echo "waiting for node 0 to prepare text and tokenizer ($BASE/$SERIES/.prepared)"
        sleep 10
    done
}

series_train() {  # $1: model tag; then flags of scripts.base_train
    local tag="$1" status=0 launch=(python) extra=()
    shift
    if python -m dev.scaling_analysis finished "$tag"; then
        echo "$tag is finished"
        return 0
    fi
    stages_stop_if_asked "$tag"
    if [ "$NNODES" -gt 1 ]; then  # the id: agents of one run do not meet those of the next
        launch=(torchrun --nnodes="$NNODES" --nproc_per_node="$NPROC_PER_NODE" --rdzv_backend=c10d --rdzv_id="$tag"
            --rdzv_endpoint="$MASTER_ADDR:$MASTER_PORT")
    elif [ "$NPROC_PER_NODE" -gt 1 ]; then
        launch=(torchrun --standalone --nproc_per_node="$NPROC_PER_NODE")
    fi
    local run=dummy
    if [ -n "${WANDB_RUN:-}" ]; then run="$WANDB_RUN-$tag"; fi
    read -ra extra <<<"${TRAIN_FLAGS:-}" || true
    echo "--- $tag"
    stages_run "${launch[@]}" -m scripts.base_train -- --model-tag="$tag" --run="$run" "${COMMON[@]}" "$@" ${extra[@]+"${extra[@]}"} || status=$?
    stages_stop_if_asked "$tag"
    if [ "$status" != 0 ]; then
        failed+=("$tag")
        echo "error: $tag ended with status $status; the others are done all the same" >&2
    fi
}

series_end() {  # results, table and plots; not zero if a run failed
    local status=0
    if [ "$NODE_RANK" = 0 ]; then
        { python -m dev.scaling_analysis collect "$SERIES" && python -m dev.scaling_analysis fit "$SERIES"; } || status=$?
    fi
    if [ "${#failed[@]}" -gt 0 ]; then
        echo "error: ${#failed[@]} failed: ${failed[*]}. What went wrong is said above; the same command tries these again" >&2
        status=1
    fi
    exit "$status"
}
