"""Normalising flows as energies: tractable, trainable, and drawn from with a gradient."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from energeia.core.energy import Capability, Energy, Reparameterised, dtype_and_device
from energeia.core.errors import InputError, check_count
from energeia.core.random import global_from
from energeia.core.record import LogZ
from energeia.core.space import Real, Space


class Flow(Energy):
    """E(x) = -log q((x - mean) / scale) + sum log scale, with q what a module returns: log Z = 0.

    Args:
        flow: a module that, called without arguments, returns a `torch.distributions.Distribution` over flat vectors
            of `space.num_dims` numbers or over the event: any flow of zuko, or a module of your own with trainable
            parameters of any distribution.
        space: where x lives.
        mean, scale: numbers or tensors of the event shape; flows are built for data of mean 0 and scale 1.

    Has the capabilities `Tractable` and `Explicit`, and `Reparameterised` where the distribution has. Train it by
    maximum likelihood: `en.fit(flow, en.ExactLikelihood(), data)`. Draws take a seed from the generator they are
    given, and torch's global random numbers stay as they were.

    Cost: a density costs one pass through each transform; so do draws of coupling transforms, while
    those of autoregressive ones cost as many passes as there are dimensions.

    Reference: Papamakarios et al. (2021), Normalizing flows for probabilistic modeling and inference,
    https://arxiv.org/abs/1912.02762

    >>> import torch, energeia as en
    >>> x = 3 * torch.randn(100, 2, generator=torch.Generator().manual_seed(0)) + 10
    >>> flow = en.Flow.spline(en.Real(2), x=x, widths=(16,), num_transforms=2)
    >>> flow.sample_exact(5, torch.Generator().manual_seed(1)).shape
    torch.Size([5, 2])
    """

    mean: Tensor
    scale: Tensor

    def __init__(
        self, flow: nn.Module, space: Space, *, mean: float | Tensor = 0.0, scale: float | Tensor = 1.0
    ) -> None:
        super().__init__(space)
        self.flow = flow
        dtype, device = dtype_and_device(flow)
        for name, value in (("mean", mean), ("scale", scale)):
            whole = torch.as_tensor(value, dtype=dtype, device=device).expand(space.event_shape).clone()
            self.register_buffer(name, whole)
        if not bool((self.scale > 0).all() & self.scale.isfinite().all()):
            raise InputError(
                f"Flow: scale must be positive and finite everywhere, its least is {self.scale.min().item():g}"
            )
        found = self._distribution()
        shape = tuple(found.event_shape)
        if found.batch_shape or shape not in ((space.num_dims,), space.event_shape):
            raise InputError(
                f"Flow: {type(flow).__name__}() has batch shape {tuple(found.batch_shape)} and event shape {shape}; on "
                f"{space} they must be () and ({space.num_dims},) or {space.event_shape}"
            )
        self._shape, self._has_rsample = shape, bool(found.has_rsample)
        space.check(self.sample_exact(4, torch.Generator(device).manual_seed(0)), f"what {type(flow).__name__} draws")

    @classmethod
    def spline(
        cls,
        space: Real,
        *,
        x: Tensor | None = None,
        num_transforms: int = 3,
        widths: Sequence[int] = (64, 64),
        num_bins: int = 8,
        coupling: bool = False,
    ) -> "Flow":
        """A neural spline flow: rational-quadratic splines on [-5, 5], the identity beyond.

        Args:
            space: where x lives.
            x: rows `[N, *event]` whose mean and standard deviation the flow is to start from; None is 0 and 1.
                Its dtype is the flow's.
            num_transforms: splines one after the other, in alternating order of the dimensions.
            widths: hidden layers of each network, with SiLU between.
            num_bins: pieces of each spline, >= 2.
            coupling: two passes through a network for a draw, instead of one for each dimension. From
                three dimensions on, coupling transforms are weaker; take more of them.

        Weights come from torch's global random numbers: seed them with `torch.manual_seed`.

        Reference: Durkan, Bekasov, Murray & Papamakarios (2019), Neural spline flows,
        https://arxiv.org/abs/1906.04032
        """
        check_count("Flow.spline", num_transforms=num_transforms, num_bins=num_bins)
        if not isinstance(space, Real) or num_bins < 2:
            raise InputError(
                f"Flow.spline: needs a Real space and num_bins of at least 2, got {space} and {num_bins}; on a Box, "
                "Positive or Simplex take the flow of en.unconstrained(energy).space"
            )
        # Half a second, which those who have no flow need not wait for.
        from zuko.flows import NSF

        flow = NSF(
            space.num_dims,
            transforms=num_transforms,
            bins=num_bins,
            hidden_features=tuple(widths),
            activation=nn.SiLU,
            passes=2 if coupling and space.num_dims > 1 else None,
        )
        if x is None:
            return cls(flow, space)
        space.check(x)
        if len(x) < 2:
            raise InputError(f"Flow.spline: needs at least two rows to take a mean and a scale from, got {len(x)}")
        mean, scale = x.double().mean(0), x.double().std(0).clamp_min(1e-3)
        return cls(flow.to(x), space, mean=mean, scale=scale)

    def capability(self, kind: type[Capability]) -> Capability | None:
        """`Reparameterised` where the distribution has it."""
        return None if kind is Reparameterised and not self._has_rsample else super().capability(kind)

    def forward(self, x: Tensor) -> Tensor:
        """-log p(x) `[B]`."""
        white = ((x - self.mean) / self.scale).reshape(len(x), *self._shape)
        return self.scale.log().sum() - self._distribution().log_prob(white)

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) `[B]`."""
        return -self(x)

    def log_z(self) -> LogZ:
        """0."""
        return LogZ.exact(torch.zeros((), device=self.mean.device), "a normalised density")

    def sample_exact(self, num_chains: int, generator: torch.Generator) -> Tensor:
        """Independent draws `[num_chains, *event]`, detached."""
        with torch.no_grad(), global_from(generator):
            return self._placed(self._distribution().sample((num_chains,)))

    def rsample(self, num_chains: int, generator: torch.Generator) -> Tensor:
        """Independent draws `[num_chains, *event]`, with their graph to the parameters."""
        with global_from(generator):
            return self._placed(self._distribution().rsample(torch.Size((num_chains,))))

    def _placed(self, white: Tensor) -> Tensor:
        return self.mean + self.scale * white.reshape(len(white), *self.space.event_shape)

    def _distribution(self) -> torch.distributions.Distribution:
        found = self.flow()
        if not isinstance(found, torch.distributions.Distribution):
            raise InputError(
                f"Flow: {type(self.flow).__name__}() must return a torch.distributions.Distribution, got "
                f"{type(found).__name__}; a flow with a context has to be bound to it first"
            )
        return found
