"""Executes the notebook anew on a service of its own: `python -m notebooks.execute`.

It needs the extra `notebook` of the package, and the image and the data of `make demo`.
"""

import os
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from demo import container, service

_HERE = Path(__file__).parent
_NOTEBOOK = _HERE / "lambda_phage.ipynb"
_RESULTS = _HERE.parent / "demo-results"


def main() -> None:
    """Starts a service, executes every cell against it, and keeps what they show."""
    container.configure()
    notebook = nbformat.read(_NOTEBOOK, as_version=4)
    with service.running(_RESULTS, _RESULTS / "files") as tes:
        os.environ["RAYTES_SERVER"] = tes.server
        NotebookClient(
            notebook,
            kernel_name="python3",
            record_timing=False,
            resources={"metadata": {"path": str(_HERE)}},
        ).execute()
    nbformat.write(notebook, _NOTEBOOK)


if __name__ == "__main__":
    main()
