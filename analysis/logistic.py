"""Many L2 logistic regressions on the same features, solved together to convergence.

scikit-learn's objective, ½ ‖w‖² + C Σ log(1 + exp(−y (w·x + b))) with y = ±1 and a free
intercept. All problems take their Newton steps at once, so matrix–vector products become matrix
products. With fewer samples than features, the problems are solved in the row space of the
features, which contains every optimum.

scikit-learn solves one problem at a time, and takes 7 to 21 times as long for a layer's 55 fits
(n = 1,562; ``benchmarks/probing.py``): ``lbfgs`` at 4,096 features, ``newton-cholesky`` at 576.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from lm_eval_trust.analysis.kernels import symmetric_product
from lm_eval_trust.core.errors import InputError

#: A problem is solved when its gradient's norm is below this. The objective is strongly convex with
#: constant 1 in the coefficients, so their distance from the optimum is at most about the same.
_TOLERANCE = 1e-6
_NEWTON_STEPS, _INNER_STEPS, _HALVINGS = 100, 200, 40
#: Directions with less than this share of the largest variance are rounding error.
_RANK = 1e-13


@dataclass(frozen=True)
class LogisticFits:
    """Solutions of several problems.

    Attributes:
        coefficients: float64, shape (problems, features).
        intercepts: float64, shape (problems,).
    """

    coefficients: torch.Tensor
    intercepts: torch.Tensor

    def decide(self, features: torch.Tensor) -> torch.Tensor:
        """Return the decision values of samples, float64, shape (n, problems)."""
        return features.to(torch.float64) @ self.coefficients.T + self.intercepts


class FeatureSpace:
    """Features that many regressions are fitted on; decomposed once.

    Args:
        features: Shape (n, d), any floating dtype; computed in float64 on their device.

    Raises:
        InputError: Not two axes, or values that are not finite.
    """

    def __init__(self, features: torch.Tensor) -> None:
        if features.ndim != 2 or not torch.isfinite(features).all():
            raise InputError("Features must be finite numbers of shape (n, d).")
        features = features.to(torch.float64)
        n, d = features.shape
        # In the basis of principal directions the Hessian is nearly diagonal, and its diagonal
        # preconditions the conjugate gradients.
        side = features if n < d else features.T
        small = symmetric_product(side, side)
        variances, vectors = torch.linalg.eigh(small)
        kept = variances > _RANK * variances[-1].clamp_min(torch.finfo(torch.float64).tiny)
        variances, vectors = variances[kept], vectors[:, kept]
        scale = variances.sqrt()
        # What a solution is multiplied by to give coefficients, from right to left.
        self._basis = (features.T, vectors / scale) if n < d else (vectors,)
        self._coordinates = vectors * scale if n < d else features @ vectors
        self._variances = variances

    def fit(self, labels: torch.Tensor, regularisation: torch.Tensor) -> LogisticFits:
        """Return the optimum of every problem.

        Args:
            labels: 0 or 1, shape (n, problems); each problem needs both.
            regularisation: C of each problem, shape (problems,).

        Raises:
            InputError: A problem with one label only, C not above 0, or no convergence.
        """
        if ((labels == 0) | (labels == 1)).logical_not().any():
            raise InputError("Labels must be 0 or 1.")
        if (labels.amin(dim=0) == labels.amax(dim=0)).any():
            raise InputError("A regression needs samples of both labels.")
        if not (regularisation > 0).all():
            raise InputError("C must be above 0.")
        signs = 2.0 * labels.to(self._coordinates) - 1.0
        problem = _Problem(self._coordinates, self._variances, signs, regularisation.to(signs))
        solution = problem.solve()
        coefficients = solution[:-1]
        for factor in reversed(self._basis):
            coefficients = factor @ coefficients
        return LogisticFits(coefficients.T.contiguous(), solution[-1].clone())


@dataclass
class _Problem:
    """The problems in coordinates of the row space; a solution's last row is the intercept."""

    z: torch.Tensor
    variances: torch.Tensor
    signs: torch.Tensor
    c: torch.Tensor

    def solve(self) -> torch.Tensor:
        solution = self.z.new_zeros(self.z.shape[1] + 1, self.signs.shape[1])
        active = torch.arange(self.signs.shape[1], device=self.z.device)
        for _ in range(_NEWTON_STEPS):
            part = _Problem(self.z, self.variances, self.signs[:, active], self.c[active])
            current = solution[:, active]
            margins = part.margins(current)
            gradient = part.gradient(current, margins)
            open_ = gradient.norm(dim=0) > _TOLERANCE
            if not open_.any():
                return solution
            active, current = active[open_], current[:, open_]
            part = _Problem(self.z, self.variances, self.signs[:, active], self.c[active])
            step = part.newton_step(margins[:, open_], gradient[:, open_])
            solution[:, active] = part.search(current, step, margins[:, open_], gradient[:, open_])
        raise InputError("A logistic regression did not converge; are its features standardised?")

    def margins(self, solution: torch.Tensor) -> torch.Tensor:
        return self.z @ solution[:-1] + solution[-1]

    def loss(self, solution: torch.Tensor, margins: torch.Tensor) -> torch.Tensor:
        losses = torch.nn.functional.softplus(-self.signs * margins).sum(dim=0)
        return self.c * losses + 0.5 * solution[:-1].square().sum(dim=0)

    def gradient(self, solution: torch.Tensor, margins: torch.Tensor) -> torch.Tensor:
        residual = -self.c * self.signs * torch.sigmoid(-self.signs * margins)
        return torch.cat([self.z.T @ residual + solution[:-1], residual.sum(dim=0)[None]])

    def newton_step(self, margins: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        """Return minus the inverse Hessian times the gradient, by conjugate gradients."""
        weights = self.c * torch.sigmoid(margins) * torch.sigmoid(-margins)
        diagonal = torch.cat(
            [
                1.0 + self.variances[:, None] * weights.mean(dim=0),
                weights.sum(dim=0).clamp_min(1e-12)[None],
            ]
        )
        length = gradient.norm(dim=0)
        wanted = length * torch.clamp(length.sqrt(), max=0.1)
        step = torch.zeros_like(gradient)
        residual = -gradient
        scaled = residual / diagonal
        direction, product = scaled.clone(), (residual * scaled).sum(dim=0)
        for _ in range(_INNER_STEPS):
            done = residual.norm(dim=0) <= wanted
            if done.all():
                break
            along = weights * self.margins(direction)
            curved = torch.cat([self.z.T @ along + direction[:-1], along.sum(dim=0)[None]])
            size = product / (direction * curved).sum(dim=0)
            size = torch.where(done, 0.0, size)
            step += size * direction
            residual -= size * curved
            scaled = residual / diagonal
            product, before = (residual * scaled).sum(dim=0), product
            direction = torch.where(done, direction, scaled + (product / before) * direction)
            product = torch.where(done, before, product)
        return step

    def search(
        self,
        solution: torch.Tensor,
        step: torch.Tensor,
        margins: torch.Tensor,
        gradient: torch.Tensor,
    ) -> torch.Tensor:
        """Return the solution after a step that is halved until the loss falls enough."""
        before, slope = self.loss(solution, margins), (gradient * step).sum(dim=0)
        change = self.margins(step)
        size = torch.ones_like(slope)
        # Near the optimum, loss differences are below rounding error.
        slack = 1e-14 * before.abs()
        for _ in range(_HALVINGS):
            after = self.loss(solution + size * step, margins + size * change)
            high = after > before + 1e-4 * size * slope + slack
            if not high.any():
                break
            size = torch.where(high, 0.5 * size, size)
        return solution + size * step
