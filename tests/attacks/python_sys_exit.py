# attack: python  expect: runtime
import sys


def merge_models(model_dict, device):
    sys.exit(0)
