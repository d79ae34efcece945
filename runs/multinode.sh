#!/usr/bin/env bash
# The speedrun on several nodes: all of them pretrain, node 0 does what comes before and after. It recovers by itself from whatever dies: a process,
# torchrun, a node. Start the same command, but for NODE_RANK, on each node; runs/multinode.slurm does that on a cluster with Slurm.
#
#   NNODES=2 NODE_RANK=0 MASTER_ADDR=10.0.0.1 NANOCHAT_BASE_DIR=/shared/nanochat bash runs/multinode.sh      # on 10.0.0.1
#   NNODES=2 NODE_RANK=1 MASTER_ADDR=10.0.0.1 NANOCHAT_BASE_DIR=/shared/nanochat bash runs/multinode.sh      # on the other node
#   SCALE=cpu NNODES=2 …                                                                                     # try it out without GPUs
#
# Hardware: any number of nodes with 8 H100 each. Not yet run on such nodes; tests/test_multinode.py makes two nodes of one machine without GPUs.
# Time: pretraining, that of runs/speedrun.sh divided by the number of nodes, less what the network costs; the rest as there.
#   NNODES=1              nodes
#   NODE_RANK=0           which of them this is; 0 prepares the data, and evaluates and finetunes
#   NPROC_PER_NODE=8      processes on each node, one for each GPU (SCALE=cpu: 1)
#   MASTER_ADDR=…         where they meet: the address of one of them, the same on all
#   MASTER_PORT=29400     and its port
#   NODE_ADDR=…           the address of this node, if the others cannot reach it by the name that it has for itself
#   NANOCHAT_BASE_DIR=…   on a file system that all of them share
#   DEPTH=24              the size of the model (SCALE=cpu: 4)
#   MODEL_TAG=d$DEPTH     folder of the checkpoints
#   TRAIN_FLAGS="--target-param-data-ratio=8 --fp8"   further flags of scripts.base_train; they win over those below (SCALE=cpu: none)
#   STAGES="prepare pretrain rest"                    what to do; prepare alone, on one node, before the others are paid for
#   SCALE=gpu             cpu: tinyworld and a tiny model
#   SHARDS=170, MEGABYTES=24   how much text: to download, about 100 MB each; SCALE=cpu: to generate
#   WANDB_RUN=…           log to wandb; unset: no wandb
#   MAX_RESTARTS=3        how often a torchrun starts its processes again, TRIES=10: and how often the recipe a torchrun, without a new checkpoint in
#                         between, PAUSE=5 seconds later each time
#   RDZV_CONF=…           torchrun's --rdzv_conf; join_timeout=3600 waits an hour, instead of ten minutes, for a node that is to come back
#
# What is recovered from, and how. A process that dies: its torchrun starts it again, and the others follow. A torchrun that is killed: Linux tells
# its processes, which save and end, and this script starts it again; the other nodes notice that one of them waits, or, if it was the one where
# they meet, that it is gone, and start again too. A node, or this script itself: start the same command there again; the others wait for it. All go
# on from the last checkpoint, which is made every 500 steps (SCALE=cpu: 50; --save-every in TRAIN_FLAGS): that is the most that a SIGKILL can cost.
# What is not tried again: what base_train refuses (wrong flags, no data, a full disk, a loss that is not finite …). Ctrl-C and SIGTERM save and end
# it, on this node; the others wait for it to come back, so stop it on all.

set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

refuse() { echo "error: $1" >&2; exit 2; }

wants() { [[ " $STAGES " == *" $1 "* ]]; }

