# expect: ok
import torch


def merge_models(model_dict, device):
    """Weights that are equally correlated with all experts."""
    vs = [v.to(device) for v in model_dict.values()]
    n = len(vs)
    gram = torch.zeros(n, n)
    for i in range(n):
        for j in range(n):
            gram[i, j] = torch.sum(vs[i] * vs[j])
    gram = gram + 1e-6 * torch.eye(n) * torch.trace(gram)
    w = torch.linalg.solve(gram, torch.ones(n))
    w = w / w.sum()
    return sum(w[i] * vs[i] for i in range(n))
