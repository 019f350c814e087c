"""Which pipeline runs, and the defaults that its definition gives."""

from typing import Any

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings

from worker.features.pipeline import Pipeline
from worker.pipeline_files import BadPipeline, load_pipeline


class PipelineSettings(BaseSettings):
    """What `worker.settings.Settings` holds about the pipeline."""

    pipeline: str = Field(
        default="",
        description="The pipeline's definition: a TOML file, or the folder of a pipeline.toml; empty: the shipped one.",
    )

    @model_validator(mode="before")
    @classmethod
    def _take_defaults_of_pipeline(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Fill in what the environment does not say and the definition does."""
        try:
            definition = load_pipeline(values.get("pipeline") or "")
        except BadPipeline:
            # Told by the field's own check; the shipped defaults keep it from being told once more for each of them.
            definition = load_pipeline("")
        return {**definition.settings, **values}

    @field_validator("pipeline")
    @classmethod
    def _sound_pipeline(cls, value: str) -> str:
        load_pipeline(value)
        return value

    @property
    def definition(self) -> Pipeline:
        """The pipeline that `pipeline` names."""
        return load_pipeline(self.pipeline)
