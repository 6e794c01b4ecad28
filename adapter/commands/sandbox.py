"""`mikopbx-adapter sandbox`: everything on this machine, with example calls. An extra of the package."""

import sys


def run(arguments: list[str]) -> int:
    """Hand all arguments on to the sandbox, which has options of its own; returns its exit code."""
    try:
        from adapter.sandbox.app import main  # noqa: PLC0415  an extra of the package
    except ModuleNotFoundError as error:
        sys.stderr.write(
            f"mikopbx-adapter: the sandbox needs the package {error.name}; install the extra: "
            "pip install 'mikopbx-adapter[sandbox]', or use scripts/sandbox in a checkout.\n"
        )
        return 1
    return main(arguments)
