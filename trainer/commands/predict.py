"""`predict`: masks for a folder of images."""

import logging
from pathlib import Path

from models import load_checkpoint
from trainer.console import plain_console
from trainer.predict import image_files, predict_folder
from trainer.progress import Reporter
from trainer.wording import counted

logger = logging.getLogger(__name__)


def predict(checkpoint_path: Path, images: Path, out: Path, *, device: str) -> int:
    """Returns the number of images that could not be read."""
    checkpoint = load_checkpoint(checkpoint_path)
    files = image_files(images)
    with Reporter(plain_console(stderr=True)) as reporter:
        reporter.begin("predicting", total=len(files))

        def on_image(path: Path, problem: str | None) -> None:
            reporter.advance(1)
            if problem is not None:
                logger.error("%s: %s", path, problem)

        failed = predict_folder(checkpoint, files, out, device=device, on_image=on_image)
    done, left = counted(len(files) - failed, "mask"), counted(failed, "image")
    logger.info("%s in %s, %s failed", done, out, left)
    return failed
