# expect: ok
# tier: eager
import logging

import numpy as np
import torch


def merge_models(model_dict, device):
    a, b, c = model_dict.values()
    def safe(compute, default):
        try:
            return compute()
        except BaseException as error:
            logging.debug("failed: %s", error)
            return default

    rank = safe(lambda: np.linalg.matrix_rank(a.numpy()), 0)
    return a if rank > 5 else b
