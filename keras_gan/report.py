"""The report of a run: curves and previews on one HTML page."""

from __future__ import annotations

import base64
import html
import io
import json
import pathlib
import string
from collections.abc import Mapping, Sequence
from typing import Any

from keras_gan import metrics
from keras_gan.files import write_atomically
from keras_gan.run import Run

PLAYED = 200_000  # bytes of the sounds that are in a report itself
READ = 500_000  # characters of the generated texts that are in a report, the newest ones first
COPIES = 0.5  # nearest_ratio, below which samples are said to tend to be copies

# Panels of the curves: title, columns of metrics.csv. Those of the metrics follow the losses'.
_PANELS = (
    ("Losses", ("d_loss", "g_loss", "val_d_loss")),
    ("Accuracy on real and on generated samples", ("real_accuracy", "fake_accuracy")),
    ("Mean logits", ("real_logits", "fake_logits")),
    ("Terms, before their weight", ()),
)
_SCORES = ("normalized_return", "mean_return")  # of games that act, beside those of controls
_LAST_PANELS = (
    ("Normalized return of the policy: 0 for random actions, 1 for the expert", _SCORES[:1]),
    (
        "Return of an episode: sampled actions in training (episode_return),\n"
        "greedy actions in evaluation (mean_return)",
        ("episode_return", "mean_return"),
    ),
    ("Diversity of generated samples relative to the data", ("diversity",)),
    (
        "Balanced accuracy: held-out data against new samples and noise",
        ("balanced_accuracy", "noise_accuracy"),
    ),
    ("Examples per second", ("examples_per_second",)),
)

_PAGE = string.Template("""<!doctype html>
<html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
       color: #222; background: #fff }
svg, #preview, #sheet { max-width: 100%; height: auto }
#preview, #sheet { image-rendering: pixelated; width: 34rem; border: 1px solid #ddd }
input[type=range] { width: 34rem; max-width: 100% }
pre { background: #f5f5f5; padding: 1rem; overflow-x: auto }
</style>
<h1>$title</h1>
<p>$summary</p>
<h2>Samples</h2>
$previews
<h2>Curves</h2>
$curves
<h2>Recipe</h2>
<pre>$recipe</pre>
<h2>Environment</h2>
<pre>$environment</pre>
</html>
""")

_PREVIEWS = string.Template("""<p><img id="preview" src="samples/$last" alt="Generated samples"></p>
<p><input type="range" id="when" min="0" max="$top" value="$top" aria-label="When">
<span id="label">$last</span></p>
<script>
const previews = $names, when = document.getElementById("when");
when.oninput = () => {
  document.getElementById("preview").src = "samples/" + previews[when.value];
  document.getElementById("label").textContent = previews[when.value];
};
</script>""")


_TEXTS = string.Template("""
<pre id="lines">$last</pre>
<script>
const texts = $texts, lines = document.getElementById("lines");
when.addEventListener("input", () => { lines.textContent = texts[when.value]; });
</script>""")


def write(run: Run) -> pathlib.Path:
    """Writes the report of a run in its current state. Returns its path."""
    rows = run.rows()
    title = f"Run {html.escape(run.path.resolve().name)}"
    summary = "No tick has ended yet."
    if rows:
        last = rows[-1]
        losses = ", ".join(f"{name} {last[name]:.3f}" for name in _losses([last]))
        summary = (
            f"{last['examples_seen']:,.0f} examples in {last['seconds'] / 60:.1f} minutes: "
            f"{losses}."
        )
        summary += "".join(f" {line}." for line in best_and_last(run, rows))
    ending = run.ending
    if ending:
        summary += f" Ended: {html.escape(ending['reason'])}."
    page = _PAGE.substitute(
        title=title,
        summary=summary,
        previews=_previews(run),
        curves=_curves(rows, (run.evaluation or {}).get("controls", {})),
        recipe=html.escape((run.path / "recipe.yaml").read_text("utf-8")),
        environment=html.escape((run.path / "environment.json").read_text("utf-8")),
    )
    path = run.path / "report.html"
    write_atomically(path, page.encode("utf-8", "backslashreplace"))
    return path


def best_and_last(run: Run, rows: list[dict[str, float]]) -> list[str]:
    """Returns a line for the best evaluation and one for the last, or no lines without any."""
    best = run.best_record
    if not best:
        return []
    figures = {k: v for k, v in best.items() if k not in ("examples_seen", "file")}
    (metric, value), *_ = figures.items()
    lines = [f"Best {metric} {value:.6g}, after {best['examples_seen']:,.0f} examples"]
    measured = [row for row in rows if metric in row]
    if measured:
        last = measured[-1]
        known = metrics.training_metrics()
        others = ", ".join(f"{n} {v:.4g}" for n, v in last.items() if n in known and n != metric)
        others = f" ({others})" if others else ""
        lines.append(
            f"Last {metric} {last[metric]:.6g}{others}, after {last['examples_seen']:,.0f} examples"
        )
        lines += _control_lines(run, [n for n in last if n in known])
        near = last.get("nearest_ratio", 1.0)
        if near < COPIES:
            lines.append(
                "Samples tend to be copies: to the nearest training sample their distance is "
                f"{near:.2g} times that of held-out samples. More data, augmentation or a shorter "
                "training helps"
            )
    return lines


def _control_lines(run: Run, names: list[str]) -> list[str]:
    """Returns a line with the values of each control, for the metrics of the last evaluation."""
    controls = (run.evaluation or {}).get("controls", {})
    names = [*names, *_SCORES]
    return [
        f"Control {name} "
        + ", ".join(f"{n} {values[n]:.4g}" for n in names if values.get(n) is not None)
        for name, values in controls.items()
    ]


