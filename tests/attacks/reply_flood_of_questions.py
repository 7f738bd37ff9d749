# attack: reply  expect: violation
# It never reads an answer.
import os


def merge_models(model_dict, device):
    body = b'{"ask": {"nodes": [], "outputs": [0], "shape": [24, 40]}}'
    while True:
        os.write(3, len(body).to_bytes(4, "little") + body)
    return next(iter(model_dict.values()))