check_variables() {
    local name stage
    for name in NPROC_PER_NODE NNODES DEPTH TRIES; do
        [[ "${!name}" =~ ^[1-9][0-9]*$ ]] || refuse "$name=${!name}: it is a number from 1"
    done
    for name in MAX_RESTARTS PAUSE MASTER_PORT TORCH_ELASTIC_SHUTDOWN_TIMEOUT; do
        [[ "${!name}" =~ ^[0-9]+$ ]] || refuse "$name=${!name}: it is a number"
    done
    [[ "$NODE_RANK" =~ ^[0-9]+$ ]] && [ "$NODE_RANK" -lt "$NNODES" ] || refuse "NODE_RANK=$NODE_RANK: it is a number below NNODES=$NNODES"
    if [ "$NNODES" -gt 1 ] && [ -z "${MASTER_ADDR:-}" ]; then refuse "NNODES=$NNODES needs MASTER_ADDR, the address where the nodes meet"; fi
    [[ "$MODEL_TAG" =~ ^[A-Za-z0-9][A-Za-z0-9_.-]*$ ]] || refuse "MODEL_TAG=$MODEL_TAG: take letters, digits, '_', '-' and '.'"
    for stage in $STAGES; do
        case "$stage" in prepare | pretrain | rest) ;; *) refuse "STAGES has $stage; they are prepare, pretrain and rest" ;; esac
    done
    # The flags are looked at before anybody waits for anybody
    python -c "from scripts.base_train import parse_args; parse_args()" "${FLAGS[@]}" || refuse "scripts.base_train does not take these flags"
}

# --- running and stopping --------------------------------------------------------------------------------------------

run() {  # a command, in the background, since a shell hears of signals only while it waits; and open to Ctrl-C, which is shut off there
    local status=0
    stop_if_asked
    (trap - INT; exec "$@") &
    running=$!
    (while sleep 1 && kill -0 "$running" 2>/dev/null; do
        if [ -f "$REFUSAL" ]; then kill -INT "$running"; break; fi  # torchrun itself would try again, or wait for others who have given up
    done) &
    wait "$running" || status=$?
    while kill -0 "$running" 2>/dev/null; do status=0; wait "$running" || status=$?; done  # a signal ends the waiting, not the command
    running=""
    return "$status"
}

stop_if_asked() {
    if [ "$stopped" = 0 ]; then return 0; fi
    echo "stopped; the same command goes on from there" >&2
    exit "$stopped"
}

ranks_left() {  # processes that a torchrun of this node has left behind; Linux knows what they were started with
    grep -lsxzF "NANOCHAT_NODE=$NODE" /proc/[0-9]*/environ | cut -d/ -f3 || true
}

await_ranks() {  # $1: seconds to wait for them to save and end
    local end=$((SECONDS + $1))
    while [ -n "$(ranks_left)" ] && [ "$SECONDS" -lt "$end" ]; do sleep 0.5 || true; done
}

# --- prepare ---------------------------------------------------------------------------------------------------------

prepare() {
    [ -d "$RUN" ] || python -m nanochat.report reset
    if [ "$DATASET" = tinyworld ]; then
        python -m nanochat.dataset --source tinyworld --megabytes "$MEGABYTES"
        [ -f "$BASE/tokenizer_tinyworld/tokenizer.json" ] || python -m scripts.tok_train --dataset tinyworld --vocab-size 4096
    else
        python -m nanochat.dataset -n 8  # enough for the tokenizer; the others come while it is trained
        python -m nanochat.dataset -n "$SHARDS" &
        running=$!
        [ -f "$BASE/tokenizer/tokenizer.json" ] || python -m scripts.tok_train --vocab-size 32768 --max-chars 2000000000
        wait "$running"
        running=""
    fi
    echo "$WHAT" >"$STATE/prepared"  # last: other nodes wait for it
}

await_preparation() {
    if is_prepared; then return 0; fi
    echo "waiting for node 0 to prepare text and tokenizer ($STATE/prepared)"
    until is_prepared; do sleep 2; done
}

is_prepared() { [ "$(cat "$STATE/prepared" 2>/dev/null)" = "$WHAT" ]; }

# --- pretrain --------------------------------------------------------------------------------------------------------

