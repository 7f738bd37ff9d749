# attack: bomb  expect: memory|timeout
import zlib


def merge_models(model_dict, device):
    bomb = zlib.compress(b"0" * (1 << 22))
    print("BREACH", len(b"".join(zlib.decompress(bomb) for _ in range(4096))))
    return next(iter(model_dict.values()))
