# attack: bomb  expect: memory|timeout


def merge_models(model_dict, device):
    hoard = []
    while True:
        try:
            while True:
                hoard.append(bytearray(1 << 24))
        except MemoryError:
            pass
