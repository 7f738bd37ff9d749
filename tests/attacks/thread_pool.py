# attack: thread  expect: violation
from concurrent.futures import ThreadPoolExecutor


def merge_models(model_dict, device):
    with ThreadPoolExecutor(4) as pool:
        print("BREACH", list(pool.map(abs, range(4))))
    return next(iter(model_dict.values()))
