#!/usr/bin/env bash
# Everything once, at the smallest sizes: from the phantom generator to a checkpoint that braing3n uses. It shows that
# the way is open; the models that it makes are too small and too shortly trained to be of use.
#   bash training/runs/tiny.sh WORK_FOLDER
# SUBJECTS, VISITS, JOBS: size of the cohort and processes of its making (defaults 12, 2, 2).
set -euo pipefail
work=${1:?give a folder for stores and runs}
python=${PYTHON:-python}
config=${CONFIG:-training/configs/tiny.toml}

[ -e "$work/store/records.json" ] || "$python" -m training.build_store --subjects "${SUBJECTS:-12}" \
    --visits "${VISITS:-2}" --seed 1 --jobs "${JOBS:-2}" --out "$work/store"
"$python" -m training.pretrain_mae "$config" --store "$work/store" --out "$work/mae"
"$python" -m training.train_tokenizer "$config" --store "$work/store" --encoder "$work/mae/encoder" \
    --out "$work/tokenizer"
latents=(--tokenizer "$work/tokenizer/tokenizer" --latents "$work/tokenizer")
"$python" -m training.fit_probes "${latents[@]}" --out "$work/probes"
"$python" -m training.train_dit "$config" "${latents[@]}" --out "$work/dit"
"$python" -m training.train_forecaster "$config" "${latents[@]}" --out "$work/forecaster"
bash training/runs/collect.sh "$work" "$work/tiny"
echo "The checkpoint is $work/tiny; try: braing3n capabilities --checkpoint $work/tiny"
