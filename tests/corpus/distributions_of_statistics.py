# expect: ok
import torch
from torch.distributions import Categorical, Normal, kl_divergence


def merge_models(model_dict, device):
    vectors = list(model_dict.values())
    fits = [Normal(v.mean(), v.std()) for v in vectors]
    gap = kl_divergence(fits[0], fits[1])
    chosen = Categorical(logits=torch.stack([v.norm() for v in vectors]))
    scale = gap / (1 + gap) + 0.1 * chosen.entropy()
    return scale * sum(p * v for p, v in zip(chosen.probs, vectors))
