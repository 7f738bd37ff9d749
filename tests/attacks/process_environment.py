# attack: process  expect: ok
# nothing is inherited but what the engine sets
import os


def merge_models(model_dict, device):
    leaked = {name for name in os.environ if not name.endswith("_THREADS")}
    allowed = {"OMP_THREAD_LIMIT", "PYTHONHASHSEED", "PYTHONDONTWRITEBYTECODE", "LC_CTYPE"}
    if leaked - allowed:
        print("BREACH", leaked)
    return list(model_dict.values())[0]
