"""What tissues measure in Hounsfield units, by phase of contrast."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

AIR_HU = -1000.0
SKIN_HU = 15.0
FAT_HU = -102.0
LUNG_HU = -850.0
CORTICAL_HU = 420.0
DISC_HU = 85.0
CANAL_HU = 28.0
FLUID_HU = 8.0


@dataclass(frozen=True, slots=True)
class Tissues:
    """Mean intensities of one patient in one phase, in HU."""

    muscle: float
    liver: float
    spleen: float
    renal_cortex: float
    renal_medulla: float
    aorta: float
    cava: float
    portal: float
    hepatic_veins: float
    gut_wall: float
    pancreas: float
    marrow: float = 180.0
    stomach_contents: float = 22.0
    lesion: float = 35.0


# Typical values at 100 to 120 kV after a weight-adapted dose of iodine; organs overlap on purpose.
PHASES = {
    "native": Tissues(
        muscle=52,
        liver=58,
        spleen=49,
        renal_cortex=35,
        renal_medulla=33,
        aorta=42,
        cava=40,
        portal=40,
        hepatic_veins=40,
        gut_wall=42,
        pancreas=42,
        lesion=32,
    ),
    "arterial": Tissues(
        muscle=56,
        liver=72,
        spleen=115,
        renal_cortex=180,
        renal_medulla=80,
        aorta=290,
        cava=85,
        portal=105,
        hepatic_veins=62,
        gut_wall=85,
        pancreas=98,
        lesion=42,
    ),
    "portal_venous": Tissues(
        muscle=62,
        liver=112,
        spleen=122,
        renal_cortex=172,
        renal_medulla=160,
        aorta=148,
        cava=140,
        portal=165,
        hepatic_veins=158,
        gut_wall=88,
        pancreas=88,
        lesion=62,
    ),
}
"""Mean intensities by phase: before contrast, about 35 s after, about 75 s after."""


def draw_tissues(rng: np.random.Generator, phase: str) -> Tissues:
    """One patient's tissues in a phase; enhancement varies, some livers are fatty.

    Raises `ValueError` for a phase that is not one of `PHASES`.
    """
    if phase not in PHASES:
        raise ValueError(f"unknown phase {phase!r}: expected one of {list(PHASES)}")
    native, mean = PHASES["native"], PHASES[phase]
    dose = rng.uniform(0.8, 1.2)
    values = {}
    for item in fields(Tissues):
        before, after = getattr(native, item.name), getattr(mean, item.name)
        values[item.name] = float(before + dose * (after - before) + rng.normal(0, 3))
    fatty = rng.uniform(8, 28) if rng.random() < 0.25 else 0.0
    return replace(
        Tissues(**values),
        liver=values["liver"] - fatty,
        marrow=rng.uniform(120, 230),
        stomach_contents=rng.uniform(2, 45),
        lesion=min(values["lesion"], values["liver"] - fatty - 18),
    )
