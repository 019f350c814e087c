"""The shell around the state machine: intake, engine, deadlines, builder, relay, HTTP, and the composition root."""


def package_version() -> str:
    """Return the installed version of the product."""
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - costs a tenth of `mlfs --help`

    try:
        return version("ml-feature-store-worker")
    except PackageNotFoundError:
        return "unknown"
