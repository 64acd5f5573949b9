"""Made-up errors of mixed-precision policies, over the layer table of a real network.

An error is 30 % plus an excess in points and, at wish, a normal draw that is fixed per policy, as a
finite set of images gives. Three families:

- `additive`: a sum over free layers and sides of s j 2^(-d b), with s lognormal (sigma 1) and d
  uniform in 0.8..2.2 per layer and side, j lognormal (sigma 0.15) per candidate, never falling with
  fewer bits.
- `interactions`: plus r sqrt(x y) between the two sides of a layer and between neighbouring layers,
  r uniform in -0.9..1.5.
- `propagating`: noise that is injected in a layer is carried on by the later ones, which add their
  own and amplify it; a side cannot be better than what reaches it; the total goes through a curve
  that saturates at 70 points. No sum over layers describes it.

All are scaled so that uniform 4/4 costs 1.5 points.
"""

from typing import Literal

import numpy as np
import numpy.typing as npt

from harness.problem.network import NetworkSpec

Family = Literal["additive", "interactions", "propagating"]
Floats = npt.NDArray[np.float64]
Policies = npt.NDArray[np.uint8]

FLOAT_ERROR = 30.0
UNIFORM_EXCESS = 1.5
"""Points that uniform 4/4 costs."""

SATURATION = 70.0
"""Points above the float error at which the propagating family has nothing left to lose."""


class MadeErrors:
    """The errors of one network under one seed: `errors(policies)`, noise included."""

    def __init__(
        self, network: NetworkSpec, *, seed: int, family: Family = "additive", noise: float = 0.0
    ) -> None:
        """Draw the sensitivities; `noise` is the deviation in points of the draw per policy."""
        self.family = family
        self.noise = noise
        self.free = np.array([not layer.is_pinned for layer in network.layers])
        self.depthwise = np.array([layer.is_depthwise for layer in network.layers])[self.free]
        rng = np.random.default_rng([seed, 1])
        num_layers = int(self.free.sum())
        self.table = _side_errors(rng, num_layers)
        self.pair = rng.uniform(-0.9, 1.5, num_layers)
        self.neighbour = rng.uniform(-0.9, 1.5, num_layers - 1)
        self.gain = rng.lognormal(-0.05, 0.25, num_layers)
        self.hash_keys = rng.integers(1, 2**63, (len(network.layers) * 2 + 1,), dtype=np.uint64)
        self.scale = 1.0
        self.scale = UNIFORM_EXCESS / self._raw(np.full((1, num_layers, 2), 4, np.uint8))[0]

    def excess(self, policies: Policies) -> Floats:
        """Return the noise-free points above the float error of (n, layers, 2) policies."""
        raw = self.scale * self._raw(policies[:, self.free])
        if self.family != "propagating":
            return raw
        # At 1.5 points the curve is nearly straight, so the scale stays what it means.
        saturated: Floats = SATURATION * -np.expm1(-raw / SATURATION)
        return saturated

    def __call__(self, policies: Policies) -> Floats:
        """Return the errors in percent of (n, layers, 2) policies, each with its fixed draw."""
        return FLOAT_ERROR + self.excess(policies) + self.noise * self._draws(policies)

    def _raw(self, bits: Policies) -> Floats:
        layers = np.arange(bits.shape[1])
        sides = self.table[layers[None, :, None], np.arange(2)[None, None, :], bits]
        if self.family == "propagating":
            return self._propagate(sides)
        total: Floats = sides.sum(axis=(1, 2))
        if self.family == "interactions":
            both = sides.sum(axis=2)
            total += np.sqrt(sides[:, :, 0] * sides[:, :, 1]) @ self.pair
            total += np.sqrt(both[:, 1:] * both[:, :-1]) @ self.neighbour
        return total

    def _propagate(self, sides: Floats) -> Floats:
        """Return the noise after the last layer, before the saturating curve."""
        # Sensitivities are relative to their mean, so that gains act on noise of order 0.1.
        reference = self.table[:, :, 4].sum()
        noise = np.zeros(len(sides))
        reaching = np.zeros(len(sides))
        for layer in range(sides.shape[1]):
            weight = sides[:, layer, 0] / reference
            reaching = np.maximum(sides[:, layer, 1] / reference, 0.5 * reaching)
            injected = np.sqrt(weight**2 + reaching**2 + weight * reaching)
            noise = noise * self.gain[layer] ** 0.5 * (1 + 2 * injected) + injected
        return noise

    def _draws(self, policies: Policies) -> Floats:
        """Return a standard normal per policy, a pure function of the policy and the seed."""
        flat = policies.reshape(len(policies), -1).astype(np.uint64)
        state = (flat * self.hash_keys[None, :-1]).sum(axis=1, dtype=np.uint64)
        first = _uniform(_mix(state ^ self.hash_keys[-1]))
        second = _uniform(_mix(state + self.hash_keys[-1]))
        normal: Floats = np.sqrt(-2 * np.log(first)) * np.cos(2 * np.pi * second)
        return normal


def _side_errors(rng: np.random.Generator, num_layers: int) -> Floats:
    """Return s j 2^(-d b) by layer, side and bits 0..8; bits below 2 are not used."""
    scale = rng.lognormal(0.0, 1.0, (num_layers, 2, 1))
    decay = rng.uniform(0.8, 2.2, (num_layers, 2, 1))
    jitter = rng.lognormal(0.0, 0.15, (num_layers, 2, 9))
    table = scale * jitter * 2.0 ** (-decay * np.arange(9))
    falling: Floats = np.maximum.accumulate(table[:, :, ::-1], axis=2)[:, :, ::-1]
    return falling


def _mix(state: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return splitmix64 of each state."""
    state = state + np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: npt.NDArray[np.uint64] = state ^ (state >> np.uint64(31))
    return mixed


def _uniform(state: npt.NDArray[np.uint64]) -> Floats:
    """Return each state as a number in (0, 1)."""
    uniform: Floats = ((state >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53
    return uniform
