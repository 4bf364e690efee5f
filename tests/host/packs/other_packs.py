"""Nodes as other packs have them: samplers around a sampler in all the ways of Python, any times, other noise."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from comfy.samplers import KSAMPLER, Sampler


def shade(model, factor):
    """The model with another sigma passed on, as Detail Daemon and Lying Sigma do it."""

    def shaded(x, sigma, **extra_args):
        return model(x, sigma * factor, **extra_args)

    for name in ("inner_model", "sigmas"):
        if hasattr(model, name):
            setattr(shaded, name, getattr(model, name))
    return shaded


def shaded_sampler(model, x, sigmas, *, wrapped_sampler, factor, **kwargs):
    inner = wrapped_sampler
    return inner.sampler_function(shade(model, factor), x, sigmas, **kwargs, **inner.extra_options)


def in_options(sampler, factor):
    return KSAMPLER(shaded_sampler, {"wrapped_sampler": sampler, "factor": factor})


@dataclass
class Settings:
    sampler: object
    factor: float


def sampler_of_settings(model, x, sigmas, *, settings, **kwargs):
    return shaded_sampler(model, x, sigmas, wrapped_sampler=settings.sampler, factor=settings.factor, **kwargs)


def in_settings(sampler, factor):
    return KSAMPLER(sampler_of_settings, {"settings": Settings(sampler, factor)})


def in_partial(sampler, factor):
    return KSAMPLER(functools.partial(shaded_sampler, wrapped_sampler=sampler, factor=factor))


class Segments:
    """Each step as a run of its own, with times as a tuple, as a restart sampler does it."""

    def __init__(self, sampler, factor):
        self.sampler, self.factor = sampler, factor

    def sample(self, model, x, sigmas, **kwargs):
        for i in range(len(sigmas) - 1):
            steps = (sigmas[i], sigmas[i + 1])
            x = shaded_sampler(model, x, steps, wrapped_sampler=self.sampler, factor=self.factor, **kwargs)
        return x


def in_method(sampler, factor):
    return KSAMPLER(Segments(sampler, factor).sample)


class Around(Sampler):
    def __init__(self, sampler, factor):
        self.sampler, self.factor = sampler, factor

    def sample(self, model_wrap, *args, **kwargs):
        return in_options(self.sampler, self.factor).sample(model_wrap, *args, **kwargs)

    def max_denoise(self, model_wrap, sigmas):
        return self.sampler.max_denoise(model_wrap, sigmas)


def twice(sampler, factor):
    return in_options(in_options(sampler, factor), 1.0)


def in_closure(sampler, factor):
    def hidden(model, x, sigmas, **kwargs):
        return shaded_sampler(model, x, sigmas, wrapped_sampler=sampler, factor=factor, **kwargs)

    return KSAMPLER(hidden)


def unknown(sampler, factor):
    """Nothing of the inner sampler is left to be seen."""

    def foreign_euler(model, x, sigmas, extra_args=None, callback=None, disable=None, otherwise=None):
        for i in range(len(sigmas) - 1):
            denoised = model(x, sigmas[i].expand(len(x)) * factor, **extra_args)
            x = x + (sigmas[i + 1] - sigmas[i]) * (x - denoised) / sigmas[i]
        return x

    return KSAMPLER(foreign_euler)


def only_partial(sampler, factor):
    """Nothing around the sampler but a partial function, as `factor` is not used."""
    return KSAMPLER(functools.partial(sampler.sampler_function, **sampler.extra_options))


def with_a_choice(sampler, factor):
    """A solver of its own that keeps the inner sampler among its options, for cases that do not come."""
    return KSAMPLER(unknown(sampler, factor).sampler_function, {"otherwise": sampler})


WAYS = {
    "only partial": only_partial,
    "options": in_options, "settings": in_settings, "partial": in_partial, "method": in_method, "class": Around,
    "twice": twice, "closure": in_closure, "unknown": unknown, "choice": with_a_choice,
}  # fmt: skip


class WrapSampler:
    RETURN_TYPES, FUNCTION, CATEGORY = ("SAMPLER",), "wrap", "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"sampler": ("SAMPLER",), "way": (list(WAYS),), "factor": ("FLOAT", {"default": 1.0})}}

    def wrap(self, sampler, way, factor):
        return (WAYS[way](sampler, factor),)


class Sigmas:
    """SIGMAS of any numbers, also those that no schedule of ours makes."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("SIGMAS",), "parse", "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"values": ("STRING", {"default": "1, 0"})}}

    def parse(self, values):
        return (torch.tensor([float(value) for value in values.split(",")]),)


class UniformNoise:
    """NOISE that is not the host's own of the seed."""

    def __init__(self, seed):
        self.seed = seed

    def generate_noise(self, latent):
        return torch.rand(latent["samples"].shape, generator=torch.Generator().manual_seed(self.seed))


class Noise:
    RETURN_TYPES, FUNCTION, CATEGORY = ("NOISE",), "make", "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"seed": ("INT", {"default": 0})}}

    def make(self, seed):
        return (UniformNoise(seed),)


class EmptyLatent:
    """An empty latent of a pack that knows one model's latents and tells the host nothing about them."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("LATENT",), "make", "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {name: ("INT", {"default": 64}) for name in ("width", "height", "channels", "ratio")}}

    def make(self, width, height, channels, ratio):
        return ({"samples": torch.zeros(1, channels, height // ratio, width // ratio)},)


NODE_CLASS_MAPPINGS = {
    "TestNoise": Noise, "TestWrapSampler": WrapSampler, "TestSigmas": Sigmas, "TestEmptyLatent": EmptyLatent,
}  # fmt: skip
