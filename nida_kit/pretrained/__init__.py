"""Shipped weights and the recipes that made them: `python -m nida_kit.pretrained lorenz63`."""
