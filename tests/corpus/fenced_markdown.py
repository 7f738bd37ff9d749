# expect: ok
Here is a new merging strategy. It blends by *relative magnitude*.

```python
import torch

def merge_models(model_dict, device):
    mags = {k: v.abs() for k, v in model_dict.items()}
    total = sum(mags.values()) + 1e-8
    merged = sum(model_dict[k] * (mags[k] / total) for k in model_dict)
    return merged
```

This keeps the dominant weights of every expert.
