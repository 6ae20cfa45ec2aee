"""Shipped weights; `python -m nida_kit.pretrained lorenz63` makes them anew, by the recipes of `training`."""
