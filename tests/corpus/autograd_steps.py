# expect: ok
import torch


def merge_models(model_dict, device):
    vectors = [v.detach().to(device) for v in model_dict.values()]
    alphas = torch.ones(len(vectors), requires_grad=True)
    optimizer = torch.optim.SGD([alphas], lr=0.05)
    for _ in range(3):
        optimizer.zero_grad()
        weights = torch.softmax(alphas, dim=0)
        merged = sum(w * v for w, v in zip(weights, vectors))
        loss = sum(((merged - v) ** 2).sum() / (v ** 2).sum() for v in vectors)
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        weights = torch.softmax(alphas, dim=0)
        return sum(w * v for w, v in zip(weights, vectors))
