#!/usr/bin/env bash
# The bottleneck sweep of appendix D: tokenizers of 32, 128 and 512 channels on one frozen encoder, and the
# AutoencoderKL from scratch, on the same volumes by the same loop; then one reconstruction table of them all.
#   bash training/runs/bottlenecks.sh STORE HELD_OUT_STORE ENCODER WORK_FOLDER
# CONFIG (default paper.toml), PROCESSES (default 4), CHANNELS (default "32 128 512"), VOLUMES of the table (default 60).
set -euo pipefail
store=${1:?give the training store} held_out=${2:?give the held-out store}
encoder=${3:?give the encoder checkpoint} work=${4:?give a folder for the runs}
python=${PYTHON:-python}
config=${CONFIG:-training/configs/paper.toml}
launch=("$python" -m torch.distributed.run --standalone --nproc-per-node "${PROCESSES:-4}" -m)
mkdir -p "$work"
checkpoints=()
for channels in ${CHANNELS:-32 128 512}; do
    run="$work/d$channels"
    "${launch[@]}" training.train_tokenizer "$config" --set "tokenizer.model.channels=$channels" --store "$store" \
        --encoder "$encoder" --out "$run"
    rm -rf "$run/checkpoint"
    mkdir -p "$run/checkpoint"
    cp -r "$encoder" "$run/checkpoint/encoder"
    cp -r "$run/tokenizer" "$run/checkpoint/tokenizer"
    checkpoints+=("$run/checkpoint")
done
"${launch[@]}" training.train_autoencoderkl "$config" --store "$store" --out "$work/autoencoderkl"
"$python" -m training.evaluate all --only bottleneck --store "$held_out" --checkpoint "${checkpoints[0]}" \
    --reconstructors "${checkpoints[@]:1}" "$work/autoencoderkl/autoencoderkl" --volumes "${VOLUMES:-60}" \
    -o "$work/report"
