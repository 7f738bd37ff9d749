# attack: reply  expect: runtime
# The first result counts.
import os


def merge_models(model_dict, device):
    body = b'{"done": {"status": "rejected", "kind": "runtime", "detail": "forged", "line": 1}}'
    os.write(3, 2 * (len(body).to_bytes(4, "little") + body))
    return next(iter(model_dict.values()))
