import torch


def merge_models(model_dict, device):
    vectors = list(model_dict.values())
    share = max(1, min(vectors[0].shape) // len(vectors))
    us, ss, vs = [], [], []
    for vector in vectors:
        u, s, vh = torch.linalg.svd(vector, full_matrices=False)
        us.append(u[:, :share])
        ss.append(s[:share])
        vs.append(vh[:share])
    u, v = torch.cat(us, 1), torch.cat(vs, 0)
    pu, _, qu = torch.linalg.svd(u, full_matrices=False)
    pv, _, qv = torch.linalg.svd(v, full_matrices=False)
    return (pu @ qu) @ torch.diag(torch.cat(ss)) @ (pv @ qv)
