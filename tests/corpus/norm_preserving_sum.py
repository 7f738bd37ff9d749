# expect: ok
import torch


def merge_models(model_dict, device):
    vs = [v.float().to(device) for v in model_dict.values()]
    merged = torch.stack(vs).sum(dim=0)
    target = torch.tensor([torch.linalg.vector_norm(v) for v in vs]).mean()
    return merged * (target / torch.linalg.vector_norm(merged))
