def merge_models(model_dict, device):
    """The same as halves.py by algebra: found before it is paid for."""
    first, second, _ = (vector.to(device) for vector in model_dict.values())
    return 0.5 * (first + second)
