#!/usr/bin/env bash
# Scaling laws: for each FLOP budget, models of several depths, each trained for as long as the budget lasts; which one gets the fewest bits per byte?
# Ends with a table, fitted exponents and plots (dev/scaling_analysis.py). Run again after an interruption, it continues where it was.
#
#   bash runs/scaling_laws.sh
#   SCALE=cpu bash runs/scaling_laws.sh                      # the same code on a laptop, in minutes
#   BUDGETS="1e18 2e18 4e18" DEPTHS="10 12 14 16" bash runs/scaling_laws.sh
#
# Hardware: 8×H100. Calculated, not run: 28 runs of 5.25e19 FLOPs together are 4.1 hours at 45 % of the peak, which the small models will not reach,
# and each run starts, compiles and is evaluated besides. Disk: 30 GB of text, and the last checkpoint of each run, of which optim_*.pt may be deleted.
# SCALE=cpu, 2 cores: 12 runs of 7e12 FLOPs together, 7 minutes; calculated from what runs of 4e11 and 1e12 FLOPs took (2026-11-21, one thread on a
# busy machine), not timed as a whole.
# What to expect: on GPUs nothing is measured yet. SCALE=cpu shows that all of it works and is no lesson about scaling: in so short runs the fewest
# parameters are the best (1e12 FLOPs: 1.25 bits per byte at depth 1, 1.36 at 2, 1.48 at 3, 1.60 at 4). The lowest points lie outside of what is measured
# or at its very edge; scaling.md says so of the former and gives exponents and a ratio for the latter, which are not to be relied on.
#   BUDGETS="5e17 1e18 2e18 4e18"      FLOPs of a run (SCALE=cpu: 2.5e11 5e11 1e12)
#   DEPTHS="8 10 12 14 16 18 20"       each budget is spent at each of them (SCALE=cpu: 1 2 3 4)
# Further variables (SERIES, SCALE, NPROC_PER_NODE, NNODES, NODE_RANK, MASTER_ADDR, MASTER_PORT, WANDB_RUN, TRAIN_FLAGS …): runs/series.sh says them.
# The results: results.csv, scaling.md, isoflop.png, optimum.png, bpb_flops.png in ~/.cache/nanochat/$SERIES, or in $NANOCHAT_BASE_DIR/$SERIES.

set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/series.sh"  # and that sources setup.sh

SCALE="${SCALE:-gpu}"
if [ "$SCALE" = cpu ]; then
    BUDGETS="${BUDGETS:-2.5e11 5e11 1e12}" DEPTHS="${DEPTHS:-1 2 3 4}"
else
    BUDGETS="${BUDGETS:-5e17 1e18 2e18 4e18}" DEPTHS="${DEPTHS:-8 10 12 14 16 18 20}"
    # One batch for all: the plan's is a power of two and would double between two depths, which is a step in every curve
    TRAIN_FLAGS="--total-batch-size=524288 ${TRAIN_FLAGS:-}"
fi
series_check_list BUDGETS '^[1-9][0-9]*(\.[0-9]+)?(e[0-9]+)?$' "1e18 2.5e18"
series_check_list DEPTHS '^[1-9][0-9]*$' "8 12 16"
series_begin scaling_laws

for budget in $BUDGETS; do
    for depth in $DEPTHS; do
        series_train "${SERIES}_c${budget}_d${depth}" --depth="$depth" --target-flops="$budget" --core-metric-every=-1
    done
done
series_end
