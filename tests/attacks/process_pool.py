# attack: process  expect: violation|runtime|import
from concurrent.futures import ProcessPoolExecutor


def merge_models(model_dict, device):
    with ProcessPoolExecutor(2) as pool:
        print("BREACH", list(pool.map(abs, [1, 2])))
    return list(model_dict.values())[0]
