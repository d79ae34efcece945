#!/usr/bin/env bash
# Scaling laws: for each FLOP budget, models of several sizes, each trained for as long as the budget lasts; which one gets the fewest bits per byte?
# Ends with a table, fitted exponents and plots (dev/scaling_analysis.py). Run again after an interruption, it continues where it was.
#
#   bash runs/scaling_laws.sh
#   SCALE=cpu bash runs/scaling_laws.sh                      # the same code on a laptop, in minutes
#   BUDGETS="1e18 2e18 4e18" DEPTHS="10 12 14 16" bash runs/scaling_laws.sh
#
# Hardware: 8×H100. Calculated, not run: 28 runs of 5.25e19 FLOPs together are 4.1 hours at 45 % of the peak, which the small models will not reach,
# and each run starts, compiles and is evaluated besides. Disk: 30 GB of text, and the last checkpoint of each run, of which optim_*.pt may be deleted.
# SCALE=cpu, 2 cores: 15 runs of 8.75e12 FLOPs and 14 million tokens together, 8 minutes 7 seconds without the installation (2026-11-22, Zen 4 EPYC; on
# one core, since another recipe had the other).
# What to expect: on GPUs nothing is measured yet. SCALE=cpu, that run, bits per byte at widths of 24, 32, 48, 64 and 96:
#   2.5e11 FLOPs: 1.295 1.259 1.295 1.385 1.566    5e11: 1.133 1.135 1.134 1.151 1.279    1e12: 0.977 0.941 1.000 1.027 1.049
# It shows how the method works, and is no law for large models: runs so short scatter by up to 0.03, which is as much as the parabolas rise. So only
# the first of the budgets has a lowest point (62,000 scaling parameters, 8.5 tokens for each); scaling.md leaves the others out, says why, and gives
# no exponents.
# A budget whose best model is the smallest or the largest has no lowest point to be relied on; scaling.md says so, and leaves it out.
#   BUDGETS="5e17 1e18 2e18 4e18"      FLOPs of a run (SCALE=cpu: 2.5e11 5e11 1e12)
#   DEPTHS="8 10 12 14 16 18 20"       each budget is spent at each of them (SCALE=cpu: 2)
#   ASPECTS=""                         widths for each of them, as multiples of the depth; unset: 64 (SCALE=cpu: 12 16 24 32 48, so widths from
#                                      24, which is the least that the model can have, to 96: more layers would take more steps than there is time)
# Further variables (SERIES, SCALE, NPROC_PER_NODE, NNODES, NODE_RANK, MASTER_ADDR, MASTER_PORT, WANDB_RUN, TRAIN_FLAGS …): runs/series.sh says them.
# The results: results.csv, scaling.md, isoflop.png, optimum.png, bpb_flops.png in ~/.cache/nanochat/$SERIES, or in $NANOCHAT_BASE_DIR/$SERIES.
# SCALE=cpu has all of it in the folder series_cpu there.

set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/series.sh"  # and that sources setup.sh

SCALE="${SCALE:-gpu}"
if [ "$SCALE" = cpu ]; then
    BUDGETS="${BUDGETS:-2.5e11 5e11 1e12}" DEPTHS="${DEPTHS:-2}" ASPECTS="${ASPECTS-12 16 24 32 48}"
else
    BUDGETS="${BUDGETS:-5e17 1e18 2e18 4e18}" DEPTHS="${DEPTHS:-8 10 12 14 16 18 20}" ASPECTS="${ASPECTS-}"
    # One batch for all: the plan's is a power of two and would double between two depths, which is a step in every curve
    TRAIN_FLAGS="--total-batch-size=524288 ${TRAIN_FLAGS:-}"
fi
series_check_list BUDGETS '^[1-9][0-9]*(\.[0-9]+)?(e[0-9]+)?$' "1e18 2.5e18"
series_check_list DEPTHS '^[1-9][0-9]*$' "8 12 16"
[ -z "$ASPECTS" ] || series_check_list ASPECTS '^[1-9][0-9]*$' "48 64 80"
series_begin scaling_laws

for budget in $BUDGETS; do
    for depth in $DEPTHS; do
        for aspect in ${ASPECTS:-default}; do
            shape=(--depth="$depth") tag="${SERIES}_c${budget}_d${depth}"
            if [ "$aspect" != default ]; then shape+=(--aspect-ratio="$aspect") tag+="a$aspect"; fi
            series_train "$tag" "${shape[@]}" --target-flops="$budget" --core-metric-every=-1
        done
    done
done
series_end
