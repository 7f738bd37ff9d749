# expect: ok random
import numpy as np
import torch


def merge_models(model_dict, device):
    weights = np.random.dirichlet(np.ones(len(model_dict)))
    return sum(float(w) * v for w, v in zip(weights, model_dict.values()))
