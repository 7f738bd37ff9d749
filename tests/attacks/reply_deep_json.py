# attack: reply  expect: violation
import os


def merge_models(model_dict, device):
    body = b"[" * 500_000
    os.write(3, len(body).to_bytes(4, "little"))
    while body:
        body = body[os.write(3, body) :]
    return next(iter(model_dict.values()))
