# expect: ok
import logging
import time
import torch

logger = logging.getLogger(__name__)


def merge_models(model_dict, device):
    start = time.time()
    logger.info("start %d", len(model_dict))
    merged = torch.stack(tuple(model_dict.values())).mean(0)
    logger.info("done in %.2f s", time.time() - start)
    return merged
