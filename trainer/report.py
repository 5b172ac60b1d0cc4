"""`report.html`: one file that shows a whole run, to be opened anywhere and sent to anyone."""

import base64
import io
import json
import os
import platform
from dataclasses import dataclass
from pathlib import Path

import torch
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure
from PIL import Image

from models.atomic import write_bytes
from models.classes import ClassSet
from models.manifest import Manifest
from trainer.config import FitConfig
from trainer.data.audit import TrainingAudit
from trainer.data.dataset import VocFolder
from trainer.evaluation.evaluate import Evaluation
from trainer.evaluation.scores import WorstImages
from trainer.evaluation.summary import class_figures
from trainer.pictures.audit_figures import draw_class_shares, draw_image_sizes
from trainer.pictures.figures import draw_class_bars, draw_comparison, draw_confusion, figure_png
from trainer.training.history import EpochRecord, as_row, draw_curves
from trainer.training.run_folder import RunFolder

MAX_SAMPLES = 8
MAX_SIDE = 1400  # of an embedded photograph: the file is to be sent by mail
JPEG_QUALITY = 85


@dataclass(frozen=True)
class RunSummary:
    """Everything a report is made of. `evaluation` and `worst` are of the best checkpoint on the
    validation split."""

    run: RunFolder
    config: FitConfig
    history: list[EpochRecord]
    folder: VocFolder
    audit: TrainingAudit
    best: Manifest
    last: Manifest
    evaluation: Evaluation
    worst: WorstImages


def write_report(summary: RunSummary) -> Path:
    """Writes `report.html` into the run folder, without a reference to any other file."""
    environment = Environment(
        loader=PackageLoader("trainer"), autoescape=True, undefined=StrictUndefined
    )
    path = summary.run.report_path
    page = environment.get_template("report.html").render(**_content(summary))
    write_bytes(path, page.encode())
    return path


def _content(summary: RunSummary) -> dict[str, object]:
    class_set = summary.folder.class_set
    rows = class_figures(summary.evaluation, class_set)
    return {
        "title": summary.run.path.resolve().name,
        "config": summary.config,
        "manifest": summary.best,
        "images": {"train": summary.audit.train.images, "val": summary.audit.val.images},
        "matrix": summary.evaluation.matrix,
        "boundary": summary.evaluation.boundary,
        "epochs": len(summary.history),
        "step_mark": Markup(step_mark(summary.history)),
        "commands": commands(summary.last),
        "processes": summary.last.training.processes if summary.last.training else 1,
        "curves": _picture(draw_curves(summary.history)),
        "history": _table(summary.history),
        "rows": rows,
        "bars": _picture(draw_class_bars(rows)),
        "confusion": _picture(draw_confusion(summary.evaluation.matrix, class_set)),
        "samples": [_photograph(path) for path in summary.run.latest_samples(MAX_SAMPLES)],
        "worst": _worst(summary),
        "legend": legend(class_set),
        "shares": _picture(draw_class_shares([summary.audit.train, summary.audit.val], class_set)),
        "sizes": _picture(draw_image_sizes([summary.audit.train, summary.audit.val])),
        "notes": summary.audit.notes,
        "options": options(summary.config),
        "environment": environment(summary.config),
    }


def step_mark(history: list[EpochRecord]) -> str:
    """The element by which a page says which step of the run it shows."""
    return f'<meta name="step" content="{history[-1].step}">'


def commands(last: Manifest) -> list[str]:
    """The one that started the run, and the last one where it was resumed."""
    record = last.training
    return [c for c in (record.command, record.resumed_by) if c] if record else []


def legend(class_set: ClassSet) -> list[tuple[str, str]]:
    """(colour as CSS has it, name) of each class."""
    return [("#{:02x}{:02x}{:02x}".format(*c.color), c.name) for c in class_set.classes]


def options(config: FitConfig) -> dict[str, dict[str, object]]:
    """The configuration and the recipe, as they are saved; the commands say what was resumed."""
    content = json.loads(config.to_json())
    del content["resume"]
    recipe = content.pop("recipe")
    return {"Options": content, f"Recipe {recipe.pop('name')}": recipe}


def environment(config: FitConfig) -> dict[str, str]:
    """What the report was made on; the versions training ran with are in the manifest."""
    found = {
        "system": platform.platform(terse=True),
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "threads": str(torch.get_num_threads()),
        "device": config.device,
    }
    if torch.cuda.is_available():
        found["GPU"] = torch.cuda.get_device_name()
    return found


def _worst(summary: RunSummary) -> list[dict[str, object]]:
    shown: list[dict[str, object]] = []
    for score, predicted in summary.worst.images:
        image, labels = summary.folder.read_pair(score.id)
        figure = draw_comparison(image, labels, predicted, summary.folder.class_set, score=score)
        shown.append({"id": score.id, "picture": _jpeg(figure_png(figure))})
    return shown


def _table(history: list[EpochRecord]) -> list[dict[str, str]]:
    """As in metrics.csv."""
    return [as_row(record) for record in history]


def _picture(figure: Figure) -> str:
    return _data_url(figure_png(figure), "png")


def _photograph(path: Path) -> dict[str, str]:
    return {"id": path.stem, "picture": _jpeg(path.read_bytes())}


def _jpeg(content: bytes) -> str:
    """A smaller copy: a dozen PNGs of photographs would be most of the file."""
    with Image.open(io.BytesIO(content)) as image:
        picture = image.convert("RGB")
    picture.thumbnail((MAX_SIDE, MAX_SIDE))
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=JPEG_QUALITY)
    return _data_url(stream.getvalue(), "jpeg")


def _data_url(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
