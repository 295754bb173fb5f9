"""The digital phantom cohort: labelled, synthetic brains whose truth is known (``python -m training.phantom``).

A template's anatomy is moved by random smooth deformations and by the effects below. Nothing here is a claim about
patients; sizes are chosen so that the labels are as hard to read as they are in people.

| effect | size | spread between people |
|---|---|---|
| position left by registration | scale sd 1.7 % an axis, rotation sd 1.5 degrees, shift sd .7 mm | all random |
| shape of the head and gyri | displacement sd 1.9 mm on an 8x9x8 grid, sd .8 mm on 18x21x18 | all random |
| age: ventricles widen | 0 mm at 20 to 4.5 mm at 90 years, accelerating, decays over 14 mm | sd .40 mm |
| age: cortex moves inwards under the skull | 1.2 mm from 20 to 90 years | sd .10 mm |
| age: grey matter beside sulci becomes fluid | .15 to .77 of the sulcal margin | sd .04 |
| age: hippocampus shrinks | .8 mm of its radius by 90 years | sd .13 mm |
| age: white-matter hyperintensities, grey-white contrast | from about 40 years; -22 % contrast by 90 | sd .10; .12 |
| brain age | the components above follow brain age, not age | sd 3 years |
| speed of ageing | 1 brain year a year; MCI 1.5, PD 1.2, AD 2.2 | sd .25, half of it shared with brain age |
| sex | a fixed smooth pattern, -1 mm (F) to +1 mm (M): a label, no anatomical claim | sd .35 mm |
| AD (MCI about half) | ventricle +2, hippocampus -1.4, temporal cortex -2.2 mm, wide horns | severity .75-1.35 |
| PD | midbrain -1.4 mm, nigra bright on T2 and FLAIR, ventricle +.3 mm | severity .75-1.35 |
| contrast agent (T1C) | choroid plexus, midline veins, patches of sulcal vessels | vessels random |
| GBM (IDH1 wildtype) | ring of uptake, necrotic core, oedema 9-17, mass effect 3-6, radius 11-19 mm | uniform |
| glioma, IDH1 mutant | mostly frontal, sharp border, hardly any uptake, T2-FLAIR mismatch | uniform |
| glioma, IDH1 wildtype | any lobe, rough border, some uptake, FLAIR bright | uniform |
| visit | new noise, bias and contrast; jitter sd .3 mm and .3 degrees; tumours grow .5-3 mm a year | random |
| site (four) | own blur, noise 1.8-3.0 % of white matter, bias sd 3.5-5 %, gain, tissue means | fixed by site |

With these, age read from the true volumes of 300 people has a mean absolute error of 4.0 years (``--ceiling``).
"""

from __future__ import annotations

from .anatomy import Anatomy, icbm_anatomy
from .render import Rendering, render_modality, render_session, render_visit
from .subjects import DISEASES, SITES, Site, Subject, Tumour, Visit, make_population
from .templates import template_anatomy
from .tissue import true_volumes

__all__ = [
    "DISEASES", "SITES", "Anatomy", "Rendering", "Site", "Subject", "Tumour", "Visit", "icbm_anatomy",
    "make_population", "render_modality", "render_session", "render_visit", "template_anatomy", "true_volumes",
]
