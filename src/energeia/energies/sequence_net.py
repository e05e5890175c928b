"""A network for sequences: the same small network at every site, and what its neighbours say."""

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from energeia.core.errors import InputError, check_count
from energeia.energies.neural import MLP, Activation, ConvNet, activation_of


class SequenceNet(nn.Module):
    """Terms for every site of a sequence, `[B, T, *site]` to `[B, T, num_outputs]`, as `LinearChain` takes them.

    Every site goes through the same network: `ConvNet` for pictures (height, width) or (channels, height, width), `MLP`
    for vectors. With context c > 0 that network gives features h_t, and a convolution over time sees h_{t-c} to h_{t+c}
    before the last layer. A site of zeros, as `LinearChain` shows those that are not there, is not computed and has
    h = 0 (output 0 without context): how much stands after the end of a sequence changes nothing.

    Args:
        event_shape: (T, *site); T is not used, other lengths do as well.
        num_outputs: K, the number of labels.
        channels: of the convolutions, for pictures; see `ConvNet`.
        hidden: size of the hidden layer, and number of features h.
        context: c, neighbours on each side that are seen; 0 for none.
        activation: between the layers.

    Cost: that of the network for each site that is there, and O(T c hidden^2) a sequence for the context.
    """

    def __init__(
        self,
        event_shape: tuple[int, ...],
        num_outputs: int = 2,
        *,
        channels: Sequence[int] = (16, 32),
        hidden: int = 128,
        context: int = 0,
        activation: Activation = "silu",
    ) -> None:
        super().__init__()
        check_count("SequenceNet", num_outputs=num_outputs, hidden=hidden, context=context or 1)
        if len(event_shape) not in (2, 3, 4):
            raise InputError(
                "SequenceNet: event_shape is (T, features), (T, height, width) or (T, channels, height, width), got "
                f"{tuple(event_shape)}"
            )
        site = tuple(event_shape[1:])
        self._site = (1, *site) if len(site) == 2 else site
        self.num_outputs = num_outputs
        size = hidden if context else num_outputs
        self.site: nn.Module = (
            MLP(self._site, size, widths=(hidden,), activation=activation)
            if len(self._site) == 1
            else ConvNet(
                cast("tuple[int, int, int]", self._site), size, channels=channels, hidden=hidden, activation=activation
            )
        )
        self.context: nn.Module | None = None
        if context:
            self.activation = activation_of(activation)
            self.context = nn.Conv1d(hidden, hidden, 2 * context + 1, padding=context)
            self.last = nn.Linear(hidden, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, T, num_outputs]`."""
        there = (x.flatten(2) != 0).any(2)
        found = cast(Tensor, self.site(x[there].view(-1, *self._site)))
        if self.context is None:
            return found.new_zeros(*there.shape, self.num_outputs).masked_scatter(there.unsqueeze(2), found)
        found = self.activation(found)
        features = found.new_zeros(*there.shape, found.shape[1]).masked_scatter(there.unsqueeze(2), found)
        # A site keeps its own features beside what the window around it says.
        seen = features + self.activation(self.context(features.mT).mT)
        return self.last(seen)
