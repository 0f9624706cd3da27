"""What a gradient check raises, and what it returns."""

from dataclasses import dataclass, field


class GradcheckError(AssertionError):
    """A gradient that differs from the numerical gradient by more than the tolerance, or a bad backward function.

    input                       name of the input whose gradient is wrong, or None
    index, coordinates          the coordinate shown, and all wrong ones that were found; tuples of ints
    analytic, numeric           its gradient by backward, and the numerical one
    tolerance, noise            the allowed difference; the error of the numerical gradient (None if not measured)
    cause                       short name of the likely cause, or None
    """

    def __init__(
        self,
        message: str,
        *,
        input: str | None = None,
        index: tuple[int, ...] | None = None,
        coordinates: tuple[tuple[int, ...], ...] = (),
        analytic: float | None = None,
        numeric: float | None = None,
        tolerance: float | None = None,
        noise: float | None = None,
        cause: str | None = None,
    ) -> None:
        super().__init__(message)
        self.input, self.index, self.coordinates = input, index, coordinates
        self.analytic, self.numeric, self.tolerance, self.noise = analytic, numeric, tolerance, noise
        self.cause = cause


@dataclass(frozen=True)
class Kink:
    """A point where the derivatives from the left and from the right differ, so that there is no gradient."""

    input: str
    where: str
    left: float
    right: float
    analytic: float


@dataclass(frozen=True)
class GradcheckReport:
    """Largest error of each input, relative to the size of its gradient; kinks, where there is no gradient.

    noise: of the numerical gradient of each input, relative too. An error below it is not seen; in float32 look at it.
    """

    errors: dict[str, float]
    kinks: tuple[Kink, ...] = ()
    noise: dict[str, float] = field(default_factory=dict)

    @property
    def largest(self) -> float:
        return max(self.errors.values(), default=0.0)
