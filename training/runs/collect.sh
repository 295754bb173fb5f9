#!/usr/bin/env bash
# Put the five parts of a run into one checkpoint folder: bash training/runs/collect.sh WORK_FOLDER CHECKPOINT_FOLDER
# TOKENIZER: which one (default tokenizer/tokenizer; decoder/tokenizer after train_decoder).
set -euo pipefail
work=${1:?give the folder of the runs} checkpoint=${2:?give the checkpoint folder}
mkdir -p "$checkpoint"
for part in mae/encoder "${TOKENIZER:-tokenizer/tokenizer}" probes/probes dit/dit forecaster/forecaster; do
    rm -rf "${checkpoint:?}/$(basename "$part")"
    cp -r "$work/$part" "$checkpoint/"
done
