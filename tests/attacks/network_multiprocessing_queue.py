# attack: network  expect: violation|runtime|import
import multiprocessing


def merge_models(model_dict, device):
    multiprocessing.Queue().put("x")
    print("BREACH")
    return list(model_dict.values())[0]
