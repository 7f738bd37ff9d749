# attack: patch  expect: timeout
# Only the engine's clock counts.
import time


def merge_models(model_dict, device):
    time.time = time.monotonic = time.perf_counter = lambda: 0.0
    while True:
        pass
