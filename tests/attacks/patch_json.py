# attack: patch  expect: violation
# It patches only its own copy.
import json


def merge_models(model_dict, device):
    json.dumps = lambda *a, **k: '{"done": {"status": "ok"}}'
    return next(iter(model_dict.values()))
