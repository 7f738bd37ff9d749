"""What the parts of a config have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """A part of the config. Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)


class Temperature(Section):
    """Sampling temperature of iteration t: initial / (1 + decay (t - 1)); paper, appendix B."""

    initial: float = Field(default=1.2, gt=0)
    decay: float = Field(default=0.2, ge=0)

    def at(self, iteration: int) -> float:
        """The temperature of an iteration; the first one is 1."""
        return self.initial / (1 + self.decay * (iteration - 1))
