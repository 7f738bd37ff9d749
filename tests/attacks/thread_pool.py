# attack: thread  expect: violation|runtime
from concurrent.futures import ThreadPoolExecutor


def merge_models(model_dict, device):
    with ThreadPoolExecutor(4) as pool:
        print("BREACH", list(pool.map(abs, range(4))))
    return list(model_dict.values())[0]