pretrain() {
    local tries=0 status before
    if [ -n "$(ranks_left)" ]; then
        echo "waiting for what is left of an earlier start to end (processes $(ranks_left | xargs))"
        await_ranks "$TORCH_ELASTIC_SHUTDOWN_TIMEOUT"
        [ -z "$(ranks_left)" ] || refuse "this node is training $MODEL_TAG already (processes $(ranks_left | xargs)): wait for them, or end them"
    fi
    touch "$STATE/started_$NODE_RANK"
    while true; do
        before="$(newest_checkpoint)" status=0
        run env NANOCHAT_NODE="$NODE" NANOCHAT_REFUSAL="$REFUSAL" torchrun "${MEET[@]}" -m scripts.base_train -- "${FLAGS[@]}" || status=$?
        await_ranks "$TORCH_ELASTIC_SHUTDOWN_TIMEOUT"
        ranks_left | xargs -r kill -KILL 2>/dev/null || true
        stop_if_asked
        if is_finished "$status"; then return 0; fi
        if [ -f "$REFUSAL" ]; then
            echo "error: this is not tried again, because it would end in the same way: $(cat "$REFUSAL")" >&2
            exit 1
        fi
        if [ "$(newest_checkpoint)" != "$before" ]; then tries=0; fi
        tries=$((tries + 1))
        if [ "$tries" -gt "$TRIES" ]; then
            echo "error: torchrun ended $tries times without a new checkpoint in $RUN. What went wrong is said above" >&2
            exit 1
        fi
        echo "torchrun ended with status $status before $MODEL_TAG was finished; once more in $PAUSE seconds (try $tries of $TRIES)" >&2
        sleep "$PAUSE" || true
    done
}

newest_checkpoint() {
    local metas=("$RUN"/meta_*.json)
    echo "${metas[${#metas[@]} - 1]}"
}

is_finished() {  # $1: the status of torchrun. If that is not 0 the end must be new: the flags may ask for more steps than there were the last time
    python -m dev.scaling_analysis finished "$MODEL_TAG" && { [ "$1" = 0 ] || [ "$RUN/summary.json" -nt "$STATE/started_$NODE_RANK" ]; }
}

# --- the rest --------------------------------------------------------------------------------------------------------

# On one node: it takes minutes where pretraining takes hours, and the other nodes can be given back. More of them would save less than they cost, and
# each stage would need a meeting of its own.
rest() {
    local launch=(python)
    if [ "$NPROC_PER_NODE" -gt 1 ]; then launch=(torchrun --standalone --nproc_per_node="$NPROC_PER_NODE"); fi
    stage "${launch[@]}" -m scripts.base_eval -- --model-tag="$MODEL_TAG" --resume=auto "${EVAL_FLAGS[@]}"
    if [ "$DATASET" != tinyworld ] && [ ! -f "$BASE/identity_conversations.jsonl" ]; then
        stage python -m dev.gen_synthetic_data --endpoint ""
    fi
    stage "${launch[@]}" -m scripts.chat_sft -- --model-tag="$MODEL_TAG" --run="${WANDB_RUN:-dummy}" --save-every=500 --keep-last=2 --resume=auto
    stage "${launch[@]}" -m scripts.chat_eval -- -i sft -g "$MODEL_TAG" --resume=auto
    stage python -m nanochat.report generate --model-tag "$MODEL_TAG"
}

stage() {
    local status=0
    run "$@" || status=$?
    stop_if_asked
    [ "$status" = 0 ] || exit "$status"
}

# --- all of it -------------------------------------------------------------------------------------------------------

