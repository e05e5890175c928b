"""Recovery likelihood: tell x from a noisier x, level by level down a ladder of noise."""

import torch

from energeia.core.algebra import given
from energeia.core.energy import Energy
from energeia.core.errors import InputError
from energeia.core.objective import Objective
from energeia.core.record import Batch, Loss
from energeia.core.sampler import advance
from energeia.objectives.contrastive import contrast
from energeia.objectives.rows import energies_of, real_rows
from energeia.samplers.recovery import RecoveryLangevin


class DiffusionRecovery(Objective):
    """mean E(x_l, s_l) - mean E(y, s_l): the gradient of -log p(x_l | x_(l-1)), a level l drawn for each row.

        p(x_l | x_(l-1)) proportional to exp(-energy(x_l, s_l) - |x_(l-1) - x_l|^2 / (2 v)),  v = s_(l-1)^2 - s_l^2.

    x_l is the row with noise of the level s_l, x_(l-1) has noise of variance v more, and y is where the sampler gets
    from x_(l-1). The tie to x_(l-1) is the same for x_l and y and needs no gradient.

    Args:
        sampler: the ladder, and how many steps of what size each conditional takes. The same sampler then samples
            from the model: `sample(energy, sampler, num_steps=(len(levels) - 1) * num_steps)`.

    The energy is conditional on noise: energy(x, levels `[B]`), one network for all levels; energy(x) alone, as `fit`
    tries it once, should be that of the last. Consistent: if p(x_l | x_(l-1)) is right for each x_(l-1), the marginal
    p(x_l) proportional to exp(-energy(x_l, s_l)) is, at all levels but the first, which is never modelled: there
    data plus noise must be near the normal that sampling starts from. The last level is data with its noise.
    Biased by the length of the chains and by their step size, both far less than contrastive divergence on the
    marginal is: given a near noisy point there is hardly more than one mode. The weights of modes are learned at
    levels as wide as they are apart, and are what short chains get wrong: of data with a mode of share .236,
    parametric models learned .163 with 10 steps of size .5 a level, .210 with 20 of size 1 (six levels from 4 to .3).

    Cost: sampler.num_steps gradients, and one evaluation of both. Loss and energies are averages over levels whose E
    differ by constants: only gaps mean something. For `Real` spaces.

    Reference: Gao, Song, Poole, Wu & Kingma (2021), Learning energy-based models by diffusion recovery likelihood,
    https://arxiv.org/abs/2012.08125; Bengio, Yao, Alain & Vincent (2013), Generalized denoising auto-encoders as
    generative models, https://arxiv.org/abs/1305.6663

    >>> import torch, energeia as en
    >>> class Blurred(en.Energy):
    ...     def __init__(self):
    ...         super().__init__(en.Real(1))
    ...         self.variance = torch.nn.Parameter(torch.tensor(2.0))
    ...     def forward(self, x, level=torch.tensor(0.5)):
    ...         return x.square().sum(1) / (2 * (self.variance + level**2))
    >>> objective = en.DiffusionRecovery(en.RecoveryLangevin(levels=(3.0, 1.5, 0.5), num_steps=10))
    >>> loss = objective(Blurred(), en.Batch(torch.ones(5, 1)), torch.Generator().manual_seed(0))
    >>> loss.value.backward()
    """

    def __init__(self, sampler: RecoveryLangevin) -> None:
        super().__init__()
        if not isinstance(sampler, RecoveryLangevin):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InputError(
                f"DiffusionRecovery: the sampler must be one that goes down noise levels, "
                f"en.RecoveryLangevin(levels=(3.0, 1.0, 0.3)), got {type(sampler).__name__}"
            )
        self.sampler = sampler

    def forward(self, energy: Energy, batch: Batch, generator: torch.Generator) -> Loss:
        """The contrastive loss of each row at its level."""
        instead = "use ContrastiveDivergence or PersistentCD there"
        x = real_rows(energy, batch, "DiffusionRecovery", why="adds normal noise", instead=instead)
        device, shape = x.device, (-1, *[1] * (x.dim() - 1))
        number = torch.randint(len(self.sampler.levels) - 1, (len(x),), generator=generator, device=device)
        level, variance = (part.to(x.dtype) for part in self.sampler.next_level(number))
        own, further = torch.randn(2, *x.shape, generator=generator, dtype=x.dtype, device=device)
        clear = x + level.view(shape) * own
        noisy = clear + variance.sqrt().view(shape) * further
        state = self.sampler.at(energy, noisy, number)
        steps = self.sampler.num_steps
        state, info = advance(energy, self.sampler, state, num_steps=steps, generator=generator)
        energies = energies_of(given(energy, context=level.repeat(2)), torch.cat([clear, state.x]))
        value, metrics = contrast(energies[: len(x)], energies[len(x) :], info)
        return Loss(value, {"loss": value.detach(), **metrics})
