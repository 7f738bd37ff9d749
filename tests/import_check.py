"""Says in one line what is wrong with an installation, right after it was made."""

import importlib
import sys

FIXES = {
    "torch": "see the README on choosing a build of torch",
    "transformers": "uninstall torchvision, torchaudio and torchcodec: they must match torch's build",
    "vllm": "pip install --no-deps -r requirements-cpu.lock (requirements-cuda.lock on a GPU machine)",
    "selfdev_engine.kernels._cpu": "a C++17 compiler is needed: pip install -e . and read its output",
}


def main() -> int:
    for module, fix in FIXES.items():
        try:
            importlib.import_module(module)
        except Exception as error:
            print(f"cannot import {module}: {type(error).__name__}: {error}\nfix: {fix}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
