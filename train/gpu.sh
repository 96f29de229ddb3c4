#!/usr/bin/env bash
# ffsplat-tiny on one GPU, by the clock: train/gpu.sh OUT MINUTES MINUTES [options of train fit].
# The first minutes go to 64 pixels, the others to 128; OUT gets a checkpoint folder of each stage.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=$1 first=$2 second=$3
shift 3

stage() {  # NAME MINUTES [options]
    local name=$1 minutes=$2
    shift 2
    python3 -m train fit --config "train/recipes/$name.yaml" --out "runs/$name" --minutes "$minutes" "$@"
    python3 -m train export "runs/$name" --config "train/recipes/$name.yaml" --out "$out/$name"
    cp "runs/$name/metrics.csv" "$out/$name/" || true  # a very short run logs nothing
}

stage tiny-64 "$first" "$@"
stage tiny-128 "$second" "$@" --initial "$out/tiny-64"