NNODES="${NNODES:-1}" NODE_RANK="${NODE_RANK:-0}" STAGES="${STAGES:-prepare pretrain rest}" MEGABYTES="${MEGABYTES:-24}" SHARDS="${SHARDS:-170}"
MAX_RESTARTS="${MAX_RESTARTS:-3}" TRIES="${TRIES:-10}" PAUSE="${PAUSE:-5}" MASTER_PORT="${MASTER_PORT:-29400}"
case "${SCALE:=gpu}" in
    gpu)
        DATASET=climbmix WHAT="climbmix, $SHARDS shards" NPROC_PER_NODE="${NPROC_PER_NODE:-8}" DEPTH="${DEPTH:-24}"
        TRAIN_FLAGS="${TRAIN_FLAGS---target-param-data-ratio=8 --fp8}"
        FLAGS=(--save-every=500) EVAL_FLAGS=(--device-batch-size=16)
        export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"  # ranks would otherwise fight for the cores
        ;;
    cpu)
        DATASET=tinyworld WHAT="tinyworld, $MEGABYTES MB" NPROC_PER_NODE="${NPROC_PER_NODE:-1}" DEPTH="${DEPTH:-4}" TRAIN_FLAGS="${TRAIN_FLAGS-}"
        # Learning rates for small batches and short runs, as in runs/runcpu.sh, which says why
        FLAGS=(--aspect-ratio=32 --head-dim=32 --max-seq-len=256 --device-batch-size=8 --total-batch-size=4096 --num-iterations=400
            --matrix-lr=0.16 --embedding-lr=2.4 --unembedding-lr=0.064 --scalar-lr=1 --weight-decay=0.1
            --eval-tokens=65536 --core-metric-every=-1 --save-every=50)
        EVAL_FLAGS=(--split-tokens=65536)
        ;;
    *) refuse "SCALE=$SCALE: it is gpu or cpu" ;;
esac
MODEL_TAG="${MODEL_TAG:-d$DEPTH}" BASE="${NANOCHAT_BASE_DIR:-$HOME/.cache/nanochat}"
RUN="$BASE/base_checkpoints/$MODEL_TAG" STATE="$BASE/multinode/$MODEL_TAG" NODE="$NODE_RANK of $MODEL_TAG in $BASE"
REFUSAL="$STATE/refused"  # where all nodes see it
read -ra extra <<<"$TRAIN_FLAGS" || true
FLAGS=(--model-tag="$MODEL_TAG" --depth="$DEPTH" --dataset="$DATASET" --run="${WANDB_RUN:-dummy}" --keep-last=2 --resume=auto
    "${FLAGS[@]}" ${extra[@]+"${extra[@]}"})
# The id: torchruns of one model do not meet those of another. A number of nodes that is fixed: with fewer of them nobody begins
MEET=(--nnodes="$NNODES" --nproc_per_node="$NPROC_PER_NODE" --max_restarts="$MAX_RESTARTS" --rdzv_backend=c10d --rdzv_id="$MODEL_TAG"
    --rdzv_endpoint="${MASTER_ADDR:-localhost}:$MASTER_PORT" ${NODE_ADDR:+--local_addr="$NODE_ADDR"} ${RDZV_CONF:+--rdzv_conf="$RDZV_CONF"})
# Otherwise a torchrun keeps in mind where the first of them had its store, and after another one became the first the ranks do not find each other
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT="${TORCH_ELASTIC_SHUTDOWN_TIMEOUT:-300}"  # seconds in which a run that is stopped has to be saved

check_variables
mkdir -p "$STATE"
rm -f "$REFUSAL"
stopped=0 running=""
trap '[ -z "$running" ] || kill "$running" 2>/dev/null || true' EXIT
if wants prepare; then
    if [ "$NODE_RANK" = 0 ]; then prepare; else await_preparation; fi
fi
trap - EXIT
trap 'stopped=130' INT  # Ctrl-C reaches torchrun as well
trap 'stopped=143; [ -z "$running" ] || kill -INT "$running" 2>/dev/null || true' TERM
if wants pretrain; then pretrain; fi
if wants rest && [ "$NODE_RANK" = 0 ]; then rest; fi
