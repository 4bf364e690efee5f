"""The command generate --prompts and --classes: many images in a layout, shared by processes; it can be resumed."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from PIL import Image
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from .bulk.array_file import write_array
from .bulk.batches import image_count, plan_batches
from .bulk.conditions import TextConditions
from .bulk.job import Batch, Job, for_samples, image_settings, missing_of, settings_of
from .bulk.layouts import (
    DEFAULT_COUNTS,
    NPZ,
    PLAIN,
    Target,
    check_sizes,
    class_targets,
    prompt_targets,
    write_image,
    write_metadata,
)  # fmt: skip
from .bulk.prompts import Prompt, Size, read_prompts
from .bulk.settings import check_settings, file_digest
from .bulk.share import Share
from .images import to_pictures
from .network.labels import label_index
from .network.latent_space import latent_shape
from .pipeline import TiMPipeline
from .request import Request
from .sampling.sampler import Condition

CLASS_COUNT = 50_000  # images of class models, as FID on ImageNet is computed


def generate_bulk(pipeline: TiMPipeline, job: Job, share: Share) -> None:
    """Draw this process's share of the images that are missing.

    Raises:
        ValueError: sizes that the model or the layout cannot have, a folder of other settings, or a file that cannot
            be written; what is written stays, and the same command goes on from there.
    """
    check_all_sizes(pipeline, job)
    conditions = conditions_of(pipeline, job)
    for steps, folder in job.folders.items():
        run = {"batch": job.batch, "processes": share.world, "images": image_count(job.targets)}
        check_settings(folder, settings_of(job, steps), run)
    batches = share.of(batches_of(job, conditions))
    left = missing_of(job, batches)
    total = len(job.folders) * sum(map(image_count, batches))
    missing = sum(image_count(targets) for _, of_steps in left for targets in of_steps.values())
    whose = f"process {share.rank + 1} of {share.world}" if share.world > 1 else "images"
    with (
        tqdm(total=total, initial=total - missing, unit="image", desc=whose, disable=share.rank > 0) as bar,
        logging_redirect_tqdm(),
    ):
        for batch, of_steps in left:
            condition = condition_of(pipeline, job, batch, conditions)
            for steps, targets in of_steps.items():
                draw(pipeline, job, batch, steps, targets, condition, bar)
    print(f"{whose}: {missing} drawn, {total - missing} were there")
    if job.layout == NPZ:
        write_arrays(job, share)


def draw(
    pipeline: TiMPipeline, job: Job, batch: Batch, steps: int, targets: Batch, condition: Condition, bar: tqdm
) -> None:
    """Draw all images of a batch and write those of `targets`: among other rows a kernel may round differently."""
    folder = job.folders[steps]
    write_metadata(job.layout, job.prompts, targets, folder)
    drawn = zip(batch, drawn_images(pipeline, job, batch, steps, condition), strict=True)
    with ThreadPoolExecutor() as pool:  # on a GPU, compression takes longer than drawing in few steps
        writes = [
            pool.submit(write_image, folder / target.path, images, image_settings(job, target, steps))
            for target, images in drawn
            if target in targets
        ]
        for target, write in zip(targets, writes, strict=True):
            write.result()
            bar.update(len(target.samples))


def check_all_sizes(pipeline: TiMPipeline, job: Job) -> None:
    """ValueError, before anything is drawn, for a size that model, memory or layout cannot have."""
    sizes = list(dict.fromkeys(map(job.size_of, job.targets)))
    check_sizes(job.layout, sizes)
    for size in sizes:
        latent_shape(pipeline.space, pipeline.net.params.patch_size, *size, job.batch)
        pipeline.check_room(job.batch, *size)


def conditions_of(pipeline: TiMPipeline, job: Job) -> TextConditions | None:
    """The conditions of a text model; ValueError for a class model that gets prompts."""
    request = job.request(job.size, next(iter(job.folders)))
    if request.prompts is None:
        return None
    if pipeline.net.params.context_dim is None:
        raise ValueError("--prompts: this is a class model, expected --classes")

    def encoder():
        pipeline.text_encoder = pipeline.text_encoder or pipeline.reload_text_encoder()
        return pipeline.text_encoder

    return TextConditions(encoder, request.negative if request.guided else None)


def batches_of(job: Job, conditions: TextConditions | None) -> list[list[Target]]:
    """All batches, the same in every run: of one size and, of texts, one length, so that none is padded for others."""
    if conditions is None:
        return plan_batches(job.targets, job.size_of, lambda target: target.path, job.batch)
    lengths = {text: conditions.length(text) for text in dict.fromkeys(prompt.text for prompt in job.prompts)}
    texts = [prompt.text for prompt in job.prompts]
    return plan_batches(
        job.targets,
        lambda target: (job.size_of(target), lengths[texts[target.prompt]]),
        lambda target: texts[target.prompt],
        job.batch,
    )


def condition_of(pipeline: TiMPipeline, job: Job, batch: Batch, conditions: TextConditions | None) -> Condition:
    """The condition of all images of a batch, one row for each."""
    texts = [job.prompts[sample.prompt].text for target in batch for sample in target.samples]
    return pipeline.classes(texts) if conditions is None else conditions.of(texts, pipeline.device)


def drawn_images(
    pipeline: TiMPipeline, job: Job, batch: Batch, steps: int, condition: Condition
) -> Iterator[list[Image.Image]]:
    """The images of each file of a batch."""
    samples = [sample for target in batch for sample in target.samples]
    request = job.request(job.size_of(batch[0]), steps)
    # Solvers decide on their steps for a batch as a whole, and stages decode as many images as memory has room for.
    limit = 1 if request.solver or len(request.stages) > 1 else job.batch
    pictures: list[Image.Image] = []
    for start in range(0, len(samples), limit):
        rows = slice(start, start + limit)
        part = Condition(*(rows_of[rows] if rows_of is not None else None for rows_of in condition))
        pictures += to_pictures(pipeline.generate(for_samples(job, request, samples[rows]), part))
    for target in batch:
        count = len(target.samples)
        yield pictures[:count]
        pictures = pictures[count:]


def write_arrays(job: Job, share: Share) -> None:
    """The array file of each folder, beside it, by one process when all have drawn."""
    share.wait()
    for steps, folder in job.folders.items() if share.rank == 0 else ():
        path = folder.with_name(f"{folder.name}.npz")
        files = [folder / target.path for target in job.targets]
        labels = [int(job.prompts[target.prompt].text) for target in job.targets]
        write_array(files, labels, job.size, path)
        print(f"wrote {path} ({len(files)} images)")


def check_bulk(a: argparse.Namespace) -> None:
    """ValueError for options that exclude each other with many prompts or classes."""
    if a.out.suffix.lower() == ".png" or a.out.is_file():
        raise ValueError(f"--out {str(a.out)!r}: expected a folder for the images of --prompts or --classes")
    if a.prompts and a.count:
        raise ValueError("--count with --prompts: leave it out, or take --images-per-prompt")
    if a.classes and a.images_per_prompt:
        raise ValueError("--images-per-prompt with --classes: leave it out, or take --count")
    if a.classes and a.layout not in (None, "plain", "npz"):
        raise ValueError(f"--layout {a.layout} with --classes: expected npz or plain")
    if a.prompts:
        prompts_and_targets(a)  # before the model is loaded


def prompts_and_targets(a: argparse.Namespace) -> tuple[list[Prompt], list[Target]]:
    """The prompts of a file, and the files to draw of them; errors as of `read_prompts` and `prompt_targets`."""
    layout, prompts = a.layout or PLAIN, read_prompts(a.prompts)
    return prompts, prompt_targets(layout, prompts, a.images_per_prompt or DEFAULT_COUNTS.get(layout, 1))


def job_of(
    a: argparse.Namespace, pipeline: TiMPipeline, size: Size, steps: Sequence[int],
    request: Callable[[Size, int], Request],
) -> Job:  # fmt: skip
    """The arguments of `generate` as a job.

    Args:
        request: see `Job`.

    Raises:
        ValueError: prompts or classes that cannot be.
    """
    if a.prompts:
        layout, (prompts, targets) = a.layout or PLAIN, prompts_and_targets(a)
    else:
        layout, prompts = a.layout or NPZ, [Prompt(str(label)) for label in class_list(a.classes, pipeline)]
        targets = class_targets(len(prompts), a.count or CLASS_COUNT)
    out = a.out.absolute()
    folders = {count: out / f"steps-{count}" if len(steps) > 1 else out for count in steps}
    dtype = str(pipeline.net.x_embedder.proj.weight.dtype).removeprefix("torch.")
    files = {**digests(a), "dtype": dtype}
    return Job(prompts, targets, layout, folders, size, request, a.batch, a.seed, files)


def class_list(text: str, pipeline: TiMPipeline) -> list[int]:
    """The labels of `--classes`: all of them, or those of numbers or names with commas between."""
    count = pipeline.net.params.num_classes
    if count is None:
        raise ValueError("--classes: this is a text model, expected --prompts")
    if text == "all":
        return list(range(count))
    labels = [label_index(word, count, pipeline.class_names) for word in text.split(",")]
    if len(set(labels)) < len(labels):
        raise ValueError(f"--classes {text!r}: expected each class once")
    return labels


def digests(a: argparse.Namespace) -> dict[str, str]:
    """Names and digests of the files behind the images."""
    files = {"model": a.model, "text_encoder": a.text_encoder, "vae": a.vae, "table": a.table}
    found = {name: f"{path.name} {file_digest(path)}" for name, path in files.items() if path}
    loras = ", ".join(f"{path.name}:{strength:g} {file_digest(path)}" for path, strength in a.lora)
    return {**found, **({"loras": loras} if loras else {})}
