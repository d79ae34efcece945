#!/usr/bin/env bash
# A miniseries: models of several depths, each trained on as much text as is best for its size. An idea that helps should help all of them.
# Ends with a table (bits per byte, CORE) and a plot. Run again after an interruption, it continues where it was.
#
#   bash runs/miniseries.sh
#   SCALE=cpu bash runs/miniseries.sh                       # the same code on a laptop, in minutes
#   SERIES=my_idea TRAIN_FLAGS="--weight-decay=0.2" bash runs/miniseries.sh
#
# Hardware: 8×H100. Calculated, not run: 6 runs of 3.2e19 FLOPs together are 2.5 hours at 45 % of the peak, and each run starts, compiles and is
# evaluated besides.
# SCALE=cpu, 2 cores: 3 runs, 2 minutes 57 seconds without the installation (2026-11-22, Zen 4 EPYC; on one core, since another recipe had the other).
# What to expect: on GPUs nothing is measured yet. SCALE=cpu, that run: 1.61, 1.07 and 0.67 bits per byte at depths of 1, 2 and 3, and a CORE of 0.05, 0.05
# and 0.07.
#   DEPTHS="10 12 14 16 18 20"    (SCALE=cpu: 1 2 3)
#   RATIO=12      tokens for each scaling parameter; runs/scaling_laws.sh recommends one in its scaling.md. 12 is what
#                 scripts.base_train takes by itself. (SCALE=cpu: 4, for the sake of time; for so small models it is not the best)
# Further variables (SERIES, SCALE, NPROC_PER_NODE, NNODES, NODE_RANK, MASTER_ADDR, MASTER_PORT, WANDB_RUN, TRAIN_FLAGS …): runs/series.sh says them.
# The results: results.csv, scaling.md, bpb_flops.png in ~/.cache/nanochat/$SERIES, or in $NANOCHAT_BASE_DIR/$SERIES.
# SCALE=cpu has all of it in the folder series_cpu there.

set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/series.sh"  # and that sources setup.sh

SCALE="${SCALE:-gpu}"
if [ "$SCALE" = cpu ]; then
    RATIO="${RATIO:-4}" DEPTHS="${DEPTHS:-1 2 3}"
else
    RATIO="${RATIO:-12}" DEPTHS="${DEPTHS:-10 12 14 16 18 20}"
fi
series_check_list RATIO '^[0-9]+(\.[0-9]+)?$' 12
series_check_list DEPTHS '^[1-9][0-9]*$' "10 12 14"
series_begin miniseries

for depth in $DEPTHS; do  # CORE at the end of each run
    series_train "${SERIES}_r${RATIO}_d${depth}" --depth="$depth" --target-param-data-ratio="$RATIO" \
        --core-metric-every=1000000 --core-metric-max-per-task=-1
done
series_end
