# expect: ok
import torch


def merge_models(model_dict, device):
    """A few steps of gradient descent on the sum of squared distances."""
    vectors = [v.to(device) for v in model_dict.values()]
    m = vectors[0].clone()
    lr = 0.1
    for step in range(5):
        grad = sum(2 * (m - v) for v in vectors) / len(vectors)
        m = m - lr * grad
    return m
