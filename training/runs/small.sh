#!/usr/bin/env bash
# The embedded default, from nothing, on two CPU cores (about an hour and a half) or one GPU.
#   bash training/runs/small.sh WORK_FOLDER [TEMPLATES_FOLDER]
# TEMPLATES_FOLDER: skull-stripped T1 scans that become further anatomies (the default used 11 subjects of OpenNeuro
# ds002748, CC0). Without it the cohort moves the ICBM152 template alone.
set -euo pipefail
work=${1:?give a folder for stores and runs}
templates=${2:+--templates "$2"}
python=${PYTHON:-python}
config=training/configs/small.toml

# shellcheck disable=SC2086
$python -m training.build_store --subjects 320 --visits 2 --seed 1 --out "$work/store" $templates
# shellcheck disable=SC2086
$python -m training.build_store --subjects 100 --visits 2 --seed 2 --out "$work/held_out" $templates

$python -m training.pretrain_mae "$config" --store "$work/store" --out "$work/mae"
$python -m training.train_tokenizer "$config" --store "$work/store" --encoder "$work/mae/encoder" --out "$work/tokenizer"
latents="$work/tokenizer/latents.npy"
tokenizer="$work/tokenizer/tokenizer"
$python -m training.fit_probes --store "$work/store" --tokenizer "$tokenizer" --latents "$latents" --out "$work/probes"
$python -m training.train_dit "$config" --store "$work/store" --tokenizer "$tokenizer" --latents "$latents" --out "$work/dit"
$python -m training.train_forecaster "$config" --store "$work/store" --tokenizer "$tokenizer" --latents "$latents" --out "$work/forecaster"

mkdir -p "$work/small"
for part in mae/encoder tokenizer/tokenizer probes/probes dit/dit forecaster/forecaster; do
    rm -rf "$work/small/$(basename "$part")"
    cp -r "$work/$part" "$work/small/"
done
for table in reconstruction probing longitudinal; do
    $python -m training.evaluate.$table --store "$work/held_out" --checkpoint "$work/small" --json "$work/$table.json"
done
