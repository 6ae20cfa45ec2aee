"""As `rozet2023_lorenz63_lo`, but "hi": x every step, with errors of 0.25 in units of 8."""

from dataclasses import replace

from nida_kit.setups.rozet2023_lorenz63_lo import setup as lo

setup = replace(lo, name="rozet2023-lorenz63-hi", noise_std=2.0, law=lo.law | {"every": 1})