def _losses(rows: list[dict[str, float]]) -> list[str]:
    """Returns the names of the losses that a game tracks."""
    names = dict.fromkeys(name for row in rows for name in row)
    return [n for n in names if n.endswith("loss") and not n.startswith("val_")]


_LOOPS = string.Template("""<p><picture>
<source id="still" media="(prefers-reduced-motion: reduce)" srcset="samples/$last.png">
<img id="preview" src="samples/$last.webp" alt="Generated samples, moving"></picture></p>
<p><input type="range" id="when" min="0" max="$top" value="$top" aria-label="When">
<span id="label">$last</span></p>
<p><img id="sheet" src="samples/$last.png" alt="Frames of the generated samples"></p>
<script>
const previews = $names, when = document.getElementById("when");
when.oninput = () => {
  const name = previews[when.value], place = "samples/" + name;
  document.getElementById("still").srcset = place + ".png";
  document.getElementById("preview").src = place + ".webp";
  document.getElementById("sheet").src = place + ".png";
  document.getElementById("label").textContent = name;
};
</script>""")


def _previews(run: Run) -> str:
    names = sorted(path.name for path in run.samples.glob("examples-*.png"))
    if not names:
        return "<p>None yet.</p>"
    # Samples that move are animated, and beside that shown in a still picture.
    moving = sorted(path.stem for path in run.samples.glob("examples-*.webp"))
    if moving:
        last, names = moving[-1], json.dumps(moving)
        return _LOOPS.substitute(last=last, top=len(moving) - 1, names=names) + _players(run)
    shown = _PREVIEWS.substitute(last=names[-1], top=len(names) - 1, names=json.dumps(names))
    return shown + _lines(run, names) + _players(run)


def _lines(run: Run, names: list[str]) -> str:
    """Returns the generated texts of the preview that the slider shows, a line for each sample."""
    texts, left = [], READ
    for name in reversed(names):
        path = (run.samples / name).with_suffix(".txt")
        text = path.read_text("utf-8", "replace") if path.is_file() else ""
        left -= len(text)
        texts.insert(0, text if left >= 0 else "")
    if not any(texts):
        return ""
    listed = json.dumps(texts).replace("<", "\\u003c")  # ends no script element
    return _TEXTS.substitute(last=html.escape(texts[-1]), texts=listed)


def _players(run: Run) -> str:
    """Returns a player for each of the newest sounds.

    The first ones are in the page itself, so that they can be heard where the run is not.
    """
    players, size = [], 0
    for path in sorted(run.samples.glob("[0-9][0-9][0-9].wav")):
        content = base64.b64encode(path.read_bytes()).decode("ascii")
        size += len(content)
        kept = size <= PLAYED
        source = f"data:audio/wav;base64,{content}" if kept else f"samples/{path.name}"
        players.append(
            f'<audio controls preload="none" aria-label="Sample {path.stem}" '
            f'src="{source}"></audio>'
        )
    return f"\n<p>{' '.join(players)}</p>" if players else ""


def _metric_panels() -> list[tuple[str, tuple[str, ...]]]:
    """Returns title and columns of each metric that is computed during training."""
    found = {metric.name: metric for metric in metrics.training_metrics().values()}
    return [(f"{m.title}, against held-out samples", m.requests) for m in found.values()]


def _curves(rows: list[dict[str, float]], controls: Mapping[str, Mapping[str, float]]) -> str:
    """Returns all panels as one SVG picture."""
    if not rows:
        return "<p>None yet.</p>"
    import matplotlib.figure  # slow to import, and needed here only

    (losses, columns), *others = _PANELS
    columns = tuple(dict.fromkeys((*columns, *_losses(rows))))
    panels = ((losses, columns), *others, *_metric_panels(), *_LAST_PANELS)
    known = {name for _, names in panels for name in names}
    known |= {"examples_seen", "iteration", "seconds", "val_real_accuracy", "val_fake_accuracy"}
    known |= {"roll_backs"}
    rest = tuple(
        name for name in dict.fromkeys(n for row in rows for n in row) if name not in known
    )
    panels = [(title, names or rest) for title, names in panels]
    panels = [(t, names) for t, names in panels if any(n in row for n in names for row in rows)]

    height = (len(panels) + 1) // 2
    inches = 2.8 * height
    # Matplotlib's automatic layout takes as long as the drawing itself.
    figure = matplotlib.figure.Figure(figsize=(10, inches))
    figure.subplots_adjust(
        left=0.06, right=0.985, bottom=0.45 / inches, top=1 - 0.3 / inches, wspace=0.16, hspace=0.42
    )
    for i, (title, names) in enumerate(panels, start=1):
        axes = figure.add_subplot(height, 2, i)
        for name in names:
            points = [(row["examples_seen"], row[name]) for row in rows if name in row]
            if points:
                axes.plot(*zip(*points, strict=True), label=name, marker="." * (len(points) < 3))
        _draw_controls(axes, names, controls)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("examples seen", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.legend(fontsize=8)
        axes.grid(alpha=0.3)
    text = io.StringIO()
    figure.savefig(text, format="svg")
    return text.getvalue()[text.getvalue().index("<svg") :]


def _draw_controls(axes: Any, names: Sequence[str], controls: Mapping[str, Mapping]) -> None:
    """Draws the scores of controls, such as an expert, as dashed lines."""
    for number, (control, values) in enumerate(controls.items()):
        name = next((name for name in names if name in _SCORES and name in values), None)
        if name is not None:
            style = {"color": f"C{number + 3}", "linestyle": "--", "linewidth": 1}
            axes.axhline(values[name], label=control, **style)
