"""What every network with a pretrained encoder promises beyond what all networks do."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from models import CheckpointError
from models.encoder_unet import EncoderUNet
from tests.models.network_contract import NetworkContract
from tests.networks import random_images


class EncoderContract(NetworkContract):
    first_layer: str

    def pretrained(self, **arguments: int) -> EncoderUNet:
        network = self.network(**arguments)
        assert isinstance(network, EncoderUNet)
        return network

    def classifier_state(self, *, num_classes: int) -> Mapping[str, Tensor]:
        """A classifier's state_dict with weights of its own."""
        raise NotImplementedError

    def test_the_encoder_is_a_parameter_group_of_its_own(self) -> None:
        network = self.network()
        encoder, rest = network.parameter_groups()
        groups = {
            key: any(parameter is member for member in encoder)
            for key, parameter in network.named_parameters()
        }
        assert all(in_group == key.startswith("encoder.") for key, in_group in groups.items())
        assert encoder
        assert rest

    @pytest.mark.parametrize("size", [(64, 96), (65, 33), (1, 7)])
    def test_features_have_the_promised_channels_and_strides(self, size: tuple[int, int]) -> None:
        network = self.pretrained()
        with torch.inference_mode():
            features = network.encoder(random_images(1, 3, *size))
        assert [feature.shape[1] for feature in features] == list(network.feature_channels)
        for feature, stride in zip(features, (2, 4, 8, 16, 32), strict=True):
            assert feature.shape[-2:] == tuple(-(-length // stride) for length in size)

    @pytest.mark.parametrize("size", [(64, 96), (65, 33), (1, 7)])
    def test_logits_are_computed_at_half_the_images_size(self, size: tuple[int, int]) -> None:
        with torch.inference_mode():
            native = self.network().native_logits(random_images(2, 3, *size))
        assert native.shape == (2, 5, *(-(-length // 2) for length in size))

    @pytest.mark.parametrize("num_classes", [2, 1000])
    def test_the_encoder_takes_all_of_a_classifier_but_its_head(self, num_classes: int) -> None:
        """Whatever the classifier was for; the decoder stays as it was."""
        network = self.pretrained()
        decoder = {k: v.clone() for k, v in network.state_dict().items() if "encoder." not in k}
        classifier = self.classifier_state(num_classes=num_classes)
        network.load_encoder(classifier)
        state = network.state_dict()
        copied = {k.removeprefix("encoder."): v for k, v in state.items() if k not in decoder}
        head = classifier.keys() - copied.keys()
        assert copied.keys() < classifier.keys()
        assert all(key.startswith(network.classifier_head) for key in head)
        for key, tensor in copied.items():
            assert torch.equal(tensor, classifier[key]), key
        for key, tensor in decoder.items():
            assert torch.equal(state[key], tensor), key

    def test_weights_that_do_not_fit_are_listed_and_change_nothing(self) -> None:
        network = self.pretrained(in_channels=1)
        before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
        state = dict(self.classifier_state(num_classes=2))
        lost = next(key for key in state if key.endswith("running_mean"))
        del state[lost]
        state["extra.weight"] = torch.zeros(1)
        with pytest.raises(CheckpointError) as caught:
            network.load_encoder(state)
        message = str(caught.value)
        assert f"{lost} is missing" in message
        assert "extra.weight is not in the model" in message
        assert f"{self.first_layer} is {tuple(state[self.first_layer].shape)}" in message
        for key, tensor in network.state_dict().items():
            assert torch.equal(tensor, before[key]), key
