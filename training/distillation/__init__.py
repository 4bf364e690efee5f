"""Distillation: sampler parameters from finer runs of the same model."""
