#!/usr/bin/env bash
# The embedded default, from nothing, on two CPU cores (hours: see training/LOG.md) or one GPU.
#   bash training/runs/small.sh WORK_FOLDER [TEMPLATES_FOLDER]
# TEMPLATES_FOLDER: skull-stripped T1 scans that become further anatomies (the default used sub-01, 04, 06, 09, 31, 38,
# 42 and 47 of OpenNeuro ds002748, CC0). Without it the cohort moves the ICBM152 template alone.
set -euo pipefail
work=$(realpath -m "${1:?give a folder for stores and runs}")
templates=${2:+--templates "$2"}
python=${PYTHON:-python}
config=training/configs/small.toml

# Four contrasts of many anatomies and of ICBM152 for the encoder and the tokenizer; many T1 of the ICBM152 anatomy for
# the encoder and the probes; T1 of two visits for the forecaster (pairs is the beginning of rates); the other contrasts
# of ICBM152 for the generator, and in them as many further gliomas with the IDH1 mutation as without. Of the rest nothing
# is learnt: on those that are called valid generator and forecaster are calibrated, on held_out they are judged, by
# probes that are fitted on the readers, of PD and of IDH1 in FLAIR, which shows them.
# shellcheck disable=SC2086
$python -m training.build_store --subjects 320 --visits 2 --seed 1 --out "$work/store" $templates
$python -m training.build_store --subjects 200 --visits 1 --seed 5 --out "$work/contrasts"
$python -m training.build_store --subjects 2400 --visits 1 --seed 11 --t1-only --out "$work/many"
$python -m training.build_store --subjects 220 --visits 2 --seed 3 --t1-only --out "$work/pairs"
$python -m training.build_store --subjects 600 --visits 2 --seed 3 --t1-only --out "$work/rates"
$python -m training.build_store --subjects 320 --visits 1 --seed 31 --modalities T1C T2 FLAIR --out "$work/three"
$python -m training.build_store --subjects 16000 --visits 1 --seed 37 --disease glioma --each-idh1 100 \
    --modalities T1C T2 FLAIR --out "$work/gliomas"
$python -m training.build_store --subjects 64 --visits 1 --seed 43 --out "$work/valid"
$python -m training.build_store --subjects 4000 --visits 1 --seed 47 --disease glioma --each-idh1 24 \
    --modalities FLAIR --out "$work/valid_gliomas"
$python -m training.build_store --subjects 300 --visits 1 --seed 53 --disease HC MCI AD PD --t1-only \
    --out "$work/valid_diseases"
$python -m training.build_store --subjects 150 --visits 2 --seed 73 --t1-only --out "$work/valid_rates"
$python -m training.build_store --subjects 100 --visits 2 --seed 2 --out "$work/held_out"
$python -m training.build_store --subjects 150 --visits 2 --seed 71 --t1-only --out "$work/held_out_rates"
$python -m training.build_store --subjects 1200 --visits 1 --seed 61 --disease HC MCI AD PD --t1-only \
    --out "$work/readers"
$python -m training.build_store --subjects 4000 --visits 1 --seed 67 --disease PD --t1-only --out "$work/readers_pd"
$python -m training.build_store --subjects 16000 --visits 1 --seed 79 --disease glioma --each-idh1 100 \
    --modalities FLAIR --out "$work/readers_idh1"
$python -m training.build_store --subjects 3200 --visits 1 --seed 83 --disease PD --modalities FLAIR \
    --out "$work/readers_pd_flair"
$python -m training.build_store --subjects 1200 --visits 1 --seed 89 --disease HC --modalities FLAIR \
    --out "$work/readers_hc_flair"

$python -m training.pretrain_mae "$config" --store "$work/store" "$work/many" --out "$work/mae"
encoder="$work/mae/encoder"
$python -m training.train_tokenizer "$config" --store "$work/contrasts" "$work/store" --encoder "$encoder" \
    --out "$work/tokenizer"
mkdir -p "$work/decoder"
ln -sf "$work"/tokenizer/tokens.* "$work/decoder/"  # of the same stores and encoder: no need to make them twice
$python -m training.train_decoder "$config" --store "$work/contrasts" "$work/store" --encoder "$encoder" \
    --tokenizer "$work/tokenizer/tokenizer" --out "$work/decoder"
tokenizer="$work/decoder/tokenizer"
cache=($python -m training.cache_latents --encoder "$encoder" --tokenizer "$tokenizer")
"${cache[@]}" --store "$work/pairs" "$work/many" --out "$work/latents"
"${cache[@]}" --store "$work/rates" --out "$work/rates_latents"
"${cache[@]}" --store "$work/valid_rates" --out "$work/valid_rates_latents"
"${cache[@]}" --store "$work/three" "$work/gliomas" --out "$work/contrasts_latents"
"${cache[@]}" --store "$work/valid" "$work/valid_gliomas" --out "$work/valid_latents"
"${cache[@]}" --store "$work/valid_diseases" --out "$work/valid_diseases_latents"
readers=("$work/readers" "$work/readers_pd" "$work/readers_idh1" "$work/readers_pd_flair" "$work/readers_hc_flair")
"${cache[@]}" --store "${readers[@]}" --out "$work/readers_latents"

sets=(--tokenizer "$tokenizer" --latents "$work/decoder" "$work/latents")
$python -m training.fit_probes "${sets[@]}" --out "$work/probes"
# The conditions do not tell anatomies apart, and a mean over nine of them is none: the generator sees one.
$python -m training.train_dit "$config" "${sets[@]}" "$work/contrasts_latents" --out "$work/exact" \
    --set 'dit.extra.only.anatomy="icbm152"'
$python -m training.round_checkpoint --checkpoint "$work/exact/dit" --out "$work/dit"
$python -m training.train_forecaster "$config" --tokenizer "$tokenizer" \
    --latents "$work/decoder" "$work/rates_latents" --out "$work/forecaster"

TOKENIZER=decoder/tokenizer bash training/runs/collect.sh "$work" "$work/small"
# How far to trust forecasts, how much noise to draw brains from, the guidance at which they show the disease that was
# asked for, and the weights of the parts that they are put together from (FLAIR stays as it is drawn: training/LOG.md).
$python -m training.calibrate_forecaster --forecaster "$work/small/forecaster" --probes "$work/small/probes" \
    --latents "$work/valid_rates_latents" --out "$work/small"
$python -m training.calibrate_generator --checkpoint "$work/small" --latents "$work/valid_latents" --samples 32 \
    --out "$work/small"
$python -m training.calibrate_guidance --checkpoint "$work/small" --latents "$work/valid_diseases_latents" \
    --out "$work/small"
$python -m training.calibrate_reweighting --checkpoint "$work/small" --latents "$work/valid_latents" \
    --contrasts T1 T1C T2 --common 1.25 1.5 --out "$work/small"
$python -m training.evaluate all --store "$work/held_out" "$work/held_out_rates" --pairs 250 --checkpoint "$work/small" \
    --train-latents "$work/decoder" "$work/latents" "$work/contrasts_latents" \
    --reader-latents "$work/readers_latents" -o "$work/report"
