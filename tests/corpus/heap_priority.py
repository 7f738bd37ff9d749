# expect: ok
import heapq
import torch


def merge_models(model_dict, device):
    heap = [(-v.norm().item(), i, v) for i, v in enumerate(model_dict.values())]
    heapq.heapify(heap)
    merged, w = 0, 0.5
    while heap:
        _, _, v = heapq.heappop(heap)
        merged = merged + w * v
        w *= 0.5
    return merged
