"""Solvers at equal network calls: python -m benchmarks.solvers errors|distributions|scores [--out FOLDER]

    TIM_HOST_DIR=/path/to/ComfyUI python -m benchmarks.solvers errors
    python -m benchmarks.solvers distributions
    TIM_HOST_DIR=/path/to/ComfyUI python -m benchmarks.solvers scores --per-task 48

- errors: the relative distance to an RK4 reference from the same noise, on a mixture of Gaussians with exact velocity
  and on the demo network in velocity mode; uniform times and shift 3, without guidance and with cfg 2.5 in every call.
  Methods with several calls a step get fewer steps. Each table of EPD is distilled on other noise and prompts first.
- distributions: what is drawn from the mixture against samples of it, for the method that draws noise.
- scores: accepted images of the demo's evaluation, TiM's transitions against solvers in velocity mode.

FOLDER gets a table of each, and tables of EPD. The host's samplers take part where TIM_HOST_DIR is set.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from tim_model.files.tensor_files import write_text

from .distributions import distribution_table
from .methods import Result, methods
from .problems import GUIDED, demo, mixture, reference
from .scores import score_tables

BUDGETS = (4, 8, 16, 32)
SCHEDULES = {"uniform": "uniform times", "shifted": "shift 3"}


def error_tables(folder: Path, names: list[str]) -> str:
    """Mean and median of the errors for each problem, guidance scale and schedule, and what the methods cost."""
    texts, costs = [], {}
    for name, cfg in [(name, cfg) for name in names for cfg in (1.0, GUIDED)]:
        problem = {"mixture": mixture, "demo": demo}[name](cfg)
        exact = reference(problem)
        for schedule, described in SCHEDULES.items():
            rows = {}
            for method_name, method in methods(problem, folder).items():
                rows[method_name] = [method(problem, schedule, calls) for calls in BUDGETS]
                print(name, cfg, schedule, method_name, [cell(r, exact) for r in rows[method_name]], flush=True)
            title = f"{name}, {described}, {'no guidance' if cfg == 1 else f'cfg {cfg:g}'}"
            texts.append(f"{title}: error, mean / median\n\n{markdown(rows, exact)}")
            costs.setdefault(name, f"{title}: steps / calls / depth / ms\n\n{markdown(rows)}")
    return "\n".join([*texts, *costs.values()])


def cell(result: Result | None, exact: torch.Tensor | None = None) -> str:
    """Errors where there is a reference, else costs."""
    if result is None:
        return "–"
    if exact is None:
        return f"{result.steps} / {result.calls:.3g} / {result.depth:.3g} / {1000 * result.seconds:.3g}"
    errors = (result.x - exact).flatten(1).norm(dim=1) / exact.flatten(1).norm(dim=1)
    return f"{errors.mean():.4f} / {errors.median():.4f}"


def markdown(rows: dict[str, list[Result | None]], exact: torch.Tensor | None = None) -> str:
    lines = [["calls", *map(str, BUDGETS)], ["---"] * (1 + len(BUDGETS))]
    lines += [[name, *(cell(result, exact) for result in results)] for name, results in rows.items()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.solvers", description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["errors", "distributions", "scores"])
    parser.add_argument("--problem", choices=["mixture", "demo"], action="append", help="of errors (default: both)")
    parser.add_argument("--per-task", type=int, default=48, help="of scores, prompts of each task (default: 48)")
    parser.add_argument("--out", type=Path, default=Path("runs/solvers"), help="folder (default: %(default)s)")
    a = parser.parse_args()
    (a.out / "tables").mkdir(parents=True, exist_ok=True)
    if a.what == "errors":
        text = error_tables(a.out / "tables", a.problem or ["mixture", "demo"])
    elif a.what == "distributions":
        text = distribution_table()
    else:
        text = score_tables(a.per_task)
    print(text)
    write_text(a.out / f"{'-'.join([a.what, *(a.problem or [])])}.md", text)


if __name__ == "__main__":
    main()
