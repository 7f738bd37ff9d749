# expect: ok
import torch


def merge_models(model_dict, device):
    vecs = [v.to(device).flatten() for v in model_dict.values()]
    norms = [v.norm() for v in vecs]
    units = [v / (n + 1e-12) for v, n in zip(vecs, norms)]
    u = sum(units)
    u = u / u.norm()
    for _ in range(10):
        tangent = torch.zeros_like(u)
        for x in units:
            cos = torch.clamp(torch.dot(u, x), -1.0, 1.0)
            theta = torch.acos(cos)
            if theta.item() < 1e-6:
                continue
            tangent += theta / torch.sin(theta) * (x - cos * u) / len(units)
        size = tangent.norm()
        if size < 1e-5:
            break
        u = torch.cos(size) * u + torch.sin(size) * tangent / size
    out = u * (sum(norms) / len(norms))
    return out.view_as(next(iter(model_dict.values())))
