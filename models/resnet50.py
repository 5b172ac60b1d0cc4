"""ResNet-50 (He et al., 2015) as torchvision builds it, as an encoder."""

from torch import Tensor, nn
from torchvision.models import resnet50

FEATURE_CHANNELS = (64, 256, 512, 1024, 2048)  # at strides 2, 4, 8, 16, 32
CLASSIFIER_KEYS = ("fc.",)  # what the encoder leaves in the file


class ResNet50Encoder(nn.Module):
    """(N, C, H, W) -> five feature maps of `FEATURE_CHANNELS` at strides 2, 4, 8, 16 and 32.

    The attribute names are torchvision's, so that its weights fit key for key. They were trained
    on fractions of full scale, normalised by the mean and deviation of ImageNet.
    """

    def __init__(self, *, in_channels: int = 3) -> None:
        super().__init__()
        classifier = resnet50(weights=None)
        if in_channels != 3:
            classifier.conv1 = nn.Conv2d(
                in_channels, 64, kernel_size=7, stride=2, padding=3, bias=False
            )
        self.conv1 = classifier.conv1
        self.bn1 = classifier.bn1
        self.relu = classifier.relu
        self.maxpool = classifier.maxpool
        self.layer1 = classifier.layer1
        self.layer2 = classifier.layer2
        self.layer3 = classifier.layer3
        self.layer4 = classifier.layer4

    def forward(self, images: Tensor) -> list[Tensor]:
        at2 = self.relu(self.bn1(self.conv1(images)))
        at4 = self.layer1(self.maxpool(at2))
        at8 = self.layer2(at4)
        at16 = self.layer3(at8)
        return [at2, at4, at8, at16, self.layer4(at16)]
