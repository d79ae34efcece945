#!/usr/bin/env bash
# How recipes run what takes long, so that Ctrl-C and SIGTERM end it in good order; they source this file.
# The stage at hand is told once, saves and ends, and then the recipe ends, with 130 or 143. Told twice, the stage ends without saving.
# A terminal that goes away ends both as well, but what writes to it fails, and saves no more: start long runs in screen, tmux or with nohup.

stages_listen() {
    stopped=0 running="" stages_launcher=()
    # What runs should not outlive the recipe, even if that is killed: started again, the recipe would find it at work. Linux can see to it
    if setpriv --pdeathsig TERM true 2>/dev/null; then stages_launcher=(setpriv --pdeathsig TERM); fi
    trap 'stopped=130; stages_interrupt' INT
    trap 'stopped=143; stages_interrupt' TERM
    trap 'stopped=129; stages_interrupt' HUP
}

stages_interrupt() { [ -z "$running" ] || kill -INT "$running" 2>/dev/null || true; }

stages_run() {  # $@: a command; its status
    local status=0
    # In the background, since a shell hears of signals only while it waits; and as a process group of its own (-m), which hears of them from here
    # alone: torchrun passes on what it hears, and a second signal while it waits for its ranks would have it leave them behind
    set -m
    ${stages_launcher[@]+"${stages_launcher[@]}"} "$@" &
    running=$!
    set +m
    if [ "$stopped" != 0 ]; then stages_interrupt; fi  # it came when there was nobody to tell
    wait "$running" || status=$?
    while kill -0 "$running" 2>/dev/null; do status=0; wait "$running" || status=$?; done  # a signal ends the waiting, not the stage
    running=""
    return "$status"
}

stages_stop_if_asked() {  # $1: what was at hand
    if [ "$stopped" = 0 ]; then return 0; fi
    echo "stopped in $1; the same command goes on from there" >&2
    exit "$stopped"
}
