"""A restricted Boltzmann machine of the next frame, whose biases depend on the frames before."""

import torch
from torch import Tensor, nn

from energeia.core.energy import Energy
from energeia.core.errors import InputError, check_count
from energeia.core.space import Binary, Categorical, Enumerable, Real, Space, Spin
from energeia.core.units import Units
from energeia.energies.layers import draw_units
from energeia.energies.rbm import RBM

_MOST_LISTED = 2**16
_AT_ONCE = 2**18


class ConditionalRBM(Energy):
    """p(x_t | x_(t-n), ..., x_(t-1)): an RBM whose biases are linear in the past p, the n frames before.

        E(x, h | p) = E_RBM(x, h) - x'A p - h'B p,
        E(x | p) = -x'(b + A p) - sum_j log(1 + exp(c + B p + W'x)_j)     (for bits)

    Args:
        visible: space of a frame, or a number of bits: `Binary`, `Spin`, `Categorical` or `Real`.
        hidden: space of h, in the same way; any that `RBM` takes.
        order: n, frames of the past, >= 1.
        mean: mean of a frame `[*frame]`, for the first b.
        variance: variance of a frame, the first variance of `Real` units.
        weight_scale: standard deviation of the first W, > 0. A and B begin at 0: a plain RBM.

    Its x is a window, n + 1 frames `[B, n + 1, *frame]` of which the last is modelled and the others are
    its context (`en.windows` cuts sequences so). E of windows with different pasts cannot be compared: the
    past itself is not modelled, and there is no Z of windows.

    `given(machine, context=past)`, past `[1 or B, n, *frame]`, is the energy of the next frame, with
    `Bipartite` and `Contrastable`: block Gibbs, CD and, for one past, `ais` and `log_likelihood` are those of
    any RBM. `fit(machine, Conditioned(ContrastiveDivergence(BlockGibbs(), 1)), windows)` trains it.
    Given the past the hidden units are independent of each other: nothing is passed back from later frames.

    Capability: `Contextual`. For `Real` frames x'A p is added to the natural parameters: the mean moves by
    variance times A p. Its gradients are not centred.

    Reference: Taylor, Hinton & Roweis (2007), Modeling human motion using binary latent variables,
    https://papers.nips.cc/paper/3078-modeling-human-motion-using-binary-latent-variables

    >>> import torch, energeia as en
    >>> machine = en.ConditionalRBM(3, 2, order=1)
    >>> machine.log_prob(torch.zeros(5, 2, 3)).shape
    torch.Size([5])
    """

    def __init__(
        self,
        visible: int | Space,
        hidden: int | Space,
        *,
        order: int = 1,
        mean: Tensor | None = None,
        variance: Tensor | None = None,
        weight_scale: float = 0.01,
    ) -> None:
        check_count("ConditionalRBM", order=order)
        machine = RBM(visible, hidden, mean=mean, variance=variance, centred=False, weight_scale=weight_scale)
        self.frame, self.order = machine.space, order
        super().__init__(_stacked(machine.space, order + 1))
        self.machine = machine
        num_past = order * self.frame.num_dims
        self.past_to_visible = nn.Parameter(torch.zeros(self.frame.num_dims, num_past))
        self.past_to_hidden = nn.Parameter(torch.zeros(machine.hidden_space.num_dims, num_past))

    def forward(self, x: Tensor) -> Tensor:
        """E(last frame | frames before) of windows `[B, n + 1, *frame]`, `[B]`."""
        frame, past = self.divide(x)
        return self.within(past)(frame)

    def divide(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The last frame `[B, *frame]` and those before `[B, n, *frame]`."""
        return x[:, -1], x[:, :-1]

    def within(self, context: Tensor) -> "NextFrame":
        """The energy of the frame after a past, `[1, n, *frame]`, or `[B, n, *frame]` with one for each chain."""
        expected = (self.order, *self.frame.event_shape)
        if tuple(context.shape[1:]) != expected:
            raise InputError(
                f"ConditionalRBM: the past has shape {tuple(context.shape)}, expected [1 or B, "
                f"{', '.join(map(str, expected))}]: {self.order} frames, the latest last"
            )
        return NextFrame(self, context)

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(last frame | frames before) of windows `[B, n + 1, *frame]`, exact, with its graph; `[B]`.

        For hidden units of at most 2^16 states, all of which are listed for every window.
        """
        space = self.machine.hidden_space
        if not isinstance(space, Enumerable) or space.num_states > _MOST_LISTED:
            raise InputError(
                f"ConditionalRBM.log_prob: hidden units {space} cannot be listed; at most 2^16 states can. Use "
                "en.log_likelihood(en.given(machine, context=past), frames) for one past"
            )
        like = self.past_to_hidden
        h = space.enumerate(0, space.num_states, dtype=like.dtype, device=like.device)
        rows = max(1, _AT_ONCE // (len(h) * self.frame.num_dims))
        return torch.cat([self._log_prob(part, h) for part in x.split(rows)])

    def _log_prob(self, x: Tensor, h: Tensor) -> Tensor:
        """The same for all hidden states h `[H, *hidden]`."""
        frame, past = self.divide(x)
        to_visible, to_hidden = self.shifts(past)
        natural = self.machine.visible_parameters(h).flatten(1) + to_visible.unsqueeze(1)
        visible = self.machine.visible.log_partition(natural.view(-1, *self.frame.event_shape))
        # What RBM adds to the energy beside the linear part (b^2 over the variance, for real units).
        constant = self.machine.visible_energy(torch.zeros_like(frame[:1]))
        hidden = h.flatten(1) @ (self.machine.hidden_bias + to_hidden).T
        log_z = (visible.view(len(x), len(h)) + hidden.T).logsumexp(1) - constant
        return -self.within(past)(frame) - log_z

    def shifts(self, past: Tensor) -> tuple[Tensor, Tensor]:
        """A p `[B, frame]` and B p `[B, hidden]`, flat."""
        flat = past.flatten(1)
        return flat @ self.past_to_visible.T, flat @ self.past_to_hidden.T

    def generate(
        self, past: Tensor, num_frames: int, *, num_steps: int = 50, generator: torch.Generator | int = 0
    ) -> Tensor:
        """Sequences that go on from a past, frame by frame: `[B, num_frames, *frame]`.

        Args:
            past: the first frames `[B, n, *frame]`, one past for each sequence.
            num_frames: frames to generate, >= 1.
            num_steps: block Gibbs steps a frame, which start from the frame before: draws are exact as
                far as so many steps forget it.
            generator: random numbers, or a seed for them.
        """
        check_count("ConditionalRBM.generate", num_frames=num_frames, num_steps=num_steps)
        if isinstance(generator, int):
            generator = torch.Generator(past.device).manual_seed(generator)
        frames = list(past.unbind(1))
        with torch.no_grad():
            for _ in range(num_frames):
                energy = self.within(torch.stack(frames[-self.order :], 1))
                x = frames[-1]
                for _ in range(num_steps):
                    h = draw_units(energy.hidden, energy.hidden_parameters(x), generator)
                    x = draw_units(energy.visible, energy.visible_parameters(h), generator)
                frames.append(x)
        return torch.stack(frames[self.order :], 1)


class NextFrame(Energy):
    """E(x | p) of a `ConditionalRBM` with its past bound: an RBM of the next frame.

    Args:
        machine: the conditional machine, whose parameters these are.
        past: `[1, n, *frame]`, or `[B, n, *frame]` for B chains.

    Rows of x and pasts go in order; a single row is that of the first past.
    """

    past: Tensor

    def __init__(self, machine: ConditionalRBM, past: Tensor) -> None:
        super().__init__(machine.frame)
        self.conditional = machine
        self.register_buffer("past", past.to(machine.past_to_hidden.device), persistent=False)

    def _shifts(self, num_rows: int) -> tuple[Tensor, Tensor]:
        past = self.past[:1] if num_rows == 1 else self.past
        if len(past) not in (1, num_rows):
            raise InputError(
                f"ConditionalRBM: {num_rows} rows, but {len(past)} pasts; give one past, or one for each row"
            )
        return self.conditional.shifts(past)

    def forward(self, x: Tensor) -> Tensor:
        """E(x | p) `[B]`."""
        return self.visible_energy(x) - self.hidden.log_partition(self.hidden_parameters(x))

    @property
    def visible(self) -> Units:
        """Units of the frame."""
        return self.conditional.machine.visible

    @property
    def hidden(self) -> Units:
        """Units of h."""
        return self.conditional.machine.hidden

    def visible_energy(self, x: Tensor) -> Tensor:
        """The part of E(x, h | p) without h, `[B]`."""
        return self.conditional.machine.visible_energy(x) - (x.flatten(1) * self._shifts(len(x))[0]).sum(1)

    def hidden_parameters(self, x: Tensor) -> Tensor:
        """c + B p + W'x, `[B, *hidden]`."""
        own = self.conditional.machine.hidden_parameters(x)
        return own + self._shifts(len(x))[1].view(-1, *own.shape[1:])

    def visible_parameters(self, h: Tensor) -> Tensor:
        """b + A p + W h, `[B, *frame]`."""
        own = self.conditional.machine.visible_parameters(h)
        return own + self._shifts(len(h))[0].view(-1, *own.shape[1:])

    def contrast(self, data: Tensor, negatives: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """E(data), E(negatives), each with the pasts in order, and the gradient of the difference of their means."""
        sides = ((data, 1 / len(data)), (negatives, -1 / len(negatives)))
        with torch.no_grad():
            parts = [self._slopes(x, share) for x, share in sides]
        total = {name: slope + parts[1][1][name] for name, slope in parts[0][1].items()}
        gradients = tuple(total[name] for name, _ in self.conditional.named_parameters())
        return parts[0][0], parts[1][0], gradients

    def _slopes(self, x: Tensor, share: float) -> tuple[Tensor, dict[str, Tensor]]:
        """E(x | p), and a share of the sum of its gradients over the rows, by the names of the parameters."""
        machine, flat = self.conditional.machine, x.flatten(1)
        natural = self.hidden_parameters(x)
        active = self.hidden.mean(natural).flatten(1)
        past = self.past.flatten(1).expand(len(x), -1)
        seen, slopes = flat, dict[str, Tensor]()
        if machine.log_variance is not None:
            precision = (-machine.log_variance).exp()
            seen = flat * precision
            inner = (flat - machine.bias).square() / 2 - flat * (active @ machine.weight.T)
            slopes["machine.log_variance"] = -inner.sum(0) * precision
            slopes["machine.bias"] = ((machine.bias - flat) * precision).sum(0)
        else:
            slopes["machine.bias"] = -flat.sum(0)
        slopes["machine.weight"] = -(seen.T @ active)
        slopes["machine.hidden_bias"] = -active.sum(0)
        slopes["past_to_visible"] = -(flat.T @ past)
        slopes["past_to_hidden"] = -(active.T @ past)
        energy = self.visible_energy(x) - self.hidden.log_partition(natural)
        return energy, {name: share * slope for name, slope in slopes.items()}


def windows(sequences: Tensor, order: int) -> Tensor:
    """All runs of order + 1 frames of sequences `[B, T, *frame]`, `[B (T - order), order + 1, *frame]`.

    No window goes from one sequence into the next.

    >>> import torch, energeia as en
    >>> en.windows(torch.arange(4.0).view(1, 4, 1), 1).squeeze(-1)
    tensor([[0., 1.],
            [1., 2.],
            [2., 3.]])
    """
    check_count("windows", order=order)
    if sequences.dim() < 3 or sequences.shape[1] <= order:
        raise InputError(
            f"windows: sequences are [B, T, *frame] with T > order = {order}, got shape {tuple(sequences.shape)}; "
            "for one sequence give sequence.unsqueeze(0)"
        )
    return sequences.unfold(1, order + 1, 1).movedim(-1, 2).flatten(0, 1)


def _stacked(frame: Space, num_frames: int) -> Space:
    """The space of so many frames."""
    if isinstance(frame, Categorical):
        return Categorical((num_frames, *frame.event_shape[:-1]), num_categories=frame.num_categories)
    shape = (num_frames, *frame.event_shape)
    if isinstance(frame, Binary | Spin):
        return type(frame)(shape)
    if isinstance(frame, Real):
        return Real(shape, frame.start_scale)
    raise InputError(f"ConditionalRBM: frames are Binary, Spin, Categorical or Real, got {frame}")
