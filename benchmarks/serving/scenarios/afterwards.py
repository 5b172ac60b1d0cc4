"""From logits to a mask of the upload's size: the service's way beside others."""

from benchmarks.serving.afterwards import measure_afterwards
from benchmarks.serving.table import Table, number
from benchmarks.serving.workshop import Workshop


def measure(shop: Workshop) -> list[Table]:
    assert shop.pictures
    sizes = list(shop.plan.mask_sizes)
    rows = measure_afterwards(
        shop.resnet, shop.picture_folder, sizes, seconds=shop.plan.bare_seconds / 4
    )
    table = Table(
        "After the forward pass, one core, 22 classes at 256x256: milliseconds per image",
        ("way", *(f"{width}x{height}" for width, height in sizes), "pixels of the first's class"),
        notes=[
            "Classes, counts and mean confidences of every pixel of the upload's size; PNG: the "
            "mask encoded afterwards, whichever way it was made."
        ],
    )
    for way in dict.fromkeys(row.way for row in rows):
        found = [row for row in rows if row.way == way]
        same = [row.same for row in found if row.same is not None]
        table.add(
            way,
            *(number(row.ms) for row in found),
            f"{100 * min(same):.3f} %" if same else "",
            way=way,
            ms={f"{row.width}x{row.height}": row.ms for row in found},
            same=min(same) if same else None,
        )
    return [table]
