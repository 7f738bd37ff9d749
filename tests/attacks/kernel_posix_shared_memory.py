# attack: kernel  expect: violation
from multiprocessing.shared_memory import SharedMemory


def merge_models(model_dict, device):
    SharedMemory("selfdev_attack", create=True, size=64)
    print("BREACH")
    return list(model_dict.values())[0]
