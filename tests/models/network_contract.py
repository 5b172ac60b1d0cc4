"""What every network promises; each architecture's test class inherits these tests."""

import pytest
import torch
import torch.nn.functional as F

from models import build
from models.architectures import architecture
from models.network import SegmentationNetwork
from tests.networks import random_images, small_network


class NetworkContract:
    name: str
    stride: int

    def network(self, **arguments: int) -> SegmentationNetwork:
        return small_network(self.name, **arguments)

    @pytest.mark.parametrize("size", [(1, 1), (1, 50), (2, 3), (31, 33), (37, 53), (64, 40)])
    def test_logits_have_the_images_size_at_any_size(self, size: tuple[int, int]) -> None:
        with torch.inference_mode():
            logits = self.network()(random_images(2, 3, *size))
        assert logits.shape == (2, 5, *size)
        assert logits.dtype == torch.float32
        assert logits.isfinite().all()

    @pytest.mark.parametrize("size", [(1, 1), (31, 33), (64, 40)])
    def test_the_images_size_is_reached_by_interpolation_alone(self, size: tuple[int, int]) -> None:
        network, images = self.network(), random_images(2, 3, *size)
        with torch.inference_mode():
            native = network.native_logits(images)
            logits = network(images)
        resized = F.interpolate(native, size=size, mode="bilinear", align_corners=False)
        torch.testing.assert_close(resized, logits)
        if not network.ends_interpolated:
            assert torch.equal(native, logits)

    @pytest.mark.parametrize("in_channels", [1, 4])
    def test_takes_images_of_other_than_three_channels(self, in_channels: int) -> None:
        network = self.network(in_channels=in_channels)
        with torch.inference_mode():
            assert network(random_images(1, in_channels, 32, 32)).shape == (1, 5, 32, 32)
        assert network.in_channels == in_channels

    @pytest.mark.parametrize("num_classes", [1, 2, 21])
    def test_gives_one_channel_of_logits_per_class(self, num_classes: int) -> None:
        network = self.network(num_classes=num_classes)
        with torch.inference_mode():
            assert network(random_images(1, 3, 32, 32)).shape == (1, num_classes, 32, 32)

    def test_base_channels_scales_the_parameters(self) -> None:
        sizes = [
            sum(p.numel() for p in self.network(base_channels=width).parameters())
            for width in (4, 8, 16)
        ]
        assert sizes[0] < sizes[1] < sizes[2]

    def test_the_narrowest_network_works(self) -> None:
        network = self.network(base_channels=1)
        with torch.inference_mode():
            logits = network(random_images(1, 3, 64, 64))
        assert logits.shape == (1, 5, 64, 64)
        assert all(parameter.numel() > 0 for parameter in network.parameters())

    def test_gradients_reach_every_parameter(self) -> None:
        network = self.network()
        logits = network(random_images(2, 3, 64, 64))
        (logits * random_images(*logits.shape, seed=1)).sum().backward()
        unreached = [
            key
            for key, parameter in network.named_parameters()
            if parameter.grad is None or not parameter.grad.any()
        ]
        assert unreached == []

    def test_a_few_training_steps_lower_the_loss(self) -> None:
        network = self.network().train()
        images = random_images(2, 3, 32, 32)
        labels = torch.zeros(2, 32, 32, dtype=torch.long)
        labels[:, :, 16:] = 1
        optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
        losses = []
        for _ in range(4):
            loss = torch.nn.functional.cross_entropy(network(images), labels)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < losses[0]

    def test_evaluation_leaves_the_state_as_it_was(self) -> None:
        network = self.network()
        before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
        with torch.inference_mode():
            network(random_images(2, 3, 32, 32))
        for key, tensor in network.state_dict().items():
            assert torch.equal(tensor, before[key]), key

    def test_the_forward_pass_leaves_its_input_as_it_was(self) -> None:
        images = random_images(1, 3, 32, 32)
        before = images.clone()
        with torch.inference_mode():
            self.network()(images)
        assert torch.equal(images, before)

    def test_an_image_gets_the_same_labels_alone_and_in_a_batch_of_eight(self) -> None:
        network = self.network()
        images = random_images(8, 3, 32, 32)
        with torch.inference_mode():
            together = network(images)
            alone = torch.cat([network(image[None]) for image in images])
        assert torch.allclose(together, alone, rtol=1e-4, atol=1e-4)
        # not bit for bit: libraries pick other kernels, and so other orders of summation, for
        # other batch sizes; a label may then flip where two classes are as good as equal
        assert (together.argmax(1) == alone.argmax(1)).float().mean() >= 0.999

    def test_an_image_gets_exactly_the_same_logits_whatever_its_neighbours_are(self) -> None:
        """At one batch size the computation is the same, so here equality is exact."""
        network = self.network()
        images, others = random_images(2, 3, 32, 32), random_images(2, 3, 32, 32, seed=1)
        others[0] = images[0]
        with torch.inference_mode():
            assert torch.equal(network(images)[0], network(others)[0])

    def test_channels_last_memory_gives_the_same_answer(self) -> None:
        network = self.network()
        images = random_images(2, 3, 64, 64)
        with torch.inference_mode():
            expected = network(images)
            network.to(memory_format=torch.channels_last)
            actual = network(images.to(memory_format=torch.channels_last))
        assert torch.allclose(actual, expected, rtol=1e-4, atol=1e-4)

    def test_arguments_are_inferred_from_the_shapes_of_the_state(self) -> None:
        arguments = {"num_classes": 7, "base_channels": 6, "in_channels": 2}
        state = self.network(**arguments).state_dict()
        shapes = {key: tensor.shape for key, tensor in state.items()}
        assert architecture(self.name).infer_arguments(shapes) == arguments

    def test_parameter_groups_hold_every_parameter_once(self) -> None:
        network = self.network()
        encoder, rest = network.parameter_groups()
        ids = [id(parameter) for parameter in (*encoder, *rest)]
        assert len(ids) == len(set(ids))
        assert set(ids) == {id(parameter) for parameter in network.parameters()}

    def test_names_its_stride_and_keeps_its_arguments(self) -> None:
        network = build(self.name, num_classes=3, base_channels=6, in_channels=2)
        assert (network.num_classes, network.base_channels, network.in_channels) == (3, 6, 2)
        assert network.stride == self.stride
