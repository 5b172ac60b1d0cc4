"""What schemathesis sends where the OpenAPI document asks for an image: one of each format.

Loaded by schemathesis itself, in its own process, which knows nothing of this package.
"""

from io import BytesIO

import schemathesis
from hypothesis import strategies as st
from PIL import Image

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF")


def _image(format: str) -> bytes:
    stream = BytesIO()
    Image.new("RGB", (12, 10), "red").save(stream, format)
    return stream.getvalue()


images = st.sampled_from([_image(format) for format in FORMATS])
for media_type in ("image/*", "application/octet-stream"):
    schemathesis.openapi.media_type(media_type, images)
schemathesis.openapi.format("binary", images)
